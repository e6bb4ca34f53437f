"""Citations from every format: what is text, what is not, and which file is which."""

import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from citation_files import article_set, citation_set, deletion, json_lines, record, write
from compactbio.documents import Citation, Deletion
from compactbio.errors import UserError
from compactbio.formats import Rejected, SourceError, find_citations, read_citations, recognise_citations


def read(path: Path) -> list[Citation | Deletion | Rejected]:
    return list(read_citations(path))


def only(tmp_path: Path, xml_record: str) -> Citation | Deletion | Rejected:
    [entry] = read(write(tmp_path / "one.xml", article_set(xml_record)))
    return entry


# XML


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
@pytest.mark.parametrize("whole", [article_set, citation_set])
def test_both_roots_packed_or_not(tmp_path, name, whole):
    xml = whole(record(7, "One.", "First.", version=2, revised="2020-03-09"), record(8, "Two.", None), deletion(5, 6))
    assert read(write(tmp_path / name, xml)) == [
        Citation("7", "One.", "First.", 2, 20200309),
        Citation("8", "Two.", "", 1, 0),
        Deletion("5"),
        Deletion("6"),
    ]


def test_parts_are_joined_without_labels_and_markup_is_kept_as_text(tmp_path):
    parts = (
        '<AbstractText Label="AIM" NlmCategory="OBJECTIVE">To <i>see</i> H<sub>2</sub>O.</AbstractText>\n'
        '<AbstractText Label="RESULTS"><b>Seen</b>\n   at &lt; 5 &#181;g.</AbstractText><CopyrightInformation>Ours.'
        "</CopyrightInformation>"
    )
    assert only(tmp_path, record(1, abstract=parts)).abstract == "To see H2O. Seen at < 5 µg."


def test_other_languages_titles_and_pmids_are_left_out(tmp_path):
    more = (
        '<CommentsCorrectionsList><CommentsCorrections RefType="Cites"><PMID Version="9">999</PMID>'
        "</CommentsCorrections></CommentsCorrectionsList>"
        '<OtherAbstract Type="Publisher" Language="spa"><AbstractText>Otro.</AbstractText></OtherAbstract>'
    )
    xml = record(3, "Title.", None, more=more).replace(
        "</Article>", "<VernacularTitle>Titel</VernacularTitle></Article>"
    )
    assert only(tmp_path, xml) == Citation("3", "Title.", "")


def test_text_is_read_as_pubmed_has_it_square_brackets_included(tmp_path):
    citation = only(tmp_path, record(1, "[On <i>the</i> [3H] liver.]", "Of [3H] too."))
    assert (citation.title, citation.abstract) == ("[On the [3H] liver.]", "Of [3H] too.")


@pytest.mark.parametrize(
    "title", ["[Not Available].", "[not available]", "[In process citation]", " [Not Available.] "]
)
def test_a_title_that_says_that_there_is_none_is_not_text(tmp_path, title):
    assert only(tmp_path, record(1, title, "Text.")) == Citation("1", "", "Text.")
    line = write(tmp_path / "a.jsonl", json_lines([{"pmid": 1, "title": title, "abstract": "Text."}]))
    assert read(line) == [Citation("1", "", "Text.")]


def test_comments_and_instructions_are_no_text(tmp_path):
    citation = only(tmp_path, record(1, "A<!-- not this --> title<?nor this?>.", "Be<!-- x -->fore."))
    assert (citation.title, citation.abstract) == ("A title.", "Before.")


@pytest.mark.parametrize(
    ("xml", "place", "reason"),
    [
        (record("12x"), "record 1", "PMID is missing or not a number"),
        (record(5, version="x"), "PMID 5", "PMID's Version is not a number"),
        (record(5, revised="2020-13-01"), "PMID 5", "DateRevised is not a date"),
        (record(5, abstract="An &alpha; cell."), "PMID 5", "an entity that nothing declares"),
        (
            "<PubmedBookArticle><BookDocument><PMID>5</PMID></BookDocument></PubmedBookArticle>",
            "PMID 5",
            "a book, not a citation",
        ),
    ],
)
def test_a_broken_record_is_named_and_the_next_one_read(tmp_path, xml, place, reason):
    entries = read(write(tmp_path / "a.xml", article_set(xml, record(6))))
    assert entries[0] == Rejected(place, reason)
    assert isinstance(entries[1], Citation) and entries[1].pmid == "6"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<html><body/></html>", "is not PubMed XML: its root is <html>"),
        (article_set(record(1))[:-30], "is malformed XML"),
        (article_set(record(1)).replace("</Article>", ""), "is malformed XML"),
        ("", "holds no XML"),
        ('{"pmid": 1}', "holds no XML"),
        (article_set(record(1), prolog='<!DOCTYPE x [<!ENTITY a "b">]>'), "declares entities"),
        (
            article_set(record(1), prolog='<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>'),
            "declares entities",
        ),
        (
            article_set(record(1, "&z;"), prolog='<!DOCTYPE x [<!ENTITY y "yyyyyyyy"><!ENTITY z "&y;&y;&y;">]>'),
            "declares entities",
        ),
        (
            article_set(record(1, "&z;"), prolog='<!DOCTYPE x [<!ENTITY z SYSTEM "file:///etc/passwd">]>'),
            "declares entities",
        ),
    ],
)
def test_a_file_that_is_not_pubmed_xml_is_refused(tmp_path, content, reason):
    with pytest.raises(SourceError, match=reason):
        read(write(tmp_path / "a.xml", content))


def test_another_root_is_refused_before_the_file_is_read(tmp_path):
    path = write(tmp_path / "a.xml", "<rss>" + "<item/>" * 100_000 + "<never closed")
    with pytest.raises(SourceError, match="its root is <rss>"):
        read(path)


# The peak of the process's own memory: that of getrusage is inherited from the process that started it.
PEAK = """
import re, sys
from pathlib import Path
from compactbio.corpus.citation_rows import RowSettings, Task, fingerprint, tokenise
source, tokenizer, folder = map(Path, sys.argv[1:])
part = tokenise(Task(fingerprint(source), RowSettings("", 64, "drop", False), tokenizer, folder))
print(part.tally.records, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, as Linux has it")
def test_memory_does_not_grow_with_the_file(tmp_path, tokenizer_folder):
    padding = "<MeshHeadingList>" + "<MeshHeading><DescriptorName>Rats</DescriptorName></MeshHeading>" * 40
    peaks = {}
    for count in (2_000, 40_000):
        one = record(1, more=padding + "</MeshHeadingList>")
        path = write(tmp_path / f"{count}.xml", article_set(*[one] * count))
        command = [sys.executable, "-c", PEAK, path, tokenizer_folder / "tokenizer.json", tmp_path]
        records, peak = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
        assert records == count
        peaks[count] = peak / 1024
    assert (tmp_path / "40000.xml").stat().st_size > 100e6
    assert peaks[40_000] - peaks[2_000] < 16, f"MB at the peak: {peaks}"


# JSON lines, tables, text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"pmid": "12", "title": "[A] title.", "abstract": "An  [abstract]."}',
            Citation("12", "[A] title.", "An [abstract]."),
        ),
        ('{"pmid": 12, "abstract": "An abstract."}', Citation("12", "", "An abstract.")),
        ('{"text": "A text."}', Citation("", "", "A text.")),
        ('{"title": "A title.", "text": "A text."}', Citation("", "A title.", "A text.")),
        ('{"pmid": null, "title": null, "abstract": "x"}', Citation("", "", "x")),
        ('{"pmid": "", "title": "", "abstract": ""}', Citation("", "", "")),
        ('{"pmid": "007", "title": "x"}', Citation("7", "x", "")),
        ('{"pmid": "x-1", "title": "x", "paragraphs": ["y"]}', Citation("x-1", "x", "")),
        ("{", Rejected("line 1", "not JSON")),
        ('["x"]', Rejected("line 1", "not a JSON object")),
        ('{"pmid": 1}', Rejected("line 1", "no title, abstract or text")),
        ('{"title": 5}', Rejected("line 1", "title is not a string")),
        ('{"title": "x", "abstract": ["y"]}', Rejected("line 1", "abstract is not a string")),
        ('{"title": "x", "pmid": true}', Rejected("line 1", "pmid is not a string or an integer")),
        ('{"title": "x", "pmid": "1 2"}', Rejected("line 1", "pmid is not an identifier")),
        ('{"title": "x", "pmid": -3}', Rejected("line 1", "pmid is not a positive number")),
        ('{"title": "\\ud800"}', Rejected("line 1", "title holds half a surrogate pair")),
        ("[" * 100_000, Rejected("line 1", "not JSON")),
    ],
)
def test_a_json_line(tmp_path, line, expected):
    path = write(tmp_path / "a.jsonl", line + "\n")
    assert list(read_citations(path, "jsonl")) == [expected]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_bom_carriage_returns_and_blank_lines(tmp_path, name):
    content = b'\xef\xbb\xbf{"title": "One."}\r\n\r\n   \n{"title": "Two."}'
    assert [each.title for each in read(write(tmp_path / name, content))] == ["One.", "Two."]


def test_text_is_one_document_a_line(tmp_path):
    path = write(tmp_path / "a.txt.gz", "\ufeffOne  [1] line.\r\n\n\u2028Two\u2028lines.\n")
    assert read(path) == [Citation("", "", "One [1] line."), Citation("", "", "Two lines.")]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz"])
def test_bytes_that_are_no_utf8_are_named(tmp_path, name):
    path = write(tmp_path / name, b"\xef\xbb\xbfGood line.\ncaf\xe9 au lait\n")
    with pytest.raises(SourceError, match="byte 0xe9 at offset 17, line 2"):
        read(path)


def test_a_table_with_gaps_in_its_numbers(tmp_path):
    table = pa.table({"pmid": [5.0, None, float("nan")], "title": ["[A]", "B", None], "abstract": ["x", None, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [Citation("5", "[A]", "x"), Citation("", "B", ""), Citation("", "", "")]


def test_tables_that_cannot_be_used(tmp_path):
    pq.write_table(pa.table({"pmid": [1], "body": ["x"]}), tmp_path / "columns.parquet")
    with pytest.raises(SourceError, match="has no column title, abstract or text"):
        read(tmp_path / "columns.parquet")
    whole = (tmp_path / "columns.parquet").read_bytes()
    with pytest.raises(SourceError, match="is damaged"):
        read(write(tmp_path / "short.parquet", whole[:-20]))
    with pytest.raises(SourceError, match="not a Parquet file"):
        read(write(tmp_path / "text.parquet", "x"))
    bad = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"title": bad}), tmp_path / "bytes.parquet")
    with pytest.raises(SourceError, match="not UTF-8: byte 0xe9"):
        read(tmp_path / "bytes.parquet")


# Which file is which


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.xml", article_set(), "pubmed"),
        ("a.txt", citation_set(), "pubmed"),
        ("noname", '\ufeff\n<?xml version="1.0"?><x/>', "pubmed"),
        ("a.jsonl", "broken", "jsonl"),
        ("a.json.gz", '{"title": "x"}', "jsonl"),
        ("a.txt", '{"title": "x"}\n', "jsonl"),
        ("a.txt", "{curly} text", "text"),
        ("a.txt", "<5% of patients", "text"),
        ("a", "text", "text"),
        ("empty.txt", "", "text"),
    ],
)
def test_content_decides_and_then_the_name(tmp_path, name, content, expected):
    assert recognise_citations(write(tmp_path / name, content)) == expected


def test_packed_or_not_is_decided_by_content(tmp_path):
    packed = tmp_path / "a.jsonl"
    packed.write_bytes(gzip.compress(b'{"title": "x"}'))
    plain = tmp_path / "b.jsonl.gz"
    plain.write_bytes(b'{"title": "x"}')
    assert read(packed) == read(plain) == [Citation("", "x", "")]


def test_one_json_array_is_refused(tmp_path):
    with pytest.raises(SourceError, match="one object per line"):
        recognise_citations(write(tmp_path / "a.json", '[{"title": "x"}]'))


def test_truncated_and_damaged_gzip(tmp_path):
    data = gzip.compress(article_set(*[record(each) for each in range(3_000)]).encode())
    for name, content, reason in [
        ("short.xml.gz", data[: len(data) // 2], "is truncated"),
        ("sum.xml.gz", data[:-8] + b"\0" * 8, "is damaged"),
        ("middle.xml.gz", data[:3_000] + b"\xff" * 64 + data[3_064:], "is damaged"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=reason):
            read(tmp_path / name)


def test_files_folders_and_patterns(tmp_path):
    names = ["b.xml.gz", "a.jsonl", "deep/er/c.txt", "d.parquet", "deep/e.ndjson.gz"]
    others = ["b.xml.gz.md5", ".hidden.xml", ".git/f.xml", "g.csv", "settings.json"]
    for name in (*names, *others):
        write(tmp_path / name, "x")
    everything = ["a.jsonl", "b.xml.gz", "c.txt", "d.parquet", "e.ndjson.gz"]
    assert [path.name for path in find_citations([tmp_path]).files] == everything
    assert [
        path.name for path in find_citations([tmp_path / "deep", tmp_path, tmp_path / "a.jsonl"]).files
    ] == everything
    assert [path.name for path in find_citations([tmp_path / "b*"]).files] == ["b.xml.gz"]
    assert [path.name for path in find_citations([tmp_path / "**/*.txt"]).files] == ["c.txt"]
    assert [path.name for path in find_citations([tmp_path / "g.csv", tmp_path / "settings.json"]).files] == [
        "g.csv",
        "settings.json",
    ]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    path = write(tmp_path / "a[1].jsonl", json_lines([{"title": "x"}]))
    assert find_citations([path]).files == (path,)


@pytest.mark.parametrize("name", ["missing.xml", "no*thing.xml", "empty"])
def test_an_input_that_is_not_there(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no such file|matches this pattern|no file of citations"):
        find_citations([tmp_path / name])
