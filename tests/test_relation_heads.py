"""Relation models whose outputs are not the classes of a softmax: one output, or several that may hold at once."""

import shutil

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from compactbio.annotate import Marking, RelationAnnotator
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.evaluation.scoring import evaluate
from conftest import bert, one_sentence, randomize
from task_data import relation_folder

MARKING = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))


@pytest.fixture
def model(tokenizer_folder, tmp_path):
    """A random sequence classification model of these labels; gives its folder."""

    def make(labels, bias=0.0, **more):
        folder = shutil.copytree(tokenizer_folder, tmp_path / "model", dirs_exist_ok=True)
        names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        config = BertConfig(**{**bert(layers=2).config.to_dict(), **names, **more})
        made = randomize(BertForSequenceClassification(config))
        with torch.no_grad():
            made.classifier.bias.add_(bias)
        made.save_pretrained(folder)
        return folder

    return make


def pairs():
    """Documents of a gene and a disease, with another word between them."""
    found = []
    for word in ("risk", "dose", "study", "group", "cells", "trial"):
        start = len(f"the gene {word} ")
        spans = (Span(4, 8, "Gene"), Span(start, start + len("cancer"), "Disease"))
        found.append(Document(word, f"the gene {word} cancer .", spans))
    return found


def plain_logits(folder, documents):
    """The logits of plain transformers for the marked sentences."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = BertForSequenceClassification.from_pretrained(folder).eval()
    texts = [f"the @GENE$ {d.text.split()[2]} @DISEASE$ ." for d in documents]
    with torch.no_grad():
        return torch.cat([plain(**tokenizer(text, return_tensors="pt")).logits for text in texts])


@pytest.mark.parametrize("label", ["LABEL_0", "associated"])
def test_a_single_output_is_the_sigmoid_of_its_class(model, label):
    documents = pairs()
    middle = plain_logits(model([label]), documents).median().item()
    folder = model([label], bias=-middle)
    shares = plain_logits(folder, documents).sigmoid()[:, 0].tolist()
    assert min(shares) < 0.5 < max(shares)
    found = RelationAnnotator.from_pretrained(folder, MARKING, runtime="torch-fp32")(documents)
    assert [bool(own) for own in found] == [share > 0.5 for share in shares]
    kind = "1" if label == "LABEL_0" else label
    for own, share in zip(found, shares, strict=True):
        for one in own:
            assert (one.type, one.score) == (kind, pytest.approx(share, abs=1e-5))


def test_outputs_for_themselves_give_every_class_that_is_more_likely_than_not(model):
    documents = pairs()
    folder = model(["binds", "treats", "causes"], problem_type="multi_label_classification")
    shares = plain_logits(folder, documents).sigmoid()
    annotator = RelationAnnotator.from_pretrained(folder, MARKING, runtime="torch-fp32")
    for own, row in zip(annotator(documents), shares, strict=True):
        wanted = zip(("binds", "treats", "causes"), row.tolist(), strict=True)
        assert {one.type: pytest.approx(one.score, abs=1e-5) for one in own} == {
            name: share for name, share in wanted if share >= 0.5
        }


def test_where_no_output_is_likely_there_is_no_relation(model):
    folder = model(["binds", "treats"], bias=-100.0, problem_type="multi_label_classification")
    found = RelationAnnotator.from_pretrained(folder, MARKING, runtime="torch-fp32")(pairs())
    assert not any(found)


@pytest.mark.parametrize(
    ("labels", "gold", "none"),
    [(["binds", "treats"], "none", "no relation"), (["CPR:3", "CPR:4", "CPR:5"], "CPR:false", "false")],
)
def test_outputs_for_themselves_are_right_where_none_is_likely_and_there_is_no_relation(
    model, labels, gold, none, tmp_path
):
    shown = [labels[0], gold, labels[1], gold]
    lines = [f"{i}\tthe @GENE$ {label} @DISEASE$ .\t{label}" for i, label in enumerate(shown)]
    (tmp_path / "test.tsv").write_text("index\tsentence\tlabel\n" + "\n".join(lines) + "\n")
    folder = model(labels, bias=-100.0, problem_type="multi_label_classification")
    found = evaluate(str(folder), tmp_path / "test.tsv").outcome
    assert found.scores["accuracy"] == 0.5 and found.scheme["negative"] == [none]
    assert found.errors == {"missed": 2} and not any("does not have" in note for note in found.notes)


def test_a_single_output_is_scored_as_the_class_1_of_gad(model, tmp_path):
    data = relation_folder(tmp_path / "gad", {"train": 10, "test": 30})
    always = evaluate(str(model(["LABEL_0"], bias=100.0)), data).outcome.scores
    assert always["recall"] == 1.0 and always["precision"] < 1.0
    never = evaluate(str(model(["LABEL_0"], bias=-100.0)), data).outcome.scores
    assert never["f1"] == 0.0 and never["specificity"] == 1.0


def test_an_output_of_a_regression_is_refused(model):
    with pytest.raises(UserError, match="regression"):
        RelationAnnotator.from_pretrained(model(["LABEL_0"], problem_type="regression"), MARKING)


def test_classes_that_the_configuration_no_longer_names_are_refused_with_what_to_change(model, cli, tmp_path):
    folder = model(["no", "yes"], relation_classes={"negative": ["0"], "scheme": None})
    wanted = ("model", "relation_classes", "config.json", "id2label", "'0'", "no, yes")
    with pytest.raises(UserError) as refused:
        RelationAnnotator.from_pretrained(folder, MARKING, runtime="torch-fp32")
    assert all(word in str(refused.value) for word in wanted) and refused.value.setting is None
    (tmp_path / "test.tsv").write_text("the @GENE$ risk @DISEASE$ .\tyes\nthe @GENE$ dose @DISEASE$ .\tno\n")
    for given in ((), ("--negative", "no")):
        one_sentence(cli("evaluate", tmp_path / "test.tsv", "--model", folder, *given), *wanted)
    (tmp_path / "gad.tsv").write_text("the @GENE$ risk @DISEASE$ .\t1\nthe @GENE$ dose @DISEASE$ .\t0\n")
    other = model(["0", "1"], relation_classes={"negative": ["no"], "scheme": None})
    one_sentence(cli("evaluate", tmp_path / "gad.tsv", "--model", other), "relation_classes", "'no'", "0, 1")
    folder = model(["no", "yes"], relation_classes={"negative": ["no"], "scheme": None})
    assert RelationAnnotator.from_pretrained(folder, MARKING, runtime="torch-fp32")(pairs()) is not None
    assert cli("evaluate", tmp_path / "test.tsv", "--model", folder)[0] == 0
