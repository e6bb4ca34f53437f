"""A NER model of random weights with a tokenizer of made-up words, and sentences of real lengths for it."""

from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

from benchmarks.lengths import draw_sentences

LABELS = ("B-Disease", "I-Disease", "O")
VOCABULARY = 28_996  # BioBERT's
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Words of one piece, and endings that make a word of two: real text has 1.22 pieces a word of ours.
_STEMS, _ENDINGS = 20_000, VOCABULARY - 20_000 - len(_SPECIAL)
_TWO_PIECES = 0.22


def write(folder: Path, *, layers: int = 6, width: int = 768, inner: int = 3072, vocabulary: int = VOCABULARY) -> None:
    """Write a model as `finetune` leaves it, weights drawn from seed 0. Few of its words are tagged as mentions."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary, num_hidden_layers=layers, hidden_size=width, intermediate_size=inner,
        num_attention_heads=12, id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():
        model.classifier.bias[2] = 1.0
    model.save_pretrained(folder)
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join([*_SPECIAL, *_stems(), *(f"##{ending}" for ending in _endings())][:vocabulary]) + "\n")
    BertTokenizerFast(vocab=str(vocab), do_lower_case=False, model_max_length=512).save_pretrained(folder)


def sentences(count: int, vocabulary: int = VOCABULARY) -> list[str]:
    """Sentences of made-up words with the lengths in pieces of real ones."""
    generator = np.random.default_rng(0)
    stems, endings = _stems()[: max(10, vocabulary - 1000)], _endings()
    found = []
    for pieces in draw_sentences(count):
        words, left = [], pieces - 1
        while left > 0:
            two = left > 1 and vocabulary == VOCABULARY and generator.random() < _TWO_PIECES
            word = stems[generator.integers(len(stems))]
            words.append(word + endings[generator.integers(len(endings))] if two else word)
            left -= 1 + two
        found.append(" ".join([*words, "."]))
    return found


def _stems() -> list[str]:
    return ["".join(letters) for letters in islice(product(_LETTERS, repeat=4), _STEMS)]


def _endings() -> list[str]:
    return ["".join(letters) for letters in islice(product(_LETTERS, repeat=3), _ENDINGS)]
