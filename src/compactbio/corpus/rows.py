"""Citations to token rows, and the table that a part of the corpus is."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from compactbio.corpus import identity
from compactbio.corpus.settings import RowSettings
from compactbio.documents import Citation

_NO_BRACKETS = str.maketrans("", "", "[]")
_STOPS = (".", "?", "!")
HAS_PMID, HAS_ABSTRACT, HAS_TEXT = 1, 2, 4


def piece_type(wide: bool) -> pa.DataType:
    """The Arrow type of a piece's id."""
    return pa.uint32() if wide else pa.uint16()


def part_schema(wide: bool) -> pa.Schema:
    """One line a citation: who it is, which of two is newer, and its token rows (a list of lists of ids)."""
    return pa.schema(
        {
            "pmid": pa.string(),
            "key": pa.uint64(),
            "newness": pa.uint64(),
            "text": pa.uint64(),
            "draw": pa.uint64(),
            "flags": pa.uint8(),
            "rows": pa.list_(pa.list_(piece_type(wide))),
        }
    )


def corpus_schema(wide: bool) -> pa.Schema:
    """One line a token row of the finished corpus."""
    return pa.schema({"input_ids": pa.list_(piece_type(wide)), "pmid": pa.string()})


@lru_cache(maxsize=1)
def cutting_tokenizer(path: Path, sha256: str, max_length: int) -> Tokenizer:
    """The tokenizer.json at `path`, set to cut at `max_length` pieces, special ones included.

    `sha256` is that of the tokenizer, for which one process may find several at the same path, one after the other.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length, stride=0)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], keep_overflow: bool) -> list[list[list[int]]]:
    """The token rows of each text, special pieces in every row; none for a text that yields no piece of its own."""
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    encoded = tokenizer.encode_batch_fast(list(texts))
    return [
        [row.ids for row in ([first, *first.overflowing] if keep_overflow else [first]) if len(row.ids) > special]
        for first in encoded
    ]


def training_text(citation: Citation, *, published: bool) -> str:
    """A citation's text with the title as a model is trained on it: without the square brackets that enclose the whole
    of it, which mark a translation; `published`: without any."""
    title = citation.title.translate(_NO_BRACKETS) if published else _opened(citation.title)
    return replace(citation, title=" ".join(title.split())).text


def _opened(title: str) -> str:
    depth = 0
    for place, letter in enumerate(title if title.startswith("[") else ""):
        depth += (letter == "[") - (letter == "]")
        if depth == 0:
            inner, rest = title[1:place], title[place + 1 :].strip()
            if rest and rest not in _STOPS:
                break
            return inner if inner.endswith(_STOPS) else inner + rest
    return title


def part_table(citations: Sequence[Citation], tokenizer: Tokenizer, settings: RowSettings) -> pa.RecordBatch:
    """The lines of a part for these citations, in their order."""
    texts = [training_text(citation, published=settings.published) for citation in citations]
    rows = encode(tokenizer, texts, settings.overflow == "keep")
    columns = {
        "pmid": [citation.pmid for citation in citations],
        "key": [identity.pmid_key(citation.pmid) if citation.pmid else 0 for citation in citations],
        "newness": [(citation.version << 32) | citation.revised for citation in citations],
        "text": [identity.text_key(text) for text in texts],
        "draw": [identity.draw(citation.pmid, text) for citation, text in zip(citations, texts, strict=True)],
        "flags": [_flags(citation, own) for citation, own in zip(citations, rows, strict=True)],
        "rows": rows,
    }
    return pa.RecordBatch.from_pydict(columns, schema=part_schema(settings.wide))


def unknown_share(batch: pa.RecordBatch, unknown: int | None) -> tuple[int, int]:
    """Of the lines of a part: how many pieces their rows have, and how many of these are the unknown piece."""
    pieces = pc.list_flatten(pc.list_flatten(batch["rows"]))
    count = 0 if unknown is None else pc.sum(pc.equal(pieces, pa.scalar(unknown, pieces.type))).as_py()
    return len(pieces), count or 0


def _flags(citation: Citation, rows: list[list[int]]) -> int:
    return (HAS_PMID if citation.pmid else 0) | (HAS_ABSTRACT if citation.abstract else 0) | (HAS_TEXT if rows else 0)
