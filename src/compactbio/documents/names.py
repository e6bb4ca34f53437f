"""Names of types and classes: one name however it is written, in other letters, blanks or with invisible signs."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from compactbio.documents import Document


@lru_cache(maxsize=4096)
def clean(name: str) -> str:
    """A name without outer blanks and invisible signs; inner runs of blanks are one."""
    return " ".join("".join(sign for sign in name if unicodedata.category(sign) != "Cf").split())


@lru_cache(maxsize=4096)
def key(name: str) -> str:
    """What all spellings of a name share: it is `clean`, compatibility forms (NFKC) and case do not count."""
    return clean(unicodedata.normalize("NFKC", name)).casefold()


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


def unified(documents: Sequence[Document], known: Mapping[str, str] | None = None) -> list[Document]:
    """The documents with each type spelt in one way: as in `known` (see `spellings`), else as it most often is."""
    own = Counter(types(documents))
    usual = {**spellings(own.elements()), **(known or {})}
    changed = {name: usual[key(name)] for name in own if usual[key(name)] != name}
    return [_renamed(document, changed) for document in documents] if changed else list(documents)


def _renamed(document: Document, names: Mapping[str, str]) -> Document:
    return replace(
        document,
        spans=tuple(replace(span, type=names.get(span.type, span.type)) for span in document.spans),
        relations=tuple(replace(one, type=names.get(one.type, one.type)) for one in document.relations),
    )
