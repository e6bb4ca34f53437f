"""Construction of students: layers picked from a teacher, a checkpoint as it is, or a random model of a shape."""

import copy
from collections.abc import Sequence

from torch import nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.families import (
    depth,
    family_of,
    is_untied,
    layer_list,
    layer_path,
    longest,
    set_dropout,
    with_decoder_bias,
)
from compactbio.modeling.sharing import building
from compactbio.recipes import LayerMap, Recipe

# Fields with a value for each layer: whether ModernBERT's attend to all tokens or to near ones, Longformer's windows.
_BY_LAYER = ("layer_types", "attention_window")


def build_student(recipe: Recipe, teacher: PreTrainedModel) -> PreTrainedModel:
    """The student of a recipe, before training.

    Args:
        recipe: start, shape, seed and dropout rates of the student.
        teacher: a masked-LM model, which is left as it is; for start "checkpoint" the model to be copied.

    Random weights are drawn from `recipe.seed`; the global generator is left as it was. Raises UserError for a family
    that is not supported, layers that the teacher has not, or a width that the heads do not divide.

    Example: `build_student(recipes.load("distil-biobert"), teacher)`
    """
    family_of(teacher.config, "The teacher")
    config = teacher.config
    with building(recipe.seed):
        if recipe.start == "checkpoint":
            student = copy.deepcopy(teacher)
        elif recipe.start == "random":
            positions = min(longest(config), max(512, recipe.max_length))
            student = _random_bert(recipe, config.vocab_size, config.pad_token_id, positions)
        else:
            assert recipe.layers is not None  # the recipe's validation saw to it
            picks = picked_layers(depth(teacher), recipe.layers, recipe.layer_map, recipe.pick)
            student = _with_layers(teacher, picks, "take a recipe whose start is random, such as relation-biobert")
        if recipe.start != "checkpoint" and recipe.copy_mlm_head and student.config.model_type == config.model_type:
            _copy_head(teacher, student)
    set_dropout(student, hidden=recipe.hidden_dropout, attention=recipe.attention_dropout)
    return student


def random_student(recipe: Recipe, vocab_size: int, pad_token_id: int) -> PreTrainedModel:
    """A random BERT of a recipe's shape, for pre-training without any teacher. Raises UserError as `build_student`."""
    with building(recipe.seed):
        student = _random_bert(recipe, vocab_size, pad_token_id, max(512, recipe.max_length))
    set_dropout(student, hidden=recipe.hidden_dropout, attention=recipe.attention_dropout)
    return student


def picked_layers(teacher_depth: int, student_depth: int, layer_map: LayerMap, pick: str) -> list[int]:
    """The 0-based teacher layer of each student layer, by a recipe's `layer_map`.

    "uniform": i * T / S (`pick` "first") or (i + 1) * T / S - 1 (`pick` "last"), rounded half up. "last": T - S + i.
    A list: its layers. Raises UserError for a list of another length or with a layer that the teacher has not, and
    without a list for a student that is deeper than its teacher.
    """
    if not isinstance(layer_map, str):
        if len(layer_map) != student_depth:
            raise UserError(
                f"layer_map names {len(layer_map)} layers for a student of {student_depth}: name one of the teacher's "
                "layers for each."
            )
        if not all(0 <= layer < teacher_depth for layer in layer_map):
            raise UserError(
                f"layer_map {list(layer_map)} names a layer that the teacher has not: its {teacher_depth} layers are 0 "
                f"to {teacher_depth - 1}."
            )
        return list(layer_map)
    if student_depth > teacher_depth:
        raise UserError(
            f"A student of {student_depth} layers is deeper than its teacher of {teacher_depth}: set layers to at most "
            f"{teacher_depth}, or layer_map to a list with one of the teacher's layers for each, some of them repeated."
        )
    if layer_map == "last":
        return list(range(teacher_depth - student_depth, teacher_depth))
    ahead = pick == "last"
    blocks = range(ahead, student_depth + ahead)
    return [(2 * i * teacher_depth + student_depth) // (2 * student_depth) - ahead for i in blocks]


def with_fewer_layers(model: PreTrainedModel, layers: int, seed: int) -> PreTrainedModel:
    """A model of `layers` of a model's layers, i * T / S for each i, with its embeddings and head; in eval mode.

    Raises UserError where there are not so many, or they share their weights.
    """
    if layers > depth(model):
        raise UserError(
            f"The model has {depth(model)} layers, so a student of it cannot have {layers}: keep at most "
            f"{depth(model)}.",
            setting="layers",
        )
    with building(seed):
        picks = picked_layers(depth(model), layers, "uniform", "first")
        student = _with_layers(model, picks, "take a model whose layers have weights of their own")
    head = f"{model.base_model_prefix}."
    student.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith(head)}, strict=False)
    return student.eval()


def _with_layers(teacher: PreTrainedModel, picks: Sequence[int], otherwise: str) -> PreTrainedModel:
    """A model of a teacher's class with some of its layers and all that is beside them in its encoder."""
    path = layer_path(teacher.base_model)
    if path is None:
        raise UserError(
            f"The layers of type {teacher.config.model_type!r} cannot be taken apart, as they share their weights or "
            f"are not in one list: {otherwise}."
        )
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(picks)
    for field in _BY_LAYER:
        if isinstance(given := getattr(config, field, None), list):
            setattr(config, field, [given[pick] for pick in picks])
    student = type(teacher)(config)
    layers = f"{path}."
    beside = {key: value for key, value in teacher.base_model.state_dict().items() if not key.startswith(layers)}
    student.base_model.load_state_dict(beside, strict=False)
    for layer, pick in zip(layer_list(student), picks, strict=True):
        weights = layer_list(teacher)[pick].state_dict()
        # ModernBERT's first layer has no norm before its attention, so it can be nothing but a first layer.
        if weights.keys() != layer.state_dict().keys():
            raise UserError(
                f"The teacher's layer {pick} does not fit its place in the student, as the first layer of this family "
                "has no norm of its own: take pick first, or a layer_map that begins with 0 and has it once."
            )
        layer.load_state_dict(weights)
    return student


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
    head = family_of(teacher.config).head
    source = {key: value for key, value in teacher.state_dict().items() if key.startswith(head)}
    target = student.state_dict()
    # A head fits as a whole or not at all: half a head of another width would be noise.
    if not all(key in target and target[key].shape == value.shape for key, value in source.items()):
        return
    student.load_state_dict(source, strict=False)
    decoder, new = teacher.get_output_embeddings(), student.get_output_embeddings()
    if is_untied(teacher) and decoder.weight.shape == new.weight.shape:
        new.weight, new.bias = (nn.Parameter(weight.detach().clone()) for weight in (decoder.weight, decoder.bias))
        with_decoder_bias(student, [])
