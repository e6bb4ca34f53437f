"""A packed forward equals that of each row alone, for every family that is served."""

import pytest
import torch

from compactbio.modeling import attention
from compactbio.modeling.attention import attend
from compactbio.modeling.families import depth, mlm_logits
from compactbio.modeling.packing import Packed, encode
from conftest import batch, bert, distilbert, mobilebert

FAMILIES = [bert, distilbert, mobilebert]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_states_and_logits_equal_those_of_each_row_alone(family):
    """The row of [PAD] is not zero here, so MobileBERT's embeddings would see it in a padded batch."""
    model = family()
    ids, mask, labels = batch([13, 5, 9, 1 + 1])
    layers = set(range(depth(model) + 1))
    with torch.no_grad():
        packed = encode(model, Packed.from_padded(ids, mask, labels), layers, set())
        logits = mlm_logits(model, packed.hidden[max(layers)])
        alone = [model(row[kept.bool()][None], output_hidden_states=True) for row, kept in zip(ids, mask, strict=True)]
    for i in layers:
        assert torch.allclose(packed.hidden[i], torch.cat([one.hidden_states[i][0] for one in alone]), atol=1e-5), i
    assert torch.allclose(logits, torch.cat([one.logits[0] for one in alone]), atol=1e-4)


@pytest.mark.parametrize("family", [bert, distilbert])
def test_packed_states_and_logits_equal_padded_ones(family):
    model = family()
    ids, mask, labels = batch([13, 5, 9, 1 + 1])
    with torch.no_grad():
        padded = model(ids, attention_mask=mask, output_hidden_states=True)
        layers = set(range(depth(model) + 1))
        packed = encode(model, Packed.from_padded(ids, mask, labels), layers, set())
        logits = mlm_logits(model, packed.hidden[max(layers)])
    for i, state in enumerate(padded.hidden_states):
        assert torch.allclose(packed.hidden[i], state[mask.bool()], atol=1e-5), i
    assert torch.allclose(logits, padded.logits[mask.bool()], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_token_sees_beyond_its_citation(family):
    model = family()
    one, two = torch.arange(5, 16), torch.arange(20, 28)
    with torch.no_grad():
        alone, joined, other = (
            encode(model, Packed.from_rows(rows, rows), {depth(model)}, set()).hidden[depth(model)]
            for rows in ([one], [one, two], [one, two + 9])
        )
    assert torch.allclose(joined[:11], alone, atol=1e-5)
    assert torch.equal(joined[:11], other[:11]) and not torch.equal(joined[11:], other[11:])


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_packed_and_single_rows_are_equal(family):
    ids, mask, labels = batch([9, 4])
    grads = []
    for packed in (True, False):
        model = family()
        if packed:
            state = encode(model, Packed.from_padded(ids, mask, labels), {depth(model)}, set()).hidden[depth(model)]
        else:
            alone = [row[kept.bool()][None] for row, kept in zip(ids, mask, strict=True)]
            state = torch.cat([model.base_model(row).last_hidden_state[0] for row in alone])
        state.square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_queries_and_keys_give_the_models_attention(family):
    model = family()
    model.set_attn_implementation("eager")
    ids, mask, labels = batch([8, 8])
    last = depth(model) - 1
    with torch.no_grad():
        maps = model(ids, attention_mask=mask, output_attentions=True).attentions
        taken = encode(model, Packed.from_padded(ids, mask, labels), {0}, {last}).attention
    assert set(taken) == {last}
    query, key, scaling = taken[last]
    for i in range(2):
        q, k = query[:, 8 * i : 8 * i + 8], key[:, 8 * i : 8 * i + 8]
        assert torch.allclose((q @ k.transpose(1, 2) * scaling).softmax(-1), maps[last][i], atol=1e-6)


def test_attention_over_a_row_equals_attention_citation_by_citation():
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 12, 8, generator=generator)
    borders = torch.tensor([0, 5, 12], dtype=torch.int32)
    out, weights = attend(torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=borders)
    assert weights is None and out.shape == (1, 12, 2, 8)
    for a, b in ((0, 5), (5, 12)):
        alone, _ = attend(torch.nn.Identity(), query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], None)
        assert torch.allclose(out[:, a:b], alone, atol=1e-6)


def test_attention_of_a_row_as_one_padded_batch_equals_that_citation_by_citation():
    """Which a GPU computes in float32; here on the CPU, to compare both."""
    query, key, value = torch.randn(3, 1, 2, 12, 8, generator=torch.Generator().manual_seed(0))
    borders = (0, 1, 5, 12)
    found = attention.padded(query, key, value, borders, 0.3)
    at = torch.tensor(borders, dtype=torch.int32)
    wanted, _ = attend(torch.nn.Identity(), query, key, value, None, scaling=0.3, cu_seq_lens_q=at)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("size", [8, 26])
def test_what_the_cuda_kernel_is_given_and_gives_has_its_shapes(size, window, monkeypatch):
    """The kernel runs on CUDA alone; here its place is taken by what it computes, with the shapes that it asks for."""

    def kernel(query, key, value, at, also_at, longest, also_longest, *, scale, window_size):
        assert query.shape[-1] % 8 == 0 and query.shape[:2] == (12, 2)
        assert (longest, also_longest) == (7, 7) and torch.equal(at, also_at)
        out = torch.empty_like(query)
        for a, b in ((0, 5), (5, 12)):
            q, k, v = (x[a:b].transpose(0, 1) for x in (query, key, value))
            far = (torch.arange(b - a)[:, None] - torch.arange(b - a)).abs() > window_size[0]
            scores = q @ k.transpose(1, 2) * scale
            scores = scores.masked_fill(far, -torch.inf) if window_size[0] >= 0 else scores
            out[a:b] = (scores.softmax(-1) @ v).transpose(0, 1)
        return out

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    query, key, value = torch.randn(3, 1, 2, 12, size, generator=torch.Generator().manual_seed(0))
    borders = torch.tensor([0, 5, 12], dtype=torch.int32)
    found = attention._varlen(query, key, value, borders, (0, 5, 12), size**-0.5, window)
    module = torch.nn.Identity()
    wanted, _ = attend(module, query, key, value, None, cu_seq_lens_q=borders, sliding_window=window)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
