"""What files are by their names: kinds by extension, documentation, and the files that standoff documents are made of.

`B.TXT` is a text as `b.txt` is, and has its annotations in `B.ann` or `B.ANN`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

# By extension; a folder's .json files are as often settings as records, so they count only where they are named.
KINDS = {".xml": "xml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}
# Further kinds that hold texts to annotate.
TEXT_KINDS = ("pubtator", "conll", "json")
# Of BRAT and, in two files per document, of the BioNLP shared tasks.
_ANNOTATIONS = (".ann", ".a1", ".a2")
# What the datasets library writes beside the data.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_IN_CAPITALS = tuple(suffix.upper() for suffix in _ANNOTATIONS)
_DOCUMENTATION = re.compile(
    r"[0-9_]*(?:read[-_ ]?me|licen[cs]e|copying|changelog|citation|contributing)(?![a-z]).*", re.IGNORECASE
)


def shown(name: str) -> str:
    """The name of a file as text, whatever the locale; a byte that is not UTF-8 is shown as `\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def kind_of(path: Path) -> str:
    """The kind of a file by its extension: "xml", "jsonl", "parquet", "text", or the extension itself."""
    return KINDS.get(extension(path), extension(path).removeprefix(".") or "other")


def extension(path: Path) -> str:
    """The extension in small letters, that before .gz of a packed file."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def is_documentation(path: Path) -> bool:
    """Whether a file describes the folder that it is in: a README, a licence, the settings of a data set."""
    if path.name in _DESCRIPTIONS:
        return True
    return _DOCUMENTATION.fullmatch(path.name) is not None and kind_of(path) in ("text", "md", "rst", "other")


def visible(folder: Path) -> Iterator[Path]:
    """The files in and below a folder, without hidden ones and those in hidden folders."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(name.startswith(".") for name in path.relative_to(folder).parts):
            yield path


def is_text(path: Path) -> bool:
    """Whether a file is named as a text, and not packed."""
    return path.suffix.lower() == ".txt"


def is_annotation(path: Path) -> bool:
    """Whether a file is named as the annotations of a text."""
    return path.suffix in _ANNOTATIONS or path.suffix in _IN_CAPITALS


def is_standoff(path: Path) -> bool:
    """Whether a path is a folder with BRAT annotations in it or below, or one of the files of such a document."""
    if path.is_dir():
        return any(map(is_annotation, visible(path)))
    return is_annotation(path) or (is_text(path) and bool(annotations_of(path)))


def standoff_texts(folder: Path) -> list[Path]:
    """The files in and below a folder of texts that documents are made of, annotations among them."""
    files = [file for file in visible(folder) if is_text(file) or is_annotation(file)]
    return [file for file in files if not is_documentation(file) or annotations_of(file)]


def annotations_of(text: Path) -> list[Path]:
    """The annotation files beside a text."""
    return [file for suffix in _ANNOTATIONS if (file := _beside(text, suffix))]


def text_of(file: Path) -> Path:
    """The text that a file of a standoff document is, or belongs to; it need not exist."""
    return file if is_text(file) else _beside(file, ".txt") or file.with_suffix(".txt")


def _beside(file: Path, suffix: str) -> Path | None:
    """The file beside another that differs in its suffix, in small letters or capitals; None where there is none."""
    named = (file.with_suffix(one) for one in (suffix, suffix.upper()))
    return next((one for one in named if one.exists()), None)
