"""The annotator as a spaCy component: `nlp.add_pipe("compactbio", config={"model": ...})` sets `doc.ents`."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import raise_error

from compactbio.annotate.annotator import Annotator, Entity
from compactbio.annotate.models import check_score

_UNTYPED = "ENTITY"
# Takes the component's name, the component, the documents and the error.
ErrorHandler = Callable[[str, Any, list[Doc], Exception], None]
if not Span.has_extension("score"):
    Span.set_extension("score", default=None)


def make(
    nlp: Language,
    name: str,
    model: str | list[str],
    runtime: str,
    min_score: float,
    device: str,
    min_precision: float | None = None,
) -> "Component":
    """Make the component, which spaCy calls with its configuration.

    Args:
        nlp: The pipeline.
        name: The component's name in it.
        model: A folder or hub name, "TYPE=NAME", or a list of these. Entities without a type get the label "ENTITY".
        runtime: As for `Annotator.from_pretrained`.
        min_score: The lowest score of an entity, in [0, 1].
        device: As for `Annotator.from_pretrained`.
        min_precision: As for `Annotator.from_pretrained`.
    """
    check_score(min_score)
    names = [model] if isinstance(model, str) else model
    annotator = Annotator.from_pretrained(*names, runtime=runtime, device=device, min_precision=min_precision)
    return Component(name, annotator, min_score)


Language.factory(
    "compactbio",
    default_config={"model": "", "runtime": "auto", "min_score": 0.0, "device": "auto", "min_precision": None},
    assigns=["doc.ents"],
    func=make,
)


class Component:
    """Sets `doc.ents`, each with its score as `span._.score`; entities of other components stay where none overlaps.

    `doc.ents` cannot overlap: of entities that share a token of spaCy the one with the higher score is kept, then the
    longer one.

    A pipeline with it can be copied, pickled, written to disk, and run in forked or spawned processes, which load the
    models again from where they were.
    """

    def __init__(self, name: str, annotator: Annotator, min_score: float) -> None:
        self._name, self._annotator, self._min_score = name, annotator, min_score
        self._on_error: ErrorHandler = raise_error

    def set_error_handler(self, handler: ErrorHandler) -> None:
        """Have `handler` called for a document that fails; by default its error is raised."""
        self._on_error = handler

    def get_error_handler(self) -> ErrorHandler:
        """What is called for a document that fails."""
        return self._on_error

    def __call__(self, doc: Doc) -> Doc:
        """Annotate one document."""
        [entities] = self._annotator([doc.text], min_score=self._min_score)
        return _set(doc, entities)

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Annotate documents, `batch_size` together; one that fails is left out, the others are not affected."""
        docs = iter(stream)
        while batch := list(islice(docs, batch_size)):
            try:
                found = self._annotator([doc.text for doc in batch], min_score=self._min_score)
                done = [_set(doc, entities) for doc, entities in zip(batch, found, strict=True)]
            except Exception as error:
                if len(batch) > 1:
                    yield from self.pipe(batch, batch_size=1)
                else:
                    self._on_error(self._name, self, batch, error)
            else:
                yield from done


def _set(doc: Doc, entities: Iterable[Entity]) -> Doc:
    kept, taken = [], set[int]()
    for entity in sorted(entities, key=lambda one: (-one.score, one.start - one.end)):
        span = _span(doc, entity)
        tokens = range(span.start, span.end)
        if taken.isdisjoint(tokens):
            span._.score = entity.score
            kept.append(span)
            taken.update(tokens)
    doc.ents = [*kept, *(span for span in doc.ents if not taken.intersection(range(span.start, span.end)))]
    return doc


def _span(doc: Doc, entity: Entity) -> Any:
    # An entity that ends within a token of spaCy takes the whole token.
    return doc.char_span(entity.start, entity.end, label=entity.type or _UNTYPED, alignment_mode="expand")
