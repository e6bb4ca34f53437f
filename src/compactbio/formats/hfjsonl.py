"""JSON lines of words and tags as the data sets of Hugging Face have them: `{"tokens": [...], "ner_tags": [...]}`.

Tags are strings, or numbers, whose names stand in the features of the data set: in a file `dataset_info.json`,
`dataset_infos.json` or `features.json` beside the lines, as `datasets` writes it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compactbio.documents import Document
from compactbio.formats.conll import is_tag, tagged, unknown_tag
from compactbio.formats.faults import Found, attempted, broken_at
from compactbio.formats.fields import name
from compactbio.formats.jsonlines import values
from compactbio.formats.problems import RecordError, Rejected

TAGS = frozenset(("ner_tags", "tags", "labels", "ner_labels"))
_FEATURES = ("dataset_info.json", "dataset_infos.json", "features.json")


def read(path: Path) -> Iterator[Found]:
    """Give each line's sentence, or each of an array, as a tokenised document; the id is its "id", or its number.

    The tags are under one of `TAGS`, in a scheme that `conll.read` takes; a line without any has no mentions. A line
    that is of another layout, or has numbers for which there is no name, is given as a RecordError. Raises UserError
    for what is not JSON.
    """
    names: dict[str, Sequence[str] | None] = {}
    for place, value in values(path):
        yield value if isinstance(value, RecordError) else attempted(_document, path, place, value, names)


def _document(path: Path, place: str, value: Any, names: dict[str, Sequence[str] | None]) -> Document:
    found = name(value, ("id",), place) if isinstance(value, Mapping) else Rejected(place, "not a JSON object")
    if isinstance(found, Rejected):
        raise broken_at(path, place, found.reason, "fix it there")
    words: Any = value.get("tokens")
    key = next((key for key in sorted(TAGS, reverse=True) if key in value), "")
    if not _all(words, str) or any(not word or set(word) & set(" \n\r") for word in words):
        raise broken_at(path, place, "its tokens are not words: strings without blanks", "fix it there")
    tags = value[key] if key else ["O"] * len(words)
    if not isinstance(tags, list) or len(tags) != len(words):
        raise broken_at(path, place, "it has not one tag for each token", "fix it there")
    if tags and _all(tags, int):
        if key not in names:
            names[key] = _names(path.parent, key)
        tags = _named(path, place, key, tags, names[key])
    if not _all(tags, str):
        raise broken_at(path, place, "its tags are not strings or whole numbers", "fix it there")
    if wrong := next((tag for tag in tags if not is_tag(tag)), None):
        raise unknown_tag(path, place, wrong)
    return tagged(found or place.rpartition(" ")[2], words, tags)


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(one, kind) and not isinstance(one, bool) for one in values)


def _named(path: Path, place: str, key: str, tags: Sequence[int], names: Sequence[str] | None) -> list[str]:
    if names is None:
        mend = f"put the data set's {_FEATURES[0]}, which names them, beside the file, or write the tags as strings"
        raise broken_at(path, place, f"its {key} are numbers without names", mend)
    if not all(0 <= tag < len(names) for tag in tags):
        raise broken_at(path, place, f"one of its {key} is a number beyond the {len(names)} names", "fix it there")
    return [names[tag] for tag in tags]


def _names(folder: Path, key: str) -> Sequence[str] | None:
    """The names of the tags under a key, by the features in the folder."""
    for name_ in _FEATURES:
        try:
            value = json.loads((folder / name_).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if names := _found(value, key):
            return names
    return None


def _found(value: Any, key: str) -> Sequence[str] | None:
    """The first list of names below a key."""
    if not isinstance(value, Mapping):
        return None
    if key in value and (names := _list(value[key])):
        return names
    return next((names for one in value.values() if (names := _found(one, key))), None)


def _list(value: Any) -> Sequence[str] | None:
    if _all(value, str):
        return list(value)
    if not isinstance(value, Mapping):
        return None
    return next((names for one in ("names", "feature", "class_label") if (names := _list(value.get(one)))), None)
