"""The scores of a model on the devel splits of what it is fine-tuned on: they choose the epoch that is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from compactbio.documents import Document
from compactbio.modeling.packing import predictor_of
from compactbio.tasks.outcome import Outcome, interval_of
from compactbio.tasks.registry import TASKS, Logits, score
from compactbio.training.corpora import Corpora, Corpus
from compactbio.training.step_trainer import Validation


@dataclass(frozen=True)
class Devel:
    """The devel splits of one data set or several, encoded once.

    Attributes:
        parts: the data sets that have one.
        encoded: what the task's `encode` made of each.
        labels: the model's, in the order of their ids.
        tokens: tokens per batch.
        precision: "bf16" or "fp32".
    """

    parts: tuple[Corpus, ...]
    encoded: tuple[Any, ...]
    labels: tuple[str, ...]
    tokens: int
    precision: str

    @property
    def task(self) -> str:
        return self.parts[0].data.task

    def outcomes(self, model: PreTrainedModel) -> list[Outcome]:
        """The outcome on each data set; of mentions only the types count that it is labelled for."""
        predict = predictor_of(model, self.task, self.tokens, self.precision)
        return [
            self._outcome(part, encoded, predict(encoded.rows), model)
            for part, encoded in zip(self.parts, self.encoded, strict=True)
        ]

    def _outcome(self, part: Corpus, encoded: Any, logits: Logits, model: PreTrainedModel) -> Outcome:
        types = part.types if self.task == "ner" else None
        return score(logits, self.task, part.devel, encoded, self.labels, model.config, types=types)[1]

    def validation(self) -> Validation:
        """What chooses the best epoch; every process scores all of devel, which is little beside the training."""
        metric = TASKS[self.task].metric

        def scores(model: PreTrainedModel) -> dict[str, float]:
            outcomes = self.outcomes(model)
            means = {
                f"devel_{name}": fmean([o.scores[name] for o in outcomes if name in o.scores])
                for name in outcomes[0].scores
            }
            if len(outcomes) == 1:
                return means
            pairs = zip(self.parts, outcomes, strict=True)
            return {**means, **{f"devel_{metric}_{part.data.name}": outcome.main for part, outcome in pairs}}

        return Validation(scores, f"devel_{metric}", greater_is_better=True)

    def notes(self, outcomes: Sequence[Outcome]) -> list[str]:
        """What was counted how on each of several data sets, for a record."""
        if len(outcomes) == 1:
            return []
        pairs = zip(self.parts, outcomes, strict=True)
        return [f"{part.data.name}, devel: {note}" for part, outcome in pairs for note in outcome.notes]

    def records(self, outcomes: Sequence[Outcome]) -> tuple[dict[str, Any], ...]:
        """The score on each data set, by type of mention too, for a record."""
        return tuple(
            {
                "name": part.data.name,
                "sha256": part.data.digests["devel"],
                "types": sorted(part.types),
                "score": outcome.main,
                "interval": interval_of(outcome),
                "per_type": outcome.per_type,
            }
            for part, outcome in zip(self.parts, outcomes, strict=True)
        )


def devel_of(
    corpora: Corpora, encode: Callable[[Sequence[Document]], Any], labels: Sequence[str], tokens: int, precision: str
) -> Devel | None:
    """The devel splits of data sets; None where none has one. `encode` makes a model's rows of documents."""
    parts = tuple(part for part in corpora.parts if part.devel)
    if not parts:
        return None
    return Devel(parts, tuple(encode(part.devel) for part in parts), tuple(labels), tokens, precision)
