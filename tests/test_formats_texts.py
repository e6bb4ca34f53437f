"""Texts to annotate: what is text and what is not, what a folder stands for, and that nothing is lost in silence."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotated_files import BIOASQ, BIOC, CONLL, JSONL, MARKED, PUBTATOR, SQUAD, mentions, pair, put
from citation_files import article_set, record
from compactbio.documents import Document, Passage
from compactbio.errors import UserError
from compactbio.formats import Reading, find_texts, read_citations, read_texts, records_per_byte, streams
from compactbio.formats.recognise import TEXTS, recognise_citations
from compactbio.formats.streams import Rejected


def read(path: Path, format: str | None = None, field: str | None = None) -> list[Document | Rejected]:
    return list(read_texts(path, Reading(field, format)))


def texts(path: Path, format: str | None = None) -> list[str]:
    found = read(path, format)
    assert all(isinstance(one, Document) for one in found), found
    return [one.text for one in found]


def parted(found: list[Document | Rejected]) -> tuple[list[str], list[tuple[str, str]]]:
    """The ids of the documents, and place and reason of what was set aside."""
    return (
        [one.id for one in found if isinstance(one, Document)],
        [(one.place, one.reason) for one in found if isinstance(one, Rejected)],
    )


# Text is text


@pytest.mark.parametrize(
    "line",
    [
        "Patient has hepatitis B",
        "Vitamin O",
        "He lacks factor I",
        "one two three\tfour",
        "id 7\tPatient has zinc deficiency\tyes",
        "T1\tDrug 0 4\tZinc",
        "<5% of patients",
        "<i>P. aeruginosa</i> was found",
        "{curly} text",
        "[18F]FDG was given",
        "[Aspirin in angina].",
        "[12]",
        "[1, 2] and [3]",
        '["Silent" angina].',
        '["Silent angina"].',
        "{} is the empty set",
        "{'text': 'aspirin'}",
        "{Zinc: a note}",
        "[",
        "{",
        '"Quoted" words',
        "a|t|b c",
        "Zinc\tO",
    ],
)
@pytest.mark.parametrize("name", ["stdin", "notes.txt", "notes.text", "notes.txt.gz"])
def test_plain_text_is_text_to_its_last_column(tmp_path, name, line):
    if line == "a|t|b c":
        line = "a b|t|b c"
    content = f"{line}\n{line}\n".encode()
    path = put(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name)
    assert texts(path) == [line, line]


@pytest.mark.parametrize("name", ["stdin", "a.txt"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (article_set(record(1, "On zinc.", "It cures.")), ["On zinc. It cures."]),
        (PUBTATOR, ["On zinc. Zinc cures rash."]),
        (BIOC, ["On zinc.    A rash."]),
        (JSONL, ["Zinc cures rash."]),
        ('{"pmid": 1, "title": "On zinc.", "abstract": "It cures."}\n', ["On zinc. It cures."]),
        (SQUAD, ["Zinc cures rash."] * 3),
        (json.dumps({"pmid": 1, "text": "zinc " * 30_000}), ["zinc " * 30_000]),
    ],
)
def test_what_cannot_be_text_is_known_whatever_the_name(tmp_path, name, content, expected):
    assert texts(put(tmp_path, content, name)) == expected


def test_a_token_file_is_one_by_its_name_or_where_it_is_said(tmp_path):
    for name in ("a.tsv", "a.conll", "a.iob2", "a.conll.gz"):
        assert texts(put(tmp_path, CONLL, name)) == ["Mild lupus nephritis", "No rash"]
    path = put(tmp_path, CONLL, "a.txt")
    assert texts(path)[0] == "Mild\tO"
    assert texts(path, "conll") == ["Mild lupus nephritis", "No rash"]


@pytest.mark.parametrize("word", ["<", "{", "[", "<collection", '{"id":', "1|t|", "<?xml"])
def test_a_token_file_may_begin_with_any_word(tmp_path, word):
    content = f"{word}\tO\nzinc\tB\n\nrash\tB\n"
    for name in ("a.conll", "a.iob"):
        assert texts(put(tmp_path, content, name)) == [f"{word} zinc", "rash"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "1\tZinc cures a rash\tnote 3\n2\tZinc\tx\n"),
        ("a.csv", "id,text\n1,Zinc\n"),
        ("a.tsv", "Zinc cures\n"),
    ],
)
def test_a_table_of_unknown_columns_is_refused_and_can_be_named_text(tmp_path, name, content):
    path = put(tmp_path, content, name)
    with pytest.raises(UserError, match="a table whose columns are not known"):
        read(path)
    assert texts(path, "text") == content.splitlines()


RECORDS = [{"pmid": "1", "title": "On zinc.", "abstract": "It cures."}, {"note": "Zinc", "tags": [{}]}]


@pytest.mark.parametrize("name", ["stdin", "a.txt", "a.json", "a.note"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "a JSON array"),
        ("[]", "a JSON array"),
        ('["Zinc", "Rash"]', "a JSON array"),
        (json.dumps(["Zinc cures."] * 9_000, indent=1), "a JSON array"),
        (json.dumps(RECORDS), "a JSON array"),
        (json.dumps(RECORDS, indent=2), "a JSON array"),
        (json.dumps(RECORDS * 900, indent=2), "a JSON array"),
        (json.dumps(RECORDS, indent=2).replace("]", ",]"), "a JSON array"),
        ("\n".join(json.dumps(one, indent=2) for one in RECORDS), "a JSON object on several lines"),
        (json.dumps(RECORDS[1], indent="\t"), "a JSON object on several lines"),
        (json.dumps({"all": RECORDS * 900}, indent=2), "a JSON object on several lines"),
        (json.dumps(RECORDS[0], indent=2).replace("}", ",}"), "a JSON object on several lines"),
    ],
)
def test_json_that_is_not_lines_is_refused_with_the_way_to_write_it(tmp_path, name, content, said):
    path = put(tmp_path, content, name)
    if content == "[1, 2]" and name != "a.json":  # numbers of references
        assert texts(path) == [content]
        return
    for reader in (read_texts, read_citations):
        with pytest.raises(UserError, match=f"{said}.*; write one object per line"):
            list(reader(path))


def test_lines_of_json_that_are_malformed_are_set_aside_whatever_the_name(tmp_path):
    content = '{"text": "Zinc" "id": 1}\n{"text": "Rash"}\n'
    for name in ("stdin", "a.jsonl"):
        found, set_aside = parted(read(put(tmp_path, content, name)))
        assert found == [f"{name}:2"] and set_aside == [("line 1", "not JSON")]


def test_a_folder_of_texts_with_one_of_json_is_of_several_kinds(tmp_path):
    put(tmp_path, "Zinc", "a.txt")
    put(tmp_path, json.dumps(RECORDS, indent=2), "b.txt")
    with pytest.raises(UserError, match=r"1 json \(b.txt\), 1 text \(a.txt\)"):
        find_texts([tmp_path])


def test_records_may_have_fields_that_other_formats_have(tmp_path):
    record_ = {"pmid": 1, "title": "On zinc.", "abstract": "Text.", "tokens": 7, "passages": [], "documents": []}
    assert texts(put(tmp_path, json.dumps(record_) + "\n", "a.jsonl")) == ["On zinc. Text."]


def test_what_is_not_text_is_set_aside_line_by_line(tmp_path):
    found, set_aside = parted(read(put(tmp_path, b"zinc\n\0\1\2\nrash\n", "a.txt")))
    assert found == ["a.txt:1", "a.txt:3"] and set_aside == [("line 2", "a NUL character, which text does not hold")]


def test_sentences_with_marks_in_a_table_are_read_without_their_class(tmp_path):
    assert texts(put(tmp_path, MARKED, "a.tsv"))[0] == "@CHEMICAL$ blocks @GENE$ ."


@pytest.mark.parametrize("format", TEXTS)
def test_every_format_of_texts_can_be_named(tmp_path, format):
    with pytest.raises(UserError, match="is not a format of texts"):
        Reading(format="docx")
    assert Reading(format=format).format == format


@pytest.mark.parametrize(
    ("sample", "pack", "within"),
    [
        (16 << 20, bytes, 0.001),
        (16 << 20, gzip.compress, 0.001),
        (1 << 17, bytes, 0.1),
        # gzip reads ahead, which is much beside so small a sample.
        (1 << 18, lambda content: gzip.compress(content, 0), 0.6),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.tsv", "a.pubtator", "bioc.xml", "pubmed.xml", "a.parquet"])
def test_how_many_records_a_file_holds_is_known_by_its_beginning(tmp_path, monkeypatch, name, sample, pack, within):
    monkeypatch.setattr(streams, "_SAMPLE", sample)
    rows, path = [(f"{i}", f"Zinc {i * 7919} cures " + "rash " * (i % 50 + 20)) for i in range(1600)], tmp_path / name
    if name == "a.jsonl":
        content = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in rows)
    elif name == "a.txt":
        content = "".join(f"{text}\r\n" for _, text in rows)
    elif name == "a.tsv":
        content = "".join(text.strip().replace(" ", "\tO\r\n") + "\tO\r\n\r\n" for _, text in rows)
    elif name == "a.pubtator":
        content = "".join(f"{key}|t|On zinc.\n{key}|a|{text}\n\n" for key, text in rows)
    elif name == "bioc.xml":
        document = BIOC[BIOC.index("<document>") : BIOC.index("</collection>")]
        content = BIOC.replace(document, document * len(rows))
    elif name == "pubmed.xml":
        content = article_set(*(record(int(key) + 1, abstract=text) for key, text in rows))
    if name == "a.parquet":
        pq.write_table(pa.table({"id": [key for key, _ in rows], "text": [text for _, text in rows]}), path)
    else:
        path.write_bytes(pack(content.encode() if isinstance(content, str) else content))
    reading = Reading(None, "conll" if name == "a.tsv" else None)
    assert len(list(read_texts(path, reading))) == len(rows)
    assert records_per_byte(path, reading) * path.stat().st_size == pytest.approx(len(rows), rel=within)


def test_what_precedes_the_damage_of_a_small_gzip_file_is_read(tmp_path):
    whole = gzip.compress(b'{"id": "1", "text": "Zinc cures rash."}\n')
    for name, content in (("a.jsonl.gz", whole + b"garbage"), ("b.txt.gz", whole + whole[:-9])):
        texts_, left_out = list[str](), ""
        try:
            for one in read_texts(put(tmp_path, content, name)):
                texts_.append(one.text)
        except UserError as error:
            left_out = str(error)
        assert texts_ and "Zinc cures rash." in texts_[0]
        assert "damaged" in left_out or "truncated" in left_out


def test_how_many_records_a_damaged_file_holds_is_not_known(tmp_path):
    whole = gzip.compress(b"Zinc cures rash.\n" * 9)
    assert records_per_byte(put(tmp_path, whole[:-9], "a.txt.gz"), Reading()) == 0
    assert records_per_byte(put(tmp_path, "%PDF-1.4", "b.pdf"), Reading()) == 0


def test_a_named_format_holds_against_what_the_file_looks_like(tmp_path):
    path = put(tmp_path, PUBTATOR, "a.txt")
    assert texts(path, "text")[0] == "7|t|On zinc."
    with pytest.raises(UserError, match="malformed XML"):
        read(put(tmp_path, PUBTATOR, "b.txt"), "pubmed")
    assert texts(put(tmp_path, BIOASQ, "c.txt"), "bioasq")[:2] == ["Zinc.", "Iron."]


# Line ends


@pytest.mark.parametrize("content", ["one zinc\rtwo rash\r", "one zinc\rtwo rash", "one zinc\r\rtwo rash\r"])
def test_lines_may_end_with_cr_alone(tmp_path, content):
    assert texts(put(tmp_path, content, "a.txt")) == ["one zinc", "two rash"]


def test_cr_alone_ends_the_lines_of_every_line_format(tmp_path):
    for name, content in (("a.conll", CONLL), ("a.pubtator", PUBTATOR), ("a.jsonl", JSONL * 3), ("b.tsv", MARKED)):
        plain = read(put(tmp_path, content, f"lf.{name}"))
        assert read(put(tmp_path, content.replace("\n", "\r"), f"cr.{name}")) == plain
        long = content.replace("\n", "\r") * 3_000
        assert len(read(put(tmp_path, long, f"long.{name}"))) > 2_000


def test_a_cr_within_a_line_of_a_file_with_other_line_ends_is_text(tmp_path):
    assert texts(put(tmp_path, "one\rzinc\ntwo\n", "a.txt")) == ["one\rzinc", "two"]


# Names


@pytest.mark.parametrize("key", ["id", "pmid"])
def test_numbers_that_a_table_made_floats_are_names_without_a_fraction(tmp_path, key):
    rows = {key: [31452104.0, None, float("nan"), 7.0], "text": ["a", "b", "c", "d"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    named = ["31452104", "a.parquet:2", "a.parquet:3", "7"]
    assert [one.id for one in read(tmp_path / "a.parquet")] == named
    lines = "".join(json.dumps({key: value, "text": "x"}) + "\n" for value in (31452104.0, None, float("nan"), 7.0))
    named = ["31452104", "a.jsonl:2", "a.jsonl:3", "7"]
    assert [one.id for one in read(put(tmp_path, lines, "a.jsonl"))] == named


def test_pmids_that_became_strings_of_floats_are_numbers_again(tmp_path):
    pq.write_table(pa.table({"pmid": ["31452104.0", "nan", "12"], "abstract": ["a", "b", "c"]}), tmp_path / "a.parquet")
    assert [one.id for one in read(tmp_path / "a.parquet")] == ["31452104", "a.parquet:2", "12"]


@pytest.mark.parametrize("value", [1.5, True, [1], {"a": 1}])
def test_a_name_that_is_not_a_string_or_whole_number_costs_its_record(tmp_path, value):
    lines = json.dumps({"id": value, "text": "x"}) + "\n" + json.dumps({"id": 2, "text": "y"}) + "\n"
    assert parted(read(put(tmp_path, lines, "a.jsonl"))) == (["2"], [("line 1", "id is not a string or an integer")])


# One bad document costs itself


def test_the_first_document_without_annotations_costs_those_of_no_other(tmp_path):
    lines = '{"id": "6", "text": "Nothing."}\n' + JSONL + '{"pmid": 9, "title": "On zinc.", "abstract": "Text."}\n'
    found = read(put(tmp_path, lines, "a.jsonl"))
    assert [(one.id, mentions(one)) for one in found] == [("6", []), ("7", [("Zinc", "Chemical")]), ("9", [])]


BAD_LINES = {
    "a.jsonl": (
        JSONL + '{\n{"id": "8", "text": "Zinc.", "spans": [{"start": 0, "end": 99, "type": "X"}]}\n[1]\n'
        '{"id": "9", "text": "Rash."}\n',
        ["7", "9"],
        ["line 2", "line 3", "line 4"],
    ),
    "a.pubtator": (
        PUBTATOR + "\n8|t|Rash\n8|a|More.\n8\t1\tx\n\n9|t|On rash.\n9|a|Text.\nnonsense\n9\t3\t7\trash\tX\n\n"
        "10|t|Good.\n10|a|Too.\n\nnonsense alone\n\n11|t|Last.\n11|a|One.\n",
        ["7", "10", "11"],
        ["line 9", "line 13", "line 19"],
    ),
    "a.conll": (
        "zinc\tO\n\nrash\n\nitch\tO\nbad word\tO\n\nzinc\tX\n\nsore\tB\n",
        ["1", "5"],
        ["line 3", "line 6", "line 8"],
    ),
    "a.tsv": ("1\t@A$ and @B$\t0\n2\tno class\n3\t@A$ or @B$\t1\n", ["1", "3"], ["line 2"]),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_costs_its_document_and_is_named(tmp_path, name):
    content, good, places = BAD_LINES[name]
    found, set_aside = parted(read(put(tmp_path, content, name)))
    assert found == good
    assert [place for place, _ in set_aside] == places
    assert not any("bad word" in reason or "nonsense" in reason for _, reason in set_aside)


@pytest.mark.parametrize(
    ("name", "content", "good", "places"),
    [
        ("a.txt", b"one\ncaf\xe9\ntwo\n", ["a.txt:1", "a.txt:3"], ["line 2"]),
        (
            "a.jsonl",
            b'{"id": 1, "text": "a"}\n{"id": 2, "text": "\xe9"}\n{"id": 3, "text": "c"}\n',
            ["1", "3"],
            ["line 2"],
        ),
        ("a.conll", b"zinc\tO\n\ncaf\xe9\tO\n\nrash\tB\n", ["1", "3"], ["line 3"]),
        ("a.pubtator", b"1|t|One\n1|a|\n\n2|t|caf\xe9\n2|a|Text\n\n3|t|Three\n3|a|\n", ["1", "3"], ["line 4"]),
        ("a.tsv", b"@A$ and @B$\t0\n@A$ \xe9 @B$\t0\n@A$ or @B$\t1\n", ["1", "3"], ["line 2"]),
    ],
)
def test_bytes_that_are_not_utf8_cost_their_document(tmp_path, name, content, good, places):
    found, set_aside = parted(read(put(tmp_path, content, name)))
    assert (found, [place for place, _ in set_aside]) == (good, places)
    assert all("is not UTF-8: byte 0xe9 at offset" in reason for _, reason in set_aside)


def test_one_bad_file_of_a_brat_folder_costs_its_document(tmp_path):
    folder = tmp_path / "brat"
    for name in ("a", "b", "c", "d", "e"):
        pair(folder, "Zinc.", "T1\tDrug 0 4\tZinc\n", name)
    put(folder, "T1\tDrug 0 x\tZinc\n", "b.ann")
    put(folder, b"caf\xe9", "c.txt")
    (folder / "d.txt").unlink()
    found, set_aside = parted(read(folder))
    assert found == ["a", "e"]
    assert [place for place, _ in set_aside] == ["b.ann, line 1", "c.txt, the file", "d.ann, the file"]


def test_one_bad_document_of_bioc_costs_itself(tmp_path):
    record_ = BIOC[BIOC.index("<document>") : BIOC.index("</collection>")]
    bad = record_.replace("<offset>12", "<offset>2").replace("<id>7", "<id>8")
    xml = f"<collection>{record_}{bad}{record_.replace('<id>7', '<id>9')}</collection>"
    found, [(place, reason)] = parted(read(put(tmp_path, xml, "a.xml")))
    assert found == ["7", "9"] and "document 8" in place and "overlaps" in reason


# Folders


def files(*names: Path | str) -> list[str]:
    return [path.name for path in find_texts(names).files]


def test_a_readme_takes_no_folder_over(tmp_path):
    for name in ("a.xml", "b.xml"):
        put(tmp_path, article_set(record(1)), name)
    put(tmp_path, "Read this.\n", "README.txt")
    put(tmp_path, "x", "a.xml.md5")
    found = find_texts([tmp_path])
    assert [path.name for path in found.files] == ["a.xml", "b.xml"]
    assert "README.txt" in " ".join(found.notes())
    assert files(f"{tmp_path}/*") == ["a.xml", "b.xml"]
    assert files(tmp_path / "README.txt") == ["README.txt"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.xml", "notes.txt"), ["1 text (notes.txt)", "1 xml (a.xml)"]),
        (("a.xml", "b.xml", "c.jsonl"), ["1 jsonl (c.jsonl)", "2 xml (a.xml, b.xml)"]),
        (("a.pubtator", "b.parquet"), ["pubtator", "parquet"]),
        (("d.txt", "d.ann", "a.xml"), ["2 brat (d.ann, d.txt)", "1 xml"]),
        (("a.txt", "b.txt.gz", "c.jsonl"), ["text", "jsonl"]),
    ],
)
def test_kinds_are_not_mixed_in_silence(tmp_path, names, said):
    for name in names:
        put(tmp_path, "x", name)
    for place in (tmp_path, f"{tmp_path}/*"):
        if place == tmp_path or "d.ann" not in names:
            with pytest.raises(UserError) as raised:
                find_texts([place])
            assert all(word in str(raised.value) for word in ["several kinds", *said])


def test_a_folder_of_text_files_is_a_document_a_file_and_hidden_files_are_none(tmp_path):
    put(tmp_path, "Zinc.\nAnd rash.\n", "b.txt")
    (tmp_path / "deep").mkdir()
    put(tmp_path / "deep", "Itch.", "a.txt")
    put(tmp_path, "Read this.\n", "README.txt")
    put(tmp_path, "x", "._b.txt")
    found = find_texts([tmp_path])
    assert found.files == (tmp_path,) and "README.txt" in found.notes()[0]
    assert [(one.id, one.text) for one in read(tmp_path)] == [("b", "Zinc.\nAnd rash.\n"), ("a", "Itch.")]


def test_nested_brat_folders_are_read_whole_under_names_that_differ(tmp_path):
    for folder in ("train", "test", "test/more"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        pair(tmp_path / folder, "Zinc.", "T1\tDrug 0 4\tZinc\n", "d1")
    pair(tmp_path / "test", "Zinc.", "T1\tDrug 0 4\tZinc\n", "d2")
    assert find_texts([tmp_path]).files == (tmp_path,)
    found = read(tmp_path)
    assert [one.id for one in found] == ["test/d1", "d2", "test/more/d1", "train/d1"]
    assert all(mentions(one) == [("Zinc", "Drug")] for one in found)


def test_json_files_of_a_folder_are_read_where_nothing_else_is(tmp_path):
    put(tmp_path, '{"documents": [{"id": "1", "passages": [{"offset": 0, "text": "Zinc."}]}]}', "a.json")
    assert files(tmp_path) == ["a.json"]
    put(tmp_path, article_set(record(1)), "a.xml")
    found = find_texts([tmp_path])
    assert [path.name for path in found.files] == ["a.xml"] and "a.json" in found.notes()[0]


def test_a_folder_without_texts_is_said(tmp_path):
    put(tmp_path, "x", "a.pdf")
    with pytest.raises(UserError, match="no file of texts in it"):
        find_texts([tmp_path])


# PubMed


def test_pubmed_is_text_as_pubmed_shows_it_with_title_and_abstract_apart(tmp_path):
    parts = (
        '<AbstractText Label="AIM">To see [18F]FDG.</AbstractText><AbstractText Label="UNLABELLED">Seen.</AbstractText>'
        "<AbstractText>Done.</AbstractText>"
    )
    xml = article_set(
        record(1, "[18F]FDG in <i>liver</i>.", "It shone."),
        record(2, "[On the [3H] liver].", parts),
        record(3, "[Not Available].", "An abstract."),
        record(4, "A title.", None),
    )
    one, two, three, four = read(put(tmp_path, xml, "a.xml"))
    assert one.text == "[18F]FDG in liver. It shone."
    assert one.passages == (Passage(0, 18, "title"), Passage(19, 28, "abstract"))
    assert two.text == "[On the [3H] liver]. AIM: To see [18F]FDG. Seen. Done."
    assert (three.text, three.passages) == ("An abstract.", (Passage(0, 12, "abstract"),))
    assert (four.text, four.passages) == ("A title.", (Passage(0, 8, "title"),))


def test_concatenated_answers_of_efetch_are_named_after_what_could_be_read(tmp_path):
    found = read_texts(put(tmp_path, article_set(record(1)) + article_set(record(2)), "a.xml"))
    assert next(found).id == "1"
    with pytest.raises(UserError, match="several answers of efetch"):
        list(found)


def test_citations_with_questions_are_citations(tmp_path):
    path = tmp_path / "records.jsonl"
    record = {"pmid": "1", "title": "On aspirin", "text": "On aspirin it is.", "questions": [{"text": "which drug ?"}]}
    path.write_text(json.dumps(record) + "\n")
    assert recognise_citations(path) == "jsonl"
