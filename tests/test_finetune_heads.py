"""Fine-tuning a model that has a head already: continued for the same labels, drawn fresh for others, and said."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from compactbio.evaluation.scoring import evaluate
from compactbio.training.finetuning import collect, finetune
from conftest import bert, distilbert, mobilebert, randomize
from task_data import ner_folder, qa_folder, relation_folder

AUTO = {
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}
# So small a rate that what comes out is what training began with.
STILL = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-12, "max_length": 32}
DRUG = ["B-Drug", "I-Drug", "O"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    sizes = {"train": 16, "devel": 4, "test": 4}
    makers = {"ner": lambda out, given: ner_folder(out, given, kind="Drug"), "relation": relation_folder}
    return {task: make(place / task, sizes) for task, make in {**makers, "qa": qa_folder}.items()}


def source(folder: Path, tokenizer: Path, task: str, labels: list[str] | None, family=bert) -> Path:
    """A random model with the head of a task; without labels the configuration only numbers two."""
    config = family().config
    if labels is not None:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    randomize(AUTO[task].from_config(config), seed=5).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def weight(folder: Path, name: str = "classifier") -> torch.Tensor:
    return load_file(folder / "model.safetensors")[f"{name}.weight"]


def labels_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "config.json").read_text())["id2label"].values())


@pytest.mark.parametrize(
    ("task", "own", "wanted", "said"),
    [
        ("ner", DRUG, DRUG, ""),
        ("ner", ["O", "B-Drug", "I-Drug"], ["O", "B-Drug", "I-Drug"], "another order"),
        ("ner", ["O", "B-DRUG", "I-DRUG"], ["O", "B-Drug", "I-Drug"], "another order or case"),
        ("relation", ["0", "1"], ["0", "1"], ""),
        ("relation", ["1", "0"], ["1", "0"], "another order"),
        ("relation", None, ["0", "1"], ""),
    ],
)
def test_a_head_for_the_same_labels_is_continued_in_its_own_order(
    task, own, wanted, said, data, tokenizer_folder, tmp_path, capsys
):
    start = source(tmp_path / "start", tokenizer_folder, task, own)
    result = finetune(data[task], str(start), tmp_path / "out", overrides=STILL)
    assert torch.allclose(weight(tmp_path / "out"), weight(start), atol=1e-6)
    assert labels_of(tmp_path / "out") == wanted
    notes = [note for note in result.notes if "head" in note]
    assert len(notes) == bool(said) and all(said in note and "trained further" in note for note in notes)
    assert all(note in capsys.readouterr().err for note in notes)


@pytest.mark.parametrize(
    ("task", "head", "own", "said"),
    [
        ("ner", "ner", ["B-Gene", "I-Gene", "O"], "B-Gene, I-Gene, O"),
        ("ner", "ner", ["B", "I", "O"], "B, I, O"),
        ("ner", "ner", ["O", "B-Drug", "E-Drug"], "E-Drug"),
        ("ner", "ner", [*DRUG, "B-Gene", "I-Gene"], "B-Gene"),
        ("ner", "ner", ["LABEL_0", "LABEL_1", "LABEL_2"], "have no names"),
        ("ner", "ner", ["B-Drug", "I-Drug", "nothing"], "nothing"),
        ("ner", "relation", DRUG, "ForSequenceClassification"),
        ("relation", "relation", ["gene", "disease"], "gene, disease"),
        ("relation", "ner", ["0", "1"], "ForTokenClassification"),
        ("relation", "relation", ["0", "1", "2"], "0, 1, 2"),
    ],
)
def test_a_head_for_other_labels_is_drawn_fresh_and_said(
    task, head, own, said, data, tokenizer_folder, tmp_path, capsys
):
    start = source(tmp_path / "start", tokenizer_folder, head, own)
    result = finetune(data[task], str(start), tmp_path / "out", overrides=STILL)
    found, before = weight(tmp_path / "out"), weight(start)
    assert found.shape != before.shape or not torch.isclose(found, before, atol=1e-3).any(1).all()
    assert 0.01 < found.std() < 0.03  # as BERT draws it, with a deviation of 0.02
    (note,) = [note for note in result.notes if "head" in note]
    assert "fresh" in note and said in note and "start" in note and note in capsys.readouterr().err
    assert note in json.loads((tmp_path / "out" / "run.json").read_text())["result"]["notes"]
    again = finetune(data[task], str(start), tmp_path / "again", overrides=STILL)
    assert torch.equal(weight(tmp_path / "again"), found) and again.notes == result.notes
    other = finetune(data[task], str(start), tmp_path / "other", overrides={**STILL, "seed": 1})
    assert note in other.notes and not torch.allclose(weight(tmp_path / "other"), found, atol=1e-4)


@pytest.mark.parametrize("family", [distilbert, mobilebert])
def test_other_families_have_their_heads_drawn_too(family, data, tokenizer_folder, tmp_path):
    for task, own in (("ner", ["B-Gene", "I-Gene", "O"]), ("relation", ["no", "yes"])):
        start = source(tmp_path / f"start-{task}", tokenizer_folder, task, own, family)
        result = finetune(data[task], str(start), tmp_path / task, overrides=STILL)
        assert not torch.allclose(weight(tmp_path / task), weight(start), atol=1e-2)
        assert any("fresh" in note for note in result.notes)


def test_a_question_answering_head_is_continued_and_a_plain_encoder_needs_no_word(
    data, tokenizer_folder, tmp_path, capsys
):
    start = source(tmp_path / "start", tokenizer_folder, "qa", None)
    result = finetune(data["qa"], str(start), tmp_path / "out", overrides=STILL)
    assert torch.allclose(weight(tmp_path / "out", "qa_outputs"), weight(start, "qa_outputs"), atol=1e-6)
    assert not [note for note in result.notes if "head" in note]
    bert().save_pretrained(tmp_path / "plain")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(tmp_path / "plain")
    for task, folder in data.items():
        result = finetune(folder, str(tmp_path / "plain"), tmp_path / f"plain-{task}", overrides=STILL)
        assert not [note for note in result.notes if "head" in note]
    assert "head" not in capsys.readouterr().err


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
@pytest.mark.parametrize(
    ("head", "own"), [("ner", ["B", "I", "O"]), ("relation", ["0", "1"]), ("relation", list("abcde"))]
)
def test_questions_draw_a_head_of_their_own_whatever_classifier_the_start_has(
    family, head, own, data, tokenizer_folder, tmp_path
):
    start = source(tmp_path / "start", tokenizer_folder, head, own, family)
    inputs = collect(data["qa"], start, overrides=STILL)
    (note,) = [note for note in inputs.notes if "head" in note]
    assert "fresh" in note and "start is not used" in note
    drawn, again = inputs.start().qa_outputs.weight, inputs.start().qa_outputs.weight
    assert drawn.shape[0] == 2 and torch.equal(drawn, again) and 0.01 < drawn.std() < 0.03
    if family is bert and head == "ner":
        finetune(data["qa"], start, tmp_path / "out", overrides=STILL)
        assert evaluate(str(tmp_path / "out"), data["qa"]).task == "qa"


def test_a_classifier_of_a_model_that_names_no_architecture_is_known_by_its_labels(data, tokenizer_folder, tmp_path):
    for own, kept in ((DRUG, True), (["B-Gene", "I-Gene", "O"], False), (["LABEL_0", "LABEL_1", "LABEL_2"], False)):
        start = source(tmp_path / own[0], tokenizer_folder, "ner", own)
        config = json.loads((start / "config.json").read_text())
        del config["architectures"]
        (start / "config.json").write_text(json.dumps(config))
        finetune(data["ner"], str(start), tmp_path / f"out-{own[0]}", overrides=STILL)
        assert torch.allclose(weight(tmp_path / f"out-{own[0]}"), weight(start), atol=1e-6) == kept


def test_a_tagger_whose_labels_stand_in_another_order_finds_what_it_found(tagger, tokenizer_folder, tmp_path):
    model = AutoModelForTokenClassification.from_pretrained(tagger)
    order = [2, 0, 1]
    names = [model.config.id2label[i].upper() for i in order]
    with torch.no_grad():
        for part in (model.classifier.weight, model.classifier.bias):
            part.copy_(part[order])
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    model.save_pretrained(tmp_path / "turned")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(tmp_path / "turned")
    made = ner_folder(tmp_path / "made", {"train": 8, "test": 40}, seed=3, kind="Drug")
    finetune(made, str(tmp_path / "turned"), tmp_path / "out", overrides=STILL)
    before, after = evaluate(str(tagger), made), evaluate(str(tmp_path / "out"), made)
    assert after.predictions == before.predictions and before.outcome.main > 0.9
