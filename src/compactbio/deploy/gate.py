"""The data sets on which an exported model is scored beside the original."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compactbio.documents import Document
from compactbio.documents.tags import parse
from compactbio.errors import UserError
from compactbio.evaluation import scoring
from compactbio.files import value_digest
from compactbio.modeling import loading
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import Runtime
from compactbio.tasks import data as datasets
from compactbio.tasks.calibration import Calibration, calibrate, findings, together
from compactbio.tasks.data import Data, Split
from compactbio.tasks.outcome import Outcome
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
    """The data sets on which an exported model is scored beside the original."""

    source: loading.Source
    task: str
    parts: tuple[_Part, ...]

    @property
    def rows(self) -> list[Row]:
        """The rows of all data sets."""
        return [row for part in self.parts for row in part.encoded.rows]

    def logits(self, runtime: Runtime) -> list[Logits]:
        """The logits of each data set by itself: of int8 they depend on what else is in the batch."""
        return [runtime.logits(part.encoded.rows) for part in self.parts]

    def outcomes(self, logits: Sequence[Logits]) -> list[Outcome]:
        """The outcome on each data set."""
        return [
            score(
                own, self.task, part.documents, part.encoded, part.labels, self.source.config,
                golden=part.golden, types=part.types,
            )[1]
            for part, own in zip(self.parts, logits, strict=True)
        ]  # fmt: skip

    def calibration(self, logits: Sequence[Logits]) -> Calibration | None:
        """The calibration of what a model finds in the data; None where it finds nothing.

        Raises UserError as `calibration.findings` does.
        """
        name, config = self.source.name, self.source.config
        found = [
            findings(self.task, part.documents, part.encoded, own, part.labels, config, name, part.types)
            for part, own in zip(self.parts, logits, strict=True)
        ]
        return calibrate(together(found), self.described())

    def described(self) -> dict[str, Any]:
        """What was scored, for a record: name, split, SHA-256 of the files, counts."""
        records = [part.described for part in self.parts]
        if len(records) == 1:
            return records[0]
        return {
            "name": ", ".join(record["name"] for record in records),
            "split": " and ".join(dict.fromkeys(record["split"] for record in records)),
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


def gate(source: loading.Source, task: str, named: Sequence[str | Path], split: Split | None) -> Gate:
    """The data sets that a user names, encoded for a model. Raises UserError as `tasks.data.find` does."""
    parts = tuple(_part(source, task, datasets.find(path, task), split) for path in named)
    if len({part.described["sha256"] for part in parts}) < len(parts):
        raise UserError("A data set is named twice: name each once.", setting="data")
    return Gate(source, task, parts)


def _part(source: loading.Source, task: str, found: Data, split: Split | None) -> _Part:
    seen, in_part = scoring.trained_on(source.folder, found)
    has_devel = found.scorable(found.read("devel")) if in_part else not found.single
    order: tuple[Split, ...] = ("devel", "test") if has_devel else ("test",)
    # Where the model was trained on all, the first is named.
    unseen = [one for one in order if one in found.files and one not in seen]
    chosen = split or (unseen or order)[0]
    if chosen in seen:
        raise UserError(
            f"{source.name} was trained on {found.name}, {chosen}, where its score says nothing: name data that it has "
            "not seen.",
            setting="split" if split else "data",
        )
    documents = found.read(chosen, whole=not in_part)
    found.check_answers(documents, chosen)
    labels = TASKS[task].model_labels(source.config, source.name, documents)
    encoded = TASKS[task].encode(documents, loading.tokenizer_of(source), labels, scoring.settings_of(source, task))
    golden = found.golden(chosen)
    described = scoring.described(found, chosen, documents, whole=found.single and not in_part)
    return _Part(documents, encoded, labels, scoring.counted_types(found, documents, labels), golden, described)
