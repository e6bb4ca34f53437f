"""Packed attention: one function behind transformers' attention interface, for packed rows and padded batches.

A packed row is (1, tokens) with `position_ids` that start at 0 for each citation and `cu_seq_lens_q`, the borders
(citations + 1,) from 0 to tokens; no token attends over a border.
"""

from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from compactbio.modeling.sharing import held

NAME = "compactbio"
_HALF = (torch.float16, torch.bfloat16)
_BLOCK = 256  # queries of local attention that are computed together


class Capture:
    """Keeps queries, keys and values of chosen layers as attention passes through the layers, in their order.

    `taken[i]` is (query, key, scaling) of layer i of `layers`, `values[i]` the values of layer i of `values_of`; all
    (batch, heads, length, head size) with their graph.
    """

    def __init__(self, layers: Set[int], values_of: Set[int] = frozenset()) -> None:
        self.layers = layers
        self.values_of = values_of
        self.taken: dict[int, tuple[Tensor, Tensor, float]] = {}
        self.values: dict[int, Tensor] = {}
        self._calls = 0

    def offer(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
        """Keep what is wanted of the next layer."""
        if self._calls in self.layers:
            self.taken[self._calls] = (query, key, scaling)
        if self._calls in self.values_of:
            self.values[self._calls] = value
        self._calls += 1


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    borders: tuple[int, ...] | None = None,
    capture: Capture | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within citations: query, key and value (batch, heads, length, size) to (batch, length, heads, size).

    A packed row, which has borders (`borders` are `cu_seq_lens_q` on the host), runs on CUDA without dropout by
    `varlen_attn` in half precision and by SDPA on a padded batch in float32, elsewhere by SDPA, citation by citation;
    in it a token attends to those less than `sliding_window` away. A padded batch has an `attention_mask`, as SDPA
    takes it. `capture` keeps queries, keys and values.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if capture is not None:
        capture.offer(query, key, value, scaling)
    if cu_seq_lens_q is None:
        out = scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
        return out.transpose(1, 2), None
    borders = borders or tuple(cu_seq_lens_q.tolist())
    lengths = [b - a for a, b in pairwise(borders)]
    if query.is_cuda and dropout == 0.0:
        if query.dtype in _HALF:
            return _varlen(query, key, value, cu_seq_lens_q, borders, scaling, sliding_window), None
        # A padded batch of the citations may have up to four times their tokens.
        if sliding_window is None and max(lengths) * len(lengths) <= 4 * borders[-1]:
            return padded(query, key, value, borders, scaling), None
    # The CPU kernel's backward in half precision takes up to eight times as long as in float32 on short rows.
    wide = query.device.type == "cpu" and query.requires_grad and query.dtype in _HALF
    with torch.autocast(query.device.type, enabled=False) if wide else nullcontext():
        # Split, not sliced: the backward of each slice would fill a whole row with zeros.
        split = [torch.split(x.float() if wide else x, lengths, dim=2) for x in (query, key, value)]
        found = [_local(q, k, v, sliding_window, scaling, dropout) for q, k, v in zip(*split, strict=True)]
        return torch.cat(found, dim=2).to(query.dtype).transpose(1, 2), None


def padded(query: Tensor, key: Tensor, value: Tensor, borders: tuple[int, ...], scaling: float) -> Tensor:
    """Attention of a packed row (1, heads, tokens, size) as that of a padded batch, in one call for all citations.

    A kernel per citation would take longer to start than to run on a GPU. Returns (1, tokens, heads, size).
    """
    lengths = [b - a for a, b in pairwise(borders)]
    real = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]  # (citations, longest)
    real = real.to(query.device, non_blocking=True)
    # (citations, heads, longest, size)
    q, k, v = (
        pad_sequence(list(torch.split(x[0].transpose(0, 1), lengths)), batch_first=True).transpose(1, 2)
        for x in (query, key, value)
    )
    out = scaled_dot_product_attention(q, k, v, real[:, None, None], scale=scaling)
    return torch.cat([one[:, :n] for one, n in zip(out, lengths, strict=True)], dim=1).transpose(0, 1)[None]


def _local(query: Tensor, key: Tensor, value: Tensor, window: int | None, scaling: float, dropout: float) -> Tensor:
    """Attention within one citation, (1, heads, length, size), to tokens less than `window` away where there is one.

    The cost of a window is linear in the length: a block of queries meets only the keys that it may attend to.
    """
    length = query.shape[2]
    if window is None or window >= length:
        return scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
    found, places = [], torch.arange(length, device=query.device)
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        low, high = max(0, start - window + 1), min(length, end + window - 1)
        near = (places[start:end, None] - places[None, low:high]).abs() < window  # (queries, keys)
        q, k, v = query[:, :, start:end], key[:, :, low:high], value[:, :, low:high]
        found.append(scaled_dot_product_attention(q, k, v, near, dropout, scale=scaling))
    return torch.cat(found, dim=2)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, at: Tensor, borders: tuple[int, ...], scaling: float, window: int | None
) -> Tensor:
    near = (-1, -1) if window is None else (window - 1, window - 1)
    longest, size = max(b - a for a, b in pairwise(borders)), query.shape[-1]
    # (tokens, heads, size), padded with zeros to a multiple of 8, as the kernel takes it; no product changes.
    q, k, v = (pad(x[0].transpose(0, 1), (0, -size % 8)) for x in (query, key, value))
    out = varlen_attn(q, k, v, at, at, longest, longest, scale=scaling, window_size=near)
    assert isinstance(out, Tensor)
    return out[None, ..., :size]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model attends through `attend`, afterwards as before; for several threads with one model too."""
    with ExitStack() as stack:
        for config in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
            stack.enter_context(held(("attention", id(config)), partial(_switch, config)))
        yield


def _switch(config: PretrainedConfig) -> Callable[[], None]:
    before = config._attn_implementation
    config._attn_implementation = NAME
    return partial(setattr, config, "_attn_implementation", before)
