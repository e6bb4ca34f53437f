"""BRAT standoff: `.txt` files, each with its annotations in an `.ann` file of the same name, in folders and below.

In the form of the BioNLP shared tasks the annotations stand in an `.a1` file (given) and an `.a2` file (wanted).
Sources: Stenetorp et al., BRAT: a web-based tool for NLP-assisted text annotation, EACL 2012, and its manual; the file
formats of BioNLP-ST 2013.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compactbio.documents import Document, Relation, Span
from compactbio.formats.checks import (
    Found,
    attempted,
    broken,
    content,
    left_out,
    number,
    numbered,
    on_one_line,
    only,
    unsayable,
)
from compactbio.formats.sources import is_documentation, visible
from compactbio.formats.streams import RecordError

MENTION = re.compile(r"(T[^\t ]*)\t([^ \t]+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)", re.DOTALL | re.ASCII)
_RELATION = re.compile(r"R[^\t ]*\t([^ \t]+) [^ :]+:(\S+) [^ :]+:(\S+)[ \t]*")
_NORMALISATION = re.compile(r"N[^\t ]*\t[^ \t]+ ([^ \t]+) ([^\t]*)(?:\t.*)?", re.DOTALL)
_BEYOND = 10**18
_LONGEST_NAME = 200  # bytes; with its ending, what every file system takes
ANNOTATIONS = (".ann", ".a1", ".a2")
# Events, attributes (M in older files) and equivalences.
_PASSED_OVER = ("E", "A", "M", "*")


def is_standoff(path: Path) -> bool:
    """Whether a path is a folder with annotations in it or below, or one of the files of a document."""
    if path.is_dir():
        return any(file.suffix in ANNOTATIONS for file in visible(path))
    return path.suffix in ANNOTATIONS or (path.suffix == ".txt" and bool(_annotations(path)))


def read(path: Path) -> Iterator[Found]:
    """Give the documents in and below a folder by name, or that of one of a document's files.

    The id is the file's stem, after the path from the folder where another file has the same. Line ends of the text
    stay as they are, offsets count them. Lines T, R and N are read; several normalisations of a mention are its
    identifier with `|` between. A text without annotations has no mentions; a README and the like is not a text. Lines
    of events, attributes and equivalences, relations to events, and mentions that their offsets do not hold with their
    relations, are left out, and counted in a warning of the log "compactbio.formats". A document that lacks its `.txt`,
    cannot be read, or has a line that is none of the format is given as a RecordError.
    """
    if not path.is_dir():
        yield attempted(_document, path.with_suffix(".txt"), path.stem)
        return
    stems = sorted({file.with_suffix("") for file in texts(path)})
    names = Counter(stem.name for stem in stems)
    for stem in stems:
        name = stem.name if names[stem.name] == 1 else stem.relative_to(path).as_posix()
        yield attempted(_document, stem.with_name(f"{stem.name}.txt"), name)


def texts(folder: Path) -> list[Path]:
    """The files in and below a folder that documents are made of."""
    files = [file for file in visible(folder) if file.suffix in (".txt", *ANNOTATIONS)]
    return [file for file in files if not is_documentation(file) or _annotations(file)]


def _annotations(text: Path) -> list[Path]:
    return [file for suffix in ANNOTATIONS if (file := text.with_suffix(suffix)).exists()]


def write(documents: Iterable[Document], folder: Path) -> None:
    """Write two files a document into a folder, named for its id.

    Raises UserError for an id that is no file name or comes twice, types that are no single word, questions, and
    relations between other things than mentions.
    """
    for document in documents:
        rows = said(document)
        text = folder / f"{document.id}.txt"
        if text.exists():
            raise unsayable(document, "brat", "another one has its id")
        text.write_bytes(document.text.encode("utf-8"))
        # By name, for an id with a full stop in it.
        (folder / f"{document.id}.ann").write_text(rows, encoding="utf-8", newline="\n")


def said(document: Document) -> str:
    """A document's lines of an `.ann` file. Raises UserError as `write` does, but for an id that comes twice."""
    only(document, "brat", "mentions", "mentions in several parts", "relations")
    if not _is_name(document.id):
        raise unsayable(document, "brat", "its id is no file name")
    return "".join(f"{row}\n" for row in _rows(document))


def _document(file: Path, name: str) -> Document:
    annotations = _annotations(file)
    if not file.exists():
        beside = annotations[0] if annotations else file
        reason = f"there is no {file.name} beside it"
        raise RecordError(f"{beside}: {reason}; put the text there.", beside, "the file", reason)
    return _annotated(Document(name, content(file)), annotations)


def _annotated(document: Document, paths: Sequence[Path]) -> Document:
    rows = {path: list(numbered(path)) for path in paths}
    spans, places, wrong = list[Span](), dict[str, int](), list[tuple[str, str]]()
    for path in paths:
        found, own, astray = _spans(document.text, path, rows[path])
        types = [kind for _, kind in astray]
        left_out(path, document.id, len(astray), "mentions that do not stand at their offsets", types)
        places |= {name: place + len(spans) for name, place in own.items()}
        spans += found
        wrong += astray
    events = {row.split("\t")[0] for own_rows in rows.values() for _, row in own_rows if row.startswith("E")}
    relations: list[Relation] = []
    for path in paths:
        passed = sum(row.startswith(_PASSED_OVER) for _, row in rows[path])
        left_out(path, document.id, passed, "events, attributes and equivalences")
        rows[path], lost = _without_events(rows[path], events)
        left_out(path, document.id, lost, "relations to events")
        related, lost = _relations(path, rows[path], places, {name for name, _ in wrong})
        left_out(path, document.id, lost, "relations of mentions that are left out")
        relations += related
        spans = list(_identified(path, rows[path], spans, places))
    return replace(document, spans=tuple(spans), relations=tuple(relations))


def _without_events(rows: Sequence[tuple[int, str]], events: set[str]) -> tuple[list[tuple[int, str]], int]:
    """The lines without the relations that have an event at an end, and how many these are."""
    kept = [
        (line, row)
        for line, row in rows
        if not (match := _RELATION.fullmatch(row)) or not events.intersection(match.groups()[1:])
    ]
    return kept, len(rows) - len(kept)


def _spans(
    text: str, path: Path, rows: Sequence[tuple[int, str]]
) -> tuple[list[Span], dict[str, int], list[tuple[str, str]]]:
    """The mentions, the places by name, and the names and types of those that do not stand at their offsets."""
    spans: list[Span] = []
    places: dict[str, int] = {}
    wrong: list[tuple[str, str]] = []
    for line, row in rows:
        if not row.startswith("T"):
            continue
        match = MENTION.fullmatch(row)
        if match is None:
            raise broken(path, line, "it is no mention", "write T1, tab, type start end, tab, text")
        parts = _parts(match[3])
        if _shown(text, parts) != _flat(match[4]):
            wrong.append((match[1], match[2]))
            continue
        places[match[1]] = len(spans)
        spans.append(Span(parts[0][0], parts[-1][1], match[2], fragments=tuple(parts) if len(parts) > 1 else ()))
    return spans, places, wrong


def _parts(offsets: str) -> list[tuple[int, int]]:
    """The (start, end) of a mention's fragments; a number of too many digits lies behind every text."""
    borders = [_BEYOND if (found := number(digits)) is None else found for digits in re.split("[ ;]", offsets)]
    return list(zip(borders[::2], borders[1::2], strict=True))


def _shown(text: str, parts: Sequence[tuple[int, int]]) -> str | None:
    """A mention's text as a T line shows it; None for parts out of order or outside the text."""
    borders = [border for part in parts for border in part]
    if borders != sorted(borders) or any(start == end for start, end in parts) or borders[-1] > len(text):
        return None
    return _flat(" ".join(text[start:end] for start, end in parts))


def _flat(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _relations(
    path: Path, rows: Sequence[tuple[int, str]], places: Mapping[str, int], wrong: set[str]
) -> tuple[tuple[Relation, ...], int]:
    """The relations, and how many are left out with their mentions."""
    found, lost = [], 0
    for line, row in rows:
        if not row.startswith("R"):
            continue
        match = _RELATION.fullmatch(row)
        if match is None:
            raise broken(path, line, "it is no relation", "write R1, tab, type Arg1:T1 Arg2:T2")
        if wrong.intersection(match.groups()):
            lost += 1
            continue
        head, tail = (_place(path, line, name, places) for name in (match[2], match[3]))
        found.append(Relation(head, tail, match[1]))
    return tuple(found), lost


def _place(path: Path, line: int, name: str, places: Mapping[str, int]) -> int:
    if name not in places:
        raise broken(path, line, f"there is no mention {name}", "mend the name or add its T line")
    return places[name]


def _identified(
    path: Path, rows: Sequence[tuple[int, str]], spans: Sequence[Span], places: Mapping[str, int]
) -> tuple[Span, ...]:
    names: dict[int, list[str]] = {}
    for line, row in rows:
        if not row.startswith("N"):
            continue
        match = _NORMALISATION.fullmatch(row)
        if match is None:
            raise broken(path, line, "it is no normalisation", "write N1, tab, Reference T1 RESOURCE:ID, tab, text")
        if match[1] in places:
            names.setdefault(places[match[1]], []).append(match[2])
    return tuple(
        replace(span, identifier="|".join(names[place])) if place in names else span for place, span in enumerate(spans)
    )


def _is_name(name: str) -> bool:
    fits = len(name.encode("utf-8", "surrogatepass")) < _LONGEST_NAME
    return bool(name) and not name.startswith(".") and not set("/\\\0") & set(name) and fits


def _rows(document: Document) -> Iterator[str]:
    """The lines of an `.ann` file."""
    number = 0
    for place, span in enumerate(document.spans, 1):
        _check_word(document, span.type)
        parts = span.fragments or ((span.start, span.end),)
        shown = _flat(" ".join(document.text[start:end] for start, end in parts))
        offsets = ";".join(f"{start} {end}" for start, end in parts)
        yield f"T{place}\t{span.type} {offsets}\t{shown}"
        if span.identifier:
            number += 1
            on_one_line(document, "brat", span.identifier)
            yield f"N{number}\tReference T{place} {span.identifier}\t{shown}"
    for place, relation in enumerate(document.relations, 1):
        _check_word(document, relation.type)
        if isinstance(relation.head, str) or isinstance(relation.tail, str):
            raise unsayable(document, "brat", "it relates concepts, not mentions")
        yield f"R{place}\t{relation.type} Arg1:T{relation.head + 1} Arg2:T{relation.tail + 1}"


def _check_word(document: Document, type_: str) -> None:
    if not type_ or " " in type_:
        raise unsayable(document, "brat", f"the type {type_!r} is no single word")
    on_one_line(document, "brat", type_)
