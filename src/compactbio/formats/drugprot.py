"""DrugProt and ChemProt as BioCreative publishes them: a folder of three tables, abstracts, entities and relations.

Abstracts: PMID, title, abstract. Entities: PMID, T1, type, start, end, text, with offsets into title, blank and
abstract. Relations: PMID, type, Arg1:T1, Arg2:T2; ChemProt has two further columns behind the group (CPR:3), which is
the type. Sources: the tables of BioCreative VI track 5 and BioCreative VII track 1.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compactbio.documents import Document, Passage, Relation, Span
from compactbio.errors import UserError
from compactbio.formats.checks import MISPLACED, Found, left_out, number
from compactbio.formats.file_names import extension
from compactbio.formats.streams import Line, RecordError, attempt, each_line, named_errors

# The words of the tables' names ("drugprot_training_abstracs.tsv" is spelt so).
_TABLES = {"abstracts": re.compile("abstrac"), "entities": re.compile("entit"), "relations": re.compile("relation")}
_ARGUMENT = re.compile(r"Arg[12]:(\S+)")
_Row = tuple[int, list[str]]  # the number of a line, and its columns


def tables_of(folder: Path) -> dict[str, Path]:
    """The tables in a folder: "abstracts", "entities", and "relations" where there are any; empty where it holds none.

    Raises UserError for two tables of one kind.
    """
    named = sorted(path for path in folder.iterdir() if extension(path) == ".tsv") if folder.is_dir() else []
    found = {kind: [path for path in named if word.search(path.name.lower())] for kind, word in _TABLES.items()}
    if not found["abstracts"] or not found["entities"]:
        return {}
    for kind, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise UserError(f"{folder}: {names} are all tables of {kind}; leave one of them in the folder.")
    return {kind: paths[0] for kind, paths in found.items() if paths}


def read(folder: Path) -> Iterator[Found]:
    """Give each abstract with its mentions and relations; title and abstract are its passages.

    Mentions whose text is not at their offsets, and their relations, are left out and counted in a warning of the log
    "compactbio.formats". A document with a line that is not of the format is given as a RecordError. Raises UserError
    for a folder without the tables.
    """
    tables = tables_of(folder)
    if not tables:
        raise UserError(f"{folder}: it does not hold the tables of DrugProt (abstracts and entities, .tsv).")
    entities = _by_document(tables["entities"])
    relations = _by_document(tables["relations"]) if "relations" in tables else {}
    path, seen = tables["abstracts"], set[str]()
    with named_errors(path):
        for line in each_line(path):
            seen.add(line.text.partition("\t")[0])
            yield attempt(_document, tables, line, entities, relations)
    if entities and seen.isdisjoint(entities):
        raise UserError(
            f"{tables['entities']}: none of its documents is in {path.name}: put the tables of one split together."
        )
    for kind, found in (("entities", entities), ("relations", relations)):
        lost = len(found.keys() - seen)
        left_out(tables.get(kind, path), "of another table", lost, "documents without an abstract")


def _by_document(path: Path) -> Mapping[str, list[_Row]]:
    """The lines of a table by the id in their first column."""
    found = defaultdict[str, list[_Row]](list)
    with named_errors(path):
        for line in each_line(path):
            line.check(path)
            name, *columns = line.text.split("\t")
            found[name].append((line.number, columns))
    return found


def _document(
    tables: Mapping[str, Path], line: Line, entities: Mapping[str, list[_Row]], relations: Mapping[str, list[_Row]]
) -> Document:
    path = tables["abstracts"]
    line.check(path)
    columns = line.text.split("\t")
    if len(columns) != 3:
        raise RecordError(path, line.number, f"it has {len(columns)} columns", "write PMID, tab, title, tab, abstract")
    name, title, abstract = columns
    text = f"{title} {abstract}"
    passages = (Passage(0, len(title), "title"), Passage(len(title) + 1, len(text), "abstract"))
    spans = _mentions(tables["entities"], name, text, entities.get(name, ()))
    related = _related(tables["relations"], name, list(spans), relations[name]) if name in relations else ()
    return Document(name, text, tuple(spans.values()), related, passages=tuple(p for p in passages if p.start < p.end))


def _mentions(path: Path, name: str, text: str, rows: Sequence[_Row]) -> dict[str, Span]:
    """The mentions of a document by their names in the table."""
    found, wrong = dict[str, Span](), list[str]()
    for row, (known, kind, *rest) in _rows(path, rows, 5, "T1, type, start, end, text"):
        start, end = map(number, rest[:2])
        if known in found:
            raise RecordError(path, row, f"document {name} has two entities {known}")
        if start is None or end is None:
            raise RecordError(path, row, "its offsets are not whole numbers")
        if 0 <= start < end <= len(text) and text[start:end] == rest[2]:
            found[known] = Span(start, end, kind)
        else:
            wrong.append(kind)
    left_out(path, name, len(wrong), MISPLACED, wrong)
    return found


def _related(path: Path, name: str, known: list[str], rows: Sequence[_Row]) -> tuple[Relation, ...]:
    """The relations of a document between mentions that have these names."""
    found, lost = list[Relation](), 0
    for row, (kind, *rest) in _rows(path, rows, 3, "type, Arg1:T1, Arg2:T2"):
        ends = [match[1] for end in rest[-2:] if (match := _ARGUMENT.fullmatch(end))]
        if len(ends) < 2:
            raise RecordError(path, row, "its last columns are not Arg1:T1 and Arg2:T2")
        if set(ends) <= set(known):
            found.append(Relation(known.index(ends[0]), known.index(ends[1]), kind))
        else:
            lost += 1
    left_out(path, name, lost, "relations of mentions that are left out or not there")
    return tuple(found)


def _rows(path: Path, rows: Sequence[_Row], least: int, form: str) -> Iterator[_Row]:
    """The lines of a document. Raises RecordError for one with fewer columns than `least`."""
    for row, columns in rows:
        if len(columns) < least:
            raise RecordError(path, row, f"it has {len(columns) + 1} columns", f"write PMID, {form}, divided by tabs")
        yield row, columns
