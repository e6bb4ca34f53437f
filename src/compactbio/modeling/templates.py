"""The special tokens of a row, as a tokenizer's own template puts them around one text or two."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.errors import UserError

Pieces = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class Template:
    """Where a tokenizer puts special tokens: before its first text and after each, in gaps that may be empty."""

    gaps: tuple[tuple[int, ...], ...]  # the ids: [CLS] and [SEP] of a BERT; <s>, </s></s> and </s> of a RoBERTa's pair
    gap_types: tuple[tuple[int, ...], ...]  # the token types of these ids
    text_types: tuple[int, ...]  # the token type of each text
    cls: int  # the place of the token that stands for the whole row (cls_token), 0 where the template has none
    filler: int  # the only id of a row that would be empty, which no model can read

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.gaps))

    def ids(self, *texts: Pieces) -> NDArray[np.int64]:
        """The row (length,) of the pieces of each text."""
        parts: list[Pieces] = [self.gaps[0]]
        for text, gap in zip(texts, self.gaps[1:], strict=True):
            parts += [text, gap]
        row = np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
        return row if len(row) else np.array([self.filler])

    def segments(self, *texts: Pieces) -> NDArray[np.int64] | None:
        """The token types (length,) of the row of these texts, None where the template has no other type than 0."""
        if not any(self.text_types) and not any(map(any, self.gap_types)):
            return None
        parts = [self.gap_types[0]]
        for text, kind, gap in zip(texts, self.text_types, self.gap_types[1:], strict=True):
            parts += [(kind,) * len(text), gap]
        return np.array([kind for part in parts for kind in part] or [0])


@lru_cache(maxsize=16)
def template(tokenizer: PreTrainedTokenizerFast, texts: int = 1) -> Template:
    """The template of a tokenizer for one text or two, read off what it makes of them.

    Raises UserError where it makes no piece of the letter a.
    """
    found = tokenizer(*["a"] * texts)
    ids, types = found["input_ids"], found.get("token_type_ids") or [0] * len(found["input_ids"])
    sources = found.sequence_ids()  # the text of each token, None of a special one
    if not set(range(texts)) <= set(sources):
        raise UserError("The tokenizer makes no piece of the letter a, so it is not one of texts: name another.")
    edges = [0]
    for text in range(texts):
        edges += [sources.index(text), len(sources) - sources[::-1].index(text)]
    borders = list(zip(edges[::2], [*edges[1::2], len(ids)], strict=True))
    gaps = tuple(tuple(ids[start:end]) for start, end in borders)
    return Template(
        gaps,
        tuple(tuple(types[start:end]) for start, end in borders),
        tuple(types[sources.index(text)] for text in range(texts)),
        gaps[0].index(tokenizer.cls_token_id) if tokenizer.cls_token_id in gaps[0] else 0,
        tokenizer.pad_token_id or 0,
    )


def special_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids that are no pieces of texts: those of templates, of named special tokens, and of added ones so marked."""
    of_templates = {id for texts in (1, 2) for gap in template(tokenizer, texts).gaps for id in gap}
    added = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(of_templates | added | set(tokenizer.all_special_ids))
