"""Whether two models fit the loss terms of a recipe, and which of their layers are compared."""

import math

from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling.families import captures_attention, depth, heads
from compactbio.modeling.students import picked_layers
from compactbio.objectives.terms import TERMS, Match
from compactbio.recipes import LossTerm, Recipe

# The relation heads of the paper for teachers of 768 dimensions (Wang et al. 2021, arXiv 2012.15828, section 4).
RELATION_HEADS = 48


def needs_teacher(recipe: Recipe) -> bool:
    """Whether a loss term of the recipe reads a teacher."""
    return any(TERMS[term].needs_teacher for term in recipe.loss)


def match(student: PreTrainedModel, teacher: PreTrainedModel | None, recipe: Recipe) -> Match:
    """Match the layers of two models. Raises UserError where the models do not fit the recipe's terms."""
    if not needs_teacher(recipe):
        return Match()
    if teacher is None:
        raise UserError(f"Recipe {recipe.name} needs a teacher: name one.", setting="teacher")
    _check_shapes(student, teacher, recipe)
    terms = [TERMS[term] for term in recipe.loss]
    layers: tuple[tuple[int, int], ...] = ()
    if any(term.needs_match for term in terms):
        layers = tuple(enumerate(picked_layers(depth(teacher), depth(student), recipe.layer_map, "last")))
    if not any(term.relations for term in terms):
        return Match(layers)
    relation = (depth(student) - 1, _relation_layer(teacher, recipe))
    return Match(layers, relation, _relation_heads(attention_width(student), attention_width(teacher), recipe))


def _check_shapes(student: PreTrainedModel, teacher: PreTrainedModel, recipe: Recipe) -> None:
    small, large = student.config, teacher.config
    terms = [TERMS[term] for term in recipe.loss]
    if any(term.teacher_logits for term in terms) and small.vocab_size != large.vocab_size:
        raise UserError(
            f"The student's vocabulary of {small.vocab_size} pieces is not the teacher's of {large.vocab_size}; "
            "both must use one tokenizer."
        )
    for term in (LossTerm.LAST_HIDDEN_COSINE, LossTerm.HIDDEN_COSINE):
        if term in recipe.loss and small.hidden_size != large.hidden_size:
            raise UserError(
                f"{term.value} compares states of one width, not {small.hidden_size} and {large.hidden_size}; "
                "take hidden_mse instead, which projects them."
            )
    for term in recipe.loss:
        if TERMS[term].attentions or TERMS[term].relations:
            _check_attention(student, term)
            _check_attention(teacher, term)
        if TERMS[term].attentions and heads(student) != heads(teacher):
            raise UserError(
                f"{term.value} compares head by head: give the student {heads(teacher)} heads, not {heads(student)}, "
                "or take attention_relations instead, which compares models of any number of heads."
            )


def _check_attention(model: PreTrainedModel, term: LossTerm) -> None:
    kind = model.config.model_type
    if not captures_attention(model):
        raise UserError(
            f"{term.value} reads queries and keys, which a {kind} does not give, as terms of distance are part of its "
            "attention: leave the term out, or take a recipe without it, such as distil-biobert."
        )
    if TERMS[term].attentions and "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise UserError(
            f"{term.value} compares attention to all tokens, and some layers of a {kind} attend to near ones alone: "
            "take attention_relations instead."
        )


def _relation_layer(teacher: PreTrainedModel, recipe: Recipe) -> int:
    layers = depth(teacher)
    if recipe.relation_layer is None:
        return layers - 1
    if recipe.relation_layer >= layers:
        raise UserError(
            f"relation_layer {recipe.relation_layer} is too high for a teacher of {layers} layers; take 0 to "
            f"{layers - 1}."
        )
    return recipe.relation_layer


def _relation_heads(student: int, teacher: int, recipe: Recipe) -> int:
    """The recipe's number of relation heads; by default the largest up to 48 that divides both widths."""
    common = math.gcd(student, teacher)
    best = max(n for n in range(1, RELATION_HEADS + 1) if common % n == 0)
    if recipe.relation_heads is None:
        return best
    if common % recipe.relation_heads:
        raise UserError(
            f"relation_heads {recipe.relation_heads} does not divide the widths of {student} and {teacher}; "
            f"take {best} or another number that divides both."
        )
    return recipe.relation_heads


def attention_width(model: PreTrainedModel) -> int:
    """The width of queries, keys and values; MobileBERT's is smaller than that of its hidden states."""
    return int(getattr(model.config, "true_hidden_size", model.config.hidden_size))
