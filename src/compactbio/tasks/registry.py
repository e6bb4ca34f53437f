"""The table of tasks: what fine-tuning, evaluation and export call for each of ner, relation and qa."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from compactbio.documents import Document, Question
from compactbio.tasks import ner, ner_encoding, qa, relation
from compactbio.tasks.outcome import Outcome
from compactbio.tasks.relation_classes import Scheme
from compactbio.tasks.settings import Settings, decoding, has_independent_outputs

Logits = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Scored:
    """What is scored of a model: documents, what `encode` made of them, the model's labels in the order of their ids
    and its configuration, the protocol (NER), and QA answers that are not in the documents."""

    documents: Sequence[Document]
    encoded: Any
    labels: Sequence[str]
    config: PretrainedConfig
    protocol: str
    golden: Mapping[str, Question] | None


@dataclass(frozen=True)
class Task:
    """One task, and its functions in the order in which they are called.

    `metric` is the main score, `protocol` the usual way to count it.

    labels: training documents to the labels of a model, in the order of their ids; none for QA.
    scheme: training documents to how their labels become classes; None except for relations.
    model_labels: a model's labels in the order of their ids, spelt as in the documents that it is to be scored on,
        none for QA. Raises UserError where its configuration does not name them, or the documents have none of them.
    encode: documents to rows; the result has `.rows`, and in `.notes` sentences on what had to be cut.
    decode: the logits of the rows to predictions.
    outcome: predictions to scores.
    """

    metric: str
    protocol: str
    encode: Callable[[Sequence[Document], PreTrainedTokenizerFast, Sequence[str], Settings], Any]
    decode: Callable[[Scored, Logits], Any]
    outcome: Callable[[Scored, Any], Outcome]
    labels: Callable[[Sequence[Document], Settings], list[str]] = lambda documents, settings: []
    scheme: Callable[[Sequence[Document], Settings], Scheme | None] = lambda documents, settings: None
    model_labels: Callable[[PretrainedConfig, str, Sequence[Document]], list[str]] = lambda config, name, documents: []


def _ids(labels: Sequence[str]) -> dict[str, int]:
    return {label: i for i, label in enumerate(labels)}


TASKS = {
    "ner": Task(
        metric="f1",
        protocol="word",
        labels=lambda documents, settings: ner.labels(documents),
        model_labels=ner_encoding.model_labels,
        encode=lambda documents, tokenizer, labels, settings: ner_encoding.encode(
            documents, tokenizer, _ids(labels), settings.max_length, frozenset(settings.joined_signs or ())
        ),
        decode=lambda one, logits: ner_encoding.decode_as(
            one.encoded,
            logits,
            ner_encoding.model_labels(one.config, ""),
            one.labels,
            decoding(one.config),
        ),
        outcome=lambda one, predictions: ner_encoding.outcome(
            one.documents, one.encoded, predictions, one.labels, one.protocol
        ),
    ),
    "relation": Task(
        metric="f1",
        protocol="micro",
        labels=lambda documents, settings: list(relation.scheme_of(documents, settings).classes),
        scheme=relation.scheme_of,
        model_labels=relation.model_labels,
        encode=lambda documents, tokenizer, labels, settings: relation.encode(
            documents,
            tokenizer,
            _ids(labels),
            relation.scheme(labels, settings.negative, settings.scheme),
            settings.max_length,
        ),
        decode=lambda one, logits: relation.decode(
            np.stack(logits), one.labels, one.encoded.scheme, independent=has_independent_outputs(one.config)
        ),
        outcome=lambda one, predictions: relation.outcome(
            one.documents, predictions, relation.scheme_scored(one.encoded.scheme, one.config)
        ),
    ),
    "qa": Task(
        metric="mrr",
        protocol="BioASQ",
        encode=lambda documents, tokenizer, labels, settings: qa.encode(
            documents, tokenizer, settings.max_length, settings.stride
        ),
        decode=lambda one, logits: qa.decode(one.encoded, logits, one.documents),
        outcome=lambda one, predictions: qa.outcome(one.documents, predictions, one.golden),
    ),
}


def score(
    logits: Logits,
    task: str,
    documents: Sequence[Document],
    encoded: Any,
    labels: Sequence[str],
    config: PretrainedConfig,
    *,
    protocol: str = "word",
    golden: Mapping[str, Question] | None = None,
    types: Set[str] | None = None,
) -> tuple[Any, Outcome]:
    """The predictions for documents that the task's `encode` made `encoded` of, and their outcome.

    `logits` are those of the rows of `encoded`, `labels` the model's in the order of their ids, `golden` QA answers
    that are not in the documents, `types` those of mentions that count, None for all.
    """
    kind, one = TASKS[task], Scored(documents, encoded, labels, config, protocol, golden)
    predictions = kind.decode(one, logits)
    if types is not None:
        predictions = ner_encoding.only_types(predictions, types)
    outcome = kind.outcome(one, predictions)
    return predictions, replace(outcome, notes=(*outcome.notes, *encoded.notes))
