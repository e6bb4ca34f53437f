"""Scoring a fine-tuned model on a split of a data set: predictions, official measures, interval, what was counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.files import locked, read_json, write_json, write_text
from compactbio.formats.checks import counting_left_out
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import encoder_parameters
from compactbio.modeling.prediction import Predictor, predictor_of
from compactbio.tasks import data as datasets
from compactbio.tasks.data import Data, Split
from compactbio.tasks.outcome import Outcome
from compactbio.tasks.registry import TASKS, Task, remembered, score, unknown_words
from compactbio.tasks.settings import Settings, settings
from compactbio.tasks.statistics import interval_of
from compactbio.training import run_folder
from compactbio.training.cards import finetuned_card

EVALUATIONS = "evaluations.json"
_PATIENCE = 60.0  # seconds that a card may be taken by another evaluation
UNTYPED = "Types are not compared, as was asked (--untyped)."


@dataclass(frozen=True)
class Opened:
    """A model whose logits something else than PyTorch in training's precision computes: the `runtime`'s name, the
    `digest` of what it reads, the `longest` row in tokens that it takes, None for the model's own."""

    source: loading.Source
    runtime: str
    digest: str
    predictor: Predictor
    longest: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """A model's score on a split, with all that says what it is worth; `interval` is the 95 % bootstrap one.

    `data` and `model` name and hash what was used. `seed` and `train_on` are those of the model's own run, None where
    it was not made here. One model is one run.
    """

    task: str
    protocol: str
    outcome: Outcome
    interval: tuple[float, float]
    data: dict[str, Any]
    model: dict[str, Any]
    seed: int | None
    train_on: str | None
    documents: Sequence[Document]
    golden: Mapping[str, Question] | None
    predictions: Any

    def record(self) -> dict[str, Any]:
        """As a JSON value, the main scores at its top level too."""
        return {
            "task": self.task,
            **self.outcome.scores,
            "interval": list(self.interval),
            "protocol": self.protocol,
            "runs": 1,
            "seed": self.seed,
            "train_on": self.train_on,
            "data": self.data,
            "model": self.model,
            **self.outcome.record(),
        }


def evaluate(
    model: str | Path,
    data: str | Path | Mapping[str, str | Path],
    *,
    task: str | None = None,
    protocol: str = "word",
    split: Split = "test",
    gold: str | Path | None = None,
    untyped: bool = False,
    format: str | None = None,
    negative: Sequence[str] | None = None,
    scheme: str | None = None,
    name: str | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    opened: Opened | None = None,
) -> Evaluation:
    """Score a fine-tuned model, a folder or hub name, on a split of a data set (see `tasks.data.find`, also for
    `format`).

    A single file is scored whole, unless the model was trained on a part of this very file: then on the part of the
    split. `untyped` compares the extents of mentions alone. `negative` and `scheme` are those of relations (see
    `tasks.scheme.scheme`), by default what the model was fine-tuned with. `opened` is the model where something else
    than PyTorch in `precision` computes its logits. Raises UserError for a model without the task's head or labels,
    labels that it has never seen, and whatever else the user can mend.
    """
    source = opened.source if opened else loading.find(model)
    found = datasets.find(data, task, name, gold, format=format)
    run = _run_of(source)
    used_before = run.get("data", {})
    seen = used_before.get("train") == found.digests.get(split)
    single = found.single and seen and bool(used_before.get("single"))
    check_options(found, split, gold, untyped=untyped, classes=negative or scheme, parted=single)
    with counting_left_out() as left_out:
        documents = found.read(split, whole=not single)
    if untyped:
        documents = without_types(documents)
    kind = TASKS[found.task]
    _check_head(source, kind, found.task)
    check_protocol(protocol, found.task)
    golden = found.golden() if split == "test" else None
    _check_answers(documents, found, golden)
    labels = kind.check(source.config, source.name, documents)
    parameters = None
    if opened:
        predictor = opened.predictor
    else:
        with loading.quiet():
            loaded = loading.load_for(source, kind.auto)
        parameters = encoder_parameters(loaded)
        predictor = predictor_of(loaded, found.task, tokens_per_batch or hardware.tokens(), precision)
    given = {"negative": list(negative) if negative else None, "scheme": scheme}
    chosen = settings_of(source, found.task, {key: value for key, value in given.items() if value})
    if opened and opened.longest:
        chosen = chosen.model_copy(update={"max_length": min(chosen.max_length, opened.longest)})
    encoded = kind.encode(documents, loading.tokenizer_of(source), labels, chosen)
    predictions, outcome = score(
        predictor, found.task, documents, encoded, labels, source.config, protocol=protocol, golden=golden
    )
    if found.task == "ner" and not all(document.tokenised for document in documents):
        left_out += filter(None, [unknown_words(source.config, source.public_name())])
    outcome = replace(outcome, notes=(*outcome.notes, *left_out))
    if seen and not single:
        outcome = replace(outcome, notes=(*outcome.notes, "The model was trained on this very file."))
    if untyped:
        outcome = replace(outcome, notes=(*outcome.notes, UNTYPED))
    return Evaluation(
        found.task,
        protocol if found.task == "ner" else kind.protocol,
        outcome,
        interval_of(outcome),
        described(found, split, documents, whole=found.single and not single),
        {
            "name": source.public_name(),
            "sha256": opened.digest if opened else source.digest,
            "parameters": parameters,
            "runtime": opened.runtime if opened else f"torch, {hardware.precision(precision)}",
        },
        run.get("settings", {}).get("seed"),
        run.get("train_on"),
        documents,
        golden,
        predictions,
    )


def without_types(documents: Sequence[Document]) -> list[Document]:
    """The documents with mentions of no type."""
    return [replace(d, spans=tuple(replace(span, type="") for span in d.spans)) for d in documents]


def check_options(
    found: Data, split: Split, gold: str | Path | None, *, untyped: bool, classes: object = None, parted: bool = False
) -> None:
    """Raise UserError for an option that would change nothing; `parted`: a single file that has splits."""
    if gold is not None and found.task != "qa":
        raise UserError(f"--gold is for questions, the data are of {found.task}: leave it out.")
    if untyped and found.task != "ner":
        raise UserError(f"--untyped is for mentions, the data are of {found.task}: leave it out.")
    if classes and found.task != "relation":
        raise UserError(f"--negative and --scheme are for relations, the data are of {found.task}: leave them out.")
    if split != "test" and found.single and not parted:
        raise UserError(
            f"{found.name} is a single file, which is scored whole unless the model was trained on a part of it: "
            "leave --split out."
        )


def check_protocol(protocol: str, task: str) -> None:
    """Raise UserError for the published protocol where the task is not NER, which alone has another one."""
    if protocol == "published" and task != "ner":
        raise UserError(f"Protocol 'published' is one of NER, the data are of {task}: leave --protocol out.")


def _check_answers(documents: Sequence[Document], found: Data, golden: Mapping[str, Question] | None) -> None:
    if found.task == "qa" and golden is None and not any(q.answers for d in documents for q in d.questions):
        raise UserError(
            f"{found.name}: its questions have no answers to compare with; put BioASQ's golden file (with 'golden' in "
            "its name) into the folder, or name it with --gold."
        )


def _check_head(source: loading.Source, kind: Task, task: str) -> None:
    architecture = (source.config.architectures or ["model without a head"])[0]
    if not architecture.endswith(kind.architecture):
        raise UserError(
            f"{source.name} has no head for {task}, it is a {architecture}: fine-tune it first "
            f"(compactbio finetune DATA --model {source.name} --out DIR), or name the task of the data with --task."
        )


def add_to_card(model: str | Path, evaluation: Evaluation) -> None:
    """Write a score into the card and `evaluations.json` of a model that `finetune` made; others are left alone."""
    model = Path(model)
    try:
        record = run_folder.record(model) if model.is_dir() else None
    except UserError:
        return
    if record is None or record["result"] is None or "task" not in record["identity"]:
        return
    new = {key: value for key, value in evaluation.record().items() if key not in ("units", "mistakes")}
    # Two evaluations that end together: the second adds to what the first has written.
    with locked(model, seconds=_PATIENCE):
        all_ = [old for old in _kept(model / EVALUATIONS) if _scored(old) != _scored(new)] + [new]
        write_json(model / EVALUATIONS, all_)
        name = model.resolve().name
        text = finetuned_card(name, record["identity"], record["result"], new["model"]["parameters"], all_)
        write_text(model / "README.md", text)


def _kept(path: Path) -> list[dict[str, Any]]:
    """The evaluations of before; a file that is damaged holds none."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return []
    known = ("task", "metric", "scores", "interval", "protocol", "data", "notes")
    return [one for one in found if isinstance(one, dict) and all(key in one for key in known)]


def _scored(record: Mapping[str, Any]) -> tuple[Any, ...]:
    data, untyped = record["data"], UNTYPED in record["notes"]
    return data.get("sha256"), data.get("split"), record["protocol"], untyped, record.get("scheme")


def _run_of(source: loading.Source) -> dict[str, Any]:
    """The identity of the fine-tuning run that made a model, {} where it was made elsewhere."""
    try:
        record = run_folder.record(source.folder)
    except UserError:
        return {}
    identity: dict[str, Any] = record["identity"] if record else {}
    return identity if "task" in identity else {}


def _lengths(run: dict[str, Any], source: loading.Source) -> dict[str, Any]:
    own = run.get("settings", {})
    kept = {key: own[key] for key in ("max_length", "stride") if key in own}
    longest = int(source.config.max_position_embeddings)
    return kept or ({"max_length": longest} if longest < 512 else {})


def settings_of(source: loading.Source, task: str, given: Mapping[str, Any] | None = None) -> Settings:
    """The settings that documents are encoded with for a fine-tuned model: those of its own run, where it has one.

    Those `given` go before its own.
    """
    kept = remembered(source.config, task)
    return settings(
        task, int(source.config.hidden_size), {**_lengths(_run_of(source), source), **kept, **(given or {})}
    )


def described(found: Data, split: Split, documents: Sequence[Document], *, whole: bool) -> dict[str, Any]:
    """What was scored, for a record: name, split, SHA-256 of the files, counts."""
    digests = {"sha256": found.digests[split]}
    if "gold" in found.digests and split == "test":
        digests["gold_sha256"] = found.digests["gold"]
    return {"name": found.name, "split": "whole file" if whole else split, **digests, **datasets.count(documents)}
