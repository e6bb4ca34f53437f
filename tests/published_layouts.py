"""The repositories of the field as they lie on the hub: files, configuration, names of weights; the weights are random.

By what is known of their file lists and configurations; sizes are cut down, the vocabularies are the tests' own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
    MobileBertConfig,
    MobileBertForPreTraining,
)

from conftest import VOCABULARY, randomize

UNCASED = VOCABULARY
CASED = [*VOCABULARY, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *(f"##{c}" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "Aspirin"]
_POSITIONS = 64
_BERT = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 24,
    "initializer_range": 0.02, "intermediate_size": 48, "layer_norm_eps": 1e-12, "max_position_embeddings": _POSITIONS,
    "model_type": "bert", "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2,
}  # fmt: skip
_DISTILBERT = {
    "activation": "gelu", "attention_dropout": 0.1, "dim": 24, "dropout": 0.1, "hidden_dim": 48, "initializer_range":
    0.02, "max_position_embeddings": _POSITIONS, "model_type": "distilbert", "n_heads": 4, "n_layers": 2,
    "pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False,
    "tie_weights_": True,
}  # fmt: skip
_MOBILEBERT = {
    "attention_probs_dropout_prob": 0.1, "classifier_activation": False, "embedding_size": 16, "hidden_act": "relu",
    "hidden_dropout_prob": 0.0, "hidden_size": 32, "intermediate_size": 32, "intra_bottleneck_size": 16,
    "key_query_shared_bottleneck": True, "layer_norm_eps": 1e-12, "max_position_embeddings": _POSITIONS,
    "model_type": "mobilebert", "normalization_type": "no_norm", "num_attention_heads": 4,
    "num_feedforward_networks": 2, "num_hidden_layers": 2, "pad_token_id": 0, "trigram_input": True,
    "true_hidden_size": 16, "type_vocab_size": 2, "use_bottleneck": True, "use_bottleneck_attention": False,
}  # fmt: skip
_TINY = {"cell": {}, "emb_size": 24, "pre_trained": "", "structure": [], "training": ""}
_CLASSES = {
    "BertModel": (BertConfig, BertModel), "BertForMaskedLM": (BertConfig, BertForMaskedLM),
    "BertForPreTraining": (BertConfig, BertForPreTraining),
    "DistilBertForMaskedLM": (DistilBertConfig, DistilBertForMaskedLM),
    "MobileBertForPreTraining": (MobileBertConfig, MobileBertForPreTraining),
}  # fmt: skip

Weights = dict[str, torch.Tensor]


def _as_they_are(weights: Weights) -> Weights:
    return weights


def _of_the_first_converter(weights: Weights) -> Weights:
    """Names of TensorFlow's layer norms, the positions as a buffer, no bias of the decoder."""
    named = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in weights.items()
    }
    named.pop("cls.predictions.decoder.bias", None)
    return {**named, "bert.embeddings.position_ids": torch.arange(_POSITIONS)[None]}


def _of_tinybert(weights: Weights) -> Weights:
    """With the map that it was distilled through."""
    return {**weights, "fit_dense.weight": torch.ones(32, 24), "fit_dense.bias": torch.ones(32)}


def _in_half(weights: Weights) -> Weights:
    return {key: value.half() for key, value in weights.items()}


@dataclass(frozen=True)
class Layout:
    """A repository: the class that its weights were saved from, its configuration, what lies beside them.

    `stated` is what its tokenizer_config.json says, None where it has none. `has_head`: whether an MLM head is among
    its weights. `legacy`: saved in torch's format before 1.6.
    """

    kind: str
    config: dict[str, Any]
    cased: bool
    stated: dict[str, Any] | None = None
    tokenizer_json: bool = False
    architectures: bool = True
    weights: Callable[[Weights], Weights] = _as_they_are
    files: tuple[str, ...] = ("pytorch_model.bin",)
    legacy: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def has_head(self) -> bool:
        return self.kind != "BertModel"


_CASED, _UNCASED = {"do_lower_case": False}, {"do_lower_case": True}
_NLPIE: dict[str, Any] = {"tokenizer_json": True, "more": {"special_tokens_map.json": {"cls_token": "[CLS]"}}}
LAYOUTS = {
    "dmis-lab/biobert-v1.1": Layout("BertModel", _BERT, cased=True, architectures=False, legacy=True),
    "dmis-lab/biobert-base-cased-v1.2": Layout(
        "BertForPreTraining", _BERT, cased=True, architectures=False, weights=_of_the_first_converter, legacy=True
    ),
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": Layout(
        "BertForMaskedLM", {**_BERT, "gradient_checkpointing": False}, cased=False, stated=_UNCASED
    ),
    "michiyasunaga/BioLinkBERT-base": Layout(
        "BertModel", {**_BERT, "position_embedding_type": "absolute"}, cased=False, stated=_UNCASED, tokenizer_json=True
    ),
    "emilyalsentzer/Bio_ClinicalBERT": Layout(
        "BertForPreTraining", _BERT, cased=True, architectures=False, weights=_of_the_first_converter
    ),
    "distilbert-base-cased": Layout(
        "DistilBertForMaskedLM", _DISTILBERT, cased=True, stated=_CASED, tokenizer_json=True,
        files=("pytorch_model.bin", "model.safetensors"),
    ),
    "huawei-noah/TinyBERT_General_4L_312D": Layout(
        "BertForPreTraining", {**_BERT, **_TINY}, cased=False, architectures=False, weights=_of_tinybert, legacy=True
    ),
    "google/mobilebert-uncased": Layout(
        "MobileBertForPreTraining", _MOBILEBERT, cased=False, tokenizer_json=True
    ),
    "nlpie/distil-biobert": Layout("BertForMaskedLM", _BERT, cased=True, stated=_CASED, **_NLPIE),
    "nlpie/compact-biobert": Layout("BertForMaskedLM", _BERT, cased=True, stated=_CASED, **_NLPIE),
    "nlpie/tiny-biobert": Layout("BertForMaskedLM", _BERT, cased=True, stated=_CASED, weights=_in_half, **_NLPIE),
    "nlpie/bio-distilbert-cased": Layout("DistilBertForMaskedLM", _DISTILBERT, cased=True, stated=_CASED, **_NLPIE),
    "nlpie/bio-distilbert-uncased": Layout(
        "DistilBertForMaskedLM", _DISTILBERT, cased=False, stated=_UNCASED, **_NLPIE
    ),
    "nlpie/bio-tinybert": Layout("BertForMaskedLM", {**_BERT, **_TINY}, cased=False, stated=_UNCASED, **_NLPIE),
    "nlpie/bio-mobilebert": Layout("MobileBertForPreTraining", _MOBILEBERT, cased=False, stated=_UNCASED, **_NLPIE),
}  # fmt: skip


def write(folder: Path, layout: Layout) -> Path:
    """Write a repository of this layout."""
    folder.mkdir(parents=True)
    pieces = CASED if layout.cased else UNCASED
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    if layout.tokenizer_json:
        tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=not layout.cased)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    named = {"architectures": [layout.kind]} if layout.architectures else {}
    files = {"config.json": {**named, **layout.config, "vocab_size": len(pieces)}, **layout.more}
    if layout.stated is not None:
        files["tokenizer_config.json"] = layout.stated
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    config_class, model_class = _CLASSES[layout.kind]
    model = randomize(model_class(config_class(**files["config.json"])))
    weights = layout.weights({key: value.detach() for key, value in model.state_dict().items()})
    for name in layout.files:
        if name.endswith(".safetensors"):
            save_file({key: value.clone().contiguous() for key, value in weights.items()}, folder / name)
        else:
            torch.save(weights, folder / name, _use_new_zipfile_serialization=not layout.legacy)
    return folder
