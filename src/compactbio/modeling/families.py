"""The model families that are supported, and where they differ: names of fields and modules, the MLM head."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.errors import UserError

DECODER_BIAS = "cls.predictions.decoder.bias"


@dataclass(frozen=True)
class Family:
    """Where a family differs from others.

    Attributes:
        depth, heads, hidden_dropout, attention_dropout: the names of these fields in its configuration.
        layers: the path of the layer list in a masked-LM model.
        head: the modules of the MLM head, without the decoder that is tied to the embeddings.
        logits: the MLM head as a function of a masked-LM model and hidden states (n, width).
        packs: whether a packed row gives the same as a padded batch.
    """

    depth: str
    heads: str
    hidden_dropout: str
    attention_dropout: str
    layers: str
    head: tuple[str, ...]
    logits: Callable[[PreTrainedModel, Tensor], Tensor]
    packs: bool


def _cls_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    return model.cls(hidden)  # type: ignore[no-any-return]


def _distilbert_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    hidden = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
    return model.vocab_projector(hidden)  # type: ignore[no-any-return]


FAMILIES = {
    "bert": Family(
        depth="num_hidden_layers",
        heads="num_attention_heads",
        hidden_dropout="hidden_dropout_prob",
        attention_dropout="attention_probs_dropout_prob",
        layers="bert.encoder.layer",
        head=("cls.predictions.transform", "cls.predictions.bias"),
        logits=_cls_logits,
        packs=True,
    ),
    "distilbert": Family(
        depth="n_layers",
        heads="n_heads",
        hidden_dropout="dropout",
        attention_dropout="attention_dropout",
        layers="distilbert.transformer.layer",
        head=("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
        logits=_distilbert_logits,
        packs=True,
    ),
    # Its embedding joins three neighbours, so a packed row would mix citations at their borders.
    "mobilebert": Family(
        depth="num_hidden_layers",
        heads="num_attention_heads",
        hidden_dropout="hidden_dropout_prob",
        attention_dropout="attention_probs_dropout_prob",
        layers="mobilebert.encoder.layer",
        head=("cls.predictions.transform", "cls.predictions.dense", "cls.predictions.bias"),
        logits=_cls_logits,
        packs=False,
    ),
}


def check_family(config: PretrainedConfig, name: str = "The model") -> Family:
    """The family of a configuration. Raises UserError for one that is not supported (RoBERTa, DeBERTa, ...)."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UserError(
            f"{name} is of type {config.model_type!r}, which compactbio does not support: "
            "take a BERT, DistilBERT or MobileBERT."
        )
    return family


def depth(model: PreTrainedModel) -> int:
    """The number of layers."""
    return int(getattr(model.config, check_family(model.config).depth))


def heads(model: PreTrainedModel) -> int:
    """The number of attention heads of a layer."""
    return int(getattr(model.config, check_family(model.config).heads))


def layer_list(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a masked-LM model, in order."""
    found = model.get_submodule(check_family(model.config).layers)
    assert isinstance(found, nn.ModuleList)
    return found


def mlm_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The MLM head on some positions only: hidden states (n, width) to logits (n, vocabulary)."""
    return check_family(model.config).logits(model, hidden)


def encoder_parameters(model: PreTrainedModel) -> int:
    """The number of parameters of the encoder: embeddings and layers, without pooler and MLM head."""
    return sum(p.numel() for name, p in model.base_model.named_parameters() if not name.startswith("pooler."))


def set_dropout(model: PreTrainedModel, *, hidden: float | None, attention: float | None) -> None:
    """Set the dropout rates of a model in place, in its configuration and its modules; None leaves a rate as it is."""
    family = check_family(model.config)
    for module in model.modules():
        rate = attention if _is_attention_core(module) else hidden
        for child in module.children():
            if isinstance(child, nn.Dropout) and rate is not None:
                child.p = rate
    for config in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
        if hidden is not None:
            setattr(config, family.hidden_dropout, hidden)
        if attention is not None:
            setattr(config, family.attention_dropout, attention)


def _is_attention_core(module: nn.Module) -> bool:
    return type(module).__name__.endswith("SelfAttention")


def is_head(key: str) -> bool:
    """Whether a parameter's name belongs to an MLM head."""
    return key.startswith(
        ("cls.", *(module for family in FAMILIES.values() for module in family.head), "vocab_projector")
    )


def is_untied(model: PreTrainedModel) -> bool:
    """Whether a masked-LM model has a decoder of its own beside its word embeddings."""
    return model.get_output_embeddings().weight is not model.get_input_embeddings().weight


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter."""
    return next(model.parameters()).device
