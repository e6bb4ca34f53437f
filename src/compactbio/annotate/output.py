"""The files that a run of `annotate_files` writes beside each other: the output, its record, and the failures."""

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compactbio import formats
from compactbio.annotate.shards import Failure, none_annotated, read_shard, shard_files
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.files import read_json_or_none, write_text

FORMATS = ("jsonl", "parquet", "bioc", "pubtator", "brat")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xml": "bioc", ".pubtator": "pubtator"}


def format_of(out: Path, format: str | None) -> str:
    """The format of an output: the one that is named, or else that of the file's suffix."""
    known = _BY_SUFFIX.get(out.suffix.lower()) if format is None else format
    if known is None:
        raise UserError(
            f"{out}: its name shows no format; use a name that ends in {', '.join(_BY_SUFFIX)}, or name the format "
            f"({', '.join(FORMATS)}).",
            setting="format",
        )
    if known not in FORMATS:
        raise UserError(f"{known!r} is not a format to annotate to: take {', '.join(FORMATS)}.", setting="format")
    return known


class OutputFiles:
    """Where a run writes: `out`, and beside it its record, its failures, and, until it ends, the finished shards."""

    def __init__(self, out: Path, format: str) -> None:
        self.out, self.format = out, format
        self.record = out.with_name(f"{out.name}.run.json")  # what the run was made of, and its counts
        self.failures = out.with_name(f"{out.name}.failed.jsonl")  # with places and reasons
        self.shards = out.with_name(f".{out.name}.shards")  # a folder
        self.identity = self.shards / "identity.json"  # what an unfinished run is made of
        self._begun = self.shards / "output"  # there from the moment on at which the output is written

    def recorded(self) -> dict[str, Any]:
        """The record of a finished run, {} where there is none or it is damaged."""
        return _object(self.record)

    def unfinished(self) -> dict[str, Any]:
        """The identity of an unfinished run, {} where there is none or it is damaged."""
        return _object(self.identity)

    def may_be_ours(self) -> bool:
        """Whether an output that stands beside an unfinished run can be what that run wrote before it died."""
        return self._begun.exists()

    def bytes(self) -> int:
        """The size of the output, of a folder that of all its files."""
        files = self.out.rglob("*") if self.out.is_dir() else [self.out]
        return sum(path.stat().st_size for path in files if path.is_file())

    def write(self) -> tuple[int, int, Counter[str]]:
        """Write the output and the failures from the finished shards; nothing, and UserError, where none was annotated.

        Gives how many documents were written, how many were set aside, and how many mentions of each type there are.
        """
        if not any(isinstance(result, Document) for result in self._results()):
            first = next((result for result in self._results() if isinstance(result, Failure)), None)
            shutil.rmtree(self.shards)
            raise none_annotated(first)
        if self.out.exists() and not self.may_be_ours():
            raise UserError(f"{self.out}: it was made while this run was at work; remove it, or choose another output.")
        if self.out.is_dir():
            # Of a run that died before it wrote its record; another folder would have been refused.
            shutil.rmtree(self.out)
        self._begun.touch()
        documents, failures, types = 0, list[Failure](), Counter[str]()

        def kept() -> Iterator[Document]:
            nonlocal documents
            names: set[str] = set()
            for result in self._results():
                if isinstance(result, Failure):
                    failures.append(result)
                    continue
                if self.format == "brat":
                    if (name := _file_name(result.id)) in names:
                        failures.append(Failure("", result.id, "another document has its id, which names its file"))
                        continue
                    names.add(name)
                documents += 1
                types.update(span.type for span in result.spans)
                yield result

        formats.write(kept(), self.out, self.format)
        if failures:
            write_text(self.failures, "".join(json.dumps(asdict(one)) + "\n" for one in failures))
        else:
            self.failures.unlink(missing_ok=True)  # of a run whose output was removed
        return documents, len(failures), types

    def _results(self) -> Iterator[Document | Failure]:
        for path in shard_files(self.shards):
            yield from read_shard(path)


def _object(path: Path) -> dict[str, Any]:
    found = read_json_or_none(path)
    return found if isinstance(found, dict) else {}


def _file_name(name: str) -> str:
    """What names of files have in common on file systems that ignore case or the ways of writing an accent."""
    return unicodedata.normalize("NFC", name).casefold()
