"""A manifest for a reader at a terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    return Group(_summary(manifest), Text(), Text("rows by length in tokens", style="bold"), *_bars(manifest))


def _summary(manifest: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in _lines(manifest):
        grid.add_row(name, value)
    return grid


def _lines(manifest: dict[str, Any]) -> Iterable[tuple[str, str]]:
    sources, tokenizer, settings = manifest["sources"], manifest["tokenizer"], manifest["settings"]
    size = sum(source["bytes"] for source in sources)
    yield "sources", f"{len(sources):,} ({size / 1e6:,.1f} MB)"
    for failed in manifest["failed_sources"]:
        yield "set aside", f"{failed['name']} {failed['reason']}"
    yield "tokenizer", f"{tokenizer['name']}, {tokenizer['vocab_size']:,} pieces"
    yield "unknown", f"{manifest['unknown_share']:.3%} of the pieces read"
    yield "cut at", f"{settings['max_length']} tokens, overflow {settings['overflow']}"
    if settings.get("published"):
        yield "titles", "without any square bracket, as published"
    yield from _counted(manifest["counts"], settings["require_abstract"])
    for split, rows in manifest["rows"].items():
        if rows:
            tokens = manifest["tokens"][split]
            yield split, f"{rows:,} rows, {tokens:,} tokens ({tokens / rows:.1f} a row)"
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


def _bars(manifest: dict[str, Any]) -> Iterable[Text]:
    histogram = manifest["length_histogram"]
    most = max(histogram.values())
    for bucket, rows in histogram.items():
        yield Text(f"{bucket:>9}  {'█' * round(_BAR * rows / most):<{_BAR}} {rows:,}")
