"""Construction of students: layers picked from a teacher, a checkpoint as it is, or a random model of a shape."""

import copy

from torch import nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.families import FAMILIES, check_family, depth, is_untied, layer_list, set_dropout
from compactbio.modeling.sharing import building
from compactbio.recipes import Recipe


def build_student(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    """A student as the recipe describes it, from a masked-LM model; `teacher` itself is left as it is.

    For start 'checkpoint', `teacher` is the checkpoint and the student a copy of it. Random weights are drawn from
    `recipe.seed` and leave the global generator alone. Raises UserError for a family that is not served, a depth
    that does not divide the teacher's, or a width that the heads do not divide.
    """
    check_family(teacher.config, "The teacher")
    build = {"teacher-layers": _from_layers, "random": _random, "checkpoint": _copy}[recipe.start]
    with building(recipe.seed):
        student = build(recipe, teacher)
    set_dropout(student, hidden=recipe.hidden_dropout, attention=recipe.attention_dropout)
    return student


def random_student(recipe: Recipe, vocab_size: int, pad_token_id: int) -> PreTrainedModel:
    """A random BERT of the recipe's shape without any teacher, for pre-training from scratch.

    Raises UserError as `build_student`.
    """
    config = BertConfig(
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        max_position_embeddings=max(512, recipe.max_length),
        **_shape(recipe),
    )
    with building(recipe.seed):
        student = BertForMaskedLM(config)
    set_dropout(student, hidden=recipe.hidden_dropout, attention=recipe.attention_dropout)
    return student


def picked_layers(teacher_depth: int, student_depth: int, pick: str) -> list[int]:
    """The 0-based teacher layer of each student layer: i * T / S ('first') or (i + 1) * T / S - 1 ('last').

    Raises UserError where S does not divide T.
    """
    if teacher_depth % student_depth:
        divisors = ", ".join(str(d) for d in range(1, teacher_depth + 1) if teacher_depth % d == 0)
        raise UserError(
            f"A teacher of {teacher_depth} layers gives no student of {student_depth}: "
            f"set layers to one of {divisors} (--set layers=N)."
        )
    block = teacher_depth // student_depth
    return [i * block + (block - 1 if pick == "last" else 0) for i in range(student_depth)]


def _from_layers(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    assert recipe.layers is not None  # the schema holds it
    picks = picked_layers(depth(teacher), recipe.layers, recipe.pick)
    config = copy.deepcopy(teacher.config)
    setattr(config, check_family(config).depth, recipe.layers)
    student = type(teacher)(config)
    layers = check_family(config).layers
    source = {k: v for k, v in teacher.base_model.state_dict().items() if not _in_layers(k, layers)}
    student.base_model.load_state_dict(source, strict=False)
    for own, pick in zip(layer_list(student), picks, strict=True):
        own.load_state_dict(layer_list(teacher)[pick].state_dict())
    if recipe.copy_mlm_head:
        _copy_head(teacher, student)
    return student


def _random(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=teacher.config.vocab_size,
        pad_token_id=teacher.config.pad_token_id,
        max_position_embeddings=teacher.config.max_position_embeddings,
        **_shape(recipe),
    )
    student = BertForMaskedLM(config)
    if recipe.copy_mlm_head and teacher.config.model_type == "bert":
        _copy_head(teacher, student)
    return student


def _copy(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    return copy.deepcopy(teacher)


def _shape(recipe: Recipe) -> dict[str, int]:
    assert recipe.hidden_size is not None and recipe.heads is not None  # the schema holds it
    if recipe.hidden_size % recipe.heads:
        raise UserError(
            f"{recipe.heads} heads do not divide a width of {recipe.hidden_size}: change heads or hidden_size."
        )
    return {
        "num_hidden_layers": recipe.layers or 0,
        "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size or 0,
        "num_attention_heads": recipe.heads,
    }


def _copy_head(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    parts = FAMILIES[teacher.config.model_type].head
    source = {k: v for k, v in teacher.state_dict().items() if k.startswith(parts)}
    target = student.state_dict()
    # A head fits as a whole or not at all: half a head of another width would be noise.
    if not all(k in target and target[k].shape == v.shape for k, v in source.items()):
        return
    student.load_state_dict(source, strict=False)
    theirs, own = teacher.get_output_embeddings(), student.get_output_embeddings()
    if is_untied(teacher) and theirs.weight.shape == own.weight.shape:
        own.weight, own.bias = (nn.Parameter(part.detach().clone()) for part in (theirs.weight, theirs.bias))


def _in_layers(key: str, path: str) -> bool:
    return key.startswith(path.split(".", 1)[1] + ".")
