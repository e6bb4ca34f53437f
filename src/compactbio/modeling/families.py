"""The families of encoders: what differs between them, and what any encoder of transformers has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.errors import UserError

# The second name of a decoder's bias, and the module that has both.
DECODER_BIASES = {"cls.predictions.decoder.bias": "cls.predictions", "lm_head.decoder.bias": "lm_head"}
# Tokens of a row where a configuration states no limit.
_UNLIMITED = 512


@dataclass(frozen=True)
class Family:
    """Where a family differs from others."""

    head: tuple[str, ...]  # the modules of the MLM head, without the decoder that is tied to the embeddings
    logits: Callable[[Any, Tensor], Tensor]  # the MLM head, of a masked-LM model and hidden states (n, width)
    pretrained: tuple[str, ...] = ()  # how the names of weights of its heads of pre-training begin, beside BERT's
    # The head of a sequence classifier, of it and of the last hidden states at the first tokens (rows, width); None
    # where it is computed on padded batches alone.
    classify: Callable[[Any, Tensor], Tensor] | None = None
    packs: bool = False  # whether a packed row gives the same as a padded batch


def _distilbert_logits(model: Any, hidden: Tensor) -> Tensor:
    hidden = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
    return model.vocab_projector(hidden)  # type: ignore[no-any-return]


def _deberta_logits(model: Any, hidden: Tensor) -> Tensor:
    if model.legacy:
        return model.cls(hidden)  # type: ignore[no-any-return]
    return model.lm_predictions(hidden, model.deberta.embeddings.word_embeddings)  # type: ignore[no-any-return]


def _albert_classes(model: Any, first: Tensor) -> Tensor:
    pooled = model.albert.pooler_activation(model.albert.pooler(first))
    return model.classifier(model.dropout(pooled))  # type: ignore[no-any-return]


_ROBERTA = Family(
    head=("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    logits=lambda model, hidden: model.lm_head(hidden),
    pretrained=("lm_head.",),
    classify=lambda model, first: model.classifier(first[:, None]),
    packs=True,
)
_DEBERTA = Family(
    head=("cls.", "lm_predictions."), logits=_deberta_logits, pretrained=("lm_predictions.", "mask_predictions.")
)

FAMILIES = {
    "bert": Family(
        head=("cls.predictions.transform", "cls.predictions.bias"),
        logits=lambda model, hidden: model.cls(hidden),
        classify=lambda model, first: model.classifier(model.dropout(model.base_model.pooler(first[:, None]))),
        packs=True,
    ),
    "distilbert": Family(
        head=("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
        logits=_distilbert_logits,
        classify=lambda model, first: model.classifier(model.dropout(torch.relu(model.pre_classifier(first)))),
        packs=True,
    ),
    # Its embedding joins three neighbours, so a packed row would mix citations at their borders.
    "mobilebert": Family(
        head=("cls.predictions.transform", "cls.predictions.dense", "cls.predictions.bias"),
        logits=lambda model, hidden: model.cls(hidden),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Family(
        head=("generator_predictions", "generator_lm_head.bias"),
        logits=lambda model, hidden: model.generator_lm_head(model.generator_predictions(hidden)),
        pretrained=("generator_predictions.", "generator_lm_head.", "discriminator_predictions."),
        classify=lambda model, first: model.classifier(first[:, None]),
        packs=True,
    ),
    "albert": Family(
        head=("predictions.",),
        logits=lambda model, hidden: model.predictions(hidden),
        pretrained=("predictions.", "sop_classifier."),
        classify=_albert_classes,
        packs=True,
    ),
    "modernbert": Family(
        head=("head.", "decoder.bias"),
        logits=lambda model, hidden: model.decoder(model.head(hidden)),
        pretrained=("head.", "decoder."),
        classify=lambda model, first: model.classifier(model.drop(model.head(first))),
        packs=True,
    ),
    # Their attention adds terms of distance, and so does not go through transformers' attention interface.
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
}

# Families that number positions from the one after the padding id.
_AFTER_PADDING = (
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "longformer",
    "mpnet", "xmod", "ibert", "luke", "mluke", "esm",
)  # fmt: skip
# Families with fields of token types whose tokenizers, or whose encoders, have but one.
_ONE_SEGMENT = (*_AFTER_PADDING, "deberta", "deberta-v2")
# The names of dropout rates in configurations.
_HIDDEN_DROPOUT = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def is_known(config: PretrainedConfig) -> bool:
    """Whether a model is of one of FAMILIES; others run on padded batches, as transformers' own code computes them."""
    return config.model_type in FAMILIES


def packs(config: PretrainedConfig) -> bool:
    """Whether a packed row gives the same as a padded batch."""
    return is_known(config) and FAMILIES[config.model_type].packs


def captures_attention(model: PreTrainedModel) -> bool:
    """Whether a model's attention goes through transformers' attention interface, so that it can be captured."""
    return bool(type(model)._supports_attention_backend)


def family_of(config: PretrainedConfig, name: str = "The model") -> Family:
    """The family of a masked-LM model. Raises UserError for one that is not among FAMILIES."""
    if not is_known(config):
        raise UserError(
            f"{name} is of type {config.model_type!r}, whose MLM head compactbio does not know: take one of "
            f"{', '.join(FAMILIES)}; for fine-tuning and annotating it serves as it is."
        )
    return FAMILIES[config.model_type]


def depth(model: PreTrainedModel) -> int:
    """The number of layers."""
    return int(model.config.num_hidden_layers)


def heads(model: PreTrainedModel) -> int:
    """The number of attention heads of a layer."""
    return int(model.config.num_attention_heads)


def layer_path(model: PreTrainedModel) -> str | None:
    """The path of the layers in a model; None where they share their weights (ALBERT) or are not in one list (XLM)."""
    layers = depth(model)
    found: list[str] = []
    for name, module in model.named_modules():
        within = any(name.startswith(f"{outer}.") for outer in found)  # a list within a layer is not looked at
        if isinstance(module, nn.ModuleList) and len(module) == layers and not within:
            found.append(name)
    return found[0] if len(found) == 1 else None


def layer_list(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a model, in order."""
    path = layer_path(model)
    assert path is not None
    return cast(nn.ModuleList, model.get_submodule(path))


def first_position(config: PretrainedConfig) -> int:
    """The position of a row's first token: 0, or that after the padding id."""
    return int(config.pad_token_id or 0) + 1 if config.model_type in _AFTER_PADDING else 0


def longest(config: PretrainedConfig) -> int:
    """The most tokens of a row, by the positions of a model."""
    positions = int(getattr(config, "max_position_embeddings", None) or 0)
    return (positions if positions > 0 else _UNLIMITED) - first_position(config)


def needs_segments(config: PretrainedConfig) -> bool:
    """Whether a model needs two token types to tell a question from its passage, as BERT does."""
    return hasattr(config, "type_vocab_size") and config.model_type not in _ONE_SEGMENT


def pretrained_heads(config: PretrainedConfig) -> tuple[str, ...]:
    """What the names of the weights of a family's heads of pre-training begin with, beside BERT's."""
    return FAMILIES[config.model_type].pretrained if is_known(config) else ("lm_head.",)


def has_segments(model: PreTrainedModel) -> bool:
    """Whether token types make a difference to a model: DistilBERT has none, RoBERTa but one."""
    taken = signature(type(model).forward).parameters
    return "token_type_ids" in taken and int(getattr(model.config, "type_vocab_size", 2) or 0) > 1


def mlm_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The MLM head on some positions only: hidden states (n, width) to logits (n, vocabulary)."""
    return family_of(model.config).logits(model, hidden)


def encoder_parameters(model: PreTrainedModel) -> int:
    """The number of parameters of the encoder: embeddings and layers, without pooler and MLM head."""
    return sum(p.numel() for name, p in model.base_model.named_parameters() if not name.startswith("pooler."))


def set_dropout(model: PreTrainedModel, *, hidden: float | None, attention: float | None) -> None:
    """Set the dropout rates of a model in place, in its configuration and its modules; None leaves a rate as it is."""
    for module in model.modules():
        for name, child in module.named_children():
            of_attention = _computes_attention(module) and name in ("dropout", "attention_dropout")
            rate = attention if of_attention else hidden
            if isinstance(child, nn.Dropout) and rate is not None:
                child.p = rate
        # ModernBERT's attention reads a number.
        if attention is not None and isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = attention
    for config in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
        for names, rate in ((_HIDDEN_DROPOUT, hidden), (_ATTENTION_DROPOUT, attention)):
            for name in names if rate is not None else ():
                if hasattr(config, name):
                    setattr(config, name, rate)


def _computes_attention(module: nn.Module) -> bool:
    """Whether a module computes attention itself; MPNet's has one within it, and a dropout of hidden states beside."""
    return _is_attention(module) and not any(map(_is_attention, module.children()))


def _is_attention(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Attention")


def attention_dropout(config: PretrainedConfig) -> float:
    """The dropout rate of attention probabilities by a configuration."""
    return float(next((getattr(config, name) for name in _ATTENTION_DROPOUT if hasattr(config, name)), 0.0))


def is_untied(model: PreTrainedModel) -> bool:
    """Whether a masked-LM model has a decoder of its own beside its word embeddings."""
    return model.get_output_embeddings().weight is not model.get_input_embeddings().weight


def with_decoder_bias(model: PreTrainedModel, absent: list[str]) -> list[str]:
    """Make the two names of the bias of an untied decoder one parameter, as no forward pass reads the first of them.

    `absent` are the names that a file lacks; they are given back without that of the bias, where the file holds it
    under the other name.
    """
    if not is_untied(model):
        return absent
    modules = dict(model.named_modules())
    for bias, head in DECODER_BIASES.items():
        within: Any = modules.get(head)
        if isinstance(getattr(within, "bias", None), nn.Parameter) and hasattr(within, "decoder"):
            if absent == [bias]:
                within.decoder.bias, absent = within.bias, []
            within.bias = within.decoder.bias
    return absent


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter."""
    return next(model.parameters()).device
