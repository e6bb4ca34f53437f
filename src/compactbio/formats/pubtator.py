"""PubTator: `id|t|title`, `id|a|abstract`, then a line with tabs for each mention and relation.

Source: Wei, Kao and Lu, PubTator: a web-based text mining tool for assisting biocuration, NAR 41, 2013, and the files
of the BioCreative V chemical-disease relation task.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from compactbio.documents import Document, Passage, Relation, Span
from compactbio.documents.words import sentences
from compactbio.formats.checks import MISPLACED, Found, check_one_line, check_only, left_out, not_writable, number
from compactbio.formats.streams import Line, RecordError, attempt, each_line, named_errors

TEXT_LINE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+")
_TITLES = ("title", "front")


def read(path: Path) -> Iterator[Found]:
    """Give the documents of a file; the text is title, one blank, abstract, or the one of them that is there, and these
    are its passages.

    A composite mention keeps its whole extent and identifier, columns after these are not read; a relation is between
    identifiers. A mention whose text is not at its offsets is left out, and counted in a warning of the log
    "compactbio.formats". A document with a line that is not of the format is given as a RecordError.
    """
    for name, record in _records(path):
        yield attempt(_document, path, name, record)


def serialise(document: Document) -> str:
    """The lines of a document and a blank one.

    The title is the first passage where this is of type title, or of no type and followed by others; in a text without
    passages it is the first sentence, unless that is all of the text. An abstract without a title follows the blank
    that PubTator's offsets count there.

    Raises UserError for line breaks, mentions in several parts, relations between mentions instead of identifiers, and
    a title that no blank follows.
    """
    check_only(document, "pubtator", "mentions", "relations")
    check_one_line(document, "pubtator", document.text, tabs=True)
    check_one_line(document, "pubtator", document.id)
    if not document.id or "|" in document.id or document.id.isspace():
        raise not_writable(document, "pubtator", "its id is empty or has a |")
    title, abstract, moved = _halves(document)
    rows = [f"{document.id}|t|{title}\n{document.id}|a|{abstract}"]
    for fields in (*_mentions(document, moved), *_relations(document)):
        check_one_line(document, "pubtator", *fields)
        rows.append("\t".join((document.id, *fields)))
    return "\n".join(rows) + "\n\n"


def _records(path: Path) -> Iterator[tuple[str, list[Line]]]:
    """Each document's id and lines; one begins with another id or a title, and ends at a blank line at the latest."""
    name, last = "", 0
    record: list[Line] = []
    with named_errors(path):
        for line in each_line(path):
            match = TEXT_LINE.fullmatch(line.text)
            id_ = match[1] if match else line.text.split("\t", 1)[0]
            if not match and "\t" not in line.text and line.number == last + 1:
                id_ = name
            last = line.number
            if record and (id_ != name or (match and match[2] == "t")):
                yield name, record
                record = []
            name = id_
            record.append(line)
    if record:
        yield name, record


def _document(path: Path, name: str, record: Sequence[Line]) -> Document:
    parts, rows = dict[str, str](), list[tuple[int, list[str]]]()
    for line in record:
        line.check(path)
        if match := TEXT_LINE.fullmatch(line.text):
            if match[2] in parts:
                reason = f"document {name} has a second abstract"
                raise RecordError(path, line.number, reason, "give each document its own id")
            parts[match[2]] = match[3]
        else:
            rows.append((line.number, line.text.split("\t")))
    if not parts:
        reason = "it follows no title or abstract of its id"
        raise RecordError(path, record[0].number, reason, "write ID|t|TITLE before it")
    text, passages = _text(parts)
    spans, relations, wrong = [], [], list[str]()
    for place, columns in rows:
        if not _is_mention(path, place, columns):
            relations.append(Relation(columns[2], columns[3], columns[1]))
        elif (span := _span(text, columns)) is None:
            wrong.append(columns[4])
        else:
            spans.append(span)
    left_out(path, name, len(wrong), MISPLACED, wrong)
    return Document(name, text, tuple(spans), tuple(relations), passages=passages)


def _text(parts: dict[str, str]) -> tuple[str, tuple[Passage, ...]]:
    title, abstract = parts.get("t", ""), parts.get("a", "")
    if not abstract:
        return title, (Passage(0, len(title), "title"),)
    text = f"{title} {abstract}" if "t" in parts else abstract
    passage = Passage(len(text) - len(abstract), len(text), "abstract")
    return text, (Passage(0, len(title), "title"), passage) if title else (passage,)


def _is_mention(path: Path, line: int, columns: Sequence[str]) -> bool:
    """Whether a row is a mention or, with a word instead of its start, a relation."""
    if len(columns) >= 5 and all(_NUMBER.fullmatch(column) for column in columns[1:3]):
        return True
    if len(columns) >= 4 and not _NUMBER.fullmatch(columns[1]):
        return False
    fix = "write id, start, end, text, type, or id, type, head, tail, with tabs"
    raise RecordError(path, line, "it is not a line of PubTator", fix)


def _span(text: str, columns: Sequence[str]) -> Span | None:
    start, end = number(columns[1]), number(columns[2])
    if start is None or end is None or not 0 <= start < end or text[start:end] != columns[3]:
        return None
    return Span(start, end, columns[4], columns[5] if len(columns) > 5 else "")


def _halves(document: Document) -> tuple[str, str, int]:
    """Title and abstract, and by how much offsets move; the one character between the two is a blank."""
    text = document.text
    if not document.passages:
        ends = [end for _, end in sentences(text)[:1]]
        cut = ends[0] if ends else len(text)
        return (text, "", 0) if cut == len(text) or text[cut - 1] != " " else (text[: cut - 1], text[cut:], 0)
    first, *others = document.passages
    untyped = not first.type and bool(others)
    if first.type.lower() not in _TITLES and not untyped:
        return ("", text[1:], 0) if text.startswith(" ") else ("", text, 1)
    if first.end < len(text) and text[first.end] != " ":
        raise not_writable(document, "pubtator", "there is no blank between its title and its abstract")
    return text[: first.end], text[first.end + 1 :], 0


def _mentions(document: Document, moved: int) -> Iterator[tuple[str, ...]]:
    for span in document.spans:
        shown = document.text[span.start : span.end]
        yield str(span.start + moved), str(span.end + moved), shown, span.type, span.identifier


def _relations(document: Document) -> Iterator[tuple[str, ...]]:
    for relation in document.relations:
        if isinstance(relation.head, int) or isinstance(relation.tail, int):
            raise not_writable(document, "pubtator", "it relates mentions, not identifiers")
        if _NUMBER.fullmatch(relation.type):
            raise not_writable(document, "pubtator", "a relation's type is a number")
        yield relation.type, relation.head, relation.tail
