"""The model card of a run, written from the run's own record."""

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import transformers
from transformers import PreTrainedModel

import compactbio
from compactbio import recipes
from compactbio.modeling.families import depth, encoder_parameters, heads
from compactbio.recipes import Recipe
from compactbio.records import card

if TYPE_CHECKING:
    from compactbio.training.run import Inputs, Result

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


def write(inputs: "Inputs", result: "Result", student: PreTrainedModel, lines: Sequence[dict[str, float]]) -> str:
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
    return card.render(metadata, name, sections)


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
    table = card.table(("model", "loss (nats a masked token)", "masked tokens right"), rows)
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
    return "\n\n".join([card.table(("", ""), facts), *result.notes])


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
    table = card.table(("field", "packaged recipe", "this run"), changed) if changed else "No field was changed."
    return f"{text}\n\n{table}"


def _curve(lines: Sequence[dict[str, float]]) -> str:
    held = [line for line in lines if "heldout_loss" in line]
    shown = held if len(held) <= 12 else [held[round(i * (len(held) - 1) / 11)] for i in range(12)]
    rows = [(int(line["step"]), f"{line['heldout_loss']:.4f}", f"{line['heldout_accuracy']:.2%}") for line in shown]
    return card.table(("step", "held-out loss", "masked tokens right"), rows) if rows else ""
