"""Small real tokenizers of each kind, trained here on a few sentences and saved as transformers folders."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlbertTokenizer,
    BertTokenizerFast,
    DebertaV2Tokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

SENTENCES = [
    "Aspirin lowers the risk of heart attack in patients with type 2 diabetes.",
    "The BRCA1 gene and its protein are associated with breast cancer (p < 0.05).",
    "Treatment with 5 mg of metformin daily showed a significant decrease of blood glucose levels.",
    "IL-2 and TNF-alpha expression was increased in tumor cells of the lung and liver.",
    "In a randomized clinical trial, insulin had no effect on kidney disease.",
    "Patients with chronic heart failure received placebo or aspirin before and after surgery.",
    "Mutations of the p53 gene were found in human and mouse cells, but not in the control group.",
    "Side effects were headache, nausea and fever; they were mild in both groups.",
]
_LLAMA_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
_CHARACTERS = [chr(code) for code in range(33, 127)]


@cache
def _wordpieces() -> dict[str, int]:
    """The vocabulary of BERT's kind; its training breaks ties by chance, so one serves all models of a session."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    own = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    own.normalizer, own.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    own.train_from_iterator(
        SENTENCES,
        trainers.WordPieceTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=_CHARACTERS, show_progress=False
        ),
    )
    return own.get_vocab()


def _wordpiece() -> PreTrainedTokenizerFast:
    """As BERT's, lower case: [CLS] A [SEP] B [SEP], types 0 and 1."""
    return BertTokenizerFast(vocab=_wordpieces())


@cache
def _bytes(special: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE, the special tokens first."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    merges = json.loads(own.to_str())["model"]["merges"]
    return own.get_vocab(), [tuple(merge) for merge in merges]


def _byte_level() -> PreTrainedTokenizerFast:
    """As RoBERTa's: <s> A </s></s> B </s>, all types 0, no blank before the first word."""
    vocabulary, merges = _bytes(("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    return RobertaTokenizer(vocab=vocabulary, merges=merges)


def _byte_level_modernbert() -> PreTrainedTokenizerFast:
    """As ModernBERT's: [CLS] A [SEP] B [SEP] without types, special tokens after all pieces."""
    vocabulary, merges = _bytes(())
    own = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    own.normalizer = normalizers.NFC()
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", AddedToken("[MASK]", lstrip=True)])
    own.post_processor = _template(own, "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )


def _llama_like() -> PreTrainedTokenizerFast:
    """As EuroBERT's: byte-level after a split of its own, begin and end of the text, neither [CLS] nor [SEP]."""
    vocabulary, merges = _bytes(())
    own = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    own.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens(["<|begin|>", "<|end|>", "<|pad|>", "<|mask|>"])
    template = _template(own, "<|begin|> $A <|end|>", "<|begin|> $A <|end|> <|begin|>:1 $B:1 <|end|>:1")
    own.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        mask_token="<|mask|>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _template(own: Tokenizer, single: str, pair: str) -> processors.TemplateProcessing:
    special = [(token.content, id) for id, token in own.get_added_tokens_decoder().items()]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)


@cache
def _pieces(*, lower: bool) -> list[tuple[str, float]]:
    """The pieces of a SentencePiece Unigram model with their scores."""
    own = Tokenizer(models.Unigram())
    own.pre_tokenizer = pre_tokenizers.Metaspace()
    sentences = [sentence.lower() for sentence in SENTENCES] if lower else SENTENCES
    own.train_from_iterator(
        sentences,
        trainers.UnigramTrainer(
            vocab_size=400, initial_alphabet=["▁", *_CHARACTERS], unk_token="<unk>", show_progress=False
        ),
    )
    return [(piece, score) for piece, score in json.loads(own.to_str())["model"]["vocab"] if piece != "<unk>"]


def _unigram_xlmr() -> PreTrainedTokenizerFast:
    """As XLM-R's: <s> A </s></s> B </s>, all types 0, <mask> the last piece."""
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return XLMRobertaTokenizer(vocab=[*first, *_pieces(lower=False), ("<mask>", 0.0)])


def _unigram_deberta() -> PreTrainedTokenizerFast:
    """As DeBERTa-v3's: [CLS] A [SEP] B [SEP], types 0 and 1, [MASK] after all pieces."""
    first = [(token, 0.0) for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    return DebertaV2Tokenizer(vocab=[*first, *_pieces(lower=False)])


def _albert() -> PreTrainedTokenizerFast:
    """As ALBERT's: lower case by a sequence of normalisers, [CLS] A [SEP] B [SEP], types 0 and 1."""
    first = [(token, 0.0) for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
    return AlbertTokenizer(vocab=[*first, *_pieces(lower=True)])


_MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "wordpiece": _wordpiece,
    "byte_level": _byte_level,
    "byte_level_modernbert": _byte_level_modernbert,
    "unigram_xlmr": _unigram_xlmr,
    "unigram_deberta": _unigram_deberta,
    "albert": _albert,
    "llama_like": _llama_like,
}
KINDS = tuple(_MAKERS)


def save(kind: str, folder: Path) -> Path:
    """Write a tokenizer of one of KINDS into a folder, as transformers saves it; returns the folder."""
    _MAKERS[kind]().save_pretrained(folder)
    return folder
