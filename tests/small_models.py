"""Small random models of each family, saved with a tokenizer of its kind as transformers saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    MobileBertConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)

import small_tokenizers
from conftest import randomize

AUTO = {
    "mlm": AutoModelForMaskedLM,
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}
POSITIONS = 128
_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}
_MOBILE = {"embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_DEBERTA_V3 = {**_DEBERTA, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}

# By family: its configuration, and the kind of its tokenizer.
FAMILIES: dict[str, tuple[Callable[..., PretrainedConfig], dict[str, Any], str]] = {
    "bert": (BertConfig, {}, "wordpiece"),
    "distilbert": (DistilBertConfig, {}, "wordpiece"),
    "mobilebert": (MobileBertConfig, _MOBILE, "wordpiece"),
    "electra": (ElectraConfig, {"embedding_size": 16}, "wordpiece"),
    "roberta": (RobertaConfig, {"type_vocab_size": 1}, "byte_level"),
    "xlm-roberta": (XLMRobertaConfig, {"type_vocab_size": 1}, "unigram_xlmr"),
    "modernbert": (ModernBertConfig, {"local_attention": 8, "global_attn_every_n_layers": 2}, "byte_level_modernbert"),
    "deberta": (DebertaConfig, _DEBERTA, "byte_level"),
    "deberta-v2": (DebertaV2Config, _DEBERTA_V3, "unigram_deberta"),
    "albert": (AlbertConfig, {"embedding_size": 16}, "albert"),
}
# Types that the package does not name, which run as transformers' own code computes them.
OTHERS = {
    "mpnet": "byte_level", "rembert": "unigram_deberta", "eurobert": "llama_like", "convbert": "wordpiece",
    "camembert": "unigram_xlmr", "roformer": "wordpiece",
}  # fmt: skip


def config_of(family: str, tokenizer: Any, **more: Any) -> PretrainedConfig:
    """The configuration of a small model for a tokenizer."""
    ids = {
        "vocab_size": len(tokenizer),
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")},
    }
    if family in FAMILIES:
        make, fields, _ = FAMILIES[family]
        size = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48} if family == "distilbert" else _SIZE
        return make(**{**size, "max_position_embeddings": POSITIONS, **fields, **ids, **more})
    return AutoConfig.for_model(family, **{**_SIZE, **ids, **more})


def tokenizer_kind(family: str) -> str:
    """The kind of a family's tokenizer, as of `small_tokenizers.KINDS`."""
    return FAMILIES[family][2] if family in FAMILIES else OTHERS[family]


def model_of(
    family: str, task: str, tokenizer: Any, labels: int = 3, *, balanced: bool = False, **more: Any
) -> PreTrainedModel:
    """A random model of a family with the head of a task, or "mlm"; `balanced` for NER gives words all labels."""
    more = more if task in ("mlm", "qa") else {"num_labels": labels, **more}
    model = randomize(AUTO[task].from_config(config_of(family, tokenizer, **more)))
    if balanced:
        with torch.no_grad():
            model.classifier.bias -= model(torch.arange(8, 40)[None]).logits[0].mean(0)
    return model


def save(
    family: str, task: str, folder: Path, labels: list[str] | None = None, *, balanced: bool = False, **more: Any
) -> Path:
    """Write a random model of a family and its tokenizer into a folder; returns the folder."""
    from transformers import AutoTokenizer

    small_tokenizers.save(tokenizer_kind(family), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if labels:
        more |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    model_of(family, task, tokenizer, labels=len(labels or "abc"), balanced=balanced, **more).save_pretrained(folder)
    return folder
