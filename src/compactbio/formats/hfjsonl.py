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
from compactbio.formats.faults import Found, attempted, broken, told, undecoded
from compactbio.formats.fields import name
from compactbio.formats.jsonlines import object_of
from compactbio.formats.problems import Rejected
from compactbio.formats.streams import Line, each_line

TAGS = frozenset(("ner_tags", "tags", "labels", "ner_labels"))
_FEATURES = ("dataset_info.json", "dataset_infos.json", "features.json")


def read(path: Path) -> Iterator[Found]:
    """Give each line's sentence as a tokenised document; the id is the line's "id", or its number.

    The tags are under one of `TAGS`, in a scheme that `conll.read` takes; a line without any has no mentions. A line
    that is of another layout, or has numbers for which there is no name, is given as a RecordError.
    """
    names: dict[str, Sequence[str] | None] = {}
    with told(path):
        for line in each_line(path):
            yield attempted(_document, path, line, names)


def _document(path: Path, line: Line, names: dict[str, Sequence[str] | None]) -> Document:
    if line.problem:
        raise undecoded(path, line)
    place, value = object_of(line.number, line.text)
    if isinstance(value, Rejected):
        raise broken(path, line.number, value.reason, "fix it there")
    found = name(value, ("id",), place)
    if isinstance(found, Rejected):
        raise broken(path, line.number, found.reason, "fix it there")
    words: Any = value.get("tokens")
    key = next((key for key in sorted(TAGS, reverse=True) if key in value), "")
    if not _all(words, str) or any(not word or set(word) & set(" \n\r") for word in words):
        raise broken(path, line.number, "its tokens are not words: strings without blanks", "fix it there")
    tags = value[key] if key else ["O"] * len(words)
    if not isinstance(tags, list) or len(tags) != len(words):
        raise broken(path, line.number, "it has not one tag for each token", "fix it there")
    if tags and _all(tags, int):
        if key not in names:
            names[key] = _names(path.parent, key)
        tags = _named(path, line.number, key, tags, names[key])
    if not _all(tags, str):
        raise broken(path, line.number, "its tags are not strings or whole numbers", "fix it there")
    if wrong := next((tag for tag in tags if not is_tag(tag)), None):
        raise unknown_tag(path, line.number, wrong)
    return tagged(found or str(line.number), words, tags)


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(one, kind) and not isinstance(one, bool) for one in values)


def _named(path: Path, line: int, key: str, tags: Sequence[int], names: Sequence[str] | None) -> list[str]:
    if names is None:
        mend = f"put the data set's {_FEATURES[0]}, which names them, beside the file, or write the tags as strings"
        raise broken(path, line, f"its {key} are numbers without names", mend)
    if not all(0 <= tag < len(names) for tag in tags):
        raise broken(path, line, f"one of its {key} is a number beyond the {len(names)} names", "fix it there")
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
