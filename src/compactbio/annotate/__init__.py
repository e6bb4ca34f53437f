"""Text and files in, entities with character offsets out; relations and answers likewise."""

from compactbio.annotate.annotator import Annotator, Entity
from compactbio.annotate.questions import Answer, QuestionAnnotator
from compactbio.annotate.relations import Marking, Related, RelationAnnotator

__all__ = ["Annotator", "Answer", "Entity", "Marking", "QuestionAnnotator", "Related", "RelationAnnotator"]
