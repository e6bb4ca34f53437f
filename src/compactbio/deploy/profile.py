"""What a model costs beside a baseline: parameters, size, FLOPs, latency, throughput, memory."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModel, PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling import hardware
from compactbio.modeling.families import depth, device_of, encoder_parameters, heads
from compactbio.modeling.hardware import flops_per_token, peak
from compactbio.modeling.loading import Source, configured, find, load_for
from compactbio.modeling.packing import Packed, encode
from compactbio.progress import Listener, Silent

ROUNDS = 5
_PASSES = 6  # single sentences a round
_SEED = 0


@dataclass(frozen=True)
class Conditions:
    """What the models are run on, and how.

    `precision` is that of weights and arithmetic, "bf16" or "fp32". Latency is taken on one sentence of
    `latency_tokens`, throughput and memory on `sentences` of `sentence_tokens` each, packed end to end.
    """

    processor: str
    device: str
    threads: int
    precision: str
    torch: str
    latency_tokens: int
    sentence_tokens: int
    sentences: int


@dataclass(frozen=True)
class Times:
    """Seconds that one model took: of every single sentence, and of every batch."""

    single: list[float]
    batch: list[float]

    @property
    def seconds_a_sentence(self) -> float:
        """The median of a single sentence, in seconds."""
        return statistics.median(self.single)

    @property
    def slow_sentence(self) -> float:
        """What 95 % of the single sentences stayed below, in seconds."""
        return statistics.quantiles(self.single, n=20, method="inclusive")[-1]

    @property
    def seconds_a_batch(self) -> float:
        """The median of a batch, in seconds."""
        return statistics.median(self.batch)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within it torch computes with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(source: Source, precision: str) -> PreTrainedModel:
    """The encoder of a source without pooler and head, on the device, in eval mode, weights in `precision`.

    Raises UserError as `loading.load_for` does.
    """
    model = load_for(source, AutoModel, new_head=True, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model.to("cuda" if hardware.uses_gpu() else "cpu")


def random_batch(model: PreTrainedModel, sentences: int, length: int) -> Packed:
    """`sentences` of `length` tokens each, drawn from the model's vocabulary; the same ones at every call."""
    generator = torch.Generator().manual_seed(_SEED)
    rows = list(torch.randint(model.config.vocab_size, (sentences, length), generator=generator))
    return Packed.from_rows(rows, [torch.full_like(row, -100) for row in rows]).to(device_of(model))


def take_times(
    models: Sequence[PreTrainedModel], conditions: Conditions, rounds: int, listener: Listener
) -> list[Times]:
    """Time the models in turns, `rounds` times over, so that what else the machine does hits all alike.

    A first turn, in which kernels are chosen and memory is taken, does not count.
    """
    singles = [random_batch(model, 1, conditions.latency_tokens) for model in models]
    batches = [random_batch(model, conditions.sentences, conditions.sentence_tokens) for model in models]
    times = [Times([], []) for _ in models]
    for model, single, batch in zip(models, singles, batches, strict=True):
        _seconds(model, single)
        _seconds(model, batch)
    for done in range(1, rounds + 1):
        for model, single, batch, taken in zip(models, singles, batches, times, strict=True):
            taken.single.extend(_seconds(model, single) for _ in range(_PASSES))
            taken.batch.append(_seconds(model, batch))
        listener.step("rounds", done, rounds)
    return times


def peak_memory(source: Source, conditions: Conditions) -> int:
    """Bytes by which loading a model and running one batch raise the peak of a fresh process.

    What the libraries take before the model is loaded is not counted. On CUDA it is the device's memory instead.
    """
    task = json.dumps([str(source.folder), asdict(conditions)])
    # In a session of its own, so that Ctrl-C is answered by this process alone, which then ends the other.
    child = subprocess.run(
        [sys.executable, "-m", "compactbio.deploy.profile", task],
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,
    )
    return int(child.stdout)


def _measure_own_memory() -> None:
    folder, fields = json.loads(sys.argv[1])
    conditions = Conditions(**fields)
    before = peak()
    with torch_threads(conditions.threads):
        model = load(find(folder), conditions.precision)
        _seconds(model, random_batch(model, conditions.sentences, conditions.sentence_tokens))
    sys.stdout.write(str(peak() - before))


def _seconds(model: PreTrainedModel, batch: Packed) -> float:
    with torch.inference_mode():
        _wait()
        began = time.perf_counter()
        encode(model, batch, {depth(model)}, set())
        _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if hardware.uses_gpu():
        torch.cuda.synchronize()


if __name__ == "__main__":
    _measure_own_memory()


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
    with torch_threads(conditions.threads):
        loaded = [load(source, conditions.precision) for source in sources]
        memory = []
        for source in sources:
            memory.append(peak_memory(source, conditions))
            listener.step("memory", len(memory), len(sources))
        times = take_times(loaded, conditions, ROUNDS, listener)
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
