"""What a model costs beside a baseline: parameters, size, FLOPs, latency, throughput, memory."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.modeling import hardware
from compactbio.modeling.families import depth, device_of, encoder_parameters, heads, longest
from compactbio.modeling.hardware import flops_per_token, peak
from compactbio.modeling.loading import Source, configured, find, load_for
from compactbio.modeling.packing import Packed, encode
from compactbio.processes import processor
from compactbio.progress import Listener, listening

ROUNDS = 5
_SENTENCES_PER_ROUND = 6  # single ones
_LATENCY_TOKENS = 32
_SENTENCE_TOKENS = 128
_FLOATING = ("F16", "BF16", "F32", "F64")
_RATIOS = {
    "parameters": "parameters",
    "disk": "disk_bytes",
    "flops": "flops_per_token",
    "latency": "latency_ms",
    "throughput": "throughput_tokens_per_second",
    "memory": "peak_memory_bytes",
}


@dataclass(frozen=True)
class Conditions:
    """What the models are run on, and how."""

    processor: str  # its name
    device: str  # "cpu", or the GPU's name
    threads: int  # of torch
    precision: str  # of weights and arithmetic, "bf16" or "fp32"
    torch: str  # its version
    latency_tokens: int  # of the one sentence that latency is of
    sentence_tokens: int  # of each sentence of a batch
    sentences: int  # per batch, packed end to end, that throughput and memory are of


@dataclass(frozen=True)
class Profile:
    """The figures of one model; all but `parameters` and `disk_bytes` are of the encoder, without pooler and head."""

    model: str
    family: str
    layers: int
    hidden_size: int
    heads: int
    parameters: int  # what the weight files hold
    embedding_parameters: int  # of `encoder_parameters`
    encoder_parameters: int  # embeddings and layers
    disk_bytes: int
    flops_per_token: int  # at `conditions.sentence_tokens`
    latency_ms: float  # a median
    latency_p95_ms: float  # the 95th percentile
    throughput_tokens_per_second: float
    peak_memory_bytes: int  # what loading and a batch add to a process
    conditions: Conditions
    baseline: str = ""
    ratios: dict[str, float] = field(default_factory=dict)  # this model's figures over those of `baseline`


def profile(
    models: Sequence[str | Path],
    *,
    baseline: str | Path | None = None,
    sentences: int = 8,
    threads: int | None = None,
    listener: Listener | None = None,
) -> list[Profile]:
    """Profile models (folders or hub names), each once, in turns, in the precision that is this machine's default.

    The baseline is the first model unless named; one that is not among the models comes first. The `sentences` of a
    batch have 128 tokens, or as many as every model has positions. `threads` are by default torch's own number. Raises
    UserError for no models, a model that does not exist or is not supported, and weights that cannot be read.
    """
    listener = listening(listener)
    baseline = str(baseline) if baseline else None
    names = in_order(list(map(str, models)), baseline)
    sources = [_find(name) for name in names]
    positions = min(longest(source.config) for source in sources)
    conditions = Conditions(
        processor=processor(),
        device=hardware.device(),
        threads=threads or torch.get_num_threads(),
        precision=hardware.precision("auto"),
        torch=torch.__version__,
        latency_tokens=min(_LATENCY_TOKENS, positions),
        sentence_tokens=min(_SENTENCE_TOKENS, positions),
        sentences=sentences,
    )
    with torch_threads(conditions.threads):
        loaded = [load(source, conditions.precision) for source in sources]
        memory = []
        for source in sources:
            memory.append(peak_memory(source, conditions))
            listener.step("memory", len(memory), len(sources))
        times = take_times(loaded, conditions, ROUNDS, listener)
    found = [_figures(*figures, conditions) for figures in zip(sources, loaded, times, memory, strict=True)]
    reference = found[names.index(baseline or names[0])]

    def ratios(figures: Profile) -> dict[str, float]:
        return {name: getattr(figures, figure) / getattr(reference, figure) for name, figure in _RATIOS.items()}

    return [replace(figures, baseline=reference.model, ratios=ratios(figures)) for figures in found]


def in_order(models: Sequence[str], baseline: str | None) -> list[str]:
    """The names to measure, each once: a baseline that is not among the models, then these. UserError for no models."""
    names = list(dict.fromkeys(models))
    if not names:
        raise UserError("There is no model to profile: name at least one folder or hub name.")
    return names if baseline is None or baseline in names else [baseline, *names]


def _find(name: str) -> Source:
    source = configured(name)
    if not source.weights and any(source.folder.rglob("*.onnx")):
        raise UserError(
            f"{name}: it holds an ONNX model without weights for PyTorch, in which models are profiled; name the "
            "folder that it was exported from (export.json has an export's size and speed)."
        )
    return find(name)


def load(source: Source, precision: str) -> PreTrainedModel:
    """The encoder of a source without pooler and head, on the device, in eval mode, weights in `precision`.

    Raises UserError as `loading.load_for` does.
    """
    model = load_for(source, None, new_head=True, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model.to(hardware.torch_device())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within it torch computes with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_batch(model: PreTrainedModel, sentences: int, length: int) -> Packed:
    """`sentences` of `length` tokens each, drawn from the model's vocabulary; the same ones at every call."""
    generator = torch.Generator().manual_seed(0)
    rows = list(torch.randint(model.config.vocab_size, (sentences, length), generator=generator))
    return Packed.from_rows(rows, [torch.full_like(row, -100) for row in rows]).to(device_of(model))


def _run(model: PreTrainedModel, batch: Packed) -> None:
    with torch.inference_mode():
        encode(model, batch, {depth(model)}, set())


@dataclass(frozen=True)
class Times:
    """Seconds of one model: of every single sentence, and of every batch."""

    single: list[float]
    batch: list[float]

    @property
    def seconds_per_sentence(self) -> float:
        """The median of a single sentence, in seconds."""
        return statistics.median(self.single)

    @property
    def slow_sentence(self) -> float:
        """The 95th percentile of the single sentences, in seconds."""
        return statistics.quantiles(self.single, n=20, method="inclusive")[-1]

    @property
    def seconds_per_batch(self) -> float:
        """The median of a batch, in seconds."""
        return statistics.median(self.batch)


def take_times(
    models: Sequence[PreTrainedModel], conditions: Conditions, rounds: int, listener: Listener
) -> list[Times]:
    """Time the models in turns, `rounds` times: some single sentences, then a batch."""
    calls: dict[tuple[int, int], Callable[[], object]] = {}
    for index, model in enumerate(models):
        single = random_batch(model, 1, conditions.latency_tokens)
        batch = random_batch(model, conditions.sentences, conditions.sentence_tokens)
        calls |= {(index, turn): partial(_run, model, single) for turn in range(_SENTENCES_PER_ROUND)}
        calls[index, _SENTENCES_PER_ROUND] = partial(_run, model, batch)
    seconds = hardware.time_in_turns(calls, rounds, lambda done: listener.step("rounds", done, rounds))
    return [
        Times(
            [taken for turn in range(_SENTENCES_PER_ROUND) for taken in seconds[index, turn]],
            seconds[index, _SENTENCES_PER_ROUND],
        )
        for index in range(len(models))
    ]


def peak_memory(source: Source, conditions: Conditions) -> int:
    """Bytes by which loading a model and running one batch raise the peak of a fresh process.

    What the libraries use before the model is loaded is not counted. On CUDA it is the device's memory instead.
    """
    command = [sys.executable, "-m", "compactbio.deploy.profile"]
    arguments = json.dumps([str(source.folder), asdict(conditions)])
    # In a session of its own, so that Ctrl-C reaches this process alone, which then ends the other.
    return int(subprocess.check_output([*command, arguments], start_new_session=True))


def _print_peak_memory() -> None:
    """What `peak_memory` runs in a fresh process."""
    folder, fields = json.loads(sys.argv[1])
    conditions = Conditions(**fields)
    with hardware.on_device("cpu" if conditions.device == "cpu" else "auto"), torch_threads(conditions.threads):
        before = peak()
        model = load(find(folder), conditions.precision)
        _run(model, random_batch(model, conditions.sentences, conditions.sentence_tokens))
        if hardware.uses_gpu():
            torch.cuda.synchronize()
        sys.stdout.write(str(peak() - before))


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
            total += sum(prod(tensor.get_shape()) for tensor in slices if tensor.get_dtype() in _FLOATING)
    return total


def disk_bytes(weights: Sequence[Path]) -> int:
    """The size of files of weights."""
    return sum(file.stat().st_size for file in weights)


def _figures(source: Source, model: PreTrainedModel, times: Times, memory: int, conditions: Conditions) -> Profile:
    embeddings = getattr(model, "embeddings", model.get_input_embeddings())
    return Profile(
        model=source.public_name(),
        family=model.config.model_type,
        layers=depth(model),
        hidden_size=model.config.hidden_size,
        heads=heads(model),
        parameters=stored_parameters(source.weights),
        embedding_parameters=sum(weight.numel() for weight in embeddings.parameters()),
        encoder_parameters=encoder_parameters(model),
        disk_bytes=disk_bytes(source.weights),
        flops_per_token=int(flops_per_token(model, conditions.sentence_tokens)),
        latency_ms=1000 * times.seconds_per_sentence,
        latency_p95_ms=1000 * times.slow_sentence,
        throughput_tokens_per_second=conditions.sentences * conditions.sentence_tokens / times.seconds_per_batch,
        peak_memory_bytes=memory,
        conditions=conditions,
    )


if __name__ == "__main__":
    _print_peak_memory()
