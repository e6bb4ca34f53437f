"""Text and files in, entities with character offsets out; relations and answers likewise."""

from compactbio.annotate.annotator import Annotator, Answer, Entity, QuestionAnnotator, Related, RelationAnnotator
from compactbio.tasks.marking import Marking

__all__ = ["Annotator", "Answer", "Entity", "Marking", "QuestionAnnotator", "Related", "RelationAnnotator"]
