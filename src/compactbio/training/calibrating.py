"""Calibration at the end of a fine-tuning run, on the devel splits of its data."""

from pathlib import Path

from transformers import PreTrainedModel

from compactbio.modeling import loading, runtimes
from compactbio.modeling.runtimes import TorchRuntime
from compactbio.tasks import calibration_file
from compactbio.tasks.calibration import CALIBRATED, calibrate, findings, together
from compactbio.training.corpora import Corpora
from compactbio.training.devel import Devel

RUNTIME = "torch-fp32"  # that annotates by default


def calibrate_run(folder: Path, model: PreTrainedModel, corpora: Corpora, devel: Devel) -> None:
    """Write the calibration of a model of NER or relations into the folder that it was just saved in.

    Nothing is written for questions, and where the model finds nothing in devel. The model is left in fp32.

    Args:
        folder: of the model.
        model: the same, loaded.
        corpora: what it was fine-tuned on.
        devel: their devel splits.
    """
    if corpora.task not in CALIBRATED:
        return
    runtime = TorchRuntime(model, corpora.task, RUNTIME)
    found = [
        findings(
            corpora.task, part.devel, encoded, runtime.logits(encoded.rows), devel.labels, model.config, folder.name
        )
        for part, encoded in zip(devel.parts, devel.encoded, strict=True)
    ]
    if (calibration := calibrate(together(found), corpora.devel_record())) is not None:
        digest = runtimes.digest(loading.find(folder), RUNTIME)
        calibration_file.keep(folder, RUNTIME, digest, calibration)
