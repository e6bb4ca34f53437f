"""The annotator finds what the model finds, wherever it stands, in texts of any length and kind."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

import small_models
from compactbio import Annotator, Entity, QuestionAnnotator, RelationAnnotator, annotate_files
from compactbio.annotate.annotator import Tagger
from compactbio.annotate.models import LoadedModel
from compactbio.documents import Document
from compactbio.documents.names import split_type
from compactbio.errors import UserError
from compactbio.modeling import runtimes
from compactbio.tasks import ner_encoding
from compactbio.training.finetuning import finetune
from task_data import ner_folder, relation_folder, start_folder

TEXT = "The patients of aspirin and insulin daily\nRisk of lung cancer and the   breast cancer"


@pytest.fixture(scope="module")
def annotator(tagger):
    return Annotator.from_pretrained(tagger, runtime="torch-fp32")


def found(entities: list[Entity]) -> list[tuple[str, str]]:
    return [(entity.text, entity.type) for entity in entities]


def plain(folder):
    """The model and the tokenizer as transformers loads them."""
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def test_entities_have_offsets_types_and_scores(annotator):
    [entities] = annotator([TEXT])
    assert found(entities) == [
        ("aspirin", "Drug"),
        ("insulin", "Drug"),
        ("lung cancer", "Drug"),
        ("breast cancer", "Drug"),
    ]
    for entity in entities:
        assert TEXT[entity.start : entity.end] == entity.text and 0.5 < entity.score <= 1
    assert annotator([TEXT], min_score=1) == [[]]
    assert annotator([]) == []


def test_entities_are_those_of_the_model_run_by_transformers_alone(annotator, tagger):
    """Sentence by sentence, words by their first piece, with the plain model and tokenizer."""
    model, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(tagger).eval(),
        AutoTokenizer.from_pretrained(tagger),
    )
    sentences = ["patients of aspirin and daily lung cancer", "insulin", "the risk of the control group"]
    wanted = []
    for sentence in sentences:
        words = sentence.split(" ")
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(-1).tolist()
        ids = encoded.word_ids()
        tags = [model.config.id2label[best[ids.index(i)]] for i in range(len(words))]
        wanted.append([word for word, tag in zip(words, tags, strict=True) if tag != "O"])
    entities = annotator([Document(str(i), text, tokenised=True) for i, text in enumerate(sentences)])
    assert [" ".join(e.text for e in own).split() for own in entities] == wanted
    assert any(wanted)


def test_a_score_is_the_mean_share_of_the_type_over_the_words(annotator, tagger):
    text = "lung cancer"
    [[entity]] = annotator([text])
    model, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(tagger).eval(),
        AutoTokenizer.from_pretrained(tagger),
    )
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0, 1:3]
    temperature = json.loads((tagger / "calibration.json").read_text())["torch-fp32"]["calibration"]["temperature"]
    shares = (logits / temperature).softmax(-1)
    inside = [i for i, label in model.config.id2label.items() if label != "O"]
    assert entity.score == pytest.approx(shares[:, inside].sum(-1).mean().item(), abs=1e-5)


def test_a_long_sentence_is_covered_by_windows_and_nothing_is_cut(annotator):
    filler = "the dose of the control group and the risk of the study results " * 30
    for text in (filler + "aspirin", "aspirin " + filler, filler + "aspirin and " + filler):
        [entities] = annotator([text])
        assert found(entities) == [("aspirin", "Drug")], text[:20]
        assert text[entities[0].start : entities[0].end] == "aspirin"


def test_what_fits_in_one_window_is_as_if_there_were_no_windows(tagger):
    source = runtimes.find(str(tagger))
    runtime = runtimes.load(source, "torch-fp32")
    tokenizer = AutoTokenizer.from_pretrained(tagger)
    labels = tuple(source.config.id2label[i] for i in range(source.config.num_labels))
    short, long = (Annotator([Tagger(LoadedModel("t", runtime, tokenizer, labels, n, 0))]) for n in (20, 60))
    texts = ["patients of aspirin and daily lung cancer", "insulin", "breast cancer control"]
    assert short(texts) == long(texts)
    rows = ner_encoding.encode([Document("", text) for text in texts], tokenizer, {}, 20).rows
    assert len(rows) == len(texts)


def test_many_texts_at_once_are_as_each_alone(annotator):
    texts = [TEXT, "", "insulin", TEXT.upper(), "the group", "lung cancer " * 40]
    together = annotator(texts)
    for text, own in zip(texts, together, strict=True):
        [alone] = annotator([text])
        assert found(alone) == found(own)
        assert np.allclose([e.score for e in alone], [e.score for e in own], atol=1e-5)


def test_of_overlapping_entities_of_one_type_of_several_models_the_surer_is_kept(tagger, tokenizer_folder, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 120, "devel": 20}, kind="Thing")
    start = start_folder(tmp_path / "start", tokenizer_folder)
    # One that knows cancers alone, after a single epoch, and is less sure.
    train = (data / "train.tsv").read_text().replace("cancer\tI-Thing", "cancer\tO")
    (data / "train.tsv").write_text(train)
    finetune(data, str(start), tmp_path / "other", overrides={"epochs": 1, "learning_rate": 5e-3, "max_length": 32})
    one, other = (Annotator.from_pretrained(name, runtime="torch-fp32") for name in (tagger, tmp_path / "other"))
    both = Annotator.from_pretrained(tagger, tmp_path / "other", runtime="torch-fp32")
    texts = ["the patients of lung cancer", "aspirin and insulin"]
    for text in texts:
        everything = [*one([text])[0], *other([text])[0]]
        kept = both([text])[0]
        for entity in everything:
            near = [e for e in kept if e.start < entity.end and entity.start < e.end]
            assert near and max(e.score for e in near) >= entity.score
        assert all(a.end <= b.start for a, b in pairwise(kept))


def test_overlapping_entities_of_different_types_are_all_kept(tagger):
    text = "the patients of lung cancer and aspirin"
    single, same, other = (
        Annotator.from_pretrained(*names, runtime="torch-fp32")([text])[0]
        for names in ([f"A={tagger}"], [f"A={tagger}", f"a={tagger}"], [f"A={tagger}", f"B={tagger}"])
    )
    assert single and same == single
    assert [(e.start, e.end, e.type) for e in other] == [(e.start, e.end, t) for e in single for t in "AB"]


@pytest.mark.parametrize(
    "text",
    ["", " \n\t ", "\x00\x00", "🙂", "مرحبا aspirin", "\ud800 aspirin \udfff", "<b>of</b> aspirin", "x" * 1_000_000],
    ids=["empty", "blank", "NUL", "emoji", "right to left", "surrogates", "HTML", "a megabyte of one word"],
)  # fmt: skip
def test_odd_texts_are_annotated_like_others(annotator, text):
    [entities] = annotator([text])
    for entity in entities:
        assert text[entity.start : entity.end] == entity.text
    assert ("aspirin" in text) == any(entity.text == "aspirin" for entity in entities)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("min_score", (float("nan"), 2, -3, None, "0.5")),
        ("min_precision", ("0.5", float("nan"), 0)),
        ("batch_size", (None, 1.5, 0, "8")),
        ("threads", (0, 1.5)),
        ("tokens_per_batch", (0, "8")),
        ("workers", (0, 1.5)),
    ],
)
def test_a_number_that_the_command_refuses_is_refused(tagger, annotator, tmp_path, argument, values):
    (tmp_path / "in.txt").write_text("aspirin\n")
    for value in values:
        given = {argument: value}
        calls = [
            lambda: annotate_files(tmp_path / "in.txt", tmp_path / "out.jsonl", models=tagger, **given),  # noqa: B023
            lambda: Annotator.from_pretrained(tagger, **given),  # noqa: B023
            lambda: annotator("aspirin", **given),  # noqa: B023
            lambda: annotator.stream(["aspirin"], **given),  # noqa: B023
        ]
        for call in [one for one, takes in zip(calls, _TAKES, strict=True) if argument in takes]:
            with pytest.raises(UserError, match=rf"^{argument} is {value!r}; it must be ") as refused:
                call()
            assert refused.value.setting == argument
    assert not (tmp_path / "out.jsonl").exists()


_TAKES = (
    ("min_score", "min_precision", "batch_size", "workers"),
    ("min_precision", "threads", "tokens_per_batch"),
    ("min_score",),
    ("min_score", "batch_size"),
)


def test_an_argument_that_is_none_is_refused_in_one_sentence(tagger, tmp_path):
    (tmp_path / "in.txt").write_text("aspirin\n")
    right = {"inputs": tmp_path / "in.txt", "out": tmp_path / "out.jsonl", "models": tagger}
    for name, words in {
        "inputs": "inputs: None is neither a name or path nor a list",
        "models": "models: None is neither a name or path nor a list",
        "out": "out is None: give text or a path",
    }.items():
        with pytest.raises(UserError, match=words):
            annotate_files(**{**right, name: None})
    with pytest.raises(UserError, match="The name of a model is None"):
        Annotator.from_pretrained(None)
    with pytest.raises(UserError, match="The marking is None; give Marking"):
        RelationAnnotator.from_pretrained(tagger, None)
    with pytest.raises(UserError, match="The name of a model is None"):
        QuestionAnnotator.from_pretrained(None)


def test_a_text_alone_gives_its_entities(annotator):
    assert annotator(TEXT) == annotator([TEXT])[0]
    assert annotator(Document("7", TEXT)) == annotator([TEXT])[0]
    assert annotator("") == []


def test_a_model_without_types_is_given_one(start_untyped):
    [[entity]] = Annotator.from_pretrained(f"Chemical={start_untyped}", runtime="torch-fp32")(["aspirin"])
    [[bare]] = Annotator.from_pretrained(start_untyped, runtime="torch-fp32")(["aspirin"])
    assert (entity.type, bare.type) == ("Chemical", "")


def test_a_type_renames_a_model_of_one_and_is_refused_for_a_model_of_several(tagger, tmp_path):
    renamed = Annotator.from_pretrained(f"Chemical={tagger}", runtime="torch-fp32")
    [[entity]] = renamed(["aspirin"])
    assert entity.type == "Chemical" and renamed.taggers[0].types == ["Chemical"]
    two = small_models.save("bert", "ner", tmp_path / "two", ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"])
    words = r"two finds several types \(Drug, Gene\), so 'A' cannot be their name: name the model alone\.$"
    with pytest.raises(UserError, match=words):
        Annotator.from_pretrained(f"A={two}")
    (tmp_path / "in.txt").write_text("aspirin\n")
    with pytest.raises(UserError, match=words):
        annotate_files(tmp_path / "in.txt", tmp_path / "out.jsonl", models=[f"A={two}"], workers=1)
    assert not list(tmp_path.glob("*out.jsonl*"))


@pytest.fixture(scope="module")
def start_untyped(tokenizer_folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("untyped")
    data = ner_folder(place / "made", {"train": 120, "devel": 20})
    start = start_folder(place / "start", tokenizer_folder)
    finetune(
        data,
        str(start),
        place / "out",
        overrides={"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32},
    )
    return place / "out"


def test_a_path_with_an_equals_sign_is_a_path(tagger, tmp_path):
    shutil.copytree(tagger, tmp_path / "a=b")
    assert split_type(str(tmp_path / "a=b")) == ("", str(tmp_path / "a=b"))
    assert split_type("Drug=owner/tagger") == ("Drug", "owner/tagger") and split_type("owner/tagger") == (
        "",
        "owner/tagger",
    )


def test_models_that_cannot_annotate_are_refused(tagger, teacher_folder, tokenizer_folder, tmp_path):
    with pytest.raises(UserError, match="fine-tune it first"):
        Annotator.from_pretrained(teacher_folder)
    nameless = tmp_path / "nameless"
    shutil.copytree(tagger, nameless)
    config = json.loads((nameless / "config.json").read_text())
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(len(config["id2label"]))}
    config["label2id"] = {name: int(i) for i, name in config["id2label"].items()}
    (nameless / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no id2label"):
        Annotator.from_pretrained(nameless)
    data = relation_folder(tmp_path / "made", {"train": 12, "test": 4})
    start = start_folder(tmp_path / "start", tokenizer_folder)
    finetune(data, str(start), tmp_path / "relations", overrides={"epochs": 1, "max_length": 32})
    with pytest.raises(UserError, match="fine-tuned for relation"):
        Annotator.from_pretrained(tmp_path / "relations")
    with pytest.raises(UserError, match="not a runtime"):
        Annotator.from_pretrained(tagger, runtime="tensorflow")
    with pytest.raises(UserError, match=r"model\.onnx"):
        Annotator.from_pretrained(tagger, runtime="onnx-fp32")


def test_fastest_measures_once_and_keeps_what_it_found(tagger, monkeypatch, tmp_path):
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtimes, "available", lambda source: ["torch-fp32", "torch-bf16"])
    source = runtimes.find(str(tagger))
    chosen = runtimes.fastest(source)
    [note] = (tmp_path / "cache" / "runtimes").iterdir()
    known = json.loads(note.read_text())
    assert known["fastest"] == chosen == max(known["tokens_per_second"], key=known["tokens_per_second"].get)
    monkeypatch.setattr(runtimes, "tokens_per_second", lambda *_: pytest.fail("measured again"))
    assert runtimes.fastest(source) == chosen
    monkeypatch.setattr(runtimes, "tokens_per_second", lambda *_: {"torch-fp32": 1.0, "torch-bf16": 2.0})
    for damaged in ("{", "[" * 9999):
        note.write_text(damaged)
        assert runtimes.fastest(source) == "torch-bf16"


def test_a_cache_that_cannot_be_written_is_not_an_error(tagger, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(runtimes, "available", lambda source: ["torch-fp32", "torch-bf16"])
    assert runtimes.fastest(runtimes.find(str(tagger))) in runtimes.TORCH
