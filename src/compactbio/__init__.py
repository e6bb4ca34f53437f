"""compactbio: make, measure and use compact biomedical transformers."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compactbio.annotate import Annotator, Entity

__all__ = ["Annotator", "Entity", "__version__"]
__version__ = version("compactbio")


def __getattr__(name: str) -> Any:
    # Loaded when asked for: torch takes seconds, which `compactbio --help` does not have.
    if name in ("Annotator", "Entity"):
        from compactbio import annotate

        return getattr(annotate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
