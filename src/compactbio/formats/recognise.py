"""Which format a file has, by its content first and by its name where that does not decide.

One detection (`_detect`) serves three questions: the format of annotated documents of a task (`recognise`), of texts to
annotate (`recognise_texts`) and of citations (`recognise_citations`). They differ in what is a text: a `.txt` file of
words and tags is a token file to a task, and text to the others.
"""

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path

from compactbio.documents.tags import is_tag
from compactbio.errors import UserError
from compactbio.formats import brat, conll, drugprot, json_lines, parquet, pubtator, relation_sentences
from compactbio.formats.file_names import extension, is_standoff, is_text
from compactbio.formats.streams import BLOCK, NotLinesError, SourceError, head, named_errors

_DECODER = json.JSONDecoder()
# Formats of annotated documents that can be written.
FORMATS = ("conll", "pubtator", "bioc", "brat", "squad", "bioasq", "marked", "marked-jsonl", "jsonl", "parquet")
# Those that can be read.
READABLE = (*FORMATS, "bioc-json", "bigbio", "drugprot", "hf-jsonl", "squad-rows")
# Those that texts to annotate can have.
TEXTS = (*(format for format in READABLE if format not in ("drugprot", "marked-jsonl")), "pubmed", "text")

# An object with a key, perhaps the first one of an array.
_KEYED = re.compile(r'(?:\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:')
_JSON_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+)', re.DOTALL)
_CITATION_KEYS = frozenset(("pmid", "title", "abstract", "text"))
# What other programs keep annotations of a text under.
_ANNOTATIONS = frozenset(("annotations", "denotations", "entities", "label", "labels", "relations", "spans"))
_TOKEN_FILES = (".conll", ".iob", ".iob2", ".bio")
_TABLES = (".tsv", ".csv")
_JSON = (".json", ".jsonl", ".ndjson")
_XML = re.compile(rb"<[?!A-Za-z]")
_UTF16_XML = ("<".encode("utf-16-le"), "<".encode("utf-16-be"))
# In text, a title line of PubTator has an id without blanks.
_PUBTATOR = re.compile(r"[^|\s]+\|t\|")
# A beginning that shows one of these is not that of text or of lines of citations.
_CERTAIN = ("parquet", "pubmed", "bioc", "squad", "bioasq", "bioc-json", "bigbio", "hf-jsonl", "squad-rows")


def recognise(path: str | Path) -> str:
    """The format of annotated documents, one of `READABLE`, by a file's beginning or by what a folder holds.

    Raises UserError for a file that is empty, holds citations or tokens without annotations that are read, or shows no
    format.
    """
    path = Path(path)
    if drugprot.tables_of(path):
        return "drugprot"
    if is_standoff(path) or (path.is_dir() and any(map(is_text, path.iterdir()))):
        return "brat"
    if path.is_dir():
        raise UserError(
            f"{path}: no .txt and .ann files of BRAT, and no tables of DrugProt, are in this folder; name a file in it."
        )
    with named_errors(path):
        start = head(path)
    if not start:
        raise UserError(f"{path} is empty; name a file with documents in it.")
    found, keys = _detect(path, start), _keys_of(path, start)
    if found == "citations" and (foreign := sorted(keys & _ANNOTATIONS)):
        raise UserError(
            f"{path}: its annotations ({', '.join(foreign)}) are in a layout that is not read; write JSON lines of id, "
            "text and spans, each of these with start, end and type."
        )
    if found in ("pubmed", "citations"):
        raise UserError(
            f"{path} holds citations without annotations, not annotated documents; `corpus build` reads them."
        )
    if found == "hf-jsonl" and not keys & json_lines.TAGS:
        others = f"; it has {', '.join(sorted(keys - {'tokens', 'id'}))}" if keys - {"tokens", "id"} else ""
        raise UserError(
            f"{path}: its tokens have no tags, which are to be under {' or '.join(sorted(json_lines.TAGS))}{others}."
        )
    if found in ("jsonl", "marked-jsonl") and (problem := _not_lines(start)):
        raise UserError(f"{path} {problem}.")
    if found not in READABLE:
        raise UserError(
            f"{path}: its format is not recognised as one of {', '.join(READABLE)}; give it in one of these, or name "
            "the format."
        )
    return found


def recognise_texts(path: Path) -> str:
    """The format of texts to annotate, one of `TEXTS`.

    What could be text is "text", except for token files and sentences with marks where the name says that the file is a
    table or a token file. Raises SourceError where name and content contradict each other, and for a table of another
    kind.
    """
    if is_standoff(path) or path.is_dir():
        return "brat"
    start = head(path)
    found, suffix = _detect(path, start), extension(path)
    if found == "conll" and suffix in _TOKEN_FILES:
        return "conll"
    container = _container(path, start, found)
    if found in _CERTAIN:
        return found
    if container != "text":
        return container
    if found == "pubtator" and _PUBTATOR.match(_decoded(start)):
        return "pubtator"
    if suffix in _TABLES and start:
        if found == "conll" or (found == "marked" and relation_sentences.MARK.search(_decoded(start))):
            return found
        raise SourceError("is a table whose columns are not known; name its format, or give JSON lines or Parquet")
    return "pubtator" if suffix == ".pubtator" else "text"


def recognise_citations(path: str | Path) -> str:
    """The format of a file of citations: "pubmed", "jsonl", "parquet" or "text".

    Raises SourceError where name and content contradict each other, and for annotated documents and tables.
    """
    path = Path(path)
    start = head(path)
    found, suffix = _detect(path, start), extension(path)
    container = _container(path, start, found)
    pubtator_ = found == "pubtator" and (_PUBTATOR.match(_decoded(start)) or suffix == ".pubtator")
    holds_documents = found in _CERTAIN and found != container
    if (container in ("jsonl", "parquet") and holds_documents) or (container == "text" and pubtator_):
        raise SourceError(f"holds annotated documents ({found}), not citations")
    if container == "text" and suffix in (*_TOKEN_FILES, *_TABLES):
        raise SourceError("is a table or a token file, not citations; give JSON lines, Parquet or text")
    return container


def _container(path: Path, start: bytes, found: str) -> str:
    """What records a file can hold: of PubMed XML, JSON lines, a Parquet table or, where nothing shows these, text."""
    suffix = extension(path)
    if parquet.begins(start):
        return "parquet"
    if suffix == ".parquet":
        raise SourceError("is named .parquet and is not a Parquet file")
    if _begins_xml(path, start):
        return "pubmed"
    if suffix == ".xml":
        raise SourceError("is named .xml and holds no XML")
    if suffix not in _JSON and not _is_json(start):
        return "text"
    if found not in _CERTAIN and (problem := _not_lines(start)):
        raise problem
    return "jsonl"


def _decoded(start: bytes) -> str:
    """The beginning as text with plain line ends; a character that the end of the block cuts in two is replaced."""
    text = start.decode("utf-8", errors="replace")
    return text if "\n" in text else text.replace("\r", "\n")


def _begins_xml(path: Path, start: bytes) -> bool:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return start[2:4] in _UTF16_XML
    if _XML.match(start) is None:
        return False
    # A text may begin with a tag of markup.
    return extension(path) == ".xml" or start.startswith((b"<?xml", b"<!")) or _root(_decoded(start)) is not None


def _is_json(start: bytes) -> bool:
    """Whether a beginning is that of JSON: an object with a key, or a value that is more than numbers in brackets."""
    text = _decoded(start)
    if not text.startswith(("{", "[")):
        return False
    if _KEYED.match(text):
        return True
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        # The end of the block cuts JSON in a string, or where more should follow.
        return len(start) >= BLOCK and (error.msg.startswith("Unterminated") or not text[error.pos :].strip())
    except (ValueError, RecursionError):
        return False
    # "[12]" may be the number of a reference, and "[Zinc]." a title.
    numbers = value and all(isinstance(member, int | float) for member in value)
    return not numbers and re.match(r"\s*(?:\Z|\n\s*[\[{])", text[end:]) is not None


def _not_lines(start: bytes) -> NotLinesError | None:
    """Why JSON is not one object per line, as far as its beginning shows."""
    text = _decoded(start)
    if text.startswith("["):
        return NotLinesError("holds a JSON array")
    try:
        _, end = _DECODER.raw_decode(text)
        several = "\n" in text[:end]
    except (ValueError, RecursionError):
        several = re.match(r'\{\s*\n\s*"', text) is not None  # one that is longer than the block, or malformed
    return NotLinesError("holds a JSON object on several lines") if several else None


def _detect(path: Path, raw: bytes) -> str:
    """The format that a beginning shows: of `READABLE`, "pubmed", "parquet", "citations" for JSON of these, or ""."""
    if not raw:
        return ""
    if parquet.begins(raw):
        columns = parquet.schema(path)
        return "parquet" if parquet.holds_documents(columns) else _table_format(frozenset(columns.names))
    start = _decoded(raw)
    lines = start.split("\n")
    shown = lines if len(start) < BLOCK or len(lines) == 1 else lines[:-1]
    present = [line.rstrip("\r") for line in shown if line and not line.isspace()]
    suffix = extension(path)
    if suffix in _TOKEN_FILES and present and _is_word(present[0]):
        return "conll"
    if start.startswith("<") and (root := _root(start)):
        return root
    if start.startswith(("{", "[")) and (found := _json_format(_keys(start))):
        return found
    if found := _line_format(present):
        return found
    return "conll" if suffix in _TOKEN_FILES else "pubtator" if suffix == ".pubtator" else ""


def _keys_of(path: Path, raw: bytes) -> frozenset[str]:
    """The columns of a table, or the keys of the first JSON object; none of other files."""
    if parquet.begins(raw):
        return frozenset(parquet.schema(path).names)
    start = _decoded(raw)
    return _keys(start) if start.startswith(("{", "[")) else frozenset()


def _root(start: str) -> str | None:
    if "<PubmedArticleSet" in start or "<MedlineCitationSet" in start:
        return "pubmed"
    return "bioc" if re.search(r"<collection[\s>/]", start) else None


def _table_format(columns: frozenset[str]) -> str:
    found = _json_format(columns)
    # Of the others, what a column holds is as free as its name.
    return found if found in ("hf-jsonl", "bigbio", "squad-rows", "marked-jsonl", "citations") else ""


def _json_format(keys: frozenset[str]) -> str | None:
    textless = not keys & {"text", "title", "abstract"}
    if "tokens" in keys and (textless or keys & json_lines.TAGS):
        return "hf-jsonl"
    if textless and "passages" in keys:
        return "bigbio" if "entities" in keys else "bioc-json"
    if textless and keys & {"documents", "PubTator3"}:
        return "bioc-json"
    if {"context", "question"} <= keys:
        return "squad-rows"
    if {"text", "label"} <= keys:
        return "marked-jsonl"
    if "id" in keys and "title" not in keys and "abstract" not in keys:
        return "jsonl"
    if textless and keys & {"questions", "data"}:
        return "bioasq" if "questions" in keys else "squad"
    return "citations" if keys & _CITATION_KEYS else None


def _keys(text: str) -> frozenset[str]:
    """The keys of the first JSON object, which may be the first of an array, as far as the text shows them."""
    keys, depth, at, last = set(), 0, 0, ""
    if text.startswith("["):
        at = 1
    while match := _JSON_TOKEN.match(text, at):
        token, at = match[1], match.end()
        if token == ":" and depth == 1 and last.startswith('"'):
            keys.add(last[1:-1])
        depth += (token in ("{", "[")) - (token in ("}", "]"))
        if depth == 0:
            break
        last = token
    return frozenset(keys)


def _line_format(present: Sequence[str]) -> str:
    if not present:
        return ""
    if pubtator.TEXT_LINE.fullmatch(present[0]):
        return "pubtator"
    if brat.MENTION.fullmatch(present[0]):
        return "brat"
    words = sum(map(_is_word, present))
    sentences = sum(map(_is_sentence, present)) + relation_sentences.is_header(present[0].split("\t"))
    if words > sentences and 2 * words >= len(present):
        return "conll"
    return "marked" if 2 * sentences >= len(present) else ""


def _is_word(line: str) -> bool:
    """Whether a line is a word, perhaps other columns, and a tag."""
    columns = conll.columns_of(line)
    return len(columns) > 1 and bool(columns[0]) and " " not in columns[0] and is_tag(columns[-1])


def _is_sentence(line: str) -> bool:
    """Whether a line is a sentence, perhaps an index before it, and a class; one with a blank after marks alone."""
    columns = line.split("\t")
    if len(columns) not in (2, 3) or " " not in columns[-2] or not columns[-1]:
        return False
    return " " not in columns[-1] or relation_sentences.MARK.search(columns[-2]) is not None
