"""Relations between mentions and answers to questions, on raw text."""

import json
import os
from dataclasses import replace

import pytest

from compactbio.annotate import Annotator, Marking, QuestionAnnotator, RelationAnnotator
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.formats import read_texts, write
from compactbio.training.finetuning import finetune
from conftest import one_sentence
from task_data import qa_folder, relation_folder

QUICK = {"epochs": 5, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
MARKING = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))


@pytest.fixture(scope="module")
def relations(start, tmp_path_factory):
    place = tmp_path_factory.mktemp("relations")
    finetune(relation_folder(place / "made", {"train": 120, "test": 20}), str(start), place / "out", overrides=QUICK)
    return RelationAnnotator.from_pretrained(place / "out", MARKING, runtime="torch-fp32")


def spans(text: str, *mentions: tuple[str, str]) -> Document:
    """A document with the first occurrence of each (text, type) as a mention."""
    return Document("1", text, tuple(Span(text.index(m), text.index(m) + len(m), kind) for m, kind in mentions))


def test_pairs_of_a_sentence_are_classed(relations):
    related = "patients insulin associated with risk diabetes group ."
    apart = "patients insulin and risk diabetes group ."
    document = spans(related, ("insulin", "Gene"), ("diabetes", "Disease"))
    [found, none, nothing] = relations(
        [document, spans(apart, ("insulin", "Gene"), ("diabetes", "Disease")), Document("3", "the group")]
    )
    assert [(one.head, one.tail, one.type) for one in found] == [(0, 1, "1")] and 0.5 < found[0].score <= 1
    assert none == [] and nothing == []
    assert relations([document], min_score=1) == [[]] and relations([]) == []


def test_pairs_are_of_one_sentence_and_of_the_types_named(relations):
    two = "patients insulin .\nassociated with risk diabetes group ."
    assert relations([spans(two, ("insulin", "Gene"), ("diabetes", "Disease"))]) == [[]]
    other = "patients insulin associated with risk diabetes group ."
    assert relations([spans(other, ("insulin", "Drug"), ("diabetes", "Disease"))]) == [[]]


def test_types_are_compared_without_regard_to_case(relations):
    text = "patients insulin associated with risk diabetes group ."
    [found] = relations([spans(text, ("insulin", "GENE"), ("diabetes", "disease"))])
    assert [(one.head, one.tail) for one in found] == [(0, 1)]


@pytest.mark.parametrize("span", [Span(0, 100, "Gene"), Span(7, 2, "Gene"), Span(-3, 2, "Gene")])
def test_a_mention_outside_its_text_is_refused_by_its_document(relations, span):
    with pytest.raises(UserError, match=r"Document 1 \(counted from 0\) .* not within its text"):
        relations([Document("1", "the group"), Document("2", "insulin", (span,))])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id": 12}, "id: input should be a valid string"),
        ({"text": None}, " is None; give str"),
        ({"spans": None}, "spans: input should be"),
        ({"spans": ((0, 7, "SECRET"),)}, "spans.0: input should be"),
        ({"spans": (Span("SECRET", 7, "Gene"),)}, "spans.0.start: input should be a valid integer"),
        ({"spans": (Span(0, 7, None),)}, "spans.0.type: input should be a valid string"),
    ],
)
def test_a_field_of_another_type_is_refused_by_its_document_without_its_content(relations, wrong, words, tmp_path):
    made = replace(Document("1", "SECRET of insulin"), **wrong)
    with pytest.raises(UserError) as refused:
        relations([Document("1", "the group"), made])
    assert "ocument 1 (counted from 0)" in str(refused.value) and words in str(refused.value)
    with pytest.raises(UserError) as unwritten:
        write([made], tmp_path / "out.jsonl", "jsonl")
    assert not [error for error in (refused, unwritten) if "SECRET" in str(error.value)]


@pytest.mark.parametrize(
    "marks", [("@X$", "@X$"), ("@X$",), ("@X$", "@Y$", "@Z$"), ("@X$", ""), ("@X$", 3), None, "ab"]
)
def test_marks_that_are_not_two_are_refused(start, marks):
    with pytest.raises(UserError, match=r"[Mm]ark"):
        RelationAnnotator.from_pretrained(start, Marking("A", "B", marks))


def test_an_option_that_is_not_known_is_refused(start):
    with pytest.raises(TypeError, match="min_precison"):
        RelationAnnotator.from_pretrained(start, MARKING, min_precison=0.9)
    with pytest.raises(TypeError, match="foo"):
        QuestionAnnotator.from_pretrained(start, foo=1)


def test_questions_are_answered_from_their_contexts(start, tmp_path):
    data = qa_folder(tmp_path / "made", {"train": 120, "devel": 6, "test": 6})
    finetune(data, str(start), tmp_path / "out", overrides=QUICK)
    from compactbio import formats

    annotator = QuestionAnnotator.from_pretrained(tmp_path / "out", runtime="torch-fp32")
    documents = [document for document in formats.read(next(data.glob("train*"))) if document.questions[0].answers]
    asked = [(d.questions[0].text, [d.text]) for d in documents[:20]]
    answers = annotator(asked)
    right = sum(own[0].text == d.questions[0].answers[0][0] for own, d in zip(answers, documents, strict=False) if own)
    assert right > 15 and all(len(own) <= 5 and own[0].score <= 1.001 for own in answers if own)
    [twice] = annotator([(asked[0][0], asked[0][1] * 2)])
    assert twice[0].text == answers[0][0].text and twice[0].score == pytest.approx(2 * answers[0][0].score, rel=1e-3)
    assert annotator([("what ?", [])]) == [[]] and annotator([]) == []


@pytest.mark.parametrize(("text", "words"), [(None, "None"), (b"SECRET", "a value of type bytes")])
def test_a_document_without_a_text_is_refused_by_its_place(tagger, text, words):
    with pytest.raises(UserError, match=rf"^The text of document 1 \(counted from 0\) is {words}; give str\.$"):
        Annotator.from_pretrained(tagger, runtime="torch-fp32")(["aspirin", Document("1", text)])


def test_a_stream_names_what_is_wrong_by_its_place_among_all(relations):
    given = [Document("1", "the group"), Document("2", "the group"), Document(3, "the group")]
    found = relations.stream(given, batch_size=2)
    assert [next(found), next(found)] == [[], []]
    with pytest.raises(UserError, match=r"^Document 2 \(counted from 0\)"):
        next(found)


@pytest.mark.parametrize(("record", "text"), [
    ({"text": "Full body.", "abstract": ""}, "Full body."),
    ({"text": "Full  body.", "title": "T", "abstract": "A."}, "Full  body."),
    ({"text": "", "title": "T", "abstract": "A."}, "T A."),
    ({"text": None, "title": "T"}, "T"),
    ({"text": "  \n"}, "  \n"),
    ({"text": "  ", "title": "T"}, "T"),
])  # fmt: skip
def test_the_text_of_a_record_is_its_text_where_there_is_one(record, text, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "1", **record}) + "\n")
    assert [one.text for one in read_texts(tmp_path / "in.jsonl")] == [text]


def test_a_pipe_is_not_written_over_and_a_link_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is a pipe"):
        write([Document("1", "zinc")], tmp_path / "pipe", "jsonl")
    (tmp_path / "link").symlink_to(tmp_path / "real.jsonl")
    write([Document("1", "zinc")], tmp_path / "link", "jsonl")
    assert (tmp_path / "link").is_symlink() and "zinc" in (tmp_path / "real.jsonl").read_text()


def test_options_without_effect_are_refused(cli, tmp_path):
    (tmp_path / "in.txt").write_text("aspirin\n")
    for option in ("--cluster", "--json"):
        one_sentence(cli("annotate", tmp_path / "in.txt", "--model", "m", "--out", "-", option), option[2:])
    (tmp_path / "gold.tsv").write_text("aspirin\tB\n")
    given = ("evaluate", tmp_path / "gold.tsv", "--predictions", tmp_path / "gold.tsv")
    computed = {"--runtime": "onnx-int8", "--device": "cpu", "--precision": "bf16", "--tokens-per-batch": "9"}
    for option in computed.items():
        one_sentence(cli(*given, *option), "has no effect")
