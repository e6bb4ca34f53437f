"""Calibration at the end of a fine-tuning run, on its devel split."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compactbio.documents import Document
from compactbio.modeling import loading, runtimes
from compactbio.modeling.runtimes import TorchRuntime
from compactbio.tasks import calibration_file
from compactbio.tasks.calibration import CALIBRATED, calibrate, findings
from compactbio.tasks.data import Data
from compactbio.tasks.registry import TASKS
from compactbio.tasks.settings import Settings

RUNTIME = "torch-fp32"  # that annotates by default


def calibrate_run(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    data: Data,
    devel: Sequence[Document],
    labels: Sequence[str],
    settings: Settings,
) -> None:
    """Write the calibration of a model of NER or relations into the folder that it was just saved in.

    Nothing is written for questions, and where the model finds nothing in devel. The model is left in fp32.

    Args:
        folder: of the model.
        model: the same, loaded.
        tokenizer: its tokenizer.
        data: the data set.
        devel: the documents of its devel split.
        labels: the model's labels by id.
        settings: what documents are encoded with.
    """
    if data.task not in CALIBRATED:
        return
    encoded = TASKS[data.task].encode(devel, tokenizer, labels, settings)
    logits = TorchRuntime(model, data.task, RUNTIME).logits(encoded.rows)
    found = findings(data.task, devel, encoded, logits, labels, model.config, folder.name)
    described = {"name": data.name, "split": "devel", "sha256": data.digests["devel"]}
    if (calibration := calibrate(found, described)) is not None:
        digest = runtimes.digest(loading.find(folder), RUNTIME)
        calibration_file.keep(folder, RUNTIME, digest, calibration)
