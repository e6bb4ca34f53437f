"""Construction of students: layers picked from a teacher, a checkpoint as it is, or a random model of a shape."""

import copy

from torch import nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.families import FAMILIES, depth, family_of, is_untied, layer_list, layer_path, set_dropout
from compactbio.modeling.sharing import building
from compactbio.recipes import Recipe


def build_student(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    """The student of a recipe, before training.

    Args:
        recipe: start, shape, seed and dropout rates of the student.
        teacher: a masked-LM model, which is left as it is; for start "checkpoint" the model to be copied.

    Random weights are drawn from `recipe.seed`; the global generator is left as it was. Raises UserError for a family
    that is not supported, a depth that does not divide the teacher's, or a width that the heads do not divide.

    Example: `build_student(recipes.load("distil-biobert"), teacher)`
    """
    family_of(teacher.config, "The teacher")
    build = {"teacher-layers": _from_layers, "random": _random, "checkpoint": _copy}[recipe.start]
    with building(recipe.seed):
        student = build(recipe, teacher)
    set_dropout(student, hidden=recipe.hidden_dropout, attention=recipe.attention_dropout)
    return student


def random_student(recipe: Recipe, vocab_size: int, pad_token_id: int) -> PreTrainedModel:
    """A random BERT of a recipe's shape, for pre-training without any teacher. Raises UserError as `build_student`."""
    with building(recipe.seed):
        student = _random_bert(recipe, vocab_size, pad_token_id, max(512, recipe.max_length))
    set_dropout(student, hidden=recipe.hidden_dropout, attention=recipe.attention_dropout)
    return student


def picked_layers(teacher_depth: int, student_depth: int, pick: str) -> list[int]:
    """The 0-based teacher layer of each student layer: i * T / S ('first') or (i + 1) * T / S - 1 ('last').

    Raises UserError where S does not divide T.
    """
    if teacher_depth % student_depth:
        divisors = ", ".join(str(d) for d in range(1, teacher_depth + 1) if teacher_depth % d == 0)
        raise UserError(
            f"A student of {student_depth} layers cannot be made of a teacher's {teacher_depth}: set layers to one of "
            f"{divisors}."
        )
    block = teacher_depth // student_depth
    return [i * block + (block - 1 if pick == "last" else 0) for i in range(student_depth)]


def _from_layers(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    assert recipe.layers is not None  # the recipe's validation saw to it
    picks = picked_layers(depth(teacher), recipe.layers, recipe.pick)
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = recipe.layers
    student = type(teacher)(config)
    layers = f"{layer_path(teacher.base_model)}."
    beside = {key: value for key, value in teacher.base_model.state_dict().items() if not key.startswith(layers)}
    student.base_model.load_state_dict(beside, strict=False)
    for layer, pick in zip(layer_list(student), picks, strict=True):
        layer.load_state_dict(layer_list(teacher)[pick].state_dict())
    if recipe.copy_mlm_head:
        _copy_head(teacher, student)
    return student


def _random(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    config = teacher.config
    student = _random_bert(recipe, config.vocab_size, config.pad_token_id, config.max_position_embeddings)
    if recipe.copy_mlm_head and config.model_type == "bert":
        _copy_head(teacher, student)
    return student


def _copy(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    return copy.deepcopy(teacher)


def _random_bert(recipe: Recipe, vocab_size: int, pad_token_id: int, positions: int) -> PreTrainedModel:
    assert recipe.hidden_size is not None and recipe.heads is not None  # the recipe's validation saw to it
    if recipe.hidden_size % recipe.heads:
        raise UserError(
            f"{recipe.heads} heads do not divide a width of {recipe.hidden_size}: change heads or hidden_size."
        )
    return BertForMaskedLM(
        BertConfig(
            vocab_size=vocab_size,
            pad_token_id=pad_token_id,
            max_position_embeddings=positions,
            num_hidden_layers=recipe.layers,
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_attention_heads=recipe.heads,
        )
    )


def _copy_head(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    modules = FAMILIES[teacher.config.model_type].head
    source = {key: value for key, value in teacher.state_dict().items() if key.startswith(modules)}
    target = student.state_dict()
    # A head fits as a whole or not at all: half a head of another width would be noise.
    if not all(key in target and target[key].shape == value.shape for key, value in source.items()):
        return
    student.load_state_dict(source, strict=False)
    decoder, new = teacher.get_output_embeddings(), student.get_output_embeddings()
    if is_untied(teacher) and decoder.weight.shape == new.weight.shape:
        new.weight, new.bias = (nn.Parameter(weight.detach().clone()) for weight in (decoder.weight, decoder.bias))
