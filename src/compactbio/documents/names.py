"""Names of types and classes, compared without regard to case, blanks and invisible characters."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from compactbio.documents import Document


@lru_cache(maxsize=4096)
def clean(name: str) -> str:
    """A name without outer blanks and invisible characters; inner runs of blanks are one."""
    return " ".join("".join(character for character in name if unicodedata.category(character) != "Cf").split())


@lru_cache(maxsize=4096)
def key(name: str) -> str:
    """What all spellings of a name share: the name `clean`, without compatibility forms (NFKC) and case."""
    return clean(unicodedata.normalize("NFKC", name)).casefold()


def split_type(name: str) -> tuple[str, str]:
    """The type and the model or data set in "TYPE=NAME"; no type, "", where there is none or the whole is a path."""
    kind, sign, rest = name.partition("=")
    # `os.path.exists` takes names that are too long for a path.
    named = sign and rest and "/" not in kind and not os.path.exists(name)  # noqa: PTH110
    return (clean(kind), rest) if named else ("", name)


def spellings(names: Iterable[str]) -> dict[str, str]:
    """The most frequent spelling of each name by its `key`, the first of equals."""
    found: dict[str, str] = {}
    for name, _ in Counter(map(clean, names)).most_common():
        found.setdefault(key(name), name)
    return found


def types(documents: Iterable[Document]) -> Iterable[str]:
    """The types of all mentions and relations, each as often as it occurs."""
    for document in documents:
        yield from (span.type for span in document.spans)
        yield from (relation.type for relation in document.relations)


def mention_types(documents: Iterable[Document]) -> frozenset[str]:
    """The types of all mentions."""
    return frozenset(span.type for document in documents for span in document.spans)


def unified(documents: Sequence[Document], known: Mapping[str, str] | None = None) -> list[Document]:
    """The documents with each type in one spelling: that in `known` (see `spellings`), else its most frequent one."""
    found = Counter(types(documents))
    usual = {**spellings(found.elements()), **(known or {})}
    changed = {name: usual[key(name)] for name in found if usual[key(name)] != name}
    return [_renamed(document, changed) for document in documents] if changed else list(documents)


def _renamed(document: Document, names: Mapping[str, str]) -> Document:
    return replace(
        document,
        spans=tuple(replace(span, type=names.get(span.type, span.type)) for span in document.spans),
        relations=tuple(replace(found, type=names.get(found.type, found.type)) for found in document.relations),
    )
