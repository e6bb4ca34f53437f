"""One source of citations, tokenised: read, made into token rows, and written to a file of its own."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from compactbio.documents import Citation, Deletion
from compactbio.files import atomic_file, file_digest, read_json_or_none, value_digest, write_json
from compactbio.formats import Rejected, SourceError, read_citations, recognise_citations

Overflow = Literal["drop", "keep"]


@dataclass(frozen=True)
class RowSettings:
    """What decides the token rows of one citation; tokenised sources can be used again while these are the same."""

    tokenizer_sha256: str
    max_length: int
    overflow: Overflow
    wide: bool  # ids need 32 bits
    published: bool = False  # titles without any square bracket
    unknown: int | None = None  # the id of the token that replaces what the vocabulary lacks


# As the NLM writes it, `MD5(file)= hex`, and as md5sum does, `hex  file`.
_MD5 = re.compile(r"^(?:MD5\s*\(.*\)\s*=\s*)?([0-9a-fA-F]{32})\b", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A file of citations. `problem` says why it cannot be used at all, else it is None."""

    path: Path
    bytes: int
    sha256: str
    problem: str | None = None

    @property
    def name(self) -> str:
        return self.path.name


def fingerprint(path: Path) -> Source:
    """Hash a file, and compare it with the `.md5` beside it; one that cannot be read is a source with a problem."""
    try:
        return Source(path, path.stat().st_size, file_digest(path), _disagreement(path))
    except OSError as error:
        return Source(path, 0, "", f"cannot be read: {error.strerror}")


def _disagreement(path: Path) -> str | None:
    beside = path.with_name(f"{path.name}.md5")
    if not beside.exists():
        return None
    found = file_digest(path, "md5")
    stated = _MD5.search(beside.read_text(encoding="utf-8", errors="replace"))
    if stated is None:
        return f"cannot be verified: {beside.name} holds no MD5 sum"
    if stated[1].lower() != found:
        return f"does not agree with {beside.name}: its MD5 is {found}, not {stated[1].lower()}"
    return None


_PMIDS = 1 << 62


def pmid_key(pmid: str) -> int:
    """A number below 2**63 for a PMID: itself where it is a number, else a hash that equals no number."""
    # PubMed's numbers have ASCII digits alone, and Python refuses to convert thousands of digits.
    if pmid.isascii() and pmid.isdigit() and len(pmid) < 20 and int(pmid) < _PMIDS:
        return int(pmid)
    return _PMIDS + _hash64(b"pmid", pmid) % _PMIDS


def draw(pmid: str, text: str) -> int:
    """A number below 2**64 that orders citations at random, the same in every corpus: by PMID, else by text."""
    return _hash64(b"draw-pmid", pmid) if pmid else _hash64(b"draw-text", text)


def _hash64(purpose: bytes, text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=purpose).digest(), "little")


_NO_BRACKETS = str.maketrans("", "", "[]")
_STOPS = (".", "?", "!")
HAS_PMID, HAS_ABSTRACT, HAS_TEXT = 1, 2, 4


def _token_type(wide: bool) -> pa.DataType:
    return pa.uint32() if wide else pa.uint16()


def citation_schema(wide: bool) -> pa.Schema:
    """One line per citation: which it is, which of two is newer, and its token rows (a list of lists of ids)."""
    numbers = dict.fromkeys(("key", "newness", "text", "draw"), pa.uint64())
    rows = pa.list_(pa.list_(_token_type(wide)))
    return pa.schema({"pmid": pa.string(), **numbers, "flags": pa.uint8(), "rows": rows})


def corpus_schema(wide: bool) -> pa.Schema:
    """One line per token row of the finished corpus."""
    return pa.schema({"input_ids": pa.list_(_token_type(wide)), "pmid": pa.string()})


@lru_cache(maxsize=1)
def _truncating_tokenizer(path: Path, _sha256: str, max_length: int) -> Tokenizer:
    """The tokenizer.json at `path`, set to cut at `max_length` tokens, special ones included."""
    # The hash is for the cache alone: a process may find different tokenizers at one path, one after the other.
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length, stride=0)
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str], keep_overflow: bool) -> list[list[list[int]]]:
    """The token rows of each text, special tokens in every row; none for a text that yields no token but these."""
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    encoded = tokenizer.encode_batch_fast(texts)
    rows = ([first, *first.overflowing] if keep_overflow else [first] for first in encoded)
    return [[row.ids for row in of_text if len(row.ids) > special] for of_text in rows]


def training_text(citation: Citation, *, published: bool) -> str:
    """A citation's text for training: its title loses brackets that enclose all of it, or any if `published`."""
    title = citation.title.translate(_NO_BRACKETS) if published else _without_enclosing(citation.title)
    return replace(citation, title=" ".join(title.split())).text


def _without_enclosing(title: str) -> str:
    depth = 0
    for place, letter in enumerate(title if title.startswith("[") else ""):
        depth += (letter == "[") - (letter == "]")
        if depth == 0:
            inner, rest = title[1:place], title[place + 1 :].strip()
            if rest and rest not in _STOPS:
                break
            return inner if inner.endswith(_STOPS) else inner + rest
    return title


def _batch(citations: Sequence[Citation], tokenizer: Tokenizer, settings: RowSettings) -> pa.RecordBatch:
    """The lines of these citations, in their order (see `citation_schema`)."""
    texts = [training_text(citation, published=settings.published) for citation in citations]
    rows = _encode(tokenizer, texts, settings.overflow == "keep")
    columns = {
        "pmid": [citation.pmid for citation in citations],
        "key": [pmid_key(citation.pmid) if citation.pmid else 0 for citation in citations],
        "newness": [(citation.version << 32) | citation.revised for citation in citations],
        "text": [_hash64(b"text", text) for text in texts],
        "draw": [draw(citation.pmid, text) for citation, text in zip(citations, texts, strict=True)],
        "flags": [_flags(citation, encoded) for citation, encoded in zip(citations, rows, strict=True)],
        "rows": rows,
    }
    return pa.RecordBatch.from_pydict(columns, schema=citation_schema(settings.wide))


def _flags(citation: Citation, rows: list[list[int]]) -> int:
    return (HAS_PMID if citation.pmid else 0) | (HAS_ABSTRACT if citation.abstract else 0) | (HAS_TEXT if rows else 0)


# What other code has made must not be used again: raise it when the rows of a citation change.
VERSION = 3
EXAMPLES = 5
_BATCH = 512


@dataclass(frozen=True)
class Task:
    """A source to tokenise, into a file in `folder`."""

    source: Source
    settings: RowSettings
    tokenizer: Path  # the tokenizer.json
    folder: Path

    def file(self, suffix: str) -> Path:
        """A file of what is made, of the same name for the same source under the same settings."""
        tally = [field.name for field in fields(Tally)]
        made_of = [VERSION, tally, self.source.name, self.source.sha256, asdict(self.settings)]
        return self.folder / f"{value_digest(made_of)}{suffix}"


@dataclass
class Tally:
    """What a source held besides its citations."""

    format: str = ""
    records: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # by reason
    examples: list[dict[str, str]] = field(default_factory=list)
    deletions: list[str] = field(default_factory=list)
    tokens: int = 0
    unknown: int = 0  # tokens that replace what the vocabulary lacks
    bytes: int = 0  # of the file of its rows


@dataclass(frozen=True)
class TokenisedSource:
    """A source's token rows in the file `table`, or with `problem` the reason why there are none."""

    source: Source
    table: Path
    tally: Tally
    problem: str | None = None


def earlier(task: Task) -> TokenisedSource | None:
    """What an earlier run has made of a task; None where there is nothing, or the rows are not all there."""
    counts, table = read_json_or_none(task.file(".json")), task.file(".arrow")
    if not isinstance(counts, dict) or not table.is_file() or table.stat().st_size != counts.get("bytes"):
        return None
    return TokenisedSource(task.source, table, Tally(**counts))


def tokenise(task: Task) -> TokenisedSource:
    """Read a source and write its token rows. A source that is not whole gives a problem and no file."""
    result = TokenisedSource(task.source, task.file(".arrow"), Tally())
    tally = result.tally
    try:
        tally.format = recognise_citations(task.source.path)
        entries = read_citations(task.source.path, tally.format)
        with atomic_file(result.table) as partial:
            _write(partial, _citations(entries, tally), task, tally)
    except SourceError as error:
        return replace(result, problem=str(error))
    tally.bytes = result.table.stat().st_size
    write_json(task.file(".json"), asdict(tally))
    return result


def _write(path: Path, citations: Iterator[Citation], task: Task, tally: Tally) -> None:
    tokenizer = _truncating_tokenizer(task.tokenizer, task.settings.tokenizer_sha256, task.settings.max_length)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, citation_schema(task.settings.wide)) as writer:
        while batch := list(islice(citations, _BATCH)):
            table = _batch(batch, tokenizer, task.settings)
            tokens = pc.list_flatten(pc.list_flatten(table["rows"]))
            tally.tokens += len(tokens)
            if (unknown := task.settings.unknown) is not None:
                tally.unknown += pc.sum(pc.equal(tokens, pa.scalar(unknown, tokens.type))).as_py() or 0
            writer.write_batch(table)


def _citations(entries: Iterable[Citation | Deletion | Rejected], tally: Tally) -> Iterator[Citation]:
    """The citations among the entries; the rest goes to the tally."""
    for entry in entries:
        if isinstance(entry, Deletion):
            tally.deletions.append(entry.pmid)
            continue
        tally.records += 1
        if isinstance(entry, Citation):
            yield entry
            continue
        tally.rejected[entry.reason] = tally.rejected.get(entry.reason, 0) + 1
        if len(tally.examples) < EXAMPLES:
            tally.examples.append({"place": entry.place, "reason": entry.reason})
