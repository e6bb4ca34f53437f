"""Citations to token rows: what a training run reads.

A corpus is a folder of Arrow shards (`train-*.arrow`, `holdout-*.arrow`), the tokenizer that made them
(`tokenizer/`), and `manifest.json`, which is written last: where it exists, the corpus is complete.
"""

from compactbio.corpus.building import build_corpus as build
from compactbio.corpus.reading import manifest, tokenizer
from compactbio.corpus.reading import open_corpus as open

__all__ = ["build", "manifest", "open", "tokenizer"]
