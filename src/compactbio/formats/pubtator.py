"""PubTator: `id|t|title`, `id|a|abstract`, then a tabbed line for each mention and relation.

Source: Wei, Kao and Lu, PubTator: a web-based text mining tool for assisting biocuration, NAR 41, 2013, and the files
of the BioCreative V chemical-disease relation task.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from compactbio.documents import Document, Relation, Span
from compactbio.documents.words import sentences
from compactbio.formats.faults import Found, attempted, broken, left_out, number, numbered, on_one_line, only, unsayable

TEXT_LINE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+")
_Numbered = Sequence[tuple[int, str]]


def read(path: Path) -> Iterator[Found]:
    """Give the documents of a file; the text is title, one blank, abstract, or the one of them that is there.

    A mention of composites keeps its whole extent and identifier, columns after these are not read; a relation is
    between identifiers. A mention that its offsets do not hold is left out, and counted in a warning of the log
    "compactbio.formats". A document with a line that is none of the format is given as a RecordError.
    """
    for name, record in _records(path):
        yield attempted(_document, path, name, record)


def said(document: Document) -> str:
    """The lines of a document and a blank one: its first sentence is the title, unless it is all there is.

    Raises UserError for line breaks, mentions in several parts and relations between mentions, not identifiers.
    """
    only(document, "pubtator", "mentions", "relations")
    on_one_line(document, "pubtator", document.text, tabs=True)
    on_one_line(document, "pubtator", document.id)
    if not document.id or "|" in document.id or document.id.isspace():
        raise unsayable(document, "pubtator", "its id is empty or has a |")
    title, abstract = _halves(document.text)
    rows = [f"{document.id}|t|{title}", f"{document.id}|a|{abstract}"]
    fields = [_mention(document, span) for span in document.spans]
    fields += [_ends(document, relation) for relation in document.relations]
    for row in fields:
        on_one_line(document, "pubtator", document.id, *row)
        rows.append("\t".join((document.id, *row)))
    return "\n".join(rows) + "\n\n"


def _records(path: Path) -> Iterator[tuple[str, _Numbered]]:
    """Each document's id and numbered lines; one begins with another id or a title."""
    name = ""
    record: list[tuple[int, str]] = []
    for line, text in numbered(path):
        match = TEXT_LINE.fullmatch(text)
        own = match[1] if match else text.split("\t", 1)[0]
        if record and (own != name or (match and match[2] == "t")):
            yield name, record
            record = []
        name = own
        record.append((line, text))
    if record:
        yield name, record


def _document(path: Path, name: str, record: _Numbered) -> Document:
    parts: dict[str, str] = {}
    rows: list[tuple[int, list[str]]] = []
    for line, text in record:
        if match := TEXT_LINE.fullmatch(text):
            if match[2] in parts:
                raise broken(path, line, f"document {name} has a second abstract", "give each document its own id")
            parts[match[2]] = match[3]
        else:
            rows.append((line, text.split("\t")))
    if not parts:
        raise broken(path, record[0][0], "it follows no title or abstract of its id", "write ID|t|TITLE before it")
    text = _text(parts)
    spans, relations, wrong = [], [], list[str]()
    for line, columns in rows:
        if not _is_mention(path, line, columns):
            relations.append(Relation(columns[2], columns[3], columns[1]))
        elif (span := _span(text, columns)) is None:
            wrong.append(columns[4])
        else:
            spans.append(span)
    left_out(path, name, len(wrong), "mentions that do not stand at their offsets", wrong)
    return Document(name, text, tuple(spans), tuple(relations))


def _text(parts: dict[str, str]) -> str:
    if not parts.get("a"):
        return parts.get("t", "")
    return f"{parts['t']} {parts['a']}" if "t" in parts else parts["a"]


def _is_mention(path: Path, line: int, columns: Sequence[str]) -> bool:
    """Whether a row is a mention or, with a word instead of its start, a relation."""
    if len(columns) >= 5 and all(_NUMBER.fullmatch(column) for column in columns[1:3]):
        return True
    if len(columns) >= 4 and not _NUMBER.fullmatch(columns[1]):
        return False
    raise broken(
        path, line, "it is no line of PubTator", "write id, start, end, text, type, or id, type, head, tail, with tabs"
    )


def _span(text: str, columns: Sequence[str]) -> Span | None:
    start, end = number(columns[1]), number(columns[2])
    if start is None or end is None or not 0 <= start < end or text[start:end] != columns[3]:
        return None
    return Span(start, end, columns[4], columns[5] if len(columns) > 5 else "")


def _halves(text: str) -> tuple[str, str]:
    """Title and abstract; the one character between them is a blank."""
    ends = [end for _, end in sentences(text)[:1]]
    cut = ends[0] if ends else len(text)
    if cut == len(text) or text[cut - 1] != " ":
        return text, ""
    return text[: cut - 1], text[cut:]


def _mention(document: Document, span: Span) -> tuple[str, ...]:
    return str(span.start), str(span.end), document.text[span.start : span.end], span.type, span.identifier


def _ends(document: Document, relation: Relation) -> tuple[str, ...]:
    head, tail = relation.head, relation.tail
    if isinstance(head, int) or isinstance(tail, int):
        raise unsayable(document, "pubtator", "it relates mentions, not identifiers")
    if _NUMBER.fullmatch(relation.type):
        raise unsayable(document, "pubtator", "a relation's type is a number")
    return relation.type, head, tail
