"""The tasks as fine-tuning and evaluation see them: labels, rows and outcomes under one face."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import (
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from compactbio.documents import Document, Question
from compactbio.documents.names import key, spellings
from compactbio.documents.tags import parse
from compactbio.errors import UserError
from compactbio.modeling.heads import ARCHITECTURES, AUTO
from compactbio.modeling.prediction import Predictor
from compactbio.tasks import ner, ner_encoding, qa, relation
from compactbio.tasks.outcome import Outcome
from compactbio.tasks.relation_classes import Scheme
from compactbio.tasks.settings import Settings

Logits = Sequence[NDArray[np.float32]]
# Under this key a relation model's config.json says which classes are of no relation, and how classes were made.
MEMORY = "relation_classes"
# And under this key an NER model's says in which neighbourhoods a sign stays in its word.
WORDS = "joined_signs"


@dataclass(frozen=True)
class Task:
    """One task.

    `auto` loads its models, whose architectures end in `architecture`. `metric` is the main score, `protocol` how it
    is taken. `labels` are those of a model for training documents, in the order of their ids; none for QA. `scheme`
    says of relations which classes there are, None for other tasks. `check`
    gives the labels of a model in the words of the documents that it is to be scored on. `encode` makes rows (its
    result has `.rows`), `decode` predictions out of their logits, `outcome` scores out of predictions. `notes` are
    sentences on what could not be encoded as it stands.
    """

    auto: Any
    architecture: str
    metric: str
    protocol: str
    labels: Callable[[Sequence[Document], Settings], list[str]]
    scheme: Callable[[Sequence[Document], Settings], Scheme | None]
    check: Callable[[PretrainedConfig, str, Sequence[Document]], list[str]]
    encode: Callable[[Sequence[Document], PreTrainedTokenizerFast, Sequence[str], Settings], Any]
    decode: Callable[[Sequence[Document], Any, Logits, Sequence[str], PretrainedConfig], Any]
    outcome: Callable[[Sequence[Document], Any, Any, Sequence[str], str, Mapping[str, Question] | None], Outcome]
    notes: Callable[[Any], tuple[str, ...]]


def _own_labels(config: PretrainedConfig, name: str) -> list[str]:
    """A model's labels by id. Raises UserError where its configuration only numbers them."""
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise UserError(f"{name}: the id2label of its config.json must number its {config.num_labels} labels from 0.")
    found = [str(config.id2label[i]) for i in range(config.num_labels)]
    if all(label.startswith("LABEL_") for label in found):
        raise UserError(
            f"{name}: its config.json has no id2label, so nobody can know what its outputs mean; write the labels "
            "there, in the order of the outputs, or fine-tune it anew with `compactbio finetune`."
        )
    return found


def labels_of(config: PretrainedConfig, name: str, task: str) -> list[str]:
    """A fine-tuned model's labels in the order of their ids, none for QA. Raises UserError as a task's `check` does."""
    if task == "qa":
        return []
    return _ner_check(config, name, []) if task == "ner" else _relation_labels(config, name)


def independent(config: PretrainedConfig) -> bool:
    """Whether the outputs of a relation model say each for itself if its class holds."""
    return bool(config.problem_type == "multi_label_classification" and config.num_labels > 1)


def _relation_labels(config: PretrainedConfig, name: str) -> list[str]:
    """The classes of a relation model; one with a single output tells its class from the pairs without a relation."""
    if config.problem_type == "regression":
        raise UserError(f"{name}: its problem_type is regression, so its output is not that of a class.")
    if _unnamed(config):
        return ["0", "1"]
    own = _own_labels(config, name)
    return own if len(own) > 1 else [relation.NO_RELATION, *own]


def _unnamed(config: PretrainedConfig) -> bool:
    """Whether a model tells two classes apart that have no names, as the published one of GAD does."""
    return list(config.id2label.values()) in (["LABEL_0", "LABEL_1"], ["LABEL_0"])


def _ner_check(config: PretrainedConfig, name: str, documents: Sequence[Document]) -> list[str]:
    labels = _own_labels(config, name)
    try:
        known = {kind for prefix, kind in map(parse, labels) if prefix != "O"}
    except ValueError as error:
        raise UserError(
            f"{name}: its id2label is not one of NER: {error}; write B-TYPE, I-TYPE and O there, or fine-tune a "
            "model on these data."
        ) from None
    wanted = {span.type for document in documents for span in document.spans}
    # DISEASE and Disease are one type.
    spelt = spellings(wanted)
    labels = [_named(prefix, spelt.get(key(kind), kind)) for prefix, kind in map(parse, labels)]
    known = {spelt.get(key(kind), kind) for kind in known}
    if wanted == {""} and len(known) > 1:
        return [prefix for prefix, _ in map(parse, labels)]
    if len(known) == len(wanted) == 1 and known != wanted and "" in known | wanted:
        # One side names its only type, the other leaves it out.
        kind = wanted.pop()
        return [_named(prefix, kind) for prefix, _ in map(parse, labels)]
    if wanted and not wanted & known and known != {""}:
        raise UserError(
            f"{name} finds {_listed(known)}, the data hold {_listed(wanted)}: score it on data with its own types, "
            "compare the extents alone (--untyped), or fine-tune a model on these."
        )
    return labels


def _named(prefix: str, kind: str) -> str:
    return prefix if prefix == "O" else f"{prefix}-{kind}".rstrip("-")


def _ner_outcome(
    documents: Sequence[Document],
    encoded: ner_encoding.Encoded,
    predicted: Sequence[Sequence[str]],
    labels: Sequence[str],
    protocol: str,
    golden: Mapping[str, Question] | None,
) -> Outcome:
    known = {parse(label)[1] for label in labels if label != "O"}
    unseen = {span.type for document in documents for span in document.spans} - known
    note = f"The model knows no {_listed(unseen)}: all mentions of it count as missed."
    if known == {""} and unseen:
        documents = [replace(d, spans=tuple(replace(span, type="") for span in d.spans)) for d in documents]
        note = f"Types are not compared, because the model names none; the data name {_listed(unseen)}."
    outcome = ner.outcome(documents, encoded.sentences, predicted, protocol, encoded.pieces)
    return replace(outcome, notes=(*outcome.notes, note)) if unseen else outcome


def _listed(types: set[str]) -> str:
    return ", ".join(sorted(kind or "mentions without a type" for kind in types))


def _scheme(documents: Sequence[Document], chosen: Settings) -> Scheme:
    return relation.scheme(map(relation.label_of, documents), chosen.negative, chosen.scheme)


def remembered(config: PretrainedConfig, task: str) -> dict[str, Any]:
    """The settings that a fine-tuned model keeps in its configuration, {} where it has none.

    They are of a relation model how its classes are made, of an NER model how its words were cut.
    """
    if task == "ner":
        signs = getattr(config, WORDS, None)
        return {WORDS: signs} if isinstance(signs, list) and all(isinstance(one, str) for one in signs) else {}
    kept = getattr(config, MEMORY, None) if task == "relation" else None
    fields = {"negative": list, "scheme": str}
    found = kept if isinstance(kept, dict) else {}
    return {key: found[key] for key, kind in fields.items() if isinstance(found.get(key), kind)}


def unknown_words(config: PretrainedConfig, name: str) -> str | None:
    """The sentence on an NER model that does not say how the words of its training data were cut, None on others."""
    if remembered(config, "ner"):
        return None
    return (
        f"{name}: its config.json has no {WORDS}, so how the words of its training data were cut is not known: in raw "
        "text every sign is taken as a word of its own, which finds less where that was not so."
    )


def _relation_check(config: PretrainedConfig, name: str, documents: Sequence[Document]) -> list[str]:
    held = set(map(relation.label_of, documents))
    labels = _relation_labels(config, name)
    if held <= {"0", "1"} and labels == ["0", "1"]:
        return labels
    kept = remembered(config, "relation")
    own = relation.scheme(labels, kept.get("negative"), kept.get("scheme"))
    known = {own.find(label) for label in held} - {None}
    if not known or (known <= set(own.negatives) and len(held) > len(known)):
        raise UserError(
            f"{name} tells {_listed(set(labels))} apart, the data hold {_listed(held)}: score it on data "
            "with its own classes, or fine-tune a model on these."
        )
    return labels


def _relation_outcome(
    documents: Sequence[Document],
    encoded: relation.Encoded,
    predicted: Sequence[str],
    labels: Sequence[str],
    protocol: str,
    golden: Mapping[str, Question] | None,
) -> Outcome:
    return relation.outcome(documents, predicted, encoded.scheme)


def _relation_notes(encoded: relation.Encoded) -> tuple[str, ...]:
    return _counted(encoded.shortened, "sentences were longer than a row and were cut around their marks")


def _qa_check(config: PretrainedConfig, name: str, documents: Sequence[Document]) -> list[str]:
    return []


def _qa_outcome(
    documents: Sequence[Document],
    encoded: qa.Encoded,
    predicted: Mapping[str, Sequence[tuple[str, float]]],
    labels: Sequence[str],
    protocol: str,
    golden: Mapping[str, Question] | None,
) -> Outcome:
    return qa.outcome(documents, predicted, golden)


def _qa_notes(encoded: qa.Encoded) -> tuple[str, ...]:
    first = f", the first of them in {encoded.first_misplaced}" if encoded.misplaced else ""
    return (
        *_counted(encoded.shortened, "questions were cut at their beginning"),
        *_counted(encoded.misplaced, f"answers do not stand where their offset says{first}"),
    )


def _counted(count: int, what: str) -> tuple[str, ...]:
    return (f"{count:,} {what}.",) if count else ()


TASKS = {
    "ner": Task(
        auto=AUTO["ner"],
        architecture=ARCHITECTURES["ner"],
        metric="f1",
        protocol="word",
        labels=lambda documents, chosen: ner.labels(documents),
        scheme=lambda documents, chosen: None,
        check=_ner_check,
        encode=lambda documents, tokenizer, labels, chosen: ner_encoding.encode(
            documents, tokenizer, _ids(labels), chosen.max_length, frozenset(chosen.joined_signs or ())
        ),
        decode=lambda documents, encoded, logits, labels, config: ner_encoding.decode(encoded, logits, labels),
        outcome=_ner_outcome,
        notes=lambda encoded: (),
    ),
    "relation": Task(
        auto=AUTO["relation"],
        architecture=ARCHITECTURES["relation"],
        metric="f1",
        protocol="micro",
        labels=lambda documents, chosen: list(_scheme(documents, chosen).classes),
        scheme=_scheme,
        check=_relation_check,
        encode=lambda documents, tokenizer, labels, chosen: relation.encode(
            documents,
            tokenizer,
            _ids(labels),
            relation.scheme(labels, chosen.negative, chosen.scheme),
            chosen.max_length,
        ),
        decode=lambda documents, encoded, logits, labels, config: relation.decode(
            np.stack(logits), labels, encoded.scheme, independent=independent(config)
        ),
        outcome=_relation_outcome,
        notes=_relation_notes,
    ),
    "qa": Task(
        auto=AUTO["qa"],
        architecture=ARCHITECTURES["qa"],
        metric="mrr",
        protocol="BioASQ",
        labels=lambda documents, chosen: [],
        scheme=lambda documents, chosen: None,
        check=_qa_check,
        encode=lambda documents, tokenizer, labels, chosen: qa.encode(
            documents, tokenizer, chosen.max_length, chosen.stride
        ),
        decode=lambda documents, encoded, logits, labels, config: qa.decode(encoded, logits, documents),
        outcome=_qa_outcome,
        notes=_qa_notes,
    ),
}


def _ids(labels: Sequence[str]) -> dict[str, int]:
    return {label: i for i, label in enumerate(labels)}


def score(
    predictor: Predictor,
    task: str,
    documents: Sequence[Document],
    encoded: Any,
    labels: Sequence[str],
    config: PretrainedConfig,
    *,
    protocol: str = "word",
    golden: Mapping[str, Question] | None = None,
) -> tuple[Any, Outcome]:
    """The predictions for encoded documents, and what they came to; `labels` in the order of their ids.

    `config` is the model's configuration, which says how its outputs are read.
    """
    kind = TASKS[task]
    predictions = kind.decode(documents, encoded, predictor(encoded.rows), labels, config)
    outcome = kind.outcome(documents, encoded, predictions, labels, protocol, golden)
    return predictions, replace(outcome, notes=(*outcome.notes, *kind.notes(encoded)))
