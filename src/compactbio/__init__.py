"""compactbio: make, measure and use compact biomedical transformers."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from compactbio.errors import UserError

if TYPE_CHECKING:
    from compactbio import corpus, formats, modeling, objectives, recipes, tasks
    from compactbio.annotate import Annotator, Answer, Entity, Marking, QuestionAnnotator, Related, RelationAnnotator
    from compactbio.api import Run, annotate_files, build_corpus, compare, distil, evaluate, export, finetune, pretrain
    from compactbio.documents import Document, Passage, Question, Relation, Span
    from compactbio.formats import read, write
    from compactbio.recipes import Recipe
    from compactbio.recipes import load as load_recipe
    from compactbio.tasks.marking import mark_pairs

__all__ = [
    "Annotator",
    "Answer",
    "Document",
    "Entity",
    "Marking",
    "Passage",
    "Question",
    "QuestionAnnotator",
    "Recipe",
    "Related",
    "Relation",
    "RelationAnnotator",
    "Run",
    "Span",
    "UserError",
    "__version__",
    "annotate_files",
    "build_corpus",
    "compare",
    "corpus",
    "distil",
    "evaluate",
    "export",
    "finetune",
    "formats",
    "load_recipe",
    "mark_pairs",
    "modeling",
    "objectives",
    "pretrain",
    "read",
    "recipes",
    "tasks",
    "write",
]
__version__ = version("compactbio")
# The module of each name that is not in `api`; those of documents, formats and recipes load without torch.
_MODULES = {
    **dict.fromkeys(
        ("Annotator", "Answer", "Entity", "Marking", "QuestionAnnotator", "Related", "RelationAnnotator"), "annotate"
    ),
    **dict.fromkeys(("Document", "Passage", "Question", "Relation", "Span"), "documents"),
    **dict.fromkeys(("read", "write"), "formats"),
    "Recipe": "recipes",
    "load_recipe": "recipes",
    "mark_pairs": "tasks.marking",
}
_FOLDERS = {"corpus", "formats", "modeling", "objectives", "recipes", "tasks"}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: torch takes seconds, which `compactbio --help` does not have.
    if name in _FOLDERS:
        return import_module(f"compactbio.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"compactbio.{_MODULES.get(name, 'api')}")
    return getattr(module, "load" if name == "load_recipe" else name)


def __dir__() -> list[str]:
    return sorted(__all__)
