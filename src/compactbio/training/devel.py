"""A model on the devel splits of what it is fine-tuned on: scores that choose the epoch that is kept, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from compactbio.files import value_digest
from compactbio.modeling import loading
from compactbio.modeling.packing import predictor_of
from compactbio.modeling.runtimes import TorchRuntime
from compactbio.tasks import calibration_file
from compactbio.tasks.calibration import CALIBRATED, calibrate, findings, together
from compactbio.tasks.outcome import Outcome, interval_of
from compactbio.tasks.registry import TASKS, score
from compactbio.training.corpora import Corpus
from compactbio.training.step_trainer import Validation

RUNTIME = "torch-fp32"  # that annotates by default


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
        found = []
        for part, encoded in zip(self.parts, self.encoded, strict=True):
            logits, types = predict(encoded.rows), part.types if self.task == "ner" else None
            _, outcome = score(logits, self.task, part.devel, encoded, self.labels, model.config, types=types)
            found.append(outcome)
        return found

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

    def calibrate(self, folder: Path, model: PreTrainedModel, name: str) -> None:
        """Write the calibration of a model of NER or relations into the folder that it was just saved in.

        Nothing is written for questions, and where the model finds nothing in devel. The model is left in fp32. `name`
        is that of all that it was fine-tuned on.
        """
        if self.task not in CALIBRATED:
            return
        runtime = TorchRuntime(model, self.task, RUNTIME)
        found = []
        for part, encoded in zip(self.parts, self.encoded, strict=True):
            logits, config = runtime.logits(encoded.rows), model.config
            found.append(findings(self.task, part.devel, encoded, logits, self.labels, config, folder.name, part.types))
        digests = [part.data.digests["devel"] for part in self.parts]
        digest = digests[0] if len(digests) == 1 else value_digest(digests)
        calibration = calibrate(together(found), {"name": name, "split": "devel", "sha256": digest})
        if calibration is not None:
            calibration_file.keep(loading.find(folder), RUNTIME, calibration)
