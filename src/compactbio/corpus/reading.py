"""A finished corpus: opened for training, and its manifest for a reader at a terminal."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, PositiveInt, ValidationError
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from compactbio.errors import UserError, check_named
from compactbio.files import file_digest, read_json, value_digest
from compactbio.progress import Listener, Reporter

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerFast

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENISED = ".parts"  # the sources that are tokenised already, until the corpus is finished
TOKENIZER = "tokenizer"
_QUICK = 2.0  # seconds of work that need no progress


class _Tokenizer(BaseModel):
    name: str
    vocab_size: int
    pad_id: int | None


class _Settings(BaseModel):
    max_length: int
    overflow: str
    require_abstract: bool


class _Source(BaseModel):
    name: str
    bytes: int


class _BySplit(BaseModel):
    train: PositiveInt
    holdout: int


class _Counts(BaseModel):
    read: int
    kept: int
    without_abstract: int
    updated: int
    deleted: int
    empty: int
    duplicate: int
    excluded: int
    failed: int
    failed_reasons: dict[str, int]


class _Manifest(BaseModel):
    """What a manifest must hold for its corpus to be trained on and shown."""

    fingerprint: str
    tokenizer: _Tokenizer
    settings: _Settings
    sources: list[_Source]
    failed_sources: list[dict[str, Any]]
    counts: _Counts
    unknown_share: float
    rows: _BySplit
    tokens: _BySplit
    length_histogram: dict[str, int]
    sha256: dict[str, str]


def manifest(folder: str | Path) -> dict[str, Any]:
    """The record of how a corpus was made (keys: see `build`).

    Raises UserError where the folder is missing, holds no corpus, one that is not finished, or one that lacks a shard.
    """
    path = Path(check_named(folder, "The corpus")) / MANIFEST
    try:
        record = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(_why_none(path.parent)) from error
    except ValueError as error:
        raise UserError(f"{path}: not a corpus manifest; build the corpus again in an empty folder.") from error
    if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path}: not a manifest of a corpus that this version reads (format {FORMAT_VERSION}).")
    try:
        _Manifest.model_validate(record)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"{path}: not a whole manifest, its {place} is missing or of another kind; build the corpus again in an "
            "empty folder."
        ) from None
    for name in record["sha256"]:
        if not (path.parent / name).is_file():
            raise _damaged(path.parent, name)
    return record


def _damaged(folder: Path, name: str) -> UserError:
    split, is_shard, _ = name.rpartition("-")
    lost = f"a shard of {split} is missing or damaged ({name})" if is_shard else f"{name} is not what made its rows"
    return UserError(f"{folder}: {lost}; delete the folder, and build the corpus again.")


def check_shards(folder: Path, record: dict[str, Any], listener: Listener) -> None:
    """Raise UserError where a shard of a corpus is not as it was written, by the SHA-256 in its manifest `record`.

    What was found whole is not read again until a file changes.
    """
    from compactbio.modeling.runtimes import cache

    began, digests = time.monotonic(), record["sha256"]
    state = [str(folder.resolve()), digests]
    for name in digests:
        with suppress(OSError):
            status = (folder / name).stat()
            state.append([name, status.st_size, status.st_mtime_ns])
    whole = cache() / "corpora" / value_digest(state)
    if whole.exists():
        return
    for number, name in enumerate(digests, 1):
        found = None
        with suppress(OSError):
            found = file_digest(folder / name)
        if found != digests[name]:
            raise _damaged(folder, name)
        if time.monotonic() - began > _QUICK:
            listener.step("checking shards", number, len(digests))
    # Where the cache cannot be written, they are read again the next time.
    with suppress(OSError):
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.touch()


def open_corpus(folder: str | Path) -> "DatasetDict":
    """The token rows, mapped into memory: the split `train` and, where rows were set aside, `holdout`.

    Columns: `input_ids`, a row's tokens with the special ones (16-bit integers, 32-bit for a vocabulary over 65,536
    tokens), and `pmid`, "" where there is none. Raises UserError as `manifest` does, and where a shard is not as it was
    written.

    Examples:
        >>> open_corpus("corpora/pubmed")["train"][0]["input_ids"]
    """
    from datasets import Dataset, DatasetDict, concatenate_datasets

    record = manifest(folder)
    with Reporter(Console(stderr=True)) as listener:
        check_shards(Path(folder), record, listener)
    splits = DatasetDict()
    for split, rows in record["rows"].items():
        names = [name for name in record["sha256"] if name.startswith(f"{split}-")]
        if not names and rows == 0:
            continue
        try:
            splits[split] = concatenate_datasets([Dataset.from_file(str(Path(folder) / name)) for name in names])
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: a shard of {split} is missing or damaged; build the corpus again.") from error
        if len(splits[split]) != rows:
            raise UserError(f"{folder}: {split} has {len(splits[split])} rows, not {rows}; build the corpus again.")
    return splits


def tokenizer(folder: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer that made the corpus, without truncation and padding. Raises UserError as `manifest` does."""
    from compactbio.modeling.tokenizers import load_tokenizer

    manifest(folder)
    return load_tokenizer(Path(folder) / TOKENIZER)


def _why_none(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: there is no such folder; `compactbio corpus build` makes a corpus."
    if (folder / TOKENISED).exists():
        return f"{folder}: this corpus is not finished; run its `compactbio corpus build` again to resume it."
    return f"{folder}: no corpus here ({MANIFEST} is missing); `compactbio corpus build` makes one."


_BAR = 40  # characters
_COUNTS = {
    "read": "records read",
    "kept": "kept",
    "updated": "replaced by a newer version",
    "deleted": "withdrawn by a DeleteCitation list",
    "empty": "without title and abstract",
    "duplicate": "duplicates of text, without PMID",
    "excluded": "excluded by the user's list",
    "failed": "failed",
}


def table(manifest: dict[str, Any]) -> RenderableType:
    """What a corpus is made of: sources, tokenizer, counts, rows, tokens and lengths."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for line in _lines(manifest):
        grid.add_row(*line)
    return Group(grid, Text(), Text("rows by length in tokens", style="bold"), *_bars(manifest["length_histogram"]))


def _lines(manifest: dict[str, Any]) -> Iterable[tuple[str, str]]:
    sources, tokenizer, settings = manifest["sources"], manifest["tokenizer"], manifest["settings"]
    size = sum(source["bytes"] for source in sources)
    yield "sources", f"{len(sources):,} ({size / 1e6:,.1f} MB)"
    for failed in manifest["failed_sources"]:
        yield "set aside", f"{failed['name']} {failed['reason']}"
    yield "tokenizer", f"{tokenizer['name']}, {tokenizer['vocab_size']:,} tokens"
    yield "unknown", f"{manifest['unknown_share']:.3%} of the tokens read"
    yield "cut at", f"{settings['max_length']} tokens, overflow {settings['overflow']}"
    if settings.get("published"):
        yield "titles", "without any square bracket, as published"
    yield from _counted(manifest["counts"], settings["require_abstract"])
    for split, rows in manifest["rows"].items():
        if rows:
            tokens = manifest["tokens"][split]
            yield split, f"{rows:,} rows, {tokens:,} tokens ({tokens / rows:.1f} per row)"
    yield "fingerprint", manifest["fingerprint"][:16]


def _counted(counts: dict[str, Any], require_abstract: bool) -> Iterable[tuple[str, str]]:
    for key, words in _COUNTS.items():
        if counts[key] or key in ("read", "kept"):
            yield words, f"{counts[key]:,}"
        if key == "kept" and counts["without_abstract"]:
            words = "dropped, a title only" if require_abstract else "  of these a title only"
            yield words, f"{counts['without_abstract']:,}"
    for reason, count in counts["failed_reasons"].items():
        yield "", f"{count:,} {reason}"


def _bars(histogram: dict[str, int]) -> Iterable[Text]:
    most = max(histogram.values())
    for bucket, rows in histogram.items():
        yield Text(f"{bucket:>9}  {'█' * round(_BAR * rows / most):<{_BAR}} {rows:,}")
