"""Annotated documents in Parquet: the data sets of the Hugging Face hub, and what `annotate` and `evaluate` write."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compactbio
from annotated_files import CONLL, MARKED_JSONL
from compactbio import formats
from compactbio.documents import Document, Question, Span
from compactbio.errors import UserError
from compactbio.formats import parquet, recognise, recognise_citations
from compactbio.formats.streams import SourceError
from compactbio.tasks import data as datasets
from task_data import ner_folder

BIGBIO = json.dumps(
    {
        "id": "1",
        "document_id": "9",
        "passages": [{"id": "2", "type": "title", "text": ["Zinc helps"], "offsets": [[0, 10]]}],
        "entities": [{"id": "3", "type": "Drug", "text": ["Zinc"], "offsets": [[0, 4]],
            "normalized": [{"db_name": "MESH", "db_id": "D1"}]}],
        "relations": [], "events": [],
    }
) + "\n"  # fmt: skip
FAST = ["--workers", "1", "--runtime", "torch-fp32"]
SQUAD_ROW = {
    "id": "5e2:1", "title": "A", "context": "Zinc helps.", "question": "What helps?",
    "answers": {"text": ["Zinc"], "answer_start": [0]},
}  # fmt: skip


def table(path, rows, features=None):
    """A Parquet file of rows, with the description of its columns that the `datasets` library writes."""
    found = pa.Table.from_pylist(rows)
    if features is not None:
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(found, path)
    return path


def tags(names, kind="Sequence"):
    return {"ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": kind}}


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_words_and_numbered_tags_of_the_hub_are_read_with_the_names_in_the_file(tmp_path, kind):
    rows = [
        {"id": "7", "tokens": ["Zinc", "and", "B", "12"], "ner_tags": [1, 0, 1, 2]},
        {"id": "8", "tokens": [], "ner_tags": []},
    ]
    path = table(tmp_path / "test-00000-of-00001.parquet", rows, tags(["O", "B-Chemical", "I-Chemical"], kind))
    first, second = compactbio.read(path)
    assert first == Document("7", "Zinc and B 12", (Span(0, 4, "Chemical"), Span(9, 13, "Chemical")), tokenised=True)
    assert (second.id, second.text) == ("8", "")


def test_numbered_tags_without_names_are_refused_by_row(tmp_path):
    path = table(tmp_path / "a.parquet", [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"], "tags": ["O"]}])
    assert [document.id for document in compactbio.read(path)] == ["1", "2"]
    path = table(tmp_path / "b.parquet", [{"tokens": ["a"], "ner_tags": [0]}])
    with pytest.raises(UserError, match="row 1: ner_tags holds numbers without names"):
        list(compactbio.read(path))


def test_configurations_that_name_the_numbers_differently_are_refused(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"tokens": ["a"], "ner_tags": [1]}\n')
    described = {
        name: {"features": tags(["O", f"B-{kind}"])} for name, kind in (("gene", "Gene"), ("chem", "Chemical"))
    }
    (tmp_path / "dataset_infos.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"its configurations name ner_tags differently; keep that of train\.jsonl"):
        list(compactbio.read(path))
    (tmp_path / "dataset_infos.json").write_text(json.dumps({**described, "gene": described["chem"]}))
    assert [document.spans[0].type for document in compactbio.read(path)] == ["Chemical"]


def test_mentions_whose_text_is_not_at_their_offsets_are_left_out_and_counted(tmp_path, caplog):
    path = tmp_path / "a.parquet"
    formats.write([Document("1", "Zinc and iron", (Span(0, 4, "C"), Span(9, 13, "C")))], path, "parquet")
    rows = pq.read_table(path)
    pq.write_table(rows.set_column(1, "text", pa.array(["Some and iron"])), path)
    [document] = formats.read(path)
    assert document.spans == (Span(9, 13, "C"),)
    assert "1 left out: mentions whose text is not at their offsets" in caplog.text


FAR = pa.array([1 << 62], pa.timestamp("us"))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([4_000_000], pa.int32()).cast(pa.date32()),
        FAR,
        FAR.cast(pa.timestamp("us", "Nowhere/Land")),
        pa.array([1 << 62], pa.duration("s")),
        pa.StructArray.from_arrays([FAR], ["at"]),
    ],
    ids=["day", "time", "zone", "duration", "struct"],
)
def test_a_column_of_dates_that_python_does_not_know_is_left_out_and_logged(tmp_path, column, caplog):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"tokens": [["a"]], "tags": [["B-Drug"]], "made": column}), path)
    assert [document.spans for document in compactbio.read(path)] == [(Span(0, 1, "Drug"),)]
    assert "a value in the column 'made' that Python has none for" in caplog.text
    assert "the column is left out" in caplog.text


def test_a_column_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": FAR, "text": ["a"]}), path)
    with pytest.raises(SourceError, match=r"holds a value in the column 'id' that Python has none for"):
        list(parquet.rows(path, ["id", "text"]))
    text = pa.array([b"\xe9"]).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"tokens": [["a"]], "tags": [["O"]], "note": text}), path)
    with pytest.raises(UserError, match=r"is not UTF-8: byte 0xe9 in the column 'note'"):
        list(compactbio.read(path))


def test_a_folder_of_the_hub_is_a_data_set(tmp_path):
    rows = [{"id": str(i), "tokens": ["Zinc", "is"], "ner_tags": [1, 0]} for i in range(3)]
    for split in ("train", "validation", "test"):
        table(tmp_path / f"{split}-00000-of-00001.parquet", rows, tags(["O", "B-Chemical"]))
    found = datasets.find(tmp_path)
    assert (found.task, sorted(found.files), found.types) == ("ner", ["devel", "test", "train"], {"Chemical"})


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json"])
def test_questions_of_the_hub_in_the_flat_layout_of_squad(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        table(path, [SQUAD_ROW])
    else:
        path.write_text(json.dumps([SQUAD_ROW] if name == "a.json" else SQUAD_ROW))
    assert recognise(path) == "squad-rows"
    [document] = compactbio.read(path)
    assert document == Document(
        "5e2:1", "Zinc helps.", questions=(Question("What helps?", (("Zinc",),), "5e2:1", (0,)),)
    )


@pytest.mark.parametrize("name", ["rows.jsonl", "whole.json"])
def test_a_blank_answer_is_none(tmp_path, name):
    answers = {"text": ["", "Zinc", " "], "answer_start": [0, 0, 4]}
    asked = {"id": "1", "question": "What?", "answers": [{"text": "", "answer_start": 0}, {"text": "Zinc"}]}
    whole = {"data": [{"paragraphs": [{"context": "Zinc helps.", "qas": [asked]}]}]}
    (tmp_path / name).write_text(json.dumps(whole if name == "whole.json" else {**SQUAD_ROW, "answers": answers}))
    [document] = compactbio.read(tmp_path / name)
    assert document.questions[0].answers == (("Zinc",),) and document.questions[0].starts in ((), (0,))


def test_ids_of_snippets_in_the_flat_layout_name_one_question(tmp_path):
    name = "5a6f9b5eb750ff445500000c"
    rows = [{**SQUAD_ROW, "id": f"{name}_{number:03}"} for number in (1, 2)]
    path = table(tmp_path / "a.parquet", rows)
    assert {document.questions[0].id for document in compactbio.read(path)} == {name}


@pytest.mark.parametrize("answers", [{"text": ["Zinc"], "answer_start": [0, 1]}, {"text": "Zinc"}, "Zinc", [1]])
def test_a_flat_question_of_another_layout_is_refused_by_place(tmp_path, answers):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(SQUAD_ROW) + "\n" + json.dumps({**SQUAD_ROW, "answers": answers}) + "\n")
    with pytest.raises(UserError, match="line 2: "):
        list(compactbio.read(path))


def test_bigbio_and_marked_sentences_as_tables_are_the_documents_of_their_json(tmp_path):
    for name, text, format in (("bigbio", BIGBIO, "bigbio"), ("marked", MARKED_JSONL, "marked-jsonl")):
        plain = tmp_path / f"{name}.jsonl"
        plain.write_text(text)
        path = table(tmp_path / f"{name}.parquet", [json.loads(line) for line in text.splitlines()])
        assert recognise(path) == format
        assert list(compactbio.read(path)) == list(compactbio.read(plain))


def test_classes_by_number_have_the_names_in_the_file(tmp_path):
    rows = [{"text": "<< a >> [[ b ]]", "label": 1}]
    path = table(tmp_path / "a.parquet", rows, {"label": {"names": ["false", "CPR:3"], "_type": "ClassLabel"}})
    assert [document.relations[0].type for document in compactbio.read(path)] == ["CPR:3"]


def test_what_annotate_writes_is_read_and_scored_as_its_json_lines(cli, tagger, tmp_path):
    documents = [Document(str(i), f"Aspirin and zinc {i} helps") for i in range(5)]
    compactbio.write(documents, tmp_path / "in.jsonl", "jsonl")
    for name in ("a.parquet", "a.jsonl"):
        assert cli("annotate", tmp_path / "in.jsonl", "--model", tagger, "--out", tmp_path / name, *FAST)[0] == 0
    expected = list(compactbio.read(tmp_path / "a.jsonl"))
    assert any(document.spans for document in expected)
    assert list(compactbio.read(tmp_path / "a.parquet")) == expected
    assert (
        cli("annotate", tmp_path / "a.parquet", "--keep", "--model", tagger, "--out", tmp_path / "b.jsonl", *FAST)[0]
        == 0
    )
    assert list(compactbio.read(tmp_path / "b.jsonl")) == expected


def test_predictions_are_written_to_a_table_and_score_the_same(cli, tagger, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 4, "devel": 4, "test": 20}, kind="Drug")
    out = tmp_path / "p.parquet"
    status, direct, _ = cli("evaluate", data, "--model", tagger, "--write-predictions", out, "--json")
    assert status == 0
    status, again, _ = cli("evaluate", data, "--predictions", out, "--json")
    keys = ("precision", "recall", "f1")
    assert [json.loads(again)["scores"][key] for key in keys] == [json.loads(direct)["scores"][key] for key in keys]
    assert json.loads(direct)["scores"]["f1"] > 0


def test_a_table_holds_mentions_alone(tmp_path):
    path = tmp_path / "a.parquet"
    formats.write(
        [Document("1", "Zinc helps", (Span(0, 4, "C", "MESH:1", score=0.5),)), Document("2", "")], path, "parquet"
    )
    assert list(formats.read(path)) == [
        Document("1", "Zinc helps", (Span(0, 4, "C", "MESH:1", score=0.5),)),
        Document("2", ""),
    ]
    with pytest.raises(UserError, match="mentions in several parts"):
        formats.write([Document("1", "a b c", (Span.over([(0, 1), (4, 5)], "C"),))], path, "parquet")


def test_offsets_beyond_the_text_are_refused_by_row(tmp_path):
    path = tmp_path / "a.parquet"
    formats.write([Document("1", "Zinc helps", (Span(0, 4, "C"),))], path, "parquet")
    rows = pq.read_table(path)
    pq.write_table(rows.set_column(1, "text", pa.array(["Zi"])), path)
    with pytest.raises(UserError, match="row 1: a mention from 0 to 4 is not within its text"):
        list(formats.read(path))


def test_tables_of_other_columns_are_refused_and_texts_stay_texts(tmp_path):
    citations = table(tmp_path / "a.parquet", [{"pmid": 1, "title": "Zinc", "abstract": "It helps."}])
    with pytest.raises(UserError, match="citations without annotations"):
        recognise(citations)
    other = table(tmp_path / "b.parquet", [{"body": "Zinc"}])
    with pytest.raises(UserError, match="format is not recognised"):
        recognise(other)
    with pytest.raises(UserError, match="has no columns id, text and entities"):
        list(compactbio.read(other, "parquet"))
    classes = table(tmp_path / "c.parquet", [{"text": "Zinc helps", "label": "positive", "entities": "Zinc"}])
    assert [document.text for document in formats.read_texts(classes)] == ["Zinc helps"]
    assert recognise_citations(classes) == "parquet"
    words = table(tmp_path / "d.parquet", [{"tokens": ["Zinc"], "ner_tags": ["O"]}])
    assert [document.text for document in formats.read_texts(words)] == ["Zinc"]
    with pytest.raises(SourceError, match="holds annotated documents"):
        recognise_citations(words)


def test_a_damaged_table_is_one_sentence(tmp_path):
    path = table(tmp_path / "a.parquet", [{"tokens": ["a"], "tags": ["O"]}])
    path.write_bytes(path.read_bytes()[:-20])
    for reader in (compactbio.read, formats.read_texts):
        with pytest.raises(UserError, match=r"is damaged: .* not a parquet file; fetch or write it again"):
            list(reader(path))


def test_a_table_packed_with_gzip_is_named(cli, tagger, tmp_path):
    path = table(tmp_path / "a.parquet", [{"id": "1", "text": "Zinc"}])
    packed = tmp_path / "a.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for reader in (compactbio.read, formats.read_texts, formats.read_citations):
        with pytest.raises(UserError, match="is a Parquet file packed with gzip; unpack it"):
            list(reader(packed))
    code, _, said = cli("annotate", packed, "--model", tagger, "--out", tmp_path / "out.jsonl")
    assert code == 2 and said.endswith("packed with gzip; unpack it: Parquet is packed within.\n")


def test_tags_as_strings_give_the_documents_of_the_token_file(tmp_path):
    plain = tmp_path / "a.conll"
    plain.write_text(CONLL)
    documents = list(compactbio.read(plain))
    rows = [{"id": one.id, "tokens": one.text.split(" "), "tags": _tags(one)} for one in documents]
    assert list(compactbio.read(table(tmp_path / "a.parquet", rows))) == documents


def _tags(document):
    found, start = [], 0
    begins = {span.start: span for span in document.spans}
    for word in document.text.split(" "):
        inside = next((span for span in document.spans if span.start < start < span.end), None)
        found.append(f"B-{begins[start].type}" if start in begins else f"I-{inside.type}" if inside else "O")
        start += len(word) + 1
    return found
