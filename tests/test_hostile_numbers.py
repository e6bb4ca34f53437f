"""Numbers and names that no file should hold: the document is set aside and named, or one sentence refuses the file."""

import gc
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from annotated_files import pair, put
from compactbio import corpus, formats
from compactbio.annotate import shards
from compactbio.corpus import citation_rows
from compactbio.documents import Document, Question, Relation, Span
from compactbio.errors import UserError
from compactbio.formats import Rejected, read_citations
from compactbio.tasks import qa

LONG = "9" * 5000  # Python converts at most 4,300 digits
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(autouse=True)
def no_collection():
    """What is finalised in the depth of a hostile line, where nothing more can be called, is not of these tests."""
    gc.disable()
    yield
    gc.enable()


def texts(path: Path) -> dict[str, int]:
    """What `annotate` reads of a file: the ids with their number of mentions; -1 for what is set aside."""
    found = {}
    for _, entry in shards.read_entries([path], None):
        rejected = isinstance(entry, Rejected)
        found[entry.place if rejected else entry.id] = -1 if rejected else len(entry.spans)
    return found


def bioc(offset: str = "0", start: str = "0", length: str = "4", mention: str = "Zinc") -> str:
    documents = [
        f"<document><id>{name}</id><passage><offset>{own}</offset><text>Zinc cures.</text><annotation id='a'>"
        f"<infon key='type'>C</infon><location offset='{at}' length='{size}'/><text>{text}</text></annotation>"
        "</passage></document>\n"
        for name, own, at, size, text in (
            (1, 0, 0, 4, "Zinc"),
            (2, offset, start, length, mention),
            (3, 0, 0, 4, "Zinc"),
        )
    ]
    return f"<collection>{''.join(documents)}</collection>"


@pytest.mark.parametrize(
    "hostile",
    [
        {"offset": LONG},
        {"offset": "-1"},
        {"offset": "1e3"},
        {"offset": "\u0663"},
        {"offset": ""},
        {"offset": "10000000000", "mention": "elsewhere"},
        {"offset": "999999999999999999", "mention": "elsewhere"},
        {"start": LONG},
        {"start": "-1"},
        {"length": LONG},
    ],
)
def test_a_bioc_document_with_an_impossible_number_is_set_aside_alone(tmp_path, hostile):
    path = put(tmp_path, bioc(**hostile), "a.xml")
    assert texts(path) == {"1": 1, "document 2, line 2": -1, "3": 1}
    found = formats.read(path)
    assert next(found).id == "1"
    with pytest.raises(UserError, match="line 2"):
        next(found)


def test_the_gaps_of_a_bioc_document_are_bounded_together(tmp_path):
    passages = "".join(f"<passage><offset>{n * 300_000}</offset><text>Zinc</text></passage>" for n in range(6))
    path = put(tmp_path, f"<collection><document><id>1</id>{passages}</document></collection>", "a.xml")
    with pytest.raises(UserError, match="document 1 leave gaps of over 1,000,000 characters"):
        list(formats.read(path))


@pytest.mark.parametrize("number", [LONG, "-1", "10000000000", f"-{LONG}", f"{'0' * 5000}"])
@pytest.mark.parametrize("column", ["start", "end"])
def test_a_pubtator_mention_at_an_impossible_offset_is_left_out(tmp_path, caplog, number, column):
    start, end = (number, "4") if column == "start" else ("0", number)
    row = f"2\t{start}\t{end}\tZinc\tC\tX\n"
    path = put(
        tmp_path, f"1|t|Zinc.\n1\t0\t4\tZinc\tC\n\n2|t|Zinc.\n{row}\n3|t|Zinc.\n3\t0\t4\tZinc\tC\n", "a.pubtator"
    )
    assert texts(path) == {"1": 1, "2": 0, "3": 1}
    assert "document 2: 1 left out" in caplog.text


def test_a_pubtator_document_with_a_broken_line_is_set_aside_alone(tmp_path):
    path = put(tmp_path, "1|t|Zinc.\n\n2|t|Zinc.\n2\t0\tfour\n\n3|t|Zinc.\n", "a.pubtator")
    assert texts(path) == {"1": 0, "line 4": -1, "3": 0}


@pytest.mark.parametrize("offsets", [f"0 {LONG}", f"{LONG} 4", f"0 2;2 {LONG}", "0 10000000000"])
def test_a_brat_mention_at_an_impossible_offset_is_left_out(tmp_path, caplog, offsets):
    folder = pair(tmp_path / "brat", "Zinc cures.", f"T1\tC {offsets}\tZinc\nT2\tC 0 4\tZinc\n")
    assert texts(folder) == {"d": 1}
    assert "document d: 1 left out" in caplog.text


def test_a_brat_pair_that_cannot_be_read_is_set_aside_alone(tmp_path):
    folder = pair(tmp_path / "brat", "Zinc.", "T1\tC 0 4\tZinc\n", "a")
    pair(folder, "Zinc.", "T1\tC zero 4\tZinc\n", "b")
    pair(folder, "Zinc.", "", "e")
    (folder / "c.txt").write_bytes(b"caf\xe9")
    (folder / "d.ann").write_text("T1\tC 0 4\tZinc\n")
    assert texts(folder) == {"a": 1, "b.ann, line 1": -1, "c.txt, the file": -1, "d.ann, the file": -1, "e": 0}


SPAN = '{"id": "2", "text": "Zinc", "spans": [{"start": 0, "end": %s, "type": "C"}]}'
SCORE = '{"id": "2", "text": "Zinc", "spans": [{"start": 0, "end": 4, "type": "C", "score": %s}]}'
HEAD = '{"id": "2", "text": "Zinc", "spans": [], "relations": [{"head": %s, "tail": "x", "type": "C"}]}'
START = '{"id": "2", "text": "Zinc", "spans": [], "questions": [{"text": "?", "answers": [["a"]], "starts": [%s]}]}'
OTHER = '{"id": "2", "text": "Zinc", "spans": [], "other": %s}'
ODD = [LONG, DEEP, "-1", "10000000000", "1e3", "4.0", "NaN", "Infinity", "true", '"4"', "1e400"]
TAKEN = {SCORE: (), HEAD: ('"4"',), START: ("-1", "10000000000")}


@pytest.mark.parametrize("number", ODD, ids=[number[:12] for number in ODD])
@pytest.mark.parametrize("line", [SPAN, SCORE, HEAD, START, OTHER], ids=["end", "score", "head", "start", "other"])
def test_a_json_line_with_an_impossible_number_is_set_aside_alone(tmp_path, line, number):
    good = '{"id": "1", "text": "Zinc", "spans": []}'
    path = put(tmp_path, f"{good}\n{line % number}\n{good}\n", "a.jsonl")
    assert texts(path) == ({"1": 0, "2": 0} if number in TAKEN.get(line, ()) else {"1": 0, "line 2": -1})


IDS = {LONG: None, DEEP: None, "true": None, "3.5": None, "Infinity": None, "{}": None, '"\\ud800"': None, "7.0": "7",
       "-3": "-3", "NaN": "a.jsonl:2", "null": "a.jsonl:2", '""': "a.jsonl:2", '"x"': "x"}  # fmt: skip


@pytest.mark.parametrize("value", IDS, ids=[value[:12] for value in IDS])
@pytest.mark.parametrize("rest", ['"text": "Zinc"', '"title": "Zinc", "abstract": "It cures."'])
def test_the_id_of_a_text_is_a_string_or_an_integer(tmp_path, value, rest):
    path = put(tmp_path, f'{{"id": 1, {rest}}}\n{{"id": {value}, {rest}}}\n', "a.jsonl")
    assert list(texts(path)) == ["1", IDS[value] or "line 2"]


@pytest.mark.parametrize(
    ("pmid", "reason"),
    [
        ("9" * 101, "pmid is not an identifier"),
        ("9" * 4000, "pmid is not an identifier"),
        (LONG, "a number of thousands of digits"),
        (f'"{LONG}"', "pmid is not an identifier"),
        ("0", "pmid is not a positive number"),
        ("-1.5", "pmid is not a positive number"),
        ("1.5", "pmid is not a string or an integer"),
        ("1e300", "pmid is not an identifier"),
        ("Infinity", "pmid is not a string or an integer"),
    ],
)
def test_a_pmid_that_is_none_is_rejected_with_its_reason(tmp_path, pmid, reason):
    [entry] = read_citations(put(tmp_path, f'{{"pmid": {pmid}, "title": "Zinc"}}\n', "a.jsonl"))
    assert entry == Rejected("line 1", reason)


@pytest.mark.parametrize("pmid", ["\u00b2", "\u0663", "9" * 100, "9" * 5000])
def test_digits_that_are_no_pmid_have_a_key_that_no_number_meets(pmid):
    assert citation_rows.pmid_key(pmid) >= 1 << 62 and citation_rows.pmid_key("3") == 3


def test_a_corpus_with_hostile_pmids_counts_them(tmp_path, tokenizer_folder):
    pmids = ('"5"', '"\\u00b2"', '"\\u0665"', LONG, "NaN", "true")
    path = put(
        tmp_path, "".join(f'{{"pmid": {pmid}, "title": "Aspirin {n}."}}\n' for n, pmid in enumerate(pmids)), "a.jsonl"
    )
    exclude = put(tmp_path, f"{LONG}\n\u00b2\n", "exclude.txt")
    manifest = corpus.build([path], tmp_path / "out", tokenizer=tokenizer_folder, exclude=exclude, workers=1)
    assert manifest["counts"]["kept"] == 3 and manifest["counts"]["excluded"] == 1
    reasons = {"a number of thousands of digits": 1, "pmid is not a string or an integer": 1}
    assert manifest["counts"]["failed_reasons"] == reasons


def test_a_table_with_a_date_that_python_does_not_know_is_set_aside(tmp_path):
    table = pa.table({"id": pa.array([1 << 62], pa.timestamp("us")), "text": ["Zinc"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == {"the file": -1}


def test_ids_of_a_table_are_strings_or_integers(tmp_path):
    pq.write_table(pa.table({"id": [7.0, float("nan"), 1.5], "text": ["Zinc"] * 3}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == {"7": 0, "a.parquet:2": 0, "row 3": -1}


@pytest.mark.parametrize("number", [LONG, DEEP, "1.0", "true", "NaN", '"0"'], ids=lambda number: number[:12])
def test_squad_and_bioasq_refuse_other_numbers_in_a_sentence(tmp_path, number):
    asked = f'{{"id": "1", "question": "?", "answers": [{{"text": "Zinc", "answer_start": {number}}}]}}'
    squad = put(tmp_path, f'{{"data": [{{"paragraphs": [{{"context": "Zinc", "qas": [{asked}]}}]}}]}}', "a.json")
    with pytest.raises(UserError, match=r"answer_start|not JSON"):
        list(formats.read(squad))
    if number != '"0"':
        exact = f'{{"questions": [{{"id": "1", "type": "factoid", "body": "?", "exact_answer": {number}}}]}}'
        with pytest.raises(UserError, match=r"exact_answer|not JSON"):
            list(formats.read(put(tmp_path, exact, "b.json")))


@pytest.mark.parametrize("start", [-5, 10**10, 10**30])
def test_an_answer_at_an_impossible_start_is_misplaced(tokenizer_folder, start):
    text = "aspirin for the rats , not after aspirin"
    asked = Question("which drug", (("aspirin",),), "q", (start if start > 0 else -len("aspirin"),))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    encoded = qa.encode([Document("1", text, questions=(asked,))], tokenizer, 64)
    assert encoded.misplaced == 1
    assert all((np.asarray(row.labels) == -100).all() for row in encoded.rows)


BAD = [
    Document("\ud800", "Zinc"),
    Document("1", "Zinc", (Span(0, 4, "\ud800"),)),
    Document("1", "Zinc", (Span(0, 4, "C", "\udfff"),)),
    Document("1", "Zinc", (Span(0, 4, "C", score=float("nan")),)),
    Document("1", "Zinc", (Span(0, 4, "C", score=1.5),)),
    Document("1", "Zinc", (Span(0, 10**30, "C"),)),
    Document("1", "Zinc", relations=(Relation("\ud800", "x", "y"),)),
    Document("1", "Zinc", questions=(Question("?", (("\ud800",),)),)),
]


@pytest.mark.parametrize("document", BAD)
@pytest.mark.parametrize("format", ["jsonl", "bioc", "pubtator", "brat", "parquet"])
def test_what_no_file_can_hold_becomes_a_failure_of_its_document(document, format):
    reason = shards.checked(document, format)
    assert isinstance(reason, str) and reason
    line = shards.to_line(shards.Failure("a.jsonl", document.id, reason))
    assert json.loads(line)["failure"] == {"source": "a.jsonl", "place": document.id, "reason": reason}


@pytest.mark.parametrize("name", ["..", ".a", "a/b", "a\\b", "a\0b", "\u00e9" * 101, "\U0001f600" * 60, "a" * 252, ""])
def test_an_id_that_cannot_name_a_file_is_not_a_brat_document(name):
    assert "its id is not a file name" in shards.checked(Document(name, "Zinc"), "brat")
    fits = Document("\u00e9" * 99, "Zinc")
    assert shards.checked(fits, "brat") is fits


def test_a_pubtator_id_of_two_lines_is_refused(tmp_path):
    with pytest.raises(UserError, match="line break"):
        formats.write([Document("1\n2|t|x", "Zinc")], tmp_path / "a.pubtator", "pubtator")
