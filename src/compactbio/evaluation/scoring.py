"""Scoring a fine-tuned model on a split of a data set: data, rows, logits, predictions, scores with an interval."""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compactbio.documents import Document, Question, names
from compactbio.documents.tags import tagged_types
from compactbio.errors import UserError
from compactbio.files import locked, read_json_or_none, write_json, write_text
from compactbio.formats.checks import counting_left_out
from compactbio.modeling import hardware, loading, runtimes
from compactbio.modeling.families import encoder_parameters, longest
from compactbio.modeling.loading import Source
from compactbio.modeling.packing import ARCHITECTURES, Predictor, predictor_of
from compactbio.tasks import calibration, calibration_file, ner, ner_encoding
from compactbio.tasks import data as datasets
from compactbio.tasks.calibration import Calibration
from compactbio.tasks.data import Data, Split
from compactbio.tasks.outcome import Outcome, interval_of, listed
from compactbio.tasks.registry import TASKS, Logits, score
from compactbio.tasks.settings import Settings, decoding, settings, stored_settings, unknown_words
from compactbio.training import run_folder
from compactbio.training.cards import finetuned_card

EVALUATIONS = "evaluations.json"
UNTYPED = "Types are not compared, as was asked (untyped)."
_CARD_SECONDS = 60.0  # how long another evaluation may keep the card
# What an entry of EVALUATIONS needs to be shown in a card.
_CARD_KEYS = ("task", "metric", "scores", "interval", "protocol", "data", "notes")


@dataclass(frozen=True)
class Evaluation:
    """A model's score on a split, one run of one model.

    Args:
        task: "ner", "relation" or "qa".
        protocol: how was counted.
        outcome: scores and counts.
        interval: the 95 % bootstrap interval of the main score.
        data: name, split, SHA-256 and counts of what was scored.
        model: name, SHA-256, parameters and runtime.
        documents: what was scored.
        seed: of the model's own training run, None where it was not made here.
        train_on: likewise, the splits that it was trained on.
        golden: QA answers that are not in the documents.
        predictions: the model's, in the task's own form; None for another system's.
        sentences: those whose tags the predictions are (NER), once for each layer (see `ner.Tags`).
    """

    task: str
    protocol: str
    outcome: Outcome
    interval: tuple[float, float]
    data: dict[str, Any]
    model: dict[str, Any]
    documents: Sequence[Document]
    seed: int | None = None
    train_on: str | None = None
    golden: Mapping[str, Question] | None = None
    predictions: Any = None
    sentences: Sequence[ner.Sentence] = ()

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
    split: Split | None = None,
    gold: str | Path | None = None,
    untyped: bool = False,
    format: str | None = None,
    negative: Sequence[str] | None = None,
    scheme: str | None = None,
    name: str | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    runtime: str | None = None,
    calibrate: bool = False,
) -> Evaluation:
    """Score a fine-tuned model on a split of a data set.

    A single file is scored whole, unless the model was trained on a part of this file: then on the part of the split.
    The arguments are those of `compactbio.evaluate`, and `name` that of the data in the report; `split` may be "train"
    too. `negative` and `scheme` are by default those of the model's fine-tuning. `runtime` is one of `runtimes.NAMES`,
    "auto" or "fastest"; None for PyTorch in `precision`, or "auto" where the folder has no weights
    for PyTorch, or where scores are calibrated.

    Raises UserError for a model without the task's head or labels, labels that it has never seen, and whatever else
    the user can fix.
    """
    if runtime is None and (calibrate or not loading.configured(model).weights):
        runtime = "auto"
    source = runtimes.find(model, runtime) if runtime else loading.find(model)
    found = datasets.find(data, task, name, gold, format=format)
    kind, (run, _) = TASKS[found.task], run_of(source.folder)
    seen, in_part = trained_on(source.folder, found)
    split = split or ("devel" if calibrate and (in_part or not found.single) else "test")
    check_options(found, split, gold, protocol, untyped=untyped, classes=negative or scheme, in_part=in_part)
    if calibrate:
        _check_calibrated(source, model, found, split, seen, untyped=untyped)
    _check_head(source, found.task)
    with counting_left_out() as left_out:
        documents = found.read(split, whole=not in_part)
    if untyped:
        documents = ner.with_type(documents, "")
    golden = found.golden(split)
    found.check_answers(documents, split)
    labels = kind.model_labels(source.config, source.name, documents)
    predictor, fixed_length, model_record = _load(source, found.task, runtime, precision, tokens_per_batch)
    given = {"negative": list(negative or ()), "scheme": scheme}
    chosen = settings_of(source, found.task, {key: value for key, value in given.items() if value})
    if fixed_length:
        chosen = chosen.within(fixed_length)
    encoded = kind.encode(documents, loading.tokenizer_of(source), labels, chosen)
    logits = predictor(encoded.rows)
    types = None if untyped else counted_types(found, documents, labels)
    predictions, outcome = score(
        logits, found.task, documents, encoded, labels, source.config, protocol=protocol, golden=golden, types=types
    )
    about = described(found, split, documents, whole=found.single and not in_part)
    notes = [*outcome.notes, *left_out]
    if found.task == "ner":
        notes += _notes_on_mentions(source, documents, encoded, logits, labels, types)
    if calibrate:
        findings = calibration.findings(
            found.task, documents, encoded, logits, labels, source.config, source.name, types
        )
        notes.append(_keep_calibration(source, model_record, calibration.calibrate(findings, about)))
    if split in seen:
        notes.append(f"The model was trained on this very {'part of the ' if in_part else ''}file.")
    if untyped:
        notes.append(UNTYPED)
    return Evaluation(
        task=found.task,
        protocol=protocol_of(found.task, protocol, untyped=untyped),
        outcome=replace(outcome, notes=tuple(notes)),
        interval=interval_of(outcome),
        data=about,
        model=model_record,
        seed=run.get("settings", {}).get("seed"),
        train_on=run.get("train_on"),
        documents=documents,
        golden=golden,
        predictions=predictions,
        sentences=encoded.sentences if found.task == "ner" else (),
    )


def protocol_of(task: str, protocol: str, *, untyped: bool) -> str:
    """What a score says of how was counted; `protocol` is that of NER."""
    of_mentions = f"{protocol}, untyped" if untyped else protocol
    return of_mentions if task == "ner" else TASKS[task].protocol


def trained_on(model: Path, found: Data) -> tuple[Set[Split], bool]:
    """The splits of a data set that the model in a folder was trained on, and whether that was a part of a single file.

    No split where the model was not made here.
    """
    run = run_of(model)[0]
    trained, parts = run.get("data", {}), (run.get("train_on") or "train").split("+")
    corpora = trained.get("corpora", [trained])
    if found.single and any(one.get("single") and one.get("train") == found.digests["train"] for one in corpora):
        return {split for split in found.files if split in parts}, True
    digests = {one.get(part) for one in corpora for part in parts}
    return {split for split in found.files if found.digests[split] in digests}, False


def _check_calibrated(
    source: Source, model: str | Path, found: Data, split: Split, seen: Set[Split], *, untyped: bool
) -> None:
    """Raise UserError where a model's scores cannot be fitted to the data, or the result cannot be kept."""
    if split not in found.files:
        raise UserError(f"{found.name}: it has no {split} split to fit scores to: name another.", setting="split")
    if found.task not in calibration.CALIBRATED or untyped:
        raise UserError(
            "Scores are calibrated of entities with their types, and of relations: leave it out.", setting="calibrate"
        )
    if split in seen:
        raise UserError(
            f"{source.name} was trained on {found.name}, {split}, where its scores are too good to be fitted: "
            "calibrate it on data that it has not seen.",
            setting="calibrate",
        )
    if not Path(model).exists():
        raise UserError(
            f"{source.name}: a calibration is kept in the model's folder, and this is a name on the hub; download the "
            "model into a folder (`hf download`) and name that.",
            setting="calibrate",
        )


def _keep_calibration(source: Source, about: Mapping[str, Any], fitted: Calibration | None) -> str:
    """Write a calibration into the model's folder; the sentence that reports it."""
    if fitted is None:
        return "The model finds nothing of the data's types, so its scores are not calibrated."
    with locked(source.folder / calibration_file.NAME, seconds=_CARD_SECONDS):
        before, _ = calibration_file.find(source, about["runtime"])
        held = {kind for kind, curve in fitted.types.items() if curve.gold}
        lost = {kind for kind, curve in (before.types if before else {}).items() if curve.gold} - held
        if lost:
            raise UserError(
                f"{source.name} is calibrated for {listed(lost)} too, which these data do not hold: calibrate it on "
                "data of all its types, or delete its calibration first.",
                setting="calibrate",
            )
        calibration_file.keep(source, about["runtime"], fitted)
    if source.weights:
        add_to_card(source.folder, None)
    return (
        f"Calibrated on {about['runtime']}: temperature {fitted.temperature:.2f}; the expected calibration error over "
        f"{fitted.found:,} findings was {fitted.error_before:.3f}, and is {fitted.error_after:.3f}."
    )


def check_options(
    found: Data,
    split: Split,
    gold: str | Path | None,
    protocol: str,
    *,
    untyped: bool,
    classes: object = None,
    in_part: bool = False,
) -> None:
    """Raise UserError for an option that has no effect on the data; `in_part`: a single file that has splits."""
    for setting, given, task, sentence in (
        ("gold", gold is not None, "qa", "A golden file is for questions"),
        ("untyped", untyped, "ner", "Scores without types are for mentions"),
        ("negative", classes, "relation", "The class of no relation and the scheme of classes are for relations"),
        ("protocol", protocol == "published", "ner", "Protocol 'published' is for NER"),
    ):
        if given and found.task != task:
            raise UserError(f"{sentence}, the data are of {found.task}: leave it out.", setting=setting)
    if split != "test" and found.single and not in_part:
        raise UserError(
            f"{found.name} is a single file, which is scored whole unless the model was trained on a part of it: "
            "do not name a split.",
            setting="split",
        )


def _check_head(source: Source, task: str) -> None:
    architecture = (source.config.architectures or ["model without a head"])[0]
    if not architecture.endswith(ARCHITECTURES[task]):
        raise UserError(
            f"{source.name} has no head for {task}, it is a {architecture}: fine-tune it first with `compactbio "
            "finetune`, or name the task of the data.",
            setting="task",
        )


def _load(
    source: Source, task: str, runtime: str | None, precision: str, tokens_per_batch: int | None
) -> tuple[Predictor, int | None, dict[str, Any]]:
    """What computes a model's logits, its row length where that is fixed, and how a report names it."""
    hardware.check_work(precision, tokens_per_batch)
    about: dict[str, Any] = {"name": source.public_name(), "sha256": source.digest, "parameters": None}
    if runtime:
        loaded = runtimes.load(source, runtimes.chosen(source, runtime))
        about |= {"sha256": runtimes.digest(source, loaded.name), "runtime": loaded.name}
        return loaded.logits, loaded.longest, about
    with loading.quiet():
        model = loading.load_for(source, task).to(hardware.torch_device())
    logits = predictor_of(model, task, tokens_per_batch or hardware.tokens(), precision)
    used = hardware.precision(precision, source.config)
    about |= {"parameters": encoder_parameters(model), "runtime": f"torch, {used}"}
    return logits, None, about


def settings_of(source: Source, task: str, given: Mapping[str, Any] | None = None) -> Settings:
    """The settings that documents are encoded with for a fine-tuned model.

    Those `given` come first, then what its configuration says, then the lengths of its training run, or the task's
    where it was trained elsewhere; rows are never longer than it has positions.
    """
    trained = run_of(source.folder)[0].get("settings", {})
    lengths = {key: trained[key] for key in ("max_length", "stride") if key in trained}
    stored = stored_settings(source.config, task)
    chosen = settings(task, int(source.config.hidden_size), {**lengths, **stored, **(given or {})})
    return chosen.within(longest(source.config))


def run_of(folder: Path) -> tuple[dict[str, Any], Any]:
    """Identity and result of the fine-tuning run that made a model, ({}, None) where it was made elsewhere."""
    with suppress(UserError):
        record = run_folder.record(folder)
        if record and "task" in record["identity"]:
            return record["identity"], record["result"]
    return {}, None


def described(found: Data, split: Split, documents: Sequence[Document], *, whole: bool) -> dict[str, Any]:
    """What was scored, for a record: name, split, SHA-256 of the files, counts."""
    digests = {"sha256": found.digests[split]}
    if "gold" in found.digests and split == "test":
        digests["gold_sha256"] = found.digests["gold"]
    typed = {"type": found.type} if found.type else {}
    part = "whole file" if whole else split
    return {"name": found.name, "split": part, **digests, **typed, **datasets.count(documents)}


def counted_types(found: Data, documents: Sequence[Document], labels: Sequence[str]) -> Set[str] | None:
    """The types of mentions that count in `documents`, None for all: those that the data set is labelled for. `labels`
    are the model's, spelt as in the documents."""
    if found.task != "ner":
        return None
    kinds, labelled = tagged_types(labels), names.mention_types(documents)
    if kinds <= labelled:
        return None
    # A split may lack a type by chance that the data set is labelled for.
    keys = set(map(names.key, labelled | found.types))
    return {kind for kind in kinds if names.key(kind) in keys} or None


def _notes_on_mentions(
    source: Source,
    documents: Sequence[Document],
    encoded: Any,
    logits: Logits,
    labels: Sequence[str],
    types: Set[str] | None,
) -> Iterator[str]:
    """Sentences on types of a model that the data are not labelled for, or do not tell apart, and on unknown words."""
    config = source.config
    if types is not None and (foreign := tagged_types(labels) - types):
        mentions = ner_encoding.mentions(encoded, logits, labels, decoding(config))
        if number := sum(span.type in foreign for _, span in mentions.places):
            yield f"{number:,} mentions of {listed(foreign)} were not counted, as the data are not labelled for them."
    found = [span.type for document in documents for span in document.spans]
    if 0 < found.count("") < len(found):
        yield f"{found.count(''):,} mentions of the data have no type, which is a type of its own: give each its type."
    own = tagged_types(ner_encoding.model_labels(config, ""))
    if len(own) > 1 and tagged_types(labels) == {""}:
        yield (
            f"All types of the model count as one ({listed(own)}); to count one alone, name the data's type, as in "
            "TYPE=DATA."
        )
    if not all(document.tokenised for document in documents) and (note := unknown_words(config, source.public_name())):
        yield note


def add_to_card(model: str | Path, evaluation: Evaluation | None) -> None:
    """Write a score into the card and `evaluations.json` of a model that `finetune` made; others are left alone.

    Without a score the card is written again, after its calibration has changed.
    """
    model = Path(model)
    identity, result = run_of(model)
    if result is None:
        return
    # Of two evaluations that end together the second adds to what the first has written.
    with locked(model, seconds=_CARD_SECONDS):
        records = _earlier(model / EVALUATIONS)
        if evaluation is not None:
            new = {key: value for key, value in evaluation.record().items() if key not in ("units", "mistakes")}
            records = [old for old in records if _scored(old) != _scored(new)] + [new]
            write_json(model / EVALUATIONS, records)
        parameters = evaluation.model["parameters"] if evaluation else _parameters(model, identity["task"])
        name, calibrations = model.resolve().name, calibration_file.summary(model)
        write_text(model / "README.md", finetuned_card(name, identity, result, parameters, records, calibrations))


def _parameters(model: Path, task: str) -> int:
    with loading.quiet():
        return encoder_parameters(loading.load_for(loading.find(model), task))


def _earlier(path: Path) -> list[dict[str, Any]]:
    """The earlier evaluations; none in a file that is damaged."""
    found = read_json_or_none(path)
    entries = found if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and all(key in entry for key in _CARD_KEYS)]


def _scored(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells two evaluations of a model apart."""
    data, untyped = record["data"], any("untyped" in note for note in record["notes"])
    return data.get("sha256"), data.get("split"), data.get("type"), record["protocol"], untyped, record.get("scheme")
