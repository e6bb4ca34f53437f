"""The annotator as a spaCy component: `nlp.add_pipe("compactbio", config={"model": ...})` sets `doc.ents`."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from compactbio.annotate.annotator import Annotator, Entity

_UNNAMED = "ENTITY"
if not Span.has_extension("score"):
    Span.set_extension("score", default=None)


def make(nlp: Language, name: str, model: str | list[str], runtime: str, min_score: float) -> "Component":
    """Make the component. `model` is a folder or hub name, "TYPE=NAME", or a list of these; `runtime` as of Annotator.

    Entities of a model without types have the label "ENTITY".
    """
    names = [model] if isinstance(model, str) else model
    return Component(Annotator.from_pretrained(*names, runtime=runtime), min_score)


Language.factory(
    "compactbio",
    default_config={"model": "", "runtime": "auto", "min_score": 0.0},
    assigns=["doc.ents"],
    func=make,
)


class Component:
    """Sets `doc.ents`, each with its score as `span._.score`; what other components found stays where it is free."""

    def __init__(self, annotator: Annotator, min_score: float) -> None:
        self._annotator = annotator
        self._min_score = min_score

    def __call__(self, doc: Doc) -> Doc:
        """Annotate one document."""
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate documents, `batch_size` at once."""
        docs = iter(stream)
        while batch := list(islice(docs, batch_size)):
            found = self._annotator([doc.text for doc in batch], min_score=self._min_score)
            for doc, entities in zip(batch, found, strict=True):
                yield _set(doc, entities)


def _set(doc: Doc, entities: Iterable[Entity]) -> Doc:
    own = [_span(doc, entity) for entity in entities]
    # Of spans that share a token after widening the longer is kept, ours before what was there.
    kept = filter_spans(own)
    taken = {token.i for span in kept for token in span}
    doc.ents = [*kept, *(span for span in doc.ents if not taken.intersection(range(span.start, span.end)))]
    return doc


def _span(doc: Doc, entity: Entity) -> Any:
    # An entity that ends within a token of spaCy's takes the whole token.
    span = doc.char_span(entity.start, entity.end, label=entity.type or _UNNAMED, alignment_mode="expand")
    span._.score = entity.score
    return span
