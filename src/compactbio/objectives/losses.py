"""The loss terms as pure functions of tensors."""

import torch
from torch import Tensor
from torch.nn import functional as F


def wide(x: Tensor) -> Tensor:
    """The tensor in float32 where it is of a half precision, in which softmax and sums lose too much."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def mlm(logits: Tensor, labels: Tensor) -> Tensor:
    """Masked language modelling: sum of -log p(label). Count: masked positions.

    logits (n, v), labels (n,). Source: Devlin et al. 2019.
    """
    return F.cross_entropy(wide(logits), labels, reduction="sum")


def logits_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * sum over positions of KL(softmax(teacher / T) || softmax(student / T)). Count: masked positions.

    student, teacher (n, v); `batchmean` of the published scripts once divided. Source: DistilBioBERT-Distillation.py,
    loss_ce (Hinton et al. 2015).
    """
    s = F.log_softmax(wide(student) / temperature, dim=-1)
    t = F.log_softmax(wide(teacher) / temperature, dim=-1)
    return F.kl_div(s, t, reduction="sum", log_target=True) * temperature**2


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum over positions of -softmax(teacher / T) . log softmax(student / T). Count: masked positions.

    student, teacher (n, v). Source: TinyBioBERT-Distillation.py, output_loss (Jiao et al. 2020, eq. 10).
    """
    s = F.log_softmax(wide(student) / temperature, dim=-1)
    return -(F.softmax(wide(teacher) / temperature, dim=-1) * s).sum()


def probabilities_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * sum over units of KL(teacher || softmax(student / T)), at least 0. Count: units.

    student: logits (n, c); teacher: probabilities (n, c), at temperature T already: of one teacher softmax(logits / T),
    of several the mean of theirs. Source: Hinton et al. 2015, 2 (the T^2); Jiao et al. 2020 and Mukherjee and Awadallah
    2020 (XtremeDistil) use it on a task's labelled and unlabelled sentences.
    """
    s = F.log_softmax(wide(student) / temperature, dim=-1)
    return F.kl_div(s, wide(teacher), reduction="sum") * temperature**2


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over tokens of 1 - cos(student state, teacher state), in [0, 2] per token. Count: tokens.

    student, teacher (t, width). Source: DistilBioBERT-Distillation.py loss_cos, CompactBioBERT-Distillation.py
    compute_hidden_loss.
    """
    return (1 - F.cosine_similarity(wide(student), wide(teacher), dim=-1)).sum()


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over tokens and dimensions of (student - teacher)^2. Count: tokens * width.

    student, teacher (t, width), the student's projected where widths differ. Source: TinyBioBERT-Distillation.py,
    rep_loss (Jiao et al. 2020, eq. 8).
    """
    return F.mse_loss(wide(student), wide(teacher), reduction="sum")
