"""The model card of a fine-tuned model, written from the record of its run and, once scored, its evaluations."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers

import compactbio
from compactbio.records import card

_PIPELINES = {"ner": "token-classification", "relation": "text-classification", "qa": "question-answering"}
_CALLS = {
    "ner": (
        'tag = pipeline("token-classification", model="{name}", aggregation_strategy="first")\n'
        'tag("Words of the kind that the model was trained on .")'
    ),
    "relation": (
        'classify = pipeline("text-classification", model="{name}")\n'
        'classify("A sentence with its two entities marked as in the training data.")'
    ),
    "qa": (
        'answer = pipeline("question-answering", model="{name}")\n'
        'answer(question="What is asked?", context="The passage that may hold the answer.")'
    ),
}
_USE = """\
Score it on a data set of its kind, with an interval:

```sh
compactbio evaluate {name} DATA
```

With transformers:

```python
from transformers import pipeline

{call}
```"""
_SPEAKS = {
    "ner": "It takes text split into words as its training data are; each word is labelled at its first piece.",
    "relation": "It takes one sentence at a time, its two entities marked as in the training data.",
    "qa": "It takes a question and a passage, and gives a span of the passage.",
}
_LIMITS = """\
A score holds for its data set and protocol; text of another kind gives other scores. It was trained on published
text, with its gaps and biases; it has not been assessed for clinical use."""


def write(
    name: str,
    identity: Mapping[str, Any],
    result: Mapping[str, Any],
    parameters: int,
    evaluations: Sequence[Mapping[str, Any]],
) -> str:
    """The card in Markdown. `identity` and `result` are those of `run.json`, `evaluations` records of
    `Evaluation.record()`, `parameters` the encoder's."""
    task, base = identity["task"], identity["model"]["name"]
    metadata: dict[str, Any] = {
        "language": "en",
        "library_name": "transformers",
        "pipeline_tag": _PIPELINES[task],
        "tags": ["biomedical", "compactbio", task],
        "model-index": [{"name": name, "results": [_indexed(evaluation) for evaluation in evaluations]}],
    }
    if "/" in base:
        metadata["base_model"] = base
    if not evaluations:
        del metadata["model-index"]
    sections = [
        ("What it is", _what(identity, parameters)),
        ("How to use it", _USE.format(name=name, call=_CALLS[task].format(name=name))),
        ("Scores", _scores(identity, result, evaluations)),
        ("How it was made", _made(identity, result)),
        ("Limits", _LIMITS),
    ]
    return card.render(metadata, name, sections)


def _what(identity: Mapping[str, Any], parameters: int) -> str:
    task, labels = identity["task"], identity["labels"]
    words = {"ner": "named entity recognition", "relation": "relation extraction", "qa": "question answering"}[task]
    told = f" Labels: {', '.join(f'`{label}`' for label in labels)}." if labels else ""
    if "B" in labels:
        told += " They name no type, so the pipeline of transformers joins mentions that stand side by side."
    return (
        f"{identity['model']['name']} fine-tuned for {words} on {identity['data']['name']}; "
        f"{parameters / 1e6:.1f} M parameters in the encoder. {_SPEAKS[task]}{told}"
    )


def _scores(identity: Mapping[str, Any], result: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    if result["devel"] is not None:
        chose = "chose learning rate, batch size and epoch" if result.get("trials") else "chose the epoch"
        rows.append(_row(f"{identity['data']['name']}, devel ({chose})", result["metric"], result["devel"],
                         result["interval"], result["protocol"], identity["data"]["devel"]))  # fmt: skip
    rows += [
        _row(f"{e['data']['name']}, {e['data']['split']}", e["metric"], e["scores"][e["metric"]], e["interval"],
             e["protocol"], e["data"]["sha256"])
        for e in evaluations
    ]  # fmt: skip
    if not rows:
        return "Not scored yet: `compactbio evaluate` on a test set adds its score here."
    table = card.table(("data", "metric", "score (%)", "95 % interval", "protocol", "SHA-256 of the data"), rows)
    notes = [note for e in evaluations for note in e["notes"]]
    seed = identity["settings"]["seed"]
    told = f"One run, seed {seed}, trained on {identity['train_on']}. The interval is a bootstrap over the test units."
    return "\n\n".join([table, told, *dict.fromkeys(notes)])


def _row(
    data: str, metric: str, value: float, interval: Sequence[float], protocol: str, digest: str
) -> tuple[str, ...]:
    low, high = interval
    return (data, metric, f"{100 * value:.2f}", f"{100 * low:.2f} to {100 * high:.2f}", protocol, f"`{digest[:16]}`")


def _made(identity: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    facts = [
        ("start", identity["model"]["name"]),
        ("SHA-256 of the start", identity["model"]["sha256"]),
        ("data", identity["data"]["name"]),
        *((f"SHA-256 of {s}", identity["data"][s]) for s in ("train", "devel") if s in identity["data"]),
        ("trained on", identity["train_on"]),
        *((key.replace("_", " "), value) for key, value in identity["settings"].items()),
        ("epoch kept", f"{result['epoch']:g}"),
        ("steps", f"{result['step']:,}"),
        ("precision", identity["precision"]),
        ("versions", f"compactbio {compactbio.__version__}, transformers {transformers.__version__}, "
                     f"torch {torch.__version__}, Python {platform.python_version()}"),
    ]  # fmt: skip
    parts = [card.table(("", ""), facts), *result.get("notes", ())]
    if trials := result.get("trials"):
        rows = [
            [f"{value:.6g}" if isinstance(value, float) else str(value) for value in one.values()] for one in trials
        ]
        told = f"It is the best by devel of {len(trials)} runs, a grid:"
        parts += [told, card.table([name.replace("_", " ") for name in trials[0]], rows)]
    return "\n\n".join(parts)


def _indexed(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation as the hub's index of results takes it."""
    data = evaluation["data"]
    return {
        "task": {"type": _PIPELINES[evaluation["task"]]},
        "dataset": {"name": data["name"], "type": data["name"], "split": data["split"]},
        "metrics": [
            {"type": name, "value": round(value, 6), "name": f"{name} ({evaluation['protocol']})"}
            for name, value in evaluation["scores"].items()
        ],
    }
