"""Documents with mentions and relations become the marked sentences that a relation model reads."""

import random
from dataclasses import replace

import pytest

import compactbio
from compactbio import Document, Marking, Passage, Relation, RelationAnnotator, Span, mark_pairs
from compactbio.errors import UserError
from compactbio.formats.relation_sentences import read, read_jsonl
from compactbio.tasks import data as datasets
from compactbio.training.finetuning import finetune

WORDS = Marking("Drug", "Gene", ("@DRUG$", "@GENE$"))
FRAMES = Marking("Drug", "Gene", ("<< {} >>", "[[ {} ]]"))


def document(text: str, *mentions: tuple[str, str], relations=(), **more) -> Document:
    """A document with the first occurrence of each (text, type) as a mention."""
    found = tuple(Span(text.index(name), text.index(name) + len(name), kind) for name, kind in mentions)
    return Document("7", text, found, tuple(Relation(*one) for one in relations), **more)


TWO = document(
    "Aspirin inhibits COX1 and COX2. Zinc binds nothing.",
    ("Aspirin", "Drug"), ("COX1", "Gene"), ("COX2", "gene"), ("Zinc", "Drug"),
    relations=[(0, 1, "INHIBITOR")],
)  # fmt: skip


def test_each_pair_of_a_sentence_is_marked_with_its_class():
    assert [(one.id, one.text, one.relations[0].type) for one in mark_pairs([TWO], WORDS)] == [
        ("7-0-1", "@DRUG$ inhibits @GENE$ and COX2.", "INHIBITOR"),
        ("7-0-2", "@DRUG$ inhibits COX1 and @GENE$.", "false"),
    ]
    framed = [one.text for one in mark_pairs([TWO], FRAMES, negative="none")]
    assert framed[0] == "<< Aspirin >> inhibits [[ COX1 ]] and COX2."


@pytest.mark.parametrize(
    ("marking", "format", "reader"), [(WORDS, "marked", read), (FRAMES, "marked-jsonl", read_jsonl)]
)
def test_what_is_written_is_read_as_it_was_marked(marking, format, reader, tmp_path):
    found = list(mark_pairs([TWO], marking))
    compactbio.write(found, tmp_path / "new" / "folder" / "train", format)
    again = list(reader(tmp_path / "new" / "folder" / "train"))
    assert [(one.text, one.spans, one.relations) for one in again] == [(d.text, d.spans, d.relations) for d in found]


def test_a_relation_may_name_the_tail_first_where_types_differ():
    turned = document("COX1 by Aspirin", ("Aspirin", "Drug"), ("COX1", "Gene"), relations=[(1, 0, "INHIBITOR")])
    assert [one.relations[0].type for one in mark_pairs([turned], WORDS)] == ["INHIBITOR"]
    genes = document("p53 and MDM2", ("p53", "Gene"), ("MDM2", "Gene"), relations=[(1, 0, "binds")])
    same = Marking("Gene", "Gene", ("@FIRST$", "@SECOND$"))
    assert [(one.text, one.relations[0].type) for one in mark_pairs([genes], same)] == [
        ("@FIRST$ and @SECOND$", "false"),
        ("@SECOND$ and @FIRST$", "binds"),
    ]


def test_a_side_may_have_several_types(caplog):
    mixed = document(
        "COX1 by Aspirin and TP53", ("Aspirin", "Drug"), ("COX1", "GENE-Y"), ("TP53", "GENE-N"),
        relations=[(1, 0, "INHIBITOR"), (0, 2, "BINDS"), (1, 2, "with")],
    )  # fmt: skip
    several = Marking("Drug", ("gene-y", "GENE-N"), ("@DRUG$", "@GENE$"))
    assert [(one.text, one.relations[0].type) for one in mark_pairs([mixed], several)] == [
        ("@GENE$ by @DRUG$ and TP53", "INHIBITOR"),
        ("COX1 by @DRUG$ and @GENE$", "BINDS"),
    ]
    assert caplog.messages == [
        "1 relations left out: not between a Drug and a gene-y or GENE-N of one sentence that do not overlap"
    ]


def test_what_cannot_be_marked_is_counted(caplog):
    across = document(
        "Aspirin helps. COX1 is inhibited by Zinc.", ("Aspirin", "Drug"), ("COX1", "Gene"), ("Zinc", "Drug"),
        relations=[(0, 1, "INHIBITOR"), (2, 1, "INHIBITOR"), (2, 1, "BINDS"), (2, 0, "with"), ("D1", "D2", "CID")],
    )  # fmt: skip
    assert [one.relations[0].type for one in mark_pairs([across], WORDS)] == ["INHIBITOR"]
    assert caplog.messages == [
        "3 relations left out: not between a Drug and a Gene of one sentence that do not overlap",
        "1 relations left out: their pair has another one, which is taken",
    ]


def test_a_marked_sentence_is_one_line_of_one_passage():
    text = "The effect of Aspirin in patients with\nmutated COX1 Gene COX2"
    passages = (Passage(0, text.index(" Gene")), Passage(text.index("Gene"), len(text)))
    wrapped = document(text, ("Aspirin", "Drug"), ("COX1", "Gene"), ("COX2", "Gene"), passages=passages)
    [found] = mark_pairs([wrapped], WORDS)
    assert found.text == "The effect of @DRUG$ in patients with mutated @GENE$"


def test_wrong_marks_and_documents_are_refused():
    with pytest.raises(UserError, match="two marks of a relation model must differ"):
        next(mark_pairs([TWO], Marking("Drug", "Gene", ("@X$", "@X$"))))
    for sides in (((), "Gene"), ("Drug", ())):
        with pytest.raises(UserError, match="Name a type, or several, for each"):
            Marking(*sides, ("@X$", "@Y$"))
    with pytest.raises(UserError, match="Document '7' cannot be marked: "):
        next(mark_pairs([document("Aspirin", ("Aspirin", "Drug"), relations=[(0, 4, "x")])], WORDS))


def test_a_model_trained_on_marked_pairs_finds_the_relations_of_the_documents(start, tmp_path):
    draw, documents = random.Random(0), []
    for _ in range(120):
        verb = draw.choice(["associated with", "and"])
        drug, disease = draw.choice(["aspirin", "insulin"]), draw.choice(["diabetes", "cancer"])
        relations = [(0, 1, "helps")] if verb != "and" else []
        mentions = ((drug, "Drug"), (disease, "Disease"))
        documents.append(document(f"daily {drug} {verb} risk {disease} group", *mentions, relations=relations))
    marking = Marking("Drug", "Disease", ("@DRUG$", "@DISEASE$"))
    (tmp_path / "made").mkdir()
    for name, part in (("train", documents[:100]), ("test", documents[100:])):
        compactbio.write(mark_pairs(part, marking), tmp_path / "made" / f"{name}.tsv", "marked")
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
    finetune(tmp_path / "made", str(start), tmp_path / "out", overrides=settings)
    relate = RelationAnnotator.from_pretrained(tmp_path / "out", marking, runtime="torch-fp32")
    found = [[(one.head, one.tail, one.type) for one in related] for related in relate(documents[100:])]
    wanted = [[(one.head, one.tail, one.type) for one in one.relations] for one in documents[100:]]
    assert sum(a == b for a, b in zip(found, wanted, strict=True)) >= 18


def test_texts_without_a_mark_are_named(start, tmp_path):
    (tmp_path / "made").mkdir()
    lines = "".join(f"daily dose of group {i % 2}\t{i % 2}\n" for i in range(8))
    (tmp_path / "made" / "train.tsv").write_text(lines)
    (tmp_path / "made" / "test.tsv").write_text("the dose\t1\n")
    made = finetune(tmp_path / "made", str(start), tmp_path / "out", overrides={"epochs": 1, "max_length": 32})
    assert any(note.startswith("8 texts have none of the known marks") for note in made.notes)


def test_sentences_of_one_document_are_in_one_split(tmp_path):
    documents = [
        replace(TWO, id=f"PM-{number}", text=TWO.text.replace("COX", f"{number % 10}OX")) for number in range(60)
    ]
    compactbio.write(mark_pairs(documents, WORDS), tmp_path / "all.tsv", "marked")
    found = datasets.find(tmp_path / "all.tsv")
    parts = [{one.id.rsplit("-", 2)[0] for one in found.read(split)} for split in ("train", "devel", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 60
