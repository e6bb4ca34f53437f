"""What a model costs: parameters, size on disk, FLOPs, latency, throughput and memory, beside a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from compactbio.corpus.progress import Listener, Silent
from compactbio.deploy import measuring
from compactbio.deploy.measuring import Conditions, Times
from compactbio.errors import UserError
from compactbio.modeling.families import depth, encoder_parameters, heads
from compactbio.modeling.flops import flops_per_token
from compactbio.training import hardware
from compactbio.training.loading import Source, configured, find

_LATENCY_TOKENS = 32
_SENTENCE_TOKENS = 128
_FLOATING = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True)
class Profile:
    """The figures of one model; all but `parameters` and `disk_bytes` are of the encoder, without pooler and head.

    `parameters` counts what the weight files hold, `encoder_parameters` embeddings and layers together,
    `embedding_parameters` the former alone. `flops_per_token` is at `conditions.sentence_tokens`. `latency_ms` is a
    median, `latency_p95_ms` the 95th percentile. `peak_memory_bytes` is what loading and a batch add to a process.
    `ratios` are this model's figures over those of `baseline`.
    """

    model: str
    family: str
    layers: int
    hidden_size: int
    heads: int
    parameters: int
    embedding_parameters: int
    encoder_parameters: int
    disk_bytes: int
    flops_per_token: int
    latency_ms: float
    latency_p95_ms: float
    throughput_tokens_per_second: float
    peak_memory_bytes: int
    conditions: Conditions
    baseline: str = ""
    ratios: dict[str, float] = field(default_factory=dict)


def profile(
    models: Sequence[str | Path],
    *,
    baseline: str | Path | None = None,
    sentences: int = 8,
    threads: int | None = None,
    listener: Listener | None = None,
) -> list[Profile]:
    """Profile models, named by folder or hub name, in the order given; each name once.

    All run in the precision that is this machine's default, in turns, with `threads` threads (by default torch's
    own number), on `sentences` a batch of 128 tokens, or of as many as every model has positions. The baseline is the
    first model unless named; one that is not among the models comes first. Raises UserError for no models, a model
    that is not there or not served, and weights that cannot be read.
    """
    listener = listener or Silent()
    baseline = str(baseline) if baseline else None
    names = in_order(list(map(str, models)), baseline)
    sources = [_found(name) for name in names]
    conditions = _conditions(sources, sentences, threads or torch.get_num_threads())
    with measuring.threads(conditions.threads):
        loaded = [measuring.load(source, conditions.precision) for source in sources]
        memory = []
        for source in sources:
            memory.append(measuring.peak_memory(source, conditions))
            listener.step("memory", len(memory), len(sources))
        times = measuring.take_times(loaded, conditions, measuring.ROUNDS, listener)
    found = [_figures(*parts, conditions) for parts in zip(sources, loaded, times, memory, strict=True)]
    reference = found[names.index(baseline or names[0])]
    return [replace(one, baseline=reference.model, ratios=ratios(one, reference)) for one in found]


def in_order(models: Sequence[str], baseline: str | None) -> list[str]:
    """The names to measure, each once: a baseline that is not among the models, then these. UserError for no models."""
    names = list(dict.fromkeys(models))
    if not names:
        raise UserError("There is no model to profile: name at least one folder or hub name.")
    return names if baseline is None or baseline in names else [baseline, *names]


def _found(name: str) -> Source:
    source = configured(name)
    if not source.weights and any(source.folder.rglob("*.onnx")):
        raise UserError(
            f"{name}: it holds an ONNX model without weights for PyTorch, in which models are profiled; name the "
            "folder that it was exported from (export.json has an export's size and speed)."
        )
    return find(name)


def ratios(one: Profile, baseline: Profile) -> dict[str, float]:
    """The figures of a model over those of the baseline: below 1 is less, which for throughput is worse."""
    return {
        "parameters": one.parameters / baseline.parameters,
        "disk": one.disk_bytes / baseline.disk_bytes,
        "flops": one.flops_per_token / baseline.flops_per_token,
        "latency": one.latency_ms / baseline.latency_ms,
        "throughput": one.throughput_tokens_per_second / baseline.throughput_tokens_per_second,
        "memory": one.peak_memory_bytes / baseline.peak_memory_bytes,
    }


def stored_parameters(weights: Sequence[Path]) -> int:
    """The floating-point numbers in files of weights; tied ones count once."""
    total = 0
    for file in weights:
        if file.suffix == ".bin":
            tensors = torch.load(file, map_location="cpu", weights_only=True).values()
            kept = {tensor.data_ptr(): tensor.numel() for tensor in tensors if tensor.is_floating_point()}
            total += sum(kept.values())
            continue
        with safe_open(file, framework="pt") as tensors:
            slices = [tensors.get_slice(key) for key in tensors.keys()]  # noqa: SIM118
            total += sum(prod(one.get_shape()) for one in slices if one.get_dtype() in _FLOATING)
    return total


def disk_bytes(weights: Sequence[Path]) -> int:
    """The size of files of weights."""
    return sum(file.stat().st_size for file in weights)


def _conditions(sources: Sequence[Source], sentences: int, threads: int) -> Conditions:
    positions = min(source.config.max_position_embeddings for source in sources)
    return Conditions(
        processor=hardware.processor(),
        device=hardware.device(),
        threads=threads,
        precision=hardware.precision("auto"),
        torch=torch.__version__,
        latency_tokens=min(_LATENCY_TOKENS, positions),
        sentence_tokens=min(_SENTENCE_TOKENS, positions),
        sentences=sentences,
    )


def _figures(source: Source, model: PreTrainedModel, times: Times, memory: int, conditions: Conditions) -> Profile:
    return Profile(
        model=source.public_name(),
        family=model.config.model_type,
        layers=depth(model),
        hidden_size=model.config.hidden_size,
        heads=heads(model),
        parameters=stored_parameters(source.weights),
        embedding_parameters=sum(weight.numel() for weight in model.embeddings.parameters()),
        encoder_parameters=encoder_parameters(model),
        disk_bytes=disk_bytes(source.weights),
        flops_per_token=int(flops_per_token(model, conditions.sentence_tokens)),
        latency_ms=1000 * times.seconds_a_sentence,
        latency_p95_ms=1000 * times.slow_sentence,
        throughput_tokens_per_second=conditions.sentences * conditions.sentence_tokens / times.seconds_a_batch,
        peak_memory_bytes=memory,
        conditions=conditions,
    )
