"""Text and files in, entities with character offsets out; relations and answers likewise."""

from compactbio.annotate.annotator import (
    Annotator,
    Answer,
    Entity,
    Marking,
    QuestionAnnotator,
    Related,
    RelationAnnotator,
)

__all__ = ["Annotator", "Answer", "Entity", "Marking", "QuestionAnnotator", "Related", "RelationAnnotator"]
