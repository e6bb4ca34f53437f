"""Which types of a model's mentions count on a data set: those that it is labelled for."""

from collections.abc import Iterator, Sequence, Set
from typing import Any

from transformers import PretrainedConfig

from compactbio.documents import Document, names
from compactbio.documents.tags import parse
from compactbio.tasks import ner_encoding
from compactbio.tasks.data import Data
from compactbio.tasks.outcome import listed
from compactbio.tasks.registry import Logits
from compactbio.tasks.settings import trained_on_iob2


def counted_types(found: Data, documents: Sequence[Document], labels: Sequence[str]) -> Set[str] | None:
    """The types that count; None for all.

    Args:
        found: the data set.
        documents: those to score.
        labels: the model's, spelt as in the documents.
    """
    if found.task != "ner":
        return None
    kinds = _kinds(labels)
    labelled = {span.type for document in documents for span in document.spans}
    if kinds <= labelled:
        return None
    # A split may lack a type by chance that the data set is labelled for.
    keys = set(map(names.key, labelled | found.types))
    return {kind for kind in kinds if names.key(kind) in keys} or None


def notes_on_types(
    config: PretrainedConfig, encoded: Any, logits: Logits, labels: Sequence[str], types: Set[str] | None
) -> Iterator[str]:
    """Sentences on types of a model that the data are not labelled for, or do not tell apart.

    Args:
        config: the model's.
        encoded: the documents, encoded for it.
        logits: of their rows.
        labels: the model's, spelt as in the documents.
        types: those that count, as of `counted_types`.
    """
    if types is not None and (foreign := _kinds(labels) - types):
        mentions = ner_encoding.mentions(encoded, logits, labels, valid=trained_on_iob2(config))
        number = sum(span.type in foreign for _, span in mentions.places)
        yield f"Not counted are {number:,} mentions of {listed(foreign)}, which the data are not labelled for."
    own = _kinds(ner_encoding.model_labels(config, ""))
    if len(own) > 1 and _kinds(labels) == {""}:
        yield (
            f"All types of the model count as one ({listed(own)}); to count one alone, name the data's type, as in "
            "TYPE=DATA."
        )


def _kinds(labels: Sequence[str]) -> set[str]:
    return {parse(label)[1] for label in labels if label != "O"}
