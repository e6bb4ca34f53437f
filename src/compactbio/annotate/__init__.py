"""Text and files in, entities with character offsets out."""

from compactbio.annotate.annotator import Annotator, Entity

__all__ = ["Annotator", "Entity"]
