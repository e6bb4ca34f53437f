"""Model cards of training runs and of fine-tuned models, from the records of their runs."""

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import PreTrainedModel

import compactbio
from compactbio import cards, recipes
from compactbio.modeling.families import depth, encoder_parameters, heads
from compactbio.recipes import Recipe

if TYPE_CHECKING:
    from compactbio.training.pretraining import Inputs, Result

_USE = """\
With transformers:

```python
from transformers import pipeline

fill = pipeline("fill-mask", model="{name}")
fill("The patients received {mask} daily.")
```

As the start of a fine-tune, load it with `AutoModelForTokenClassification.from_pretrained("{name}")` and the like."""

_LIMITS = """\
A masked language model: it answers no question and names no entity before it is fine-tuned. The losses above are those
of the held-out rows of its own corpus and say nothing of other text or of a task. It was trained on published
abstracts, with their gaps and biases; it has not been assessed for clinical use."""


def write_run_card(
    inputs: "Inputs", result: "Result", student: PreTrainedModel, lines: Sequence[dict[str, float]]
) -> str:
    """The card in Markdown: `lines` are those of the run's `metrics.jsonl`."""
    recipe = inputs.recipe
    start = inputs.teacher or inputs.init
    name = result.out.rstrip("/").rpartition("/")[2]
    metadata = {
        "language": "en",
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["biomedical", "compactbio", "distillation" if inputs.teacher else "continued-pretraining"],
    }
    if start is not None and start.public_name() == start.name:
        metadata["base_model"] = start.name
    sections = [
        ("What it is", _what(inputs, student)),
        ("How to use it", _USE.format(name=name, mask="[MASK]")),
        ("Held-out loss", _scores(inputs, result)),
        ("How it was made", _made(inputs, result)),
        ("Deviations from the published recipe", _deviations(recipe)),
        ("Curve", _curve(lines)),
        ("Limits", _LIMITS),
    ]
    return cards.render(metadata, name, sections)


def _what(inputs: "Inputs", student: PreTrainedModel) -> str:
    recipe, config = inputs.recipe, student.config
    start = inputs.teacher or inputs.init
    words = {"teacher-layers": "starting from layers of it", "random": "starting from random weights"}.get(recipe.start)
    if inputs.teacher is not None:
        origin = f"distilled from {inputs.teacher.public_name()}, {words}"
    elif start is not None:
        origin = f"continued from {start.public_name()} by masked language modelling"
    else:
        origin = "pre-trained from random weights by masked language modelling"
    return (
        f"A {config.model_type} encoder of {encoder_parameters(student) / 1e6:.1f} M parameters "
        f"({depth(student)} layers, {config.hidden_size} wide, {heads(student)} heads), {origin}, "
        f"by recipe `{recipe.name}` of compactbio."
    )


def _scores(inputs: "Inputs", result: "Result") -> str:
    if result.heldout_loss is None or result.heldout_accuracy is None:
        return "Not measured: the corpus has no held-out rows (`compactbio corpus build --holdout N`)."
    rows = [(f"this model, step {result.best_step}", f"{result.heldout_loss:.4f}", f"{result.heldout_accuracy:.2%}")]
    if result.teacher_heldout_loss is not None and result.teacher_heldout_accuracy is not None:
        rows.append(("its teacher", f"{result.teacher_heldout_loss:.4f}", f"{result.teacher_heldout_accuracy:.2%}"))
    table = cards.table(("model", "loss (nats a masked token)", "masked tokens right"), rows)
    held, seed = inputs.manifest["rows"]["holdout"], inputs.recipe.seed
    return f"{table}\n\nOn {held:,} held-out rows of the corpus, masked once and for all; one run, seed {seed}."


def _made(inputs: "Inputs", result: "Result") -> str:
    recipe, manifest = inputs.recipe, inputs.manifest
    sources = [source["name"] for source in manifest["sources"]]
    named = ", ".join(sources[:5]) + (f" and {len(sources) - 5} more" if len(sources) > 5 else "")
    start = inputs.teacher or inputs.init
    facts = [
        ("recipe", "`recipe.yaml` beside this card" + (f" ({recipe.source})" if recipe.source else "")),
        ("teacher", inputs.teacher.public_name() if inputs.teacher else "none"),
        ("start", inputs.init.public_name() if inputs.init else recipe.start),
        ("SHA-256 of the start", start.digest if start else "none: random weights"),
        ("loss", ", ".join(f"{weight:g} x {term.value}" for term, weight in recipe.loss.items())),
        ("corpus", f"{manifest['counts']['kept']:,} citations, {manifest['rows']['train']:,} rows, "
                   f"{manifest['tokens']['train']:,} tokens; from {named}"),
        ("corpus fingerprint", manifest["fingerprint"]),
        ("tokenizer", f"{manifest['tokenizer']['name']} ({manifest['tokenizer']['vocab_size']:,} pieces)"),
        ("steps", f"{recipe.steps:,} of {recipe.batch_size:,} citations"),
        ("precision", inputs.precision),
        ("seed", recipe.seed),
        ("versions", f"compactbio {compactbio.__version__}, transformers {transformers.__version__}, "
                     f"torch {torch.__version__}, Python {platform.python_version()}"),
    ]  # fmt: skip
    return "\n\n".join([cards.table(("", ""), facts), *result.notes])


def _deviations(recipe: Recipe) -> str:
    if recipe.name not in recipes.names():
        return "This is no published recipe."
    changed = [(key, old, new) for key, (old, new) in recipes.deviations(recipe).items()]
    text = (
        "Always: rows hold all parts of a structured abstract; batches are packed, so there is no padding to count; a "
        "held-out loss chooses the checkpoint."
    )
    if not recipe.published:
        text += (
            " By default: the teacher runs without dropout, the MLM head is the teacher's where shapes allow, "
            "attention terms are taken before dropout over real tokens (KL as a mean over query rows, MSE on scores), "
            "and the student has no attention dropout. `published: true` restores the scripts' behaviour."
        )
    table = cards.table(("field", "packaged recipe", "this run"), changed) if changed else "No field was changed."
    return f"{text}\n\n{table}"


def _curve(lines: Sequence[dict[str, float]]) -> str:
    held = [line for line in lines if "heldout_loss" in line]
    shown = held if len(held) <= 12 else [held[round(i * (len(held) - 1) / 11)] for i in range(12)]
    rows = [(int(line["step"]), f"{line['heldout_loss']:.4f}", f"{line['heldout_accuracy']:.2%}") for line in shown]
    return cards.table(("step", "held-out loss", "masked tokens right"), rows) if rows else ""


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
_USE_OF_TASK_CARD = """\
Score it on a data set of its kind, with an interval:

```sh
compactbio evaluate DATA --model {name}
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
_LIMITS_OF_TASK_CARD = """\
A score holds for its data set and protocol; text of another kind gives other scores. It was trained on published
text, with its gaps and biases; it has not been assessed for clinical use."""


def write_task_card(
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
        ("What it is", _what_of_task_card(identity, parameters)),
        ("How to use it", _USE_OF_TASK_CARD.format(name=name, call=_CALLS[task].format(name=name))),
        ("Scores", _scores_of_task_card(identity, result, evaluations)),
        ("How it was made", _made_of_task_card(identity, result)),
        ("Limits", _LIMITS_OF_TASK_CARD),
    ]
    return cards.render(metadata, name, sections)


def _what_of_task_card(identity: Mapping[str, Any], parameters: int) -> str:
    task, labels = identity["task"], identity["labels"]
    words = {"ner": "named entity recognition", "relation": "relation extraction", "qa": "question answering"}[task]
    told = f" Labels: {', '.join(f'`{label}`' for label in labels)}." if labels else ""
    if "B" in labels:
        told += " They name no type, so the pipeline of transformers joins mentions that stand side by side."
    return (
        f"{identity['model']['name']} fine-tuned for {words} on {identity['data']['name']}; "
        f"{parameters / 1e6:.1f} M parameters in the encoder. {_SPEAKS[task]}{told}"
    )


def _scores_of_task_card(
    identity: Mapping[str, Any], result: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]
) -> str:
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
    table = cards.table(("data", "metric", "score (%)", "95 % interval", "protocol", "SHA-256 of the data"), rows)
    notes = [note for e in evaluations for note in e["notes"]]
    seed = identity["settings"]["seed"]
    told = f"One run, seed {seed}, trained on {identity['train_on']}. The interval is a bootstrap over the test units."
    return "\n\n".join([table, told, *dict.fromkeys(notes)])


def _row(
    data: str, metric: str, value: float, interval: Sequence[float], protocol: str, digest: str
) -> tuple[str, ...]:
    low, high = interval
    return (data, metric, f"{100 * value:.2f}", f"{100 * low:.2f} to {100 * high:.2f}", protocol, f"`{digest[:16]}`")


def _made_of_task_card(identity: Mapping[str, Any], result: Mapping[str, Any]) -> str:
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
    parts = [cards.table(("", ""), facts), *result.get("notes", ())]
    if trials := result.get("trials"):
        rows = [
            [f"{value:.6g}" if isinstance(value, float) else str(value) for value in one.values()] for one in trials
        ]
        told = f"It is the best by devel of {len(trials)} runs, a grid:"
        parts += [told, cards.table([name.replace("_", " ") for name in trials[0]], rows)]
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
