"""The loss terms of distillation and continued pre-training, and the module that weighs them."""

from compactbio.objectives.distiller import Distiller, Losses, attention_width, counts_of, labelled
from compactbio.objectives.terms import Counts, reads

__all__ = ["Counts", "Distiller", "Losses", "attention_width", "counts_of", "labelled", "reads"]
