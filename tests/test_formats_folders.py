"""What a user names, on disk as it is: folders of records, capitals, archives, pipes and names that are not UTF-8."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from annotated_files import BIOC, CONLL, JSONL, PUBTATOR, pair, put
from citation_files import article_set, record
from compactbio import formats
from compactbio.errors import UserError
from compactbio.files import read_json, value_digest, write_json
from compactbio.formats import Reading, find_citations, find_texts, read_texts
from compactbio.formats.recognise import recognise_citations
from compactbio.formats.streams import Rejected
from compactbio.tasks import data


def found(*named: Path | str, format: str | None = None) -> list[str]:
    """The texts of what is named; of what is set aside, the reason."""
    entries = (one for file in find_texts(named, format).files for one in read_texts(file, Reading(format=format)))
    return [one.reason if isinstance(one, Rejected) else one.text for one in entries]


# A folder of .txt files


@pytest.mark.parametrize("content", [PUBTATOR, JSONL, BIOC, article_set(record("1", "On zinc.", ["Zinc."]))])
def test_records_in_text_files_are_read_from_a_folder_as_from_its_files(tmp_path, content):
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        put(tmp_path / "texts", content, name)
    put(tmp_path / "texts", "", "README.txt")
    assert found(tmp_path / "texts") == found(tmp_path / "texts" / "[ab].txt") and len(found(tmp_path / "texts")) == 2


def test_text_files_some_of_which_hold_records_are_of_several_kinds(tmp_path):
    put(tmp_path, PUBTATOR, "a.txt")
    put(tmp_path, "Zinc.", "b.txt")
    with pytest.raises(UserError, match=r"of several kinds: 1 pubtator \(a\.txt\), 1 text \(b\.txt\)"):
        find_texts([tmp_path])


def test_a_named_format_is_that_of_each_file_of_a_folder(tmp_path):
    put(pair(tmp_path / "texts", CONLL, "T1\tDisease 0 4\tMild\n"), "x", "e.txt")
    folder = tmp_path / "texts"
    assert found(folder) == found(folder, format="brat") == [CONLL, "x"]
    assert found(folder, format="text") == [*filter(None, CONLL.split("\n")), "x"]
    (folder / "e.txt").unlink()
    assert found(folder, format="conll") == ["Mild lupus nephritis", "No rash"]
    assert [file.name for file in find_texts([folder], "text").passed_over] == ["d.ann"]


def test_a_text_that_cannot_be_read_leaves_a_folder_one_of_texts(tmp_path):
    for name, content in (("a.txt", "Zinc."), ("b.txt", "%PDF-1.4\n"), ("c.txt", b"\x1f\x8bxx")):
        put(tmp_path, content, name)
    assert found(tmp_path) == ["Zinc.", "is a PDF; give its text", "is truncated: the .gz ends too early"]


# Capitals


@pytest.mark.parametrize("names", [("B.TXT", "B.ANN"), ("B.TXT", "B.ann"), ("B.txt", "B.A1")])
def test_capitals_in_a_suffix_change_nothing(tmp_path, names):
    for name, content in zip(names, ("Zinc cures.", "T1\tDrug 0 4\tZinc\n"), strict=True):
        put(tmp_path, content, name)
    put(tmp_path, "Iron.", "a.txt")
    for documents in (list(formats.read(tmp_path)), list(read_texts(*find_texts([tmp_path]).files))):
        assert [(one.id, one.text, len(one.spans)) for one in documents] == [("B", "Zinc cures.", 1), ("a", "Iron.", 0)]
    for name in names:
        [document] = formats.read(tmp_path / name)
        assert (document.id, len(document.spans)) == ("B", 1)
    before = data.digest(tmp_path), data.digest(tmp_path / names[0]), data.find(tmp_path).task
    put(tmp_path, "", names[1])
    assert before[2] == "ner" and data.digest(tmp_path) != before[0] and data.digest(tmp_path / names[0]) != before[1]


def test_a_folder_of_texts_named_in_capitals_is_one(tmp_path):
    (tmp_path / "train").mkdir()
    put(tmp_path / "train", "Zinc.", "A.TXT")
    put(tmp_path / "train", "Iron.", "b.txt")
    assert found(tmp_path / "train") == ["Zinc.", "Iron."] and formats.recognise(tmp_path / "train") == "brat"
    assert formats.sources.splits(tmp_path)["train"] == tmp_path / "train"


# What is not text


def packed(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.txt", "Zinc.")
    else:
        with tarfile.open(fileobj=stream, mode="w:gz" if kind == "tar.gz" else "w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.4\n1 0 obj\n", "is a PDF; give its text"),
        (rb"{\rtf1\ansi Zinc\par}", "is an RTF document; give its text"),
        (b"\x89PNG\r\n\x1a\n\0", "is an image"),
        (packed("zip"), "is a ZIP archive or an Office document"),
        (lzma.compress(b"Zinc."), "is packed with xz; unpack it, or pack it with gzip"),
        (bz2.compress(b"Zinc."), "is packed with bzip2"),
        (b"\x28\xb5\x2f\xfd\x24\x05Zinc", "is packed with zstd"),
        (packed("tar"), "is an archive; unpack it"),
        (packed("tar.gz"), "is an archive; unpack it"),
        (b"\nPMID- 12345\nTI  - Zinc\n", "is in PubMed's format of labelled lines; fetch it as XML"),
    ],
    # Packed bytes hold the time: as names, they would not be the same in each process of the tests.
    ids=["pdf", "rtf", "png", "zip", "xz", "bz2", "zstd", "tar", "tar.gz", "pubmed"],
)
@pytest.mark.parametrize("format", [None, "text", "jsonl"])
def test_archives_images_and_documents_of_other_programs_are_named(tmp_path, content, said, format):
    path = put(tmp_path, content)
    for use in (lambda: found(path, format=format), lambda: recognise_citations(path), lambda: formats.recognise(path)):
        with pytest.raises(UserError, match=said):
            use()


@pytest.mark.parametrize(
    "text", ["PAR1 is a receptor of thrombin.", "PAR1", "PAR1\tO", "GIF is a factor", " " * 256 + "mustard gas"]
)
def test_a_text_may_begin_as_an_archive_or_a_table_nearly_does(tmp_path, text):
    assert found(put(tmp_path, text)) == [text] and recognise_citations(put(tmp_path, text)) == "text"
    assert found(put(tmp_path, text, "x.txt.gz")) == [text]


def test_a_record_without_the_field_that_is_named_is_set_aside(tmp_path):
    rows = [{"id": "1", "text": "Zinc."}, {"id": "2", "body": "Iron."}, {"id": "3", "body": None}]
    path = put(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "x.jsonl")
    entries = list(read_texts(path, Reading("body")))
    assert entries[0] == Rejected("line 1", "no body") and [one.text for one in entries[1:]] == ["Iron.", ""]


# Pipes and names


@pytest.mark.parametrize(
    "use", [find_texts, find_citations, lambda paths: data.find(*paths), lambda paths: formats.read(*paths),
            lambda paths: data.find({"test": paths[0]})],
)  # fmt: skip
def test_a_pipe_is_refused_and_passed_over_in_a_pattern(tmp_path, use):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"a\.txt: it is a pipe or a device; save its content to a file"):
        use([tmp_path / "a.txt"])
    put(tmp_path, "Zinc.", "b.txt")
    assert found(tmp_path / "*.txt") == ["Zinc."]
    assert [file.name for file in find_texts([tmp_path / "*.txt"]).passed_over] == ["a.txt"]


def test_names_that_are_not_utf8_have_a_form_that_is(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    path = Path(os.fsdecode(os.fsencode(folder) + b"/\xe9.txt"))
    path.write_text("Zinc.")
    assert [one.id for one in read_texts(path)] == [r"\xe9.txt:1"]
    assert [one.id for one in read_texts(folder)] == [r"\xe9"]
    path.with_suffix(".jsonl").write_bytes(gzip.compress(b'{"text": "Zinc."}\n'))
    assert [one.id for one in read_texts(path.with_suffix(".jsonl"))] == [r"\xe9.jsonl:1"]
    write_json(tmp_path / "x.json", {"path": str(path), "name": "\u00e9"})
    assert read_json(tmp_path / "x.json") == {"path": str(path), "name": "\u00e9"}
    assert "\u00e9" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert value_digest(str(path)) != value_digest("caf")
