"""Which format annotated documents have, by what their content shows."""

import re
from collections.abc import Sequence
from pathlib import Path

from compactbio.errors import UserError
from compactbio.formats import brat, conll, marked, pubtator
from compactbio.formats.faults import told
from compactbio.formats.streams import head

FORMATS = ("conll", "pubtator", "bioc", "brat", "squad", "bioasq", "marked", "marked-jsonl", "jsonl")

_SIZE = 65_536
_JSON_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+)', re.DOTALL)
_CITATION_KEYS = frozenset(("pmid", "title", "abstract", "text"))
_SUFFIXES = {".conll": "conll", ".iob": "conll", ".iob2": "conll", ".bio": "conll", ".pubtator": "pubtator"}


def recognise(path: str | Path) -> str:
    """The format's name, one of `FORMATS`, by the beginning of a file or by what a folder holds.

    The name decides only where the content does not. Raises UserError for a file that is empty, holds citations
    without annotations, or shows no format.
    """
    path = Path(path)
    if path.is_dir():
        if any(file.suffix in (".txt", ".ann") for file in path.iterdir()):
            return "brat"
        raise UserError(f"{path}: no .txt and .ann files of BRAT are in this folder; name a file in it.")
    if path.suffix == ".ann" or (path.suffix == ".txt" and path.with_suffix(".ann").exists()):
        return "brat"
    with told(path):
        start = head(path, _SIZE)
    if not start:
        raise UserError(f"{path} is empty; name a file with documents in it.")
    # A character that the end of the block cuts in two is no sign of anything.
    found = _format(path, start.decode("utf-8", errors="replace"), whole=len(start) < _SIZE)
    if found is None:
        raise UserError(
            f"{path}: its format is not recognised as one of {', '.join(FORMATS)}; give it in one of these."
        )
    return found


def _format(path: Path, start: str, whole: bool) -> str | None:
    if start.startswith("<"):
        return _xml_format(path, start)
    if start.startswith("{"):
        return _json_format(path, _keys(start))
    lines = [line.rstrip("\r") for line in start.split("\n")]
    return _line_format(lines if whole or len(lines) == 1 else lines[:-1]) or _SUFFIXES.get(
        Path(path.name.lower().removesuffix(".gz")).suffix
    )


def _xml_format(path: Path, start: str) -> str | None:
    if "<PubmedArticleSet" in start or "<MedlineCitationSet" in start:
        raise _citations(path)
    return "bioc" if re.search(r"<collection[\s>/]", start) else None


def _json_format(path: Path, keys: frozenset[str]) -> str | None:
    if {"text", "label"} <= keys:
        return "marked-jsonl"
    if "id" in keys and "title" not in keys and "abstract" not in keys:
        return "jsonl"
    if keys & {"questions", "data"}:
        return "bioasq" if "questions" in keys else "squad"
    if keys & _CITATION_KEYS:
        raise _citations(path)
    return None


def _citations(path: Path) -> UserError:
    return UserError(f"{path} holds citations without annotations, not annotated documents; `corpus build` reads them.")


def _keys(text: str) -> frozenset[str]:
    """The keys of the first JSON object, as far as the text shows them."""
    keys, depth, at, last = set(), 0, 0, ""
    while match := _JSON_TOKEN.match(text, at):
        token, at = match[1], match.end()
        if token == ":" and depth == 1:
            keys.add(last[1:-1])
        depth += (token in ("{", "[")) - (token in ("}", "]"))
        if depth == 0:
            break
        last = token
    return frozenset(keys)


def _line_format(lines: Sequence[str]) -> str | None:
    present = [line for line in lines if line and not line.isspace()]
    if not present:
        return None
    if pubtator.TEXT_LINE.fullmatch(present[0]):
        return "pubtator"
    if brat.MENTION.fullmatch(present[0]):
        return "brat"
    words = sum(map(_is_word, present))
    sentences = sum(map(_is_sentence, present)) + marked.is_header(present[0].split("\t"))
    if words > sentences and 2 * words >= len(present):
        return "conll"
    return "marked" if 2 * sentences >= len(present) else None


def _is_word(line: str) -> bool:
    """Whether a line is a word, perhaps other columns, and a tag."""
    columns = conll.columns_of(line)
    return len(columns) > 1 and bool(columns[0]) and " " not in columns[0] and conll.is_tag(columns[-1])


def _is_sentence(line: str) -> bool:
    """Whether a line is a sentence, perhaps an index before it, and a class; one with a blank after marks alone."""
    columns = line.split("\t")
    if len(columns) not in (2, 3) or " " not in columns[-2] or not columns[-1]:
        return False
    return " " not in columns[-1] or marked.MARK.search(columns[-2]) is not None
