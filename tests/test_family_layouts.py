"""Repositories of other families as they lie on the hub: files, names of weights, configuration; weights are random.

By what is known of their file lists and configurations; sizes are cut down.
"""

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM

import small_models
from compactbio.modeling import loading
from compactbio.modeling.families import depth, mlm_logits
from compactbio.modeling.packing import Packed, encode

Weights = dict[str, torch.Tensor]


def _roberta(weights: Weights) -> Weights:
    """roberta-base: the decoder and its bias under both names, positions as a buffer, a pooler."""
    embeddings = weights["roberta.embeddings.word_embeddings.weight"]
    return {
        **weights,
        "lm_head.decoder.weight": embeddings.clone(),
        "lm_head.decoder.bias": weights["lm_head.bias"].clone(),
        "roberta.embeddings.position_ids": torch.arange(embeddings.shape[0])[None],
        "roberta.pooler.dense.weight": torch.ones(32, 32),
        "roberta.pooler.dense.bias": torch.ones(32),
    }


def _electra(weights: Weights) -> Weights:
    """electra-base-generator."""
    return {**weights, "electra.embeddings.position_ids": torch.arange(10)[None]}


def _discriminator(weights: Weights) -> Weights:
    """electra-base-discriminator, BiomedELECTRA: no MLM head."""
    kept = {key: value for key, value in weights.items() if key.startswith("electra.")}
    dense = {f"discriminator_predictions.dense.{name}": torch.ones(32, 32) for name in ("weight",)}
    return {**kept, **dense, "discriminator_predictions.dense_prediction.weight": torch.ones(1, 32)}


def _albert(weights: Weights) -> Weights:
    """albert-base-v2: trained on the order of sentences too."""
    return {
        **weights,
        "predictions.decoder.weight": weights["albert.embeddings.word_embeddings.weight"].clone(),
        "predictions.decoder.bias": weights["predictions.bias"].clone(),
        "albert.pooler.weight": torch.ones(32, 32),
        "albert.pooler.bias": torch.ones(32),
        "sop_classifier.classifier.weight": torch.ones(2, 32),
        "sop_classifier.classifier.bias": torch.ones(2),
    }


def _deberta_v3(weights: Weights) -> Weights:
    """deberta-v3-base: heads that find replaced tokens, none for MLM."""
    kept = {key: value for key, value in weights.items() if key.startswith("deberta.")}
    return {**kept, "lm_predictions.lm_head.bias": torch.ones(5), "mask_predictions.dense.weight": torch.ones(32, 32)}


def _as_they_are(weights: Weights) -> Weights:
    """ModernBERT-base and its clinical sibling: safetensors, a head that the decoder is tied behind."""
    return weights


# Name: family, file, changes of weights, of the configuration, and whether there is a trained MLM head.
LAYOUTS: dict[str, tuple[str, str, Callable[[Weights], Weights], dict[str, object], bool]] = {
    "allenai/biomed_roberta_base": ("roberta", "pytorch_model.bin", _roberta, {"architectures": None}, True),
    "FacebookAI/xlm-roberta-base": ("xlm-roberta", "model.safetensors", _roberta, {"output_past": True}, True),
    "google/electra-base-generator": ("electra", "pytorch_model.bin", _electra, {}, True),
    "microsoft/BiomedELECTRA": (
        "electra", "pytorch_model.bin", _discriminator, {"architectures": ["ElectraForPreTraining"]}, False,
    ),
    "albert/albert-base-v2": ("albert", "model.safetensors", _albert, {"net_structure_type": 0}, True),
    "microsoft/deberta-v3-base": (
        "deberta-v2", "pytorch_model.bin", _deberta_v3, {"architectures": None, "pos_att_type": "p2c|c2p"}, False,
    ),
    "thomas-sounack/BioClinical-ModernBERT-base": (
        "modernbert", "model.safetensors", _as_they_are,
        {"position_embedding_type": "absolute", "classifier_pooling": "mean", "reference_compile": False}, True,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=LAYOUTS)
def repository(request, tmp_path_factory):
    family, file, changed, config, has_head = LAYOUTS[request.param]
    folder = small_models.save(family, "mlm", tmp_path_factory.mktemp("hub"))
    weights = changed(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    if file.endswith(".bin"):
        torch.save(weights, folder / file)
    else:
        save_file({key: value.contiguous() for key, value in weights.items()}, folder / file, {"format": "pt"})
    stated = {**json.loads((folder / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in stated.items() if value is not None}))
    return folder, has_head


def test_the_encoder_is_that_of_plain_transformers(repository):
    folder, _ = repository
    labels = ["O", "B", "I"]
    ours = loading.load_for(loading.find(folder), "ner", labels, new_head=True)
    theirs = AutoModel.from_pretrained(folder).state_dict()
    for key, value in ours.base_model.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def test_the_mlm_head_is_that_of_plain_transformers_where_there_is_one(repository):
    folder, has_head = repository
    model, found = loading.load(loading.find(folder), seed=0)
    assert found == has_head
    if not has_head:
        return
    plain = AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = torch.randint(8, plain.config.vocab_size - 8, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = encode(model.eval(), Packed.from_padded(ids, None, ids), {depth(model)}, set()).hidden[depth(model)]
        torch.testing.assert_close(mlm_logits(model, hidden), plain(ids).logits[0], atol=1e-6, rtol=0)
