"""Students are built as the recipes say, at any size, and count as many parameters as the paper's."""

from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RemBertConfig,
    RemBertForMaskedLM,
)

from compactbio import recipes
from compactbio.cli.recipes import SIZES as LISTED
from compactbio.errors import UserError
from compactbio.modeling import build_student, encoder_parameters
from compactbio.modeling.families import layer_list
from compactbio.modeling.students import picked_layers
from conftest import bert, distilbert, mobilebert

CASED, UNCASED = 28_996, 30_522
# Millions of parameters without pooler, as counted on the published checkpoints, where there are any.
SIZES = {
    "distil-biobert": 65.2,
    "compact-biobert": 65.2,
    "tiny-biobert": 13.8,
    "bio-distilbert-cased": 65.2,
    "bio-distilbert-uncased": 66.4,
    "bio-tinybert": 14.3,
    "bio-mobilebert": 24.6,
    "relation-biobert": 22.0,
}


def real_start(name: str):
    """The teacher or checkpoint of a recipe at its real size, without weights."""
    with torch.device("meta"):
        if name.startswith("bio-distilbert"):
            return DistilBertForMaskedLM(DistilBertConfig(vocab_size=CASED if name.endswith("-cased") else UNCASED))
        if name == "bio-tinybert":
            shape = {"num_hidden_layers": 4, "hidden_size": 312, "intermediate_size": 1200}
            return BertForMaskedLM(BertConfig(vocab_size=UNCASED, **shape))
        if name == "bio-mobilebert":
            return MobileBertForMaskedLM(MobileBertConfig())
        return BertForMaskedLM(BertConfig(vocab_size=CASED))


def test_every_recipe_is_counted_and_listed_with_its_size():
    assert sorted(SIZES) == recipes.names() and LISTED == SIZES


@pytest.mark.parametrize(("name", "millions"), SIZES.items())
def test_students_have_the_size_that_is_listed(name, millions):
    start = real_start(name)
    with torch.device("meta"):
        student = build_student(recipes.load(name), start)
    assert round(encoder_parameters(student) / 1e6, 1) == millions


def test_the_teacher_has_the_published_size():
    assert round(encoder_parameters(real_start("distil-biobert")) / 1e6, 1) == 107.7


@pytest.mark.parametrize(("name", "picks"), [("distil-biobert", [0, 2]), ("compact-biobert", [1, 3])])
@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
def test_layers_embeddings_and_head_are_the_teachers(name, picks, family):
    teacher = family(layers=4)
    student = build_student(recipes.load(name, layers=2), teacher)
    for own, pick in zip(layer_list(student), picks, strict=True):
        for key, value in layer_list(teacher)[pick].state_dict().items():
            assert torch.equal(own.state_dict()[key], value), key
    own, theirs = student.state_dict(), teacher.state_dict()
    shared = [key for key in theirs if ".layer." not in key]
    assert shared and all(torch.equal(own[key], theirs[key]) for key in shared)
    assert student.config.num_hidden_layers == 2


def test_a_student_of_all_layers_computes_what_its_teacher_computes():
    teacher = bert(layers=4)
    student = build_student(recipes.load("distil-biobert", layers=4), teacher).eval()
    ids = torch.arange(5, 15)[None]
    assert torch.equal(student(ids).logits, teacher(ids).logits)


def test_building_leaves_the_teacher_and_the_random_generator_alone():
    teacher = bert(layers=4)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    state = torch.get_rng_state()
    student = build_student(recipes.load("distil-biobert", layers=2), teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, teacher.state_dict()[k]) for k, v in before.items())


def test_published_students_get_a_fresh_head_and_attention_dropout():
    teacher = bert(layers=4)
    corrected = build_student(recipes.load("distil-biobert", layers=2), teacher)
    published = build_student(recipes.load("distil-biobert", layers=2, published=True), teacher)
    key = "cls.predictions.transform.dense.weight"
    assert torch.equal(corrected.state_dict()[key], teacher.state_dict()[key])
    assert not torch.equal(published.state_dict()[key], teacher.state_dict()[key])
    dropouts = [s.bert.encoder.layer[0].attention.self.dropout.p for s in (corrected, published)]
    assert dropouts == [0.0, 0.1]
    assert corrected.config.attention_probs_dropout_prob == 0.0
    assert corrected.bert.embeddings.dropout.p == 0.1


def test_random_students_follow_the_seed():
    teacher = bert(layers=4)
    shape = {"layers": 2, "hidden_size": 12, "heads": 4, "intermediate_size": 20}
    one, same, other = (build_student(recipes.load("tiny-biobert", **shape, seed=seed), teacher) for seed in (1, 1, 2))
    key = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert one.config.vocab_size == teacher.config.vocab_size


LAYERS = [
    # teacher, student, layer_map, pick, layers: the published ones, then rounded ones, the last ones, a list.
    (12, 6, "uniform", "first", [0, 2, 4, 6, 8, 10]),
    (12, 6, "uniform", "last", [1, 3, 5, 7, 9, 11]),
    (12, 4, "uniform", "last", [2, 5, 8, 11]),
    (12, 12, "uniform", "first", list(range(12))),
    (12, 12, "uniform", "last", list(range(12))),
    (12, 5, "uniform", "first", [0, 2, 5, 7, 10]),
    (12, 5, "uniform", "last", [1, 4, 6, 9, 11]),
    (6, 4, "uniform", "first", [0, 2, 3, 5]),
    (6, 4, "uniform", "last", [1, 2, 4, 5]),
    (12, 1, "uniform", "first", [0]),
    (12, 1, "uniform", "last", [11]),
    (12, 5, "last", "first", [7, 8, 9, 10, 11]),
    (12, 3, (0, 2, 5), "last", [0, 2, 5]),
    (2, 4, (0, 0, 1, 1), "first", [0, 0, 1, 1]),
]


@pytest.mark.parametrize(("teacher", "student", "layer_map", "pick", "layers"), LAYERS)
def test_a_layer_map_names_the_teachers_layer_of_each_student_layer(teacher, student, layer_map, pick, layers):
    assert picked_layers(teacher, student, layer_map, pick) == layers


@pytest.mark.parametrize(("pick", "end"), [("first", 0), ("last", 1)])
def test_even_layers_are_distinct_and_hold_the_teachers_first_or_last(pick, end):
    for teacher in range(1, 25):
        for student in range(1, teacher + 1):
            layers = picked_layers(teacher, student, "uniform", pick)
            assert layers == sorted(set(layers)) and len(layers) == student
            assert layers[-end] == end * (teacher - 1)


@pytest.mark.parametrize(
    ("layers", "layer_map", "words"),
    [
        (5, "uniform", "5 layers is deeper than its teacher of 4"),
        (5, "last", "at most 4"),
        (3, [0, 1], "2 layers for a student of 3"),
        (3, [0, 1, 4], "0 to 3"),
    ],
)
def test_layers_that_the_teacher_has_not_are_refused_with_what_would_do(layers, layer_map, words):
    with pytest.raises(UserError, match=words):
        build_student(recipes.load("distil-biobert", layers=layers, layer_map=layer_map), bert(layers=4))


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
@pytest.mark.parametrize(("layer_map", "picks"), [("uniform", [0, 1, 3]), ("last", [1, 2, 3]), ([0, 2, 2], [0, 2, 2])])
def test_a_student_starts_from_the_layers_of_its_map(family, layer_map, picks):
    teacher = family(layers=4)
    student = build_student(recipes.load("distil-biobert", layers=3, layer_map=layer_map), teacher)
    for own, pick in zip(layer_list(student), picks, strict=True):
        for key, value in layer_list(teacher)[pick].state_dict().items():
            assert torch.equal(own.state_dict()[key], value), key


def modernbert(layers: int):
    """A random ModernBERT whose every third layer attends to all tokens."""
    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=60, hidden_size=24, num_attention_heads=4, intermediate_size=32, num_hidden_layers=layers,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=4,
        )
    ).eval()  # fmt: skip


@pytest.mark.parametrize(("layers", "layer_map", "picks"), [(3, "uniform", [0, 2, 5]), (2, [0, 3], [0, 3])])
def test_a_layer_of_modernbert_keeps_its_kind_of_attention(layers, layer_map, picks, tmp_path):
    teacher = modernbert(7)
    recipe = recipes.load("distil-biobert", layers=layers, layer_map=layer_map)
    student = build_student(recipe, teacher)
    kinds = [layer.attention_type for layer in layer_list(teacher)]
    assert [layer.attention_type for layer in layer_list(student)] == [kinds[pick] for pick in picks]
    student.save_pretrained(tmp_path)
    again = ModernBertForMaskedLM.from_pretrained(tmp_path)
    assert [layer.attention_type for layer in layer_list(again)] == [kinds[pick] for pick in picks]
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        state, parts = teacher.model.embeddings(ids), teacher.model(ids, output_hidden_states=True).hidden_states
        assert torch.equal(student.eval().model.embeddings(ids), state)
        assert torch.allclose(student.model(ids, output_hidden_states=True).hidden_states[1], parts[1])


@pytest.mark.parametrize("more", [{"pick": "last"}, {"layer_map": [1, 2]}, {"layer_map": [0, 0]}])
def test_the_first_layer_of_modernbert_stays_first(more):
    with pytest.raises(UserError, match="begins with 0"):
        build_student(recipes.load("distil-biobert", layers=2, **more), modernbert(6))


@pytest.mark.parametrize(
    ("kind", "longest"), [("roberta", 514), ("xlm-roberta", 514), ("bert", 512), ("modernbert", 8192)]
)
def test_a_random_student_takes_inputs_as_long_as_its_teacher_up_to_512(kind, longest):
    config = AutoConfig.for_model(kind, vocab_size=60, max_position_embeddings=longest, pad_token_id=1)
    recipe = recipes.load("relation-biobert", layers=1, copy_mlm_head=False)
    student = build_student(recipe, SimpleNamespace(config=config))
    assert student.config.model_type == "bert" and student.config.max_position_embeddings == 512
    assert (student.config.vocab_size, student.config.pad_token_id) == (60, 1)


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="5 heads"):
        build_student(recipes.load("tiny-biobert", heads=5), bert(layers=4))


def test_a_type_without_a_known_head_is_refused_by_name():
    config = RemBertConfig(
        num_hidden_layers=2, hidden_size=24, num_attention_heads=4, intermediate_size=32, vocab_size=90
    )
    with pytest.raises(UserError, match=r"'rembert', whose MLM head compactbio does not know: take one of bert"):
        build_student(recipes.load("distil-biobert", layers=2), RemBertForMaskedLM(config))
