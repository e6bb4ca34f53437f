"""BRAT standoff: `.txt` files, each with its annotations in an `.ann` file of the same name, in a folder and below.

In the form of the BioNLP shared tasks the annotations are in an `.a1` file (given) and an `.a2` file (wanted).
Sources: Stenetorp et al., BRAT: a web-based tool for NLP-assisted text annotation, EACL 2012, and its manual; the file
formats of BioNLP-ST 2013.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from compactbio.documents import Document, Relation, Span
from compactbio.formats.checks import MISPLACED, Found, check_one_line, check_only, fits, left_out, not_writable, number
from compactbio.formats.file_names import annotations_of, shown, standoff_texts, text_of
from compactbio.formats.streams import WHOLE_FILE, RecordError, attempt, content, lines, named_errors

MENTION = re.compile(r"(T[^\t ]*)\t([^ \t]+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)", re.DOTALL | re.ASCII)
_RELATION = re.compile(r"R[^\t ]*\t([^ \t]+) [^ :]+:(\S+) [^ :]+:(\S+)[ \t]*")
_NORMALISATION = re.compile(r"N[^\t ]*\t[^ \t]+ ([^ \t]+) ([^\t]*)(?:\t.*)?", re.DOTALL)
_BREAKS = re.compile(r"[\r\n]+")
_BEYOND = 10**18  # behind every text
_LONGEST_NAME = 200  # bytes; with its ending, what every file system takes
# Events, attributes (M in older files) and equivalences.
_SKIPPED = ("E", "A", "M", "*")


def read(path: Path) -> Iterator[Found]:
    """Give the documents in and below a folder by name, or that of one of a document's files.

    Fragments that only the end of a line divides are one part of a mention.

    The id is the file's stem, with the path from the folder before it where another file has the same stem. Line ends
    of the text are kept, offsets count them. Lines T, R and N are read; several normalisations of a mention are joined
    by `|` as its identifier. A text without annotations has no mentions; a README and the like is not a text.

    Events, attributes, equivalences, relations to events, mentions whose text is not at their offsets and their
    relations are left out, and counted in a warning of the log "compactbio.formats". A document that lacks its `.txt`,
    cannot be read, or has a line that is not of the format is given as a RecordError.
    """
    if not path.is_dir():
        yield attempt(_document, text_of(path), shown(path.stem))
        return
    texts = sorted(set(map(text_of, standoff_texts(path))), key=lambda text: text.with_suffix(""))
    stems = Counter(text.stem for text in texts)
    for text in texts:
        name = text.stem if stems[text.stem] == 1 else text.relative_to(path).with_suffix("").as_posix()
        yield attempt(_document, text, shown(name))


def write(documents: Iterable[Document], folder: Path) -> None:
    """Write two files per document, named by its id, into a folder.

    Raises UserError for an id that is not a file name or comes twice, types that are not a single word, questions, and
    relations between other things than mentions.
    """
    for document in documents:
        rows = serialise(document)
        text = folder / f"{document.id}.txt"
        if text.exists():
            raise not_writable(document, "brat", "another document has its id")
        text.write_bytes(document.text.encode("utf-8"))
        # By name, for an id with a full stop in it.
        (folder / f"{document.id}.ann").write_text(rows, encoding="utf-8", newline="\n")


def serialise(document: Document) -> str:
    """A document's `.ann` file. Raises UserError as `write` does, except for an id that comes twice."""
    check_only(document, "brat", "mentions", "mentions in several parts", "relations")
    if not _is_name(document.id):
        raise not_writable(document, "brat", "its id is not a file name")
    return "".join(f"{row}\n" for row in _rows(document))


def _document(file: Path, name: str) -> Document:
    annotations = annotations_of(file)
    if not file.exists():
        beside = annotations[0] if annotations else file
        raise RecordError(beside, WHOLE_FILE, f"there is no {file.name} beside it", "put the text there")
    return _annotated(Document(name, content(file)), annotations)


def _annotated(document: Document, paths: Sequence[Path]) -> Document:
    rows = dict[Path, list[tuple[int, str]]]()
    for path in paths:
        with named_errors(path):
            rows[path] = list(lines(path))
    spans, places, misplaced = list[Span](), dict[str, int](), set[str]()
    for path in paths:
        wrong = list[str]()
        for _, match in _matches(path, rows[path], "T", MENTION, "a mention", "T1, tab, type start end, tab, text"):
            name, kind, offsets, shown = match.groups()
            found = _places(offsets)
            if _shown(document.text, found) != _flat(shown):
                wrong.append(kind)
                misplaced.add(name)
                continue
            places[name] = len(spans)
            spans.append(Span.over(_joined(document.text, found), kind))
        left_out(path, document.id, len(wrong), MISPLACED, wrong)
    events = {row.split("\t")[0] for path in paths for _, row in rows[path] if row.startswith("E")}
    relations, identifiers = list[Relation](), defaultdict[int, list[str]](list)
    for path in paths:
        skipped = sum(row.startswith(_SKIPPED) for _, row in rows[path])
        left_out(path, document.id, skipped, "events, attributes and equivalences")
        of_events = of_misplaced = 0
        for line, match in _matches(path, rows[path], "R", _RELATION, "a relation", "R1, tab, type Arg1:T1 Arg2:T2"):
            kind, *ends = match.groups()
            if events.intersection(ends):
                of_events += 1
            elif misplaced.intersection(ends):
                of_misplaced += 1
            else:
                if unknown := [name for name in ends if name not in places]:
                    reason = f"there is no mention {unknown[0]}"
                    raise RecordError(path, line, reason, "fix the name or add its T line")
                relations.append(Relation(places[ends[0]], places[ends[1]], kind))
        left_out(path, document.id, of_events, "relations to events")
        left_out(path, document.id, of_misplaced, "relations of mentions that are left out")
        form = "N1, tab, Reference T1 RESOURCE:ID, tab, text"
        for _, match in _matches(path, rows[path], "N", _NORMALISATION, "a normalisation", form):
            if match[1] in places:
                identifiers[places[match[1]]].append(match[2])
    for place, names in identifiers.items():
        spans[place] = replace(spans[place], identifier="|".join(names))
    return replace(document, spans=tuple(spans), relations=tuple(relations))


def _matches(
    path: Path, rows: Iterable[tuple[int, str]], letter: str, pattern: re.Pattern[str], what: str, form: str
) -> Iterator[tuple[int, re.Match[str]]]:
    """The matches of the lines that begin with a letter. Raises RecordError for one that does not match."""
    for line, row in rows:
        if row.startswith(letter):
            match = pattern.fullmatch(row)
            if match is None:
                raise RecordError(path, line, f"it is not {what}", f"write {form}")
            yield line, match


def _places(offsets: str) -> list[tuple[int, int]]:
    """The (start, end) of a mention's fragments; a number of too many digits is behind every text."""
    borders = [_BEYOND if (found := number(digits)) is None else found for digits in re.split("[ ;]", offsets)]
    return list(zip(borders[::2], borders[1::2], strict=True))


def _joined(text: str, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The fragments of a mention, those that only blanks with a line break divide as one."""
    joined = [places[0]]
    for start, end in places[1:]:
        between = text[joined[-1][1] : start]
        if between.isspace() and _BREAKS.search(between):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _within_lines(text: str, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of a mention as brat shows them: no part continues after the end of a line."""
    for start, end in places:
        at = start
        for found in _BREAKS.finditer(text, start + 1, end - 1):
            yield at, found.start()
            at = found.end()
        yield at, end


def _shown(text: str, places: Sequence[tuple[int, int]]) -> str | None:
    """A mention's text as a T line shows it; None for fragments out of order or outside the text."""
    return _flat(" ".join(text[start:end] for start, end in places)) if fits(places, len(text)) else None


def _flat(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _is_name(name: str) -> bool:
    short = len(name.encode("utf-8", "surrogatepass")) < _LONGEST_NAME
    return bool(name) and not name.startswith(".") and not set("/\\\0") & set(name) and short


def _rows(document: Document) -> Iterator[str]:
    """The lines of an `.ann` file."""
    number = 0
    for place, span in enumerate(document.spans, 1):
        _check_word(document, span.type)
        places = list(_within_lines(document.text, span.places))
        shown = _flat(" ".join(document.text[start:end] for start, end in places))
        offsets = ";".join(f"{start} {end}" for start, end in places)
        yield f"T{place}\t{span.type} {offsets}\t{shown}"
        if span.identifier:
            number += 1
            check_one_line(document, "brat", span.identifier)
            yield f"N{number}\tReference T{place} {span.identifier}\t{shown}"
    for place, relation in enumerate(document.relations, 1):
        _check_word(document, relation.type)
        if isinstance(relation.head, str) or isinstance(relation.tail, str):
            raise not_writable(document, "brat", "it relates concepts, not mentions")
        yield f"R{place}\t{relation.type} Arg1:T{relation.head + 1} Arg2:T{relation.tail + 1}"


def _check_word(document: Document, type_: str) -> None:
    if not type_ or " " in type_:
        raise not_writable(document, "brat", f"the type {type_!r} is not a single word")
    check_one_line(document, "brat", type_)
