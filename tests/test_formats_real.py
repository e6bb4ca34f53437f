"""Real corpora read with the numbers that their sources state."""

import json
import logging
from collections import Counter

import pytest

from compactbio.errors import UserError
from compactbio.formats import read, recognise
from compactbio.formats.questions import read_questions
from compactbio.formats.sources import folds, splits
from conftest import SHARED

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")

PUBTATOR = SHARED / "pubtator"
SAMPLE = PUBTATOR / "BC5CDR" / "eval_sample"
BIOASQ = SHARED / "qa" / "BioASQ"


def counts(path):
    documents = list(read(path))
    return len(documents), sum(len(document.spans) for document in documents)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ner/NCBI-disease/train.tsv", (5424, 5134)),
        ("ner/NCBI-disease/devel.tsv", (923, 787)),
        ("ner/NCBI-disease/test.tsv", (940, 960)),
        ("ner/BC5CDR-disease/train.tsv", (4560, 4182)),
        ("ner/BC5CDR-disease/devel.tsv", (4581, 4246)),
        ("ner/BC5CDR-disease/test.tsv", (4797, 4424)),
        ("ner/BC5CDR-chem/train.tsv", (4560, 5203)),
        ("ner/BC5CDR-chem/devel.tsv", (4581, 5347)),
        ("ner/BC5CDR-chem/test.tsv", (4797, 5385)),
        ("ner/BC2GM/train.tsv", (12574, 15197)),
        ("ner/BC2GM/devel.tsv", (2519, 3061)),
        ("ner/BC2GM/test.tsv", (5038, 6325)),
        ("ner/s800/train.tsv", (5733, 2557)),
        ("ner/s800/devel.tsv", (830, 384)),
        ("ner/s800/test.tsv", (1630, 767)),
        ("ner/linnaeus/train.tsv", (11935, 2119)),
        ("ner/linnaeus/devel.tsv", (4078, 711)),
        ("ner/JNLPBA/train.tsv", (14690, 32178)),
        ("ner/JNLPBA/devel.tsv", (3856, 8575)),
        ("ner/BC5CDR-multi/train.tsv", (4560, 9385)),
        ("ner/BC5CDR-multi/devel.tsv", (4581, 9593)),
        ("ner/BC5CDR-multi/test.tsv", (4797, 9809)),
        ("ner_conll4/NCBI-disease/dev.txt", (923, 787)),
    ],
)
def test_token_files_hold_their_sentences_and_mentions(path, expected):
    assert recognise(SHARED / path) == "conll"
    assert counts(SHARED / path) == expected


def test_four_columns_with_docstart():
    documents = list(read(SHARED / "ner_conll4/JNLPBA/dev.txt"))
    assert len(documents) == 1739
    assert len({document.id.split(".")[0] for document in documents}) == 200
    assert {span.type for d in documents for span in d.spans} == {"DNA", "RNA", "protein", "cell_line", "cell_type"}


def test_the_output_of_conlleval_has_the_words_and_mentions_of_its_gold_file():
    gold = list(read(SHARED / "ner/s800/test.tsv"))
    found = list(read(SHARED / "ner_predictions/s800_test_conlleval/NER_result_conll.txt"))
    assert [document.text for document in found] == [document.text for document in gold]
    assert sum(len(document.text.split(" ")) for document in found) == 42_298
    assert sum(len(document.spans) for document in gold) == 767


@pytest.mark.parametrize(
    ("name", "expected", "wrong"),
    [
        ("NCBI-disease/NCBItrainset_corpus.txt", (593, 5144), 1),
        ("NCBI-disease/NCBIdevelopset_corpus.txt", (100, 787), 0),
        ("NCBI-disease/NCBItestset_corpus.txt", (100, 960), 0),
        ("BC5CDR/BC5CDR_TrainDev.PubTator", (1000, 18974), 0),
        ("BC5CDR/BC5CDR_Test.PubTator", (500, 9796), 0),
        ("BC5CDR/CDR_sample.txt", (50, 925), 0),
    ],
)
def test_pubtator_files_hold_their_abstracts_and_mentions(name, expected, wrong, caplog):
    with caplog.at_level(logging.WARNING, "compactbio.formats"):
        assert counts(PUBTATOR / name) == expected
    assert [record.args[2] for record in caplog.records] == [1] * wrong


def test_the_document_that_occurs_twice_in_the_ncbi_training_set_is_given_twice():
    ids = Counter(document.id for document in read(PUBTATOR / "NCBI-disease/NCBItrainset_corpus.txt"))
    assert [name for name, count in ids.items() if count > 1] == ["8528200"]


def test_the_cdr_sample_has_its_relations():
    documents = list(read(PUBTATOR / "BC5CDR/CDR_sample.txt"))
    relations = [relation for document in documents for relation in document.relations]
    assert len(relations) == 124
    assert {relation.type for relation in relations} == {"CID"}


def test_brat_and_pubtator_tell_the_same_of_the_ncbi_test_set():
    brat = {document.id: document for document in read(SHARED / "brat/NCBI-disease/test")}
    pubtator = list(read(PUBTATOR / "NCBI-disease/NCBItestset_corpus.txt"))
    assert len(brat) == len(pubtator) == 100
    for document in pubtator:
        assert marked(brat[document.id]) == marked(document)


@pytest.mark.parametrize("run", ["gold/CDR_sample.gold", "system/CDR_sample.test.CID", "system/CDR_sample.test.DNER"])
def test_bioc_and_pubtator_tell_the_same_of_the_cdr_sample(run):
    bioc = list(read(SAMPLE / f"{run}.BioC.xml"))
    pubtator = list(read(SAMPLE / f"{run}.PubTator"))
    assert [document.id for document in bioc] == [document.id for document in pubtator]
    for one, other in zip(bioc, pubtator, strict=True):
        assert one.text == other.text
        assert marked(one) == marked(other)
        assert sorted(map(str, one.relations)) == sorted(map(str, other.relations))


def marked(document):
    """A document's mentions, in order of place."""
    return sorted((s.start, s.end, s.type, document.text[s.start : s.end]) for s in document.spans)


def test_squad_files_hold_their_pairs_and_every_start_is_exact():
    documents = list(read(BIOASQ / "BioASQ-train-factoid-7b.json"))
    assert len(documents) == 4231
    assert len({document.questions[0].id for document in documents}) == 530
    for document in documents:
        [[[answer]], [start]] = (document.questions[0].answers, document.questions[0].starts)
        assert document.text.startswith(answer, start)


@pytest.mark.parametrize(("name", "pairs", "questions"), [("factoid", 512, 162), ("yesno", 488, 140)])
def test_squad_test_sets_have_no_answers(name, pairs, questions):
    documents = list(read(BIOASQ / f"BioASQ-test-{name}-7b.json"))
    assert (len(documents), len({document.questions[0].id for document in documents})) == (pairs, questions)
    assert {document.questions[0].answers for document in documents} == {()}


def test_the_golden_file_has_its_questions_by_type_and_those_of_the_test_set():
    golden = read_questions(BIOASQ / "7B_golden.json")
    assert Counter(q.kind for q in golden.values()) == {"factoid": 162, "yesno": 140, "summary": 110, "list": 88}
    assert all(question.answers for question in golden.values() if question.kind != "summary")
    asked = {document.questions[0].id for document in read(BIOASQ / "BioASQ-test-factoid-7b.json")}
    assert asked == {name for name, question in golden.items() if question.kind == "factoid"}


def test_every_golden_file_and_submission_reads():
    golden = [*BIOASQ.glob("*_golden.json"), *(SHARED / "qa/BioASQ_12b").glob("*.json")]
    submissions = list((SHARED / "qa/BioASQ_predictions").glob("*/BioASQform*.json"))
    assert (len(golden), len(submissions)) == (14, 3)
    for path in golden + submissions:
        assert recognise(path) == "bioasq"
        entries = json.loads(path.read_text(encoding="utf-8"))["questions"]
        assert list(read_questions(path)) == [entry["id"] for entry in entries]


def test_gad_has_ten_folds_with_their_rows():
    found = folds(SHARED / "re/GAD")
    assert [fold.name for fold in found] == [str(number) for number in range(1, 11)]
    rows = []
    for fold in found:
        own = splits(fold)
        assert "devel" not in own
        train, test = list(read(own["train"])), list(read(own["test"]))
        rows.append((len(train), len(test)))
        assert {d.relations[0].type for d in train + test} == {"0", "1"}
    assert rows == [(4796, 534), *[(4797, 533)] * 8, (4798, 532)]
    with pytest.raises(UserError, match="is empty"):
        read(SHARED / "re/GAD/1/dev.tsv")


def test_chemprot_has_its_rows_and_labels():
    found = splits(SHARED / "re/chemprot_scibert")
    documents = [list(read(path)) for path in map(found.get, ("train", "devel", "test"))]
    assert [len(split) for split in documents] == [4169, 2427, 3469]
    labels = {document.relations[0].type for split in documents for document in split}
    assert len(labels) == 13
    assert all(document.relations[0].head == 0 for split in documents for document in split)


def test_the_ncbi_and_bc2gm_folders_have_three_splits_each():
    for name in ("NCBI-disease", "BC2GM"):
        found = splits(SHARED / "ner" / name)
        assert {split: path.name for split, path in found.items()} == {
            s: f"{s}.tsv" for s in ("train", "devel", "test")
        }
    assert splits(PUBTATOR / "NCBI-disease")["train"].name == "NCBItrainset_corpus.txt"


@pytest.mark.parametrize("name", ["pubmed/sample-2k.jsonl", "pubmed/xml/pubmed21n0001.xml.gz"])
def test_files_of_citations_are_no_annotated_documents(name):
    with pytest.raises(UserError, match="citations"):
        recognise(SHARED / name)


@pytest.mark.parametrize("name", ["vocab/bert-base-cased.txt", "qa/PubMedQA/ori_pqal.json", "expected_scores.json"])
def test_files_of_other_kinds_are_not_recognised(name):
    with pytest.raises(UserError, match="not recognised"):
        recognise(SHARED / name)
