"""Lengths of PubMed citations in pieces, for rows that look like real ones without holding any text."""

import numpy as np

# Rows by length in pieces of BERT's cased vocabulary, title and abstract, cut at 256, by the longest of a bin; 774
# records of six MEDLINE/PubMed XML files of the NLM (2016 to 2021), some a title only, by `compactbio corpus stats`.
HISTOGRAM = {
    16: 52, 32: 61, 48: 26, 64: 8, 80: 0, 96: 4, 112: 5, 128: 10,
    144: 7, 160: 16, 176: 12, 192: 15, 208: 17, 224: 27, 240: 16, 256: 498,
}  # fmt: skip
# Sentences by length in pieces of BERT's uncased vocabulary, without [CLS] and [SEP], by the longest of a bin: the
# 20,600 sentences of 2,000 PubMed titles and abstracts as compactbio cuts them; 128 stands for all longer ones.
SENTENCES = {
    8: 483, 16: 2389, 24: 4169, 32: 4083, 40: 3147, 48: 2260, 56: 1450, 64: 917,
    72: 542, 80: 393, 88: 232, 96: 170, 104: 100, 112: 75, 120: 43, 128: 147,
}  # fmt: skip
_BIN = 16
# Most rows of the last bin were cut, so they are as long as can be.
_LONGEST = max(HISTOGRAM)


def draw(rows: int, seed: int = 0, longest: int = _LONGEST) -> list[int]:
    """The lengths of `rows` citations, drawn from the histogram and at least 3; scaled down to another `longest`."""
    generator = np.random.default_rng(seed)
    ends = np.array(list(HISTOGRAM))
    weights = np.array(list(HISTOGRAM.values()), dtype=np.float64)
    chosen = generator.choice(ends, size=rows, p=weights / weights.sum())
    within = generator.integers(_BIN, size=rows)
    drawn = np.where(chosen == _LONGEST, _LONGEST, chosen - within)
    return np.maximum(drawn * longest // _LONGEST, 3).tolist()  # type: ignore[no-any-return]


def draw_sentences(count: int, seed: int = 0) -> list[int]:
    """The lengths in pieces of `count` sentences, drawn from the histogram, at least 1."""
    generator = np.random.default_rng(seed)
    ends = np.array(list(SENTENCES))
    weights = np.array(list(SENTENCES.values()), dtype=np.float64)
    chosen = generator.choice(ends, size=count, p=weights / weights.sum())
    return np.maximum(chosen - generator.integers(8, size=count), 1).tolist()  # type: ignore[no-any-return]
