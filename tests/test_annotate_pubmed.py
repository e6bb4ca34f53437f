"""PubMed's records annotated: the newest of each PMID, and text whose offsets join with PubTator's."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from annotated_files import put
from citation_files import article_set, deletion, json_lines, record
from compactbio import formats
from compactbio.corpus.deduplication import choose
from compactbio.documents import Document, Passage, Span
from compactbio.errors import UserError
from compactbio.formats import Reading
from compactbio.progress import Silent

FAST = ("--runtime", "torch-fp32", "--workers", "1")


def annotate(cli, *arguments: object) -> str:
    """Run the command, which must not fail; gives what it printed."""
    status, printed, messages = cli("annotate", *arguments, *FAST)
    assert status == 0, messages
    return printed


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def mirror(tmp_path: Path) -> list[Path]:
    """A baseline file and two update files that replace and withdraw records of it and of each other."""
    baseline = article_set(
        *(record(pmid, f"Study {pmid}.", "The aspirin group.") for pmid in range(1, 6)),
        record(6, "Twice.", "First."),
        record(6, "Twice.", "Second.", version=2),
    )
    first = article_set(
        record(2, "Study 2.", "Newer: insulin.", revised="2024-02-01"),
        record(3, "Study 3.", "Older by its date.", revised="2023-01-01"),
        record("x", "Broken."),
        deletion(4),
    )
    second = article_set(
        record(3, "Study 3.", "Newest: metformin.", revised="2024-03-01"), record(4, "Back.", "Again."), deletion(77)
    )
    return [
        put(tmp_path, baseline, "pubmed26n0001.xml"),
        put(tmp_path, first, "pubmed26n1335.xml"),
        put(tmp_path, second, "pubmed26n1336.xml"),
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_each_pmid_the_newest_record_is_annotated_and_withdrawn_ones_are_not(cli, tagger, tmp_path, mirror, order):
    out = tmp_path / "out.jsonl"
    printed = annotate(cli, "--model", tagger, *(mirror[at] for at in order), "--out", out)
    texts = {line["id"]: line["text"] for line in lines(out)}
    assert texts == {
        "1": "Study 1. The aspirin group.",
        "2": "Study 2. Newer: insulin.",
        "3": "Study 3. Newest: metformin.",
        "5": "Study 5. The aspirin group.",
        "6": "Twice. Second.",
    }
    assert len(lines(out)) == 5 and len(lines(tmp_path / "out.jsonl.failed.jsonl")) == 1
    assert "4 older records of a PMID, 2 withdrawn ones" in printed
    result = json.loads((tmp_path / "out.jsonl.run.json").read_text())["result"]
    assert (result["updated"], result["deleted"], result["failed"]) == (4, 2, 1)


def test_standard_output_follows_the_same_rules_and_says_so(cli, tagger, mirror):
    status, printed, messages = cli("annotate", "--model", tagger, *mirror, "--out", "-", *FAST)
    assert status == 0 and len(printed.splitlines()) == 5
    assert "4 records replaced by newer ones of their PMIDs, 2 withdrawn ones" in messages


def test_records_of_other_formats_are_all_kept(cli, tagger, tmp_path, mirror):
    twice = put(tmp_path, json_lines([{"pmid": 1, "text": "aspirin"}, {"pmid": 1, "text": "insulin"}]), "a.jsonl")
    annotate(cli, "--model", tagger, twice, mirror[0], "--out", tmp_path / "out.jsonl")
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == ["1", "1", "1", "2", "3", "4", "5", "6"]


def test_versions_take_little_memory_a_citation_and_a_damaged_file_counts_as_far_as_it_goes(tmp_path, mirror):
    whole = mirror[1].read_text()
    mirror[1].write_text(whole[: whole.index("<MedlineCitation", whole.index("2023"))])
    found = choose(mirror, Reading(), 1, Silent())
    assert {Path(name).name: list(mask) for name, mask in found.passed_over.items()} == {
        "pubmed26n0001.xml": [0, 1, 1, 1, 0, 1, 0],
        "pubmed26n1335.xml": [0, 1],
    }
    assert (found.updated, found.deleted) == (5, 0)


# Titles


XML = article_set(
    record(1, "[18F]FDG of aspirin. A second sentence", "The insulin group. Daily aspirin."),
    record(2, "[Not Available].", "The insulin group."),
    record(3, "[The aspirin group].", None),
    record(4, "Daily insulin.", '<AbstractText Label="AIM">The aspirin.</AbstractText>'),
)
HALVES = {
    "1": ("[18F]FDG of aspirin. A second sentence", "The insulin group. Daily aspirin."),
    "2": ("", "The insulin group."),
    "3": ("[The aspirin group].", ""),
    "4": ("Daily insulin.", "AIM: The aspirin."),
}


def test_pubtator_output_has_the_title_as_the_title_and_offsets_that_join(cli, tagger, tmp_path):
    out = tmp_path / "out.pubtator"
    annotate(cli, "--model", tagger, put(tmp_path, XML, "a.xml"), "--out", out)
    halves: dict[str, dict[str, str]] = {}
    mentions = []
    for line in out.read_text().splitlines():
        if match := re.fullmatch(r"(\d+)\|([ta])\|(.*)", line):
            halves.setdefault(match[1], {})[match[2]] = match[3]
        elif line:
            name, start, end, shown, *_ = line.split("\t")
            joined = f"{halves[name]['t']} {halves[name]['a']}"
            assert joined[int(start) : int(end)] == shown
            mentions.append((name, shown))
    assert {name: (own["t"], own["a"]) for name, own in halves.items()} == HALVES
    assert ("1", "aspirin") in mentions and ("2", "insulin") in mentions and ("4", "aspirin") in mentions
    again = tmp_path / "again.pubtator"
    annotate(cli, "--model", tagger, out, "--keep", "--out", again)
    texts = [line for line in out.read_text().splitlines() if "|" in line]
    assert [line for line in again.read_text().splitlines() if "|" in line] == texts


def test_bioc_output_has_title_and_abstract_as_passages_at_their_offsets(cli, tagger, tmp_path):
    out = tmp_path / "out.xml"
    annotate(cli, "--model", tagger, put(tmp_path, XML, "a.xml"), "--out", out)
    found = {}
    for document in etree.parse(out).getroot().iter("document"):
        own = {}
        for passage in document.iter("passage"):
            offset, text = int(passage.findtext("offset")), passage.findtext("text")
            own[passage.findtext("infon[@key='type']")] = (offset, text)
            for one in passage.iter("annotation"):
                start = int(one.find("location").get("offset")) - offset
                assert text[start : start + int(one.find("location").get("length"))] == one.findtext("text")
        found[document.findtext("id")] = own
    assert found == {
        "1": {"title": (0, HALVES["1"][0]), "abstract": (39, HALVES["1"][1])},
        "2": {"abstract": (0, HALVES["2"][1])},
        "3": {"title": (0, HALVES["3"][0])},
        "4": {"title": (0, HALVES["4"][0]), "abstract": (15, HALVES["4"][1])},
    }


PARTED = Document(
    "7",
    "One. Two of zinc. It is [so]. Here",
    (Span(12, 16, "Chemical", "D1"), Span(25, 27, "X")),
    passages=(Passage(0, 17, "title"), Passage(18, 34, "abstract")),
)


@pytest.mark.parametrize("format", ["pubtator", "bioc", "jsonl"])
def test_passages_are_written_and_read_back(tmp_path, format):
    formats.write([PARTED], tmp_path / "a", format)
    [found] = formats.read(tmp_path / "a")
    assert found == PARTED and found.passages == PARTED.passages
    formats.write([found], tmp_path / "b", format)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize(
    ("passages", "title", "abstract"),
    [
        ((Passage(0, 4, "title"), Passage(5, 8, "abstract"), Passage(9, 34, "paragraph")), "One.", None),
        ((Passage(0, 4), Passage(5, 34)), "One.", None),
        ((Passage(0, 34, "title"),), PARTED.text, ""),
        ((Passage(0, 34, "abstract"),), "", PARTED.text),
        ((Passage(0, 4, "front"), Passage(5, 34, "abstract")), "One.", None),
        ((), "One.", None),
    ],
)
def test_the_title_of_pubtator_is_the_title(tmp_path, passages, title, abstract):
    formats.write([replace(PARTED, passages=passages)], tmp_path / "a", "pubtator")
    first, second, mention, *_ = (tmp_path / "a").read_text().splitlines()
    assert first == f"7|t|{title}"
    assert second == f"7|a|{PARTED.text[len(title) + 1 :] if abstract is None else abstract}"
    _, start, end, shown, *_ = mention.split("\t")
    assert f"{first[4:]} {second[4:]}"[int(start) : int(end)] == shown == "zinc"


def test_a_division_that_pubtator_cannot_say_or_that_lies_is_refused(tmp_path):
    together = Document("7", "One.Two.", passages=(Passage(0, 4, "title"), Passage(4, 8, "abstract")))
    assert "no blank" in (formats.why_not_writable(together, "pubtator") or "")
    for wrong in ((Passage(0, 4),), (Passage(0, 5), Passage(4, 8)), (Passage(0, 9),), (Passage(1, 8),)):
        with pytest.raises(UserError, match="passages"):
            formats.write([Document("7", "One.Two.", passages=wrong)], tmp_path / "a", "jsonl")


# The command's inputs


def test_text_on_standard_input_is_text(cli, tagger, monkeypatch):
    given = "Patient has hepatitis B\nthe aspirin\tgroup\tI\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    found = [json.loads(line) for line in annotate(cli, "--model", tagger, "-", "--out", "-").splitlines()]
    assert [line["text"] for line in found] == given.splitlines()
    assert found[1]["spans"][0]["start"] == 4


def test_a_readme_does_not_take_the_folder_over(cli, tagger, tmp_path):
    folder = tmp_path / "baseline"
    folder.mkdir()
    put(folder, article_set(record(1, "Daily aspirin.")), "a.xml")
    put(folder, "Read the aspirin first.\n", "README.txt")
    status, _, messages = cli("annotate", "--model", tagger, folder, "--out", tmp_path / "out.jsonl", *FAST)
    assert status == 0 and "README.txt" in messages
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == ["1"]
    put(folder, "Notes of aspirin.\n", "notes.txt")
    status, _, messages = cli("annotate", "--model", tagger, folder, "--out", tmp_path / "two.jsonl", *FAST)
    assert status == 2 and "1 text (notes.txt), 1 xml (a.xml)" in messages


def test_kept_annotations_are_those_of_every_document(cli, tagger, tmp_path):
    content = '{"id": "1", "text": "The group."}\n{"id": "2", "text": "Of it.", "spans": [%s]}\n'
    content %= '{"start": 3, "end": 5, "type": "X"}'
    annotate(cli, "--model", tagger, put(tmp_path, content, "a.jsonl"), "--keep", "--out", tmp_path / "out.jsonl")
    assert [len(line.get("spans", [])) for line in lines(tmp_path / "out.jsonl")] == [0, 1]


def test_the_format_of_inputs_can_be_named(cli, tagger, tmp_path):
    path = put(tmp_path, "the\tO\naspirin\tB\n\ndaily\tO\n", "a.txt")
    annotate(cli, "--model", tagger, path, "--input-format", "conll", "--keep", "--out", tmp_path / "a.jsonl")
    assert [line["text"] for line in lines(tmp_path / "a.jsonl")] == ["the aspirin", "daily"]
    annotate(cli, "--model", tagger, path, "--out", tmp_path / "b.jsonl")
    assert [line["text"] for line in lines(tmp_path / "b.jsonl")] == ["the\tO", "aspirin\tB", "daily\tO"]
    status, _, messages = cli(
        "annotate", "--model", tagger, path, "--input-format", "docx", "--out", tmp_path / "c.jsonl", *FAST
    )
    assert status == 2 and "docx" in messages and "Traceback" not in messages
