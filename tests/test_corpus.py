"""A corpus is the same whatever way it is built, and holds what an independent reading of its sources gives."""

import gzip
import hashlib
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast

from citation_files import abstracts, article_set, deletion, digests, json_lines, record, rows, write
from compactbio import corpus
from compactbio.corpus import deduplication, shards
from compactbio.corpus.citation_rows import HAS_ABSTRACT, HAS_PMID, HAS_TEXT
from compactbio.corpus.deduplication import Citations, Fate
from compactbio.errors import UserError
from compactbio.modeling.tokenizers import load_tokenizer, tokenizer_digest
from conftest import SHARED, VOCABULARY
from interruptions import Notes

CASED = SHARED / "vocab" / "bert-base-cased.txt"
SUM = ("kept", "updated", "deleted", "empty", "duplicate", "excluded", "failed")


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Sources in all formats that overlap in every way that the rules speak of."""
    folder = tmp_path / "sources"
    shared = abstracts(40)
    xml = article_set(
        record(3, "Newer.", "The newer text.", revised="2021-01-01"),
        record(900, "Twice.", "First version."),
        record(900, "Twice.", "Second version.", version=2),
        record(901, "A title only.", None),
        record(902, "", None),
        deletion(5, 903),
    )
    table = pa.table({"pmid": [3, 950, None], "title": ["x", "In a table.", ""], "abstract": ["y", "Text.", ""]})
    folder.mkdir()
    pq.write_table(table, folder / "d.parquet")
    return [
        write(folder / "a.jsonl.gz", json_lines(shared)),
        write(folder / "b.xml.gz", xml),
        write(folder / "c.txt", f"{shared[0]['title']} {shared[0]['abstract']}\nNew text of a line.\n" * 2),
        folder / "d.parquet",
        write(folder / "e.xml", article_set(record(904, "Late.", "Cells."), deletion(7))),
        write(
            folder / "f.jsonl", '{"title": "broken"\n' + json_lines([{"pmid": 1}, {"title": "Aspirin", "pmid": 960}])
        ),
    ]


def build(inputs, tokenizer, out: Path, **options) -> dict:
    return corpus.build(inputs, out, tokenizer=tokenizer, **{"workers": 1, **options})


def small(tmp_path: Path, tokenizer: Path, content: str | list[dict], name: str = "a.xml", **options) -> dict:
    """Build from one source into `tmp_path / "out"`."""
    text = content if isinstance(content, str) else json_lines(content)
    return build([write(tmp_path / "in" / name, text)], tokenizer, tmp_path / "out", **options)


def texts(tmp_path: Path) -> dict[str, str]:
    """What `small` kept: text by PMID, as the tokenizer gives it back."""
    tokenizer = corpus.tokenizer(tmp_path / "out")
    return {pmid: tokenizer.decode(ids, skip_special_tokens=True) for pmid, ids in rows(tmp_path / "out")}


# The same bytes, whatever the way


def test_order_and_way_of_naming_change_nothing(tmp_path, sources, tokenizer_folder):
    ways = [sources, sources[::-1], [sources[0].parent], [f"{sources[0].parent}/*", *sources[2:4]]]
    results = [digests_of(build(way, tokenizer_folder, tmp_path / str(at), holdout=5)) for at, way in enumerate(ways)]
    assert all(result == results[0] for result in results)
    assert len({json.dumps(digests(tmp_path / str(at))) for at in range(len(ways))}) == 1


def digests_of(manifest: dict) -> tuple:
    return manifest["fingerprint"], manifest["sha256"], manifest["counts"], manifest["rows"]


def test_one_worker_and_two_give_the_same_bytes(tmp_path, sources, tokenizer_folder):
    for workers in (1, 2):
        build(
            sources,
            tokenizer_folder,
            tmp_path / str(workers),
            workers=workers,
            holdout=5,
            overflow="keep",
            max_length=16,
        )
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_shards_are_cut_by_size_and_read_as_one(tmp_path, tokenizer_folder, monkeypatch):
    many = abstracts(5_500)
    small(tmp_path, tokenizer_folder, many, "a.jsonl")
    whole = rows(tmp_path / "out")
    monkeypatch.setattr(shards, "SHARD_BYTES", 150_000)
    manifest = build([tmp_path / "in"], tokenizer_folder, tmp_path / "cut")
    assert len(manifest["sha256"]) == 4
    assert rows(tmp_path / "cut") == whole
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((tmp_path / "cut" / name).read_bytes()).hexdigest() == digest
    batches = [batch.num_rows for batch in pa.ipc.open_stream((tmp_path / "out" / "train-00000.arrow").read_bytes())]
    assert batches == [1_000] * 5 + [500]


# The same rows as an independent reading


def slow_reference(paths: list[Path], vocabulary_file: Path, max_length: int) -> list[tuple[str, list[int]]]:
    """Rows by plain Python: a tree of each file in memory, a dictionary of PMIDs."""
    newest: dict[str, tuple] = {}
    deleted = set()
    for at, path in enumerate(sorted(paths, key=lambda path: path.name)):
        root = ElementTree.fromstring(gzip.decompress(path.read_bytes()))  # noqa: S314 (the data is our own)
        deleted |= {pmid.text for pmid in root.iterfind("DeleteCitation/PMID")}
        for place, citation in enumerate(root.iter("MedlineCitation")):
            pmid, date = citation.find("PMID"), citation.find("DateRevised")
            revised = "".join(part.text for part in date) if date is not None else ""
            key = (int(pmid.get("Version")), revised, at, place)
            if pmid.text not in newest or newest[pmid.text][0] < key:
                newest[pmid.text] = (key, reference_text(citation.find("Article")))
    tokenizer = AutoTokenizer.from_pretrained(vocabulary_file)
    kept = sorted((key[2:], pmid, text) for pmid, (key, text) in newest.items() if pmid not in deleted and text)
    return [(pmid, tokenizer(text, truncation=True, max_length=max_length)["input_ids"]) for _, pmid, text in kept]


def reference_text(article) -> str:
    title = "".join(article.find("ArticleTitle").itertext()).strip()
    # In these files every title that begins with a bracket is a translation, in brackets as a whole.
    title = re.sub(r"\A\[(.*)\]\.?\Z", r"\1.", title, flags=re.DOTALL).replace("..", ".").replace("?.", "?")
    parts = ["".join(part.itertext()) for part in article.iterfind("Abstract/AbstractText")]
    return " ".join(" ".join([title, *parts]).split())


@pytest.mark.skipif(not SHARED.exists(), reason="real MEDLINE XML is not here (../shared/data)")
def test_rows_equal_a_slow_reading_of_real_files(tmp_path):
    paths = sorted((SHARED / "pubmed" / "xml").glob("*.xml.gz"))
    manifest = build(paths, CASED, tmp_path / "out", holdout=100)
    expected = slow_reference(paths, tmp_path / "out" / "tokenizer", 256)
    splits = corpus.open(tmp_path / "out")
    got = {split: [(row["pmid"], row["input_ids"]) for row in splits[split]] for split in splits}
    assert {split: len(part) for split, part in got.items()} == {"train": len(expected) - 100, "holdout": 100}
    held = {pmid for pmid, _ in got["holdout"]}
    assert got["train"] == [row for row in expected if row[0] not in held]
    assert got["holdout"] == [row for row in expected if row[0] in held]
    counts = manifest["counts"]
    assert counts["read"] == 774 and counts["kept"] - counts["without_abstract"] == 628
    assert counts["read"] == sum(counts[key] for key in SUM)


def test_overflow_rows_join_to_the_uncut_text(tmp_path, tokenizer_folder):
    records = abstracts(30)
    manifest = small(tmp_path, tokenizer_folder, records, "a.jsonl", max_length=12, overflow="keep")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    joined: dict[str, list[int]] = {}
    for pmid, ids in rows(tmp_path / "out"):
        assert len(ids) <= 12 and ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        joined.setdefault(pmid, []).extend(ids[1:-1])
    uncut = {
        each["pmid"]: tokenizer(f"{each['title']} {each['abstract']}", add_special_tokens=False) for each in records
    }
    assert joined == {pmid: encoded["input_ids"] for pmid, encoded in uncut.items()}
    assert manifest["counts"]["kept"] == 30 < manifest["rows"]["train"]


def test_without_overflow_the_row_is_the_first(tmp_path, tokenizer_folder):
    small(tmp_path, tokenizer_folder, abstracts(30), "a.jsonl", max_length=12)
    build([tmp_path / "in"], tokenizer_folder, tmp_path / "kept", max_length=12, overflow="keep")
    first = {}
    for pmid, ids in rows(tmp_path / "kept"):
        first.setdefault(pmid, ids)
    assert dict(rows(tmp_path / "out")) == first


# Which citations are kept


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),  # PMID, 0: none
            st.integers(0, 3),  # newness
            st.integers(0, 4),  # text, 0: none
            st.booleans(),  # has an abstract
        ),
        min_size=1,
        max_size=30,
    ),
    st.sets(st.integers(1, 5)),
    st.sets(st.integers(1, 5)),
    st.booleans(),
)
def test_fates_equal_the_rules_in_plain_python(records, deleted, excluded, require_abstract):
    flags = [
        (HAS_PMID if pmid else 0) | (HAS_TEXT if text else 0) | (HAS_ABSTRACT if text and abstract else 0)
        for pmid, _, text, abstract in records
    ]
    columns = [np.array([each[at] for each in records], np.uint64) for at in (0, 1, 2)]
    table = Citations(*columns, columns[0], np.array(flags, np.uint8), np.ones(len(records), np.uint32))
    fates = deduplication.decide_fates(table, map(str, deleted), map(str, excluded), require_abstract)
    assert [Fate(fate) for fate in fates] == plain_fates(records, deleted, excluded, require_abstract)


def plain_fates(records, deleted, excluded, require_abstract) -> list[Fate]:
    winner = {}
    for at, (pmid, newness, _, _) in enumerate(records):
        if pmid and (pmid not in winner or records[winner[pmid]][1] <= newness):
            winner[pmid] = at
    seen = {text for pmid, _, text, _ in records if pmid}
    fates = []
    for at, (pmid, _, text, abstract) in enumerate(records):
        if pmid in excluded:
            fate = Fate.EXCLUDED
        elif pmid in deleted:
            fate = Fate.DELETED
        elif pmid and winner[pmid] != at:
            fate = Fate.UPDATED
        elif not text:
            fate = Fate.EMPTY
        elif require_abstract and not abstract:
            fate = Fate.WITHOUT_ABSTRACT
        elif not pmid and text in seen:
            fate = Fate.DUPLICATE
        else:
            fate = Fate.KEPT
        if not pmid:
            seen.add(text)
        fates.append(fate)
    return fates


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_version_goes_before_date_and_date_before_place(tmp_path, tokenizer_folder, order):
    versions = [
        record(1, abstract="old", version=1, revised="2024-01-01"),
        record(1, abstract="new", version=2, revised="2019-12-31"),
        record(1, abstract="first", version=2, revised="2019-01-01"),
    ]
    manifest = small(tmp_path, tokenizer_folder, article_set(*(versions[at] for at in order)))
    assert texts(tmp_path) == {"1": "a study of the liver. new"}
    assert manifest["counts"]["updated"] == 2


def test_of_equally_new_records_the_higher_file_name_and_then_the_later_place_stays(tmp_path, tokenizer_folder):
    for name, word in (("n2", "higher"), ("n1", "lower")):
        write(tmp_path / "in" / f"{name}.xml", article_set(record(1, abstract="before"), record(1, abstract=word)))
    build([tmp_path / "in"], tokenizer_folder, tmp_path / "out")
    assert texts(tmp_path) == {"1": "a study of the liver. higher"}


def test_a_deletion_holds_for_every_file(tmp_path, tokenizer_folder):
    write(tmp_path / "in" / "a.xml", article_set(deletion(1)))
    write(tmp_path / "in" / "b.jsonl", json_lines(abstracts(3)))
    manifest = build([tmp_path / "in"], tokenizer_folder, tmp_path / "out")
    assert set(texts(tmp_path)) == {"2", "3"}
    assert manifest["counts"]["deleted"] == 1


def test_duplicates_of_text(tmp_path, tokenizer_folder):
    one, two = {"title": "Aspirin.", "abstract": "Dose."}, {"text": "Aspirin.  Dose."}
    records = [two, {**one, "pmid": 1}, one, {**one, "pmid": 2}, {"text": "Insulin."}, {"text": "Insulin."}]
    manifest = small(tmp_path, tokenizer_folder, records, "a.jsonl")
    assert [pmid for pmid, _ in rows(tmp_path / "out")] == ["1", "2", ""]
    assert manifest["counts"]["duplicate"] == 3


def test_titles_and_empty_records(tmp_path, tokenizer_folder):
    records = [{"title": "Aspirin."}, {"title": "", "abstract": ""}, {"text": "\u200b"}, {"abstract": "Dose."}]
    counts = small(tmp_path, tokenizer_folder, records, "a.jsonl")["counts"]
    assert (counts["kept"], counts["without_abstract"], counts["empty"]) == (2, 1, 2)
    strict = build([tmp_path / "in"], tokenizer_folder, tmp_path / "strict", require_abstract=True)["counts"]
    assert (strict["kept"], strict["without_abstract"], strict["empty"]) == (1, 1, 2)
    assert strict["read"] == sum(strict[key] for key in SUM) + strict["without_abstract"]


@pytest.mark.parametrize(
    ("title", "trained", "published"),
    [
        ("[F]FDG in [the] liver.", "[f]fdg in [the] liver.", "ffdg in the liver."),
        ("[On the [3H] liver].", "on the [3h] liver.", "on the 3h liver."),
        ("[On the liver.]", "on the liver.", "on the liver."),
        ("[Is it the liver?].", "is it the liver?", "is it the liver?."),
        ("[Liver] and [kidney]", "[liver] and [kidney]", "liver and kidney"),
        ("[Liver", "[liver", "liver"),
    ],
)
def test_titles_lose_the_brackets_around_the_whole_of_them_alone_unless_published(
    tmp_path, tokenizer_folder, title, trained, published
):
    def squeezed(folder: Path) -> str:
        """The text of the one row, without the blanks that the tokenizer draws."""
        [(_, ids)] = rows(folder)
        return tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")

    tokenizer = BertTokenizerFast(vocab=str(bracketed(tmp_path)), do_lower_case=True)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    small(tmp_path, tmp_path / "tokenizer", [{"pmid": 1, "title": title}], "a.jsonl")
    assert squeezed(tmp_path / "out") == trained.replace(" ", "")
    manifest = build([tmp_path / "in"], tmp_path / "tokenizer", tmp_path / "published", published=True)
    assert squeezed(tmp_path / "published") == published.replace(" ", "")
    assert manifest["settings"]["published"] is True


def bracketed(folder: Path) -> Path:
    """The tests' vocabulary with brackets and question marks."""
    path = folder / "vocab.txt"
    path.write_text("\n".join([*VOCABULARY, "[", "]", "?"]))
    return path


@pytest.mark.parametrize("content", ["", "\n \n", "# none yet\n"])
def test_an_empty_list_of_pmids_excludes_nothing(tmp_path, tokenizer_folder, content):
    listed = write(tmp_path / "exclude.txt", content)
    manifest = small(tmp_path, tokenizer_folder, abstracts(3), "a.jsonl", exclude=listed)
    assert manifest["counts"]["excluded"] == 0 and manifest["rows"]["train"] == 3
    assert manifest["settings"]["exclude"]["listed"] == 0


def test_a_readme_in_a_folder_of_citations_is_passed_over_and_named(tmp_path, tokenizer_folder):
    write(tmp_path / "in" / "a.xml", article_set(record(1)))
    for name in ("README.txt", "0README.TXT", "LICENSE.txt", "notes.pdf"):
        write(tmp_path / "in" / name, "Read this first.\n")
    listener = Notes()
    manifest = build([tmp_path / "in"], tokenizer_folder, tmp_path / "out", listener=listener)
    assert [source["name"] for source in manifest["sources"]] == ["a.xml"]
    [note] = listener.notes
    assert all(name in note for name in ("README.txt", "0README.TXT", "LICENSE.txt", "notes.pdf"))


def test_plain_text_among_records_is_named(tmp_path, tokenizer_folder):
    write(tmp_path / "in" / "a.xml", article_set(record(1)))
    write(tmp_path / "in" / "notes.txt", "Aspirin was given daily.\n")
    listener = Notes()
    build([tmp_path / "in"], tokenizer_folder, tmp_path / "out", listener=listener)
    assert listener.notes == ["read as plain text, a document per line, beside records: notes.txt"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pubtator", "7|t|Zinc.\n7|a|Zinc cures rash.\n", "annotated documents"),
        ("a.txt", "7|t|Zinc.\n7|a|Zinc cures rash.\n", "annotated documents"),
        ("a.tsv", "Zinc\tB\ncures\tO\n", "a table or a token file"),
        ("a.csv", "id,text\n1,Zinc\n", "a table or a token file"),
        ("a.json", '{"documents": [{"id": "1", "passages": []}]}', "annotated documents"),
    ],
)
def test_what_holds_no_citations_is_not_taken_for_text(tmp_path, tokenizer_folder, name, content, said):
    with pytest.raises(UserError, match=said):
        small(tmp_path, tokenizer_folder, content, name)


def test_concatenated_answers_of_efetch_are_refused_with_a_hint(tmp_path, tokenizer_folder):
    twice = article_set(record(1)) + article_set(record(2))
    with pytest.raises(UserError, match=r"several answers of efetch .* a file of its own"):
        small(tmp_path, tokenizer_folder, twice)


def test_excluded_pmids_are_dropped_and_counted(tmp_path, tokenizer_folder):
    listed = write(tmp_path / "exclude.txt", "\ufeff# a test set\r\n2\r\n\r\n 03 # and a second one\r\n77\r\n")
    listener = Notes()
    manifest = small(tmp_path, tokenizer_folder, abstracts(5), "a.jsonl", exclude=listed, listener=listener)
    assert [pmid for pmid, _ in rows(tmp_path / "out")] == ["1", "4", "5"]
    assert (manifest["counts"]["excluded"], manifest["counts"]["excluded_found"]) == (2, 2)
    assert listener.notes == ["excluded: 2 of the 3 PMIDs listed were found"]


def test_counts_add_up_and_name_what_failed(tmp_path, sources, tokenizer_folder):
    manifest = build(sources, tokenizer_folder, tmp_path / "out")
    counts = manifest["counts"]
    assert counts["read"] == sum(source["records"] for source in manifest["sources"]) == sum(counts[key] for key in SUM)
    assert {key: counts[key] for key in (*SUM, "without_abstract")} == {
        "kept": 44, "updated": 3, "deleted": 2, "empty": 2, "duplicate": 3, "excluded": 0, "failed": 2,
        "without_abstract": 2,
    }  # fmt: skip
    assert counts["failed_reasons"] == {"no title, abstract or text": 1, "not JSON": 1}
    assert manifest["failed_examples"] == [
        {"source": "f.jsonl", "place": "line 1", "reason": "not JSON"},
        {"source": "f.jsonl", "place": "line 2", "reason": "no title, abstract or text"},
    ]
    lengths = Counter((len(ids) - 1) // 16 for _, ids in rows(tmp_path / "out"))
    assert manifest["length_histogram"] == {
        f"{16 * at + 1}-{16 * at + 16}": lengths[at] for at in range(max(lengths) + 1)
    }
    assert manifest["tokens"] == {"train": sum(len(ids) for _, ids in rows(tmp_path / "out")), "holdout": 0}


# Held-out rows


def held(folder: Path) -> set[str]:
    return set(corpus.open(folder)["holdout"]["pmid"])


@pytest.mark.parametrize("overflow", ["drop", "keep"])
def test_what_was_trained_on_is_never_held_out_later(tmp_path, tokenizer_folder, overflow):
    write(tmp_path / "in" / "b.jsonl", json_lines(abstracts(300)))
    options = {"holdout": 40, "max_length": 16, "overflow": overflow}
    build([tmp_path / "in"], tokenizer_folder, tmp_path / "small", **options)
    write(tmp_path / "in" / "a.jsonl", json_lines(abstracts(500, 301)))
    build([tmp_path / "in"], tokenizer_folder, tmp_path / "large", **options)
    trained = set(corpus.open(tmp_path / "small")["train"]["pmid"])
    assert not trained & held(tmp_path / "large")
    assert held(tmp_path / "large") & held(tmp_path / "small")
    for name in ("small", "large"):
        splits = corpus.open(tmp_path / name)
        assert not set(splits["train"]["pmid"]) & set(splits["holdout"]["pmid"])
        assert len(splits["holdout"]) == 40 if overflow == "drop" else 40 <= len(splits["holdout"]) < 50


# What is stored


def test_columns_and_their_types(tmp_path, tokenizer_folder):
    small(tmp_path, tokenizer_folder, abstracts(3), "a.jsonl")
    splits = corpus.open(tmp_path / "out")
    assert isinstance(splits, datasets.DatasetDict) and list(splits) == ["train"]
    assert splits["train"].data.schema == pa.schema({"input_ids": pa.list_(pa.uint16()), "pmid": pa.string()})
    assert splits["train"].cache_files, "not mapped from the file"


def test_a_large_vocabulary_takes_wide_ids(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{at}" for at in range(65_600))]
    write(tmp_path / "vocab.txt", "\n".join(pieces))
    small(tmp_path, tmp_path / "vocab.txt", [{"text": "w65599"}], "a.jsonl")
    train = corpus.open(tmp_path / "out")["train"]
    assert train.data.schema.field("input_ids").type == pa.list_(pa.uint32())
    assert train[0]["input_ids"] == [2, 65_604, 3]


def test_truncation_and_padding_of_a_tokenizer_are_cleared(tmp_path, tokenizer_folder):
    plain = AutoTokenizer.from_pretrained(tokenizer_folder)
    spoiled = AutoTokenizer.from_pretrained(tokenizer_folder)
    spoiled.backend_tokenizer.enable_truncation(8)
    spoiled.backend_tokenizer.enable_padding(length=8)
    spoiled.save_pretrained(tmp_path / "spoiled")
    assert '"max_length": 8' in (tmp_path / "spoiled" / "tokenizer.json").read_text()
    manifest = small(tmp_path, tmp_path / "spoiled", [*abstracts(3), {"text": "aspirin"}], "a.jsonl")
    assert manifest["tokenizer"]["sha256"] == tokenizer_digest(plain)
    again = corpus.tokenizer(tmp_path / "out")
    assert again.backend_tokenizer.truncation is None and again.backend_tokenizer.padding is None
    assert len(again("a " * 50)["input_ids"]) == 52
    assert rows(tmp_path / "out")[-1][1] == plain("aspirin")["input_ids"]


def test_a_bare_vocabulary_keeps_case_as_its_pieces_do(tmp_path):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for name, pieces in (("cased", ["Aspirin", "aspirin"]), ("uncased", ["aspirin"])):
        write(tmp_path / name / "vocab.txt", "\n".join(special + pieces))
        as_file, as_folder = load_tokenizer(tmp_path / name / "vocab.txt"), load_tokenizer(tmp_path / name)
        assert as_file("Aspirin")["input_ids"] == as_folder("Aspirin")["input_ids"] == [2, 5, 3]
        assert len(as_file) == len(special + pieces)


def test_the_manifest_names_no_place_of_this_machine(tmp_path, sources, tokenizer_folder):
    build(sources, tokenizer_folder, tmp_path / "out")
    for name in ("manifest.json", "tokenizer/tokenizer_config.json"):
        assert str(tmp_path.parent) not in (tmp_path / "out" / name).read_text()
    assert corpus.manifest(tmp_path / "out")["tokenizer"]["name"] == tokenizer_folder.name


def test_a_source_under_two_names_of_path_counts_once(tmp_path, tokenizer_folder):
    path = write(tmp_path / "in" / "a.jsonl", json_lines(abstracts(4)))
    (tmp_path / "link.jsonl").symlink_to(path)
    copy = write(tmp_path / "copy" / "a.jsonl", path.read_bytes())
    manifest = build([path, path, tmp_path / "link.jsonl", copy], tokenizer_folder, tmp_path / "out")
    assert manifest["counts"]["read"] == 4


def test_a_file_that_takes_long_is_reported_when_it_begins(cli, tokenizer_folder, tmp_path):
    path = write(tmp_path / "a.jsonl", json_lines(abstracts(4)))
    out = tmp_path / "out"
    status, _, messages = cli("corpus", "build", path, "--tokenizer", tokenizer_folder, "--out", out, "--workers", 1)
    assert status == 0 and "reading citations: 0 of 1" in messages.splitlines(), messages
