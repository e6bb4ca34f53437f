"""The functions that `import compactbio` offers: paths and names in, the core called, results out.

Each function takes `str` or `Path`, and raises `UserError` (a `ValueError`) with one sentence on whatever the caller
can fix. Models and tokenizers are local folders or hub names.
"""

from compactbio.annotate.files import annotate_files
from compactbio.api.evaluation import compare, evaluate, export
from compactbio.api.training import Run, build_corpus, distil, finetune, pretrain

__all__ = ["Run", "annotate_files", "build_corpus", "compare", "distil", "evaluate", "export", "finetune", "pretrain"]
