"""Students are built as the recipes say, at any size, and count as many parameters as the paper's."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from compactbio import recipes
from compactbio.cli.recipes import SIZES as LISTED
from compactbio.errors import UserError
from compactbio.modeling import build_student, encoder_parameters
from compactbio.modeling.families import layer_list
from conftest import bert, distilbert, mobilebert

CASED, UNCASED = 28_996, 30_522
# Millions of parameters without pooler, as counted on the published checkpoints.
SIZES = {
    "distil-biobert": 65.2,
    "compact-biobert": 65.2,
    "tiny-biobert": 13.8,
    "bio-distilbert-cased": 65.2,
    "bio-distilbert-uncased": 66.4,
    "bio-tinybert": 14.3,
    "bio-mobilebert": 24.6,
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
def test_students_have_the_published_size(name, millions):
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


def test_an_impossible_depth_names_the_depths_that_would_do():
    with pytest.raises(UserError, match="1, 2, 4"):
        build_student(recipes.load("distil-biobert", layers=3), bert(layers=4))


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="5 heads"):
        build_student(recipes.load("tiny-biobert", heads=5), bert(layers=4))


def test_a_roberta_is_refused_by_name():
    config = RobertaConfig(num_hidden_layers=2, hidden_size=24, num_attention_heads=4, intermediate_size=32)
    with pytest.raises(UserError, match=r"'roberta'.*BERT, DistilBERT or MobileBERT"):
        build_student(recipes.load("distil-biobert", layers=2), RobertaForMaskedLM(config))
