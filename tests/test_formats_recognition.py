"""Files of annotated documents are known by their content, and what is wrong with them is said with its place."""

import gzip
import json

import pytest

from annotated_files import (
    BIOASQ,
    BIOC,
    CONLL,
    JSONL,
    MARKED,
    MARKED_JSONL,
    ONE_OF_EACH,
    PUBTATOR,
    SQUAD,
    documents,
    pair,
    put,
)
from compactbio import formats
from compactbio.errors import UserError
from compactbio.formats import FORMATS, READABLE, read, recognise, write
from compactbio.formats.recognise import TEXTS

# Recognition


@pytest.mark.parametrize("format", ONE_OF_EACH)
def test_content_decides_the_format_whatever_the_name(tmp_path, format):
    for name in ("a.txt", "a.tsv", "a.jsonl", "a"):
        assert recognise(put(tmp_path, ONE_OF_EACH[format], name)) == format
    assert list(read(tmp_path / "a")) == list(read(tmp_path / "a", format))


@pytest.mark.parametrize("format", ONE_OF_EACH)
def test_gzip_windows_line_ends_a_bom_and_blank_lines_change_nothing(tmp_path, format):
    text = ONE_OF_EACH[format]
    plain = documents(tmp_path, text)
    variants = [
        gzip.compress(text.encode()),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n"),
        text.rstrip("\n"),
    ]
    if format not in ("bioc", "marked-jsonl"):
        variants += ["\n" + text + "\n\n\n", text.replace("\n\n", "\n\n \t\n\n")]
    for variant in variants:
        found = documents(tmp_path, variant)
        assert [(d.text, d.spans, d.relations, d.questions) for d in found] == [
            (d.text, d.spans, d.relations, d.questions) for d in plain
        ]


def test_a_json_file_on_one_long_line_is_known_by_its_first_keys(tmp_path):
    padding = {"version": 'x [{"questions": [' * 900}
    assert recognise(put(tmp_path, json.dumps({**padding, **json.loads(SQUAD)}))) == "squad"
    long = {"data": [{"paragraphs": [{"context": "zinc " * 40_000, "qas": []}]}]}
    assert recognise(put(tmp_path, json.dumps(long))) == "squad"
    assert recognise(put(tmp_path, json.dumps({"id": "1", "text": "zinc } " * 40_000}))) == "jsonl"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ('{"pmid": "1", "title": "T", "abstract": "A"}\n', "citations"),
        ("<PubmedArticleSet></PubmedArticleSet>", "citations"),
        ("Just a line of text.\nAnd another one.\n", "is not recognised"),
        ("Take some zinc.\nOr take vitamin B\nNothing else will do.\n", "is not recognised"),
        ("0.25\t0.75\n0.5\t0.5\n", "is not recognised"),
        ("<html></html>", "is not recognised"),
        ('{"21": {"QUESTION": "Why?"}}', "is not recognised"),
        ("\u3000\n", "is not recognised"),
        ('{"text": "A rash", "labels": [[2, 6, "Disease"]]}\n', r"its annotations \(labels\) are in a layout"),
        ('{"text": "A rash", "spans": [{"start": 2, "end": 6, "label": "D"}], "tokens": []}', r"\(spans\) are in"),
        (
            '{"text": "A rash", "denotations": []}',
            r"\(denotations\) are in a layout that is not read; write JSON lines",
        ),
        ('{"tokens": ["rash"], "ner": ["B-D"]}\n', "no tags, which are to be under .* ner_tags or tags; it has ner"),
        ('{"id": "1", "tokens": ["rash"]}\n', "its tokens have no tags"),
    ],
)
def test_what_is_not_a_file_of_documents_is_said_at_once(tmp_path, content, said):
    path = put(tmp_path, content)
    with pytest.raises(UserError, match=said) as raised:
        read(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("start", [b"ARROW1\0\0", b"\xff\xff\xff\xff"])
def test_arrow_files_are_said_to_be_that(tmp_path, start):
    (tmp_path / "data.arrow").write_bytes(start + b"\x10\0\0\0")
    with pytest.raises(UserError, match="is an Arrow file; write it as Parquet"):
        read(tmp_path / "data.arrow")


def test_unknown_formats_and_missing_files_are_said_at_once(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none.tsv")
    with pytest.raises(UserError, match="marked-jsonl"):
        read(put(tmp_path, CONLL), "iob")
    with pytest.raises(UserError, match="not a format"):
        write([], tmp_path / "out", "iob")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="BRAT"):
        read(tmp_path / "folder")


def test_the_name_decides_where_the_content_does_not(tmp_path):
    with pytest.raises(UserError, match=r"x\.conll, line 1: it has one column"):
        list(read(put(tmp_path, "Aspirin\n", "x.conll")))


# What is malformed


TWICE = '[{"start": 0, "end": 9, "end": 5}]'


def jsonl(**more) -> str:
    return JSONL + "\n" + json.dumps({"id": "8", "text": "Zinc.", **more}) + "\n"


@pytest.mark.parametrize(
    ("format", "content", "said"),
    [
        ("conll", "zinc\tO\nrash\n", "line 2: it has one column"),
        ("conll", "zinc O\n\nrash\n", "line 3: it has one column"),
        ("conll", "zinc\tO\nbad rash\tB\n", "line 2: 'bad rash' is not one word"),
        ("conll", "zinc\tO\n\tB\n", "line 2: '' is not one word"),
        ("conll", "zinc\tO\n\nrash\tO\nitch\tX\n", "line 4: 'X' is not a tag"),
        ("conll", "zinc\tO\nrash\t\n", "line 2: '' is not a tag"),
        ("conll", b"zinc\tO\nr\xe4sh\tO\n", "is not UTF-8: byte 0xe4 at offset 8, line 2"),
        ("pubtator", PUBTATOR + "8\t1\t2\tx\tY\n", "line 6: it follows no title"),
        ("pubtator", PUBTATOR + "7\tnonsense\n", "line 6: it is not a line of PubTator"),
        ("pubtator", PUBTATOR + "7\t3\tx\tzinc\tChemical\n", "line 6: it is not a line of PubTator"),
        ("pubtator", PUBTATOR + "7|a|More.\n", "line 6: document 7 has a second abstract"),
        ("bioc", BIOC.replace("</passage>", "", 1), "is malformed XML"),
        ("bioc", BIOC.replace("\n", "").replace("<offset>12", "\n<offset>x"), "is not a number"),
        ("bioc", BIOC.replace("<offset>12", "<offset>2"), "overlaps another"),
        ("bioc", BIOC.replace("length='4'", "", 1), "is not a number"),
        ("squad", SQUAD.replace('"context"', "context"), "line 6: it is not JSON"),
        ("squad", SQUAD.replace('"context"', '"contents"'), "data.0.paragraphs.0.context"),
        ("squad", '{"data": 3}', "data is not as the format has it (Input should be a valid"),
        ("bioasq", '{"1_001": []}', "data.txt: questions is missing; fix it there"),
        ("bioasq", BIOASQ.replace('"factoid"', '"fact"', 1), "question f is of type 'fact'"),
        ("bioasq", BIOASQ.replace('"Yes"', '"Perhaps"'), "question y has an exact answer that is not yes or no"),
        ("bioasq", BIOASQ.replace('"id": "o"', '"name": "o"'), "questions.1.id"),
        ("bioasq", BIOASQ[:-2], "line 1: it is not JSON"),
        ("marked", MARKED + "No class here.\n", "line 4: it has not two or three columns but 1"),
        ("marked", MARKED + "1\t2\t3\t4\n", "line 4: it has not two or three columns but 4"),
        ("marked-jsonl", MARKED_JSONL + '\n{"text": "x"}\n', "line 3: label"),
        ("marked-jsonl", MARKED_JSONL + '{"text": "x", "label": 1}\n', "line 2: label"),
        ("marked-jsonl", MARKED_JSONL + "[1]\n", "line 2: "),
        ("jsonl", JSONL + "{\n", "line 2: it is not JSON"),
        ("jsonl", jsonl(spans=[{"start": 0, "end": 6, "type": ""}]), "line 3: a mention from 0 to 6"),
        ("jsonl", jsonl(spans=[{"start": 2, "end": 2, "type": ""}]), "line 3: a mention from 2 to 2"),
        ("jsonl", jsonl(spans=[{"start": -1, "end": 2, "type": ""}]), "line 3: a mention from -1 to 2"),
        ("jsonl", jsonl(spans=[{"start": 0.5, "end": 2, "type": ""}]), "line 3: spans.0.start"),
        ("jsonl", jsonl(spans=[[0, 2, "X"]]), "line 3: spans.0"),
        ("jsonl", jsonl(spans=[{"start": 0, "end": 2, "kind": "", "type": ""}]), "line 3: a document has no spans.k"),
        ("jsonl", JSONL + '{"id": "8", "text": "a", "text": "b"}\n', "line 2: a key is there twice"),
        ("jsonl", jsonl(passages=[]).replace("[]", TWICE), "line 3: a key is there twice"),
        ("hf-jsonl", '{"tokens": ["a"], "tags": ["O"], "tags": ["B-X"]}\n', "a key is there twice"),
        ("jsonl", jsonl(entities=[]), "line 3: a document has no entities"),
        ("jsonl", jsonl(relations=[{"head": 0, "tail": "x", "type": ""}]), "line 3: a relation names mention 0 of 0"),
        ("jsonl", jsonl(text="\ud800"), "line 3: it is not JSON"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_said_with_file_and_place(tmp_path, format, content, said):
    with pytest.raises(UserError) as raised:
        documents(tmp_path, content, format)
    assert said in str(raised.value)
    assert str(tmp_path / "data.txt") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("T1\tDrug 0 x\tZinc", "not a mention"),
        ("T1 Drug 0 4 Zinc", "not a mention"),
        ("R1\tTreats T1 T2", "not a relation"),
        ("R1\tTreats Arg1:T8 Arg2:T9", "there is no mention T8"),
        ("N1\tReference", "not a normalisation"),
    ],
)
def test_malformed_brat_lines_are_said_with_file_and_line(tmp_path, line, said):
    folder = pair(tmp_path / "brat", "Zinc", f"\n{line}\n")
    with pytest.raises(UserError, match=said) as raised:
        list(read(folder))
    assert f"{folder / 'd.ann'}, line 2" in str(raised.value)


def test_an_annotation_without_its_text_is_said(tmp_path):
    put(tmp_path, "T1\tDrug 0 4\tZinc\n", "x.ann")
    with pytest.raises(UserError, match=r"x\.ann: there is no x\.txt"):
        list(read(tmp_path))


def test_damaged_gzip_is_said_with_the_file(tmp_path):
    path = put(tmp_path, gzip.compress(CONLL.encode() * 5000)[:-20])
    with pytest.raises(UserError, match=r"data\.txt is truncated"):
        list(read(path, "conll"))


def test_every_format_has_a_name():
    assert set(FORMATS) == {*ONE_OF_EACH, "brat", "parquet"}
    assert set(formats._TABLE) == {*READABLE, *TEXTS}
