"""What makes a training step cheap on a CPU leaves its result as it was."""

import pytest
import torch
from torch import nn
from transformers import IBertConfig, IBertForTokenClassification, MPNetConfig, MPNetForTokenClassification

from compactbio.modeling.families import set_dropout
from compactbio.objectives import Distiller
from compactbio.recipes import load
from compactbio.training.fast_steps import QuickDropout, embedding_gradient_in_place, quick_dropout
from conftest import batch, bert, distilbert, mobilebert


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate, dtype):
    torch.manual_seed(0)
    x = torch.full((400, 1001), 3.0, dtype=dtype, requires_grad=True)
    y = QuickDropout(rate)(x)
    kept = y != 0
    # Four standard deviations of a binomial share.
    assert abs(kept.double().mean() - (1 - rate)) < 4 * (rate * (1 - rate) / x.numel()) ** 0.5
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 3 / (1 - rate)), rtol=4e-3, atol=0)
    # No row or column is favoured: each differs from the share by chance alone.
    assert kept.double().mean(0).std() == pytest.approx((rate * (1 - rate) / 400) ** 0.5, rel=0.15)
    assert kept.double().mean(1).std() == pytest.approx((rate * (1 - rate) / 1001) ** 0.5, rel=0.2)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(kept, 1 / (1 - rate), 0.0).to(dtype), rtol=4e-3, atol=0)


def test_dropout_follows_torchs_generator_and_is_off_in_eval():
    dropout = QuickDropout(0.3)
    x = torch.ones(1000)
    torch.manual_seed(7)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(7)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(QuickDropout(0.0)(x), x)
    assert not QuickDropout(1.0)(x).any()


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
def test_a_model_gets_its_own_dropout_back(family):
    model = family()
    before = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    with quick_dropout(model):
        assert {type(m) for m in model.modules() if isinstance(m, nn.Dropout)} == {QuickDropout}
        model.train()
    after = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert after == before
    assert all(module.training for module in after.values())


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
def test_embedding_gradients_added_in_place_equal_autograds(family):
    plain, ours = family(), family()
    recipe = load("bio-tinybert")
    batches = [batch([9, 4, 7], seed=seed) for seed in (0, 1)]
    for _ in range(2):
        plain.zero_grad()
        ours.zero_grad()
        for ids, mask, labels in batches:
            Distiller(plain, None, recipe).eval()(ids, mask, labels).loss.backward()
        with embedding_gradient_in_place(ours):
            for ids, mask, labels in batches:
                Distiller(ours, None, recipe).eval()(ids, mask, labels).loss.backward()
        for (name, one), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
            if one.grad is None:
                assert other.grad is None, name
                continue
            assert not other.grad.is_sparse
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-6, msg=name)


def test_a_model_whose_embeddings_are_of_another_kind_keeps_its_gradients():
    config = IBertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32
    )  # fmt: skip
    model = IBertForTokenClassification(config)
    with embedding_gradient_in_place(model):
        model(torch.randint(2, 60, (1, 5))).logits.sum().backward()
    assert model.get_input_embeddings().weight.grad is not None


def test_a_dropout_of_hidden_states_within_attention_is_not_that_of_attention():
    model = MPNetForTokenClassification(
        MPNetConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32)
    )
    set_dropout(model, hidden=None, attention=0.0)
    attention = model.mpnet.encoder.layer[0].attention
    assert (attention.dropout.p, attention.attn.dropout.p) == (0.1, 0.0)
