"""Students and teachers: families that are served, construction, packed attention, encoding."""

from compactbio.modeling.families import encoder_parameters
from compactbio.modeling.students import build_student

__all__ = ["build_student", "encoder_parameters"]
