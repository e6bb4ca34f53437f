"""The model cards of training runs, from the records in their folders."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedModel

import compactbio
from compactbio import cards, hub, recipes
from compactbio.modeling.families import depth, encoder_parameters, heads
from compactbio.modeling.loading import Source
from compactbio.recipes import Recipe

_PIPELINES = {"ner": "token-classification", "relation": "text-classification", "qa": "question-answering"}
_CURVE_LINES = 12


def pretrained_card(
    name: str,
    recipe: Recipe,
    start: Source | None,
    corpus: Mapping[str, Any],
    run: Mapping[str, Any],
    result: Mapping[str, Any],
    student: PreTrainedModel,
    mask: str,
    metrics: Sequence[Mapping[str, float]],
) -> str:
    """The card of a compact model: `run` and `result` are those of `run.json`, `corpus` is the corpus's manifest,
    `start` the teacher or checkpoint, `mask` the tokenizer's mask token, `metrics` are the lines of `metrics.jsonl`."""
    data = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["biomedical", "compactbio", "distillation" if recipe.teacher else "continued-pretraining"],
        base_model=hub.model_id(start.name) if start is not None else None,
    )
    held = [line for line in metrics if "heldout_loss" in line]
    every = max(1, (len(held) - 1) / (_CURVE_LINES - 1))
    return cards.render(
        "pretrained",
        data,
        name=name,
        student={
            "type": student.config.model_type,
            "parameters": encoder_parameters(student),
            "layers": depth(student),
            "width": student.config.hidden_size,
            "heads": heads(student),
        },
        mask=mask,
        recipe=recipe.model_dump(mode="json"),
        corpus=corpus,
        run=run,
        result=result,
        versions=_versions(),
        deviations=recipes.deviations(recipe) if recipe.name in recipes.names() else None,
        published=recipe.name in recipes.names() and recipes.is_published(recipe.name),
        curve=[held[round(i * every)] for i in range(min(len(held), _CURVE_LINES))],
    )


def finetuned_card(
    name: str,
    run: Mapping[str, Any],
    result: Mapping[str, Any],
    parameters: int,
    evaluations: Sequence[Mapping[str, Any]] = (),
    calibrations: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The card of a fine-tuned model: `run` and `result` are those of `run.json`, `parameters` the encoder's,
    `evaluations` records of `evaluation`, `calibrations` those of `calibration_file.summary`."""
    base = run["model"]["name"]
    results = [
        EvalResult(
            task_type=_PIPELINES[evaluation["task"]],
            dataset_type=evaluation["data"]["name"],
            dataset_name=evaluation["data"]["name"],
            dataset_split=evaluation["data"]["split"],
            metric_type=metric,
            metric_value=round(value, 6),
            metric_name=f"{metric} ({evaluation['protocol']})",
        )
        for evaluation in evaluations
        for metric, value in evaluation["scores"].items()
    ]
    data = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag=_PIPELINES[run["task"]],
        tags=["biomedical", "compactbio", run["task"]],
        base_model=base.partition("@")[0] if "/" in base else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return cards.render(
        "finetuned",
        data,
        name=name,
        # What records of older versions lack.
        run={"layers": None, "teachers": None, "unlabelled": None, **run},
        result={"notes": (), "trials": (), "unlabelled": {}, "corpora": (), **result},
        parameters=parameters,
        evaluations=evaluations,
        calibrations=calibrations or {},
        versions=_versions(),
    )


def _versions() -> str:
    return (
        f"compactbio {compactbio.__version__}, transformers {transformers.__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
