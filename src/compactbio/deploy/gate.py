"""The gate of an export: the data sets on which an exported model is scored beside the original."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from compactbio.documents import Document
from compactbio.documents.tags import parse
from compactbio.evaluation import scoring
from compactbio.files import value_digest
from compactbio.modeling import loading
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import Runtime
from compactbio.tasks import data as datasets
from compactbio.tasks.calibration import Calibration, calibrate, findings, together
from compactbio.tasks.data import Data, Split
from compactbio.tasks.registry import TASKS, Logits, score


@dataclass(frozen=True)
class _Part:
    """A data set encoded for the model; `types` are those of mentions that count (see `scoring.counted_types`)."""

    documents: Sequence[Document]
    encoded: Any
    labels: Sequence[str]
    types: Set[str] | None
    golden: Mapping[str, Any] | None
    described: dict[str, Any]


@dataclass(frozen=True)
class Gate:
    """Data sets encoded for a model, to be scored again and again."""

    source: loading.Source
    task: str
    parts: tuple[_Part, ...]

    @property
    def rows(self) -> list[Row]:
        """The rows of all data sets."""
        return [row for part in self.parts for row in part.encoded.rows]

    def logits(self, runtime: Runtime) -> Logits:
        """The logits of all rows."""
        return runtime.logits(self.rows)

    def scores(self, logits: Logits) -> list[float]:
        """The main score on each data set, in [0, 1]."""
        return [
            score(
                own, self.task, part.documents, part.encoded, part.labels, self.source.config,
                golden=part.golden, types=part.types,
            )[1].main
            for part, own in self._split(logits)
        ]  # fmt: skip

    def calibration(self, logits: Logits) -> Calibration | None:
        """The calibration of what a model finds in the data; None where it finds nothing.

        Raises UserError as `calibration.findings` does.
        """
        name, config = self.source.name, self.source.config
        found = [
            findings(self.task, part.documents, part.encoded, own, part.labels, config, name)
            for part, own in self._split(logits)
        ]
        return calibrate(together(found), self.described())

    def described(self) -> dict[str, Any]:
        """What was scored, for a record: name, split, SHA-256 of the files, counts."""
        records = [part.described for part in self.parts]
        if len(records) == 1:
            return records[0]
        splits = list(dict.fromkeys(record["split"] for record in records))
        return {
            "name": ", ".join(record["name"] for record in records),
            "split": " and ".join(splits),
            "sha256": value_digest([record["sha256"] for record in records]),
            "data": records,
        }

    def not_compared(self) -> tuple[str, ...]:
        """The types of mentions that none of the data sets is labelled for."""
        if self.task != "ner":
            return ()
        own = [parse(label) for label in TASKS["ner"].model_labels(self.source.config, self.source.name, [])]
        compared = {
            kind
            for part in self.parts
            for (_, kind), label in zip(own, part.labels, strict=True)
            if part.types is None or parse(label)[1] in part.types
        }
        return tuple(sorted({kind for prefix, kind in own if prefix != "O"} - compared))

    def _split(self, logits: Logits) -> list[tuple[_Part, Logits]]:
        ends = [0, *accumulate(len(part.encoded.rows) for part in self.parts)]
        return [(part, logits[a:b]) for part, (a, b) in zip(self.parts, pairwise(ends), strict=True)]


def gate_of(source: loading.Source, task: str, data: str | Path | Sequence[str | Path], split: Split | None) -> Gate:
    """The data sets that a user names, encoded for a model. Raises UserError as `tasks.data.find` does."""
    paths = [data] if isinstance(data, str | Path) else data
    return Gate(source, task, tuple(_part(source, task, datasets.find(path, task), split) for path in paths))


def _part(source: loading.Source, task: str, found: Data, split: Split | None) -> _Part:
    chosen: Split = split or ("devel" if "devel" in found.files and not found.single else "test")
    documents = found.read(chosen, whole=True)
    labels = TASKS[task].model_labels(source.config, source.name, documents)
    encoded = TASKS[task].encode(documents, loading.tokenizer_of(source), labels, scoring.settings_of(source, task))
    golden = found.golden() if chosen == "test" else None
    described = scoring.described(found, chosen, documents, whole=found.single)
    return _Part(documents, encoded, labels, scoring.counted_types(found, documents, labels), golden, described)
