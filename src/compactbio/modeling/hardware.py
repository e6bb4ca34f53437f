"""What this machine can do, how fast calls are on it, what accelerators can do, and the FLOPs of a model."""

import os
import re
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.errors import UserError, check_counts
from compactbio.processes import peak_memory, processor

Key = TypeVar("Key", bound=Hashable)

CUDA_TOKENS = 32_768
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "bf16", "fp32")
_chosen = ContextVar("device", default="auto")


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Within it models are loaded, trained and timed on the device `name`, one of DEVICES; "auto" leaves it as it is.

    Raises UserError for another name, and for "cuda" where PyTorch finds no GPU.
    """
    if name not in DEVICES:
        raise UserError(f"{name!r} is not a device: take {', '.join(DEVICES)}.", setting="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA GPU that PyTorch can use; take the device auto or cpu.", setting="device")
    token = _chosen.set(_chosen.get() if name == "auto" else name)
    try:
        yield
    finally:
        _chosen.reset(token)


def uses_gpu() -> bool:
    """Whether models run on a CUDA GPU: there is one, and `on_device` does not keep them from it."""
    return _chosen.get() != "cpu" and torch.cuda.is_available()


def torch_device() -> str:
    """What PyTorch calls the device that models run on."""
    return "cuda" if uses_gpu() else "cpu"


def has_bf16() -> bool:
    """Whether the device multiplies in bf16 itself; where it does not, PyTorch emulates it, many times slower."""
    if uses_gpu():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


# Types whose code in transformers stops with an error under autocast: DeBERTa v1 writes float32's lowest number into
# bf16 scores.
_WITHOUT_AUTOCAST = ("deberta",)


def check_work(precision: str, tokens_per_batch: int | None) -> int | None:
    """The tokens as an int. Raises UserError for a precision that is none of PRECISIONS, and for less than 1 token."""
    if precision not in PRECISIONS:
        raise UserError(f"{precision!r} is not a precision: take {', '.join(PRECISIONS)}.", setting="precision")
    [tokens] = check_counts(tokens_per_batch=tokens_per_batch)
    return tokens


def precision(wanted: str, *configs: PretrainedConfig) -> str:
    """The precision that `wanted` means: "bf16", "fp32", or for "auto" bf16 where the hardware has it.

    Raises UserError for another one, and for bf16 where one of `configs` is of a model that autocast does not take.
    """
    check_work(wanted, None)
    kept = [config.model_type for config in configs if config.model_type in _WITHOUT_AUTOCAST]
    if wanted == "bf16" and kept:
        raise UserError(
            f"transformers does not compute a {kept[0]} in bf16 beside float32: take fp32.", setting="precision"
        )
    if wanted == "auto":
        return "bf16" if has_bf16() and not kept else "fp32"
    return wanted


def tokens() -> int:
    """Tokens per micro-batch on this device."""
    return CUDA_TOKENS if uses_gpu() else 4096


def gpus() -> tuple[str, ...]:
    """The name of each GPU that this process may use, as CUDA_VISIBLE_DEVICES takes it."""
    count = torch.cuda.device_count() if uses_gpu() else 0
    return gpu_names(count, os.environ.get("CUDA_VISIBLE_DEVICES"))


def gpu_names(count: int, visible: str | None) -> tuple[str, ...]:
    """The names of `count` GPUs where CUDA_VISIBLE_DEVICES is `visible`: numbers, or ids of cards and their parts."""
    names = map(str, range(count)) if visible is None else (name.strip() for name in visible.split(","))
    return tuple(names)[:count]


def take_gpu(number: int, names: Sequence[str]) -> None:
    """Keep this new process, worker `number`, to one of some GPUs (see `gpus`), which workers share in turn."""
    if names:
        # Read when PyTorch first looks for GPUs, which a new process has not done yet.
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]


def device() -> str:
    """The name of the device that models run on: "cpu", or the GPU's own."""
    return torch.cuda.get_device_name() if uses_gpu() else "cpu"


def machine() -> dict[str, Any]:
    """What figures are measured on: processor, device, threads, and the version of torch."""
    return {
        "processor": processor(),
        "device": device(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def peak() -> int:
    """The most memory in bytes that this process has used so far; on CUDA the device's."""
    return torch.cuda.max_memory_allocated() if uses_gpu() else peak_memory()


def time_in_turns(
    calls: Mapping[Key, Callable[[], object]], rounds: int, on_round: Callable[[int], object] = lambda number: None
) -> dict[Key, list[float]]:
    """The seconds of each call in each round, all calls in turns, so that other load on the machine affects all alike.

    A first round, in which kernels are chosen and memory is allocated, does not count. `on_round` is called after each
    round with its number, from 1.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(rounds + 1):
        for key, call in calls.items():
            taken = timed(call)
            if number:
                seconds[key].append(taken)
        if number:
            on_round(number)
    return seconds


def timed(call: Callable[[], object]) -> float:
    """The seconds of a call and of what it gives the device to do."""
    began = now()
    call()
    return now() - began


def now() -> float:
    """The time in seconds, once the device has done what it was given."""
    if uses_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


class Accelerator(NamedTuple):
    """Dense bf16 matrix operations per second with float32 sums, and memory in bytes, as the data sheet says."""

    name: str
    flops: float
    memory: float


# NVIDIA's data sheets print the sparse rate of the newer ones, which is twice the dense one given here.
_ACCELERATORS = (
    Accelerator("B200", 2250e12, 180e9),
    Accelerator("H200", 989e12, 141e9),
    Accelerator("H100", 989e12, 80e9),  # SXM
    Accelerator("H100-PCIe", 756e12, 80e9),
    Accelerator("A100", 312e12, 80e9),
    Accelerator("A100-40GB", 312e12, 40e9),
    Accelerator("L40S", 362e12, 48e9),
    Accelerator("A10", 125e12, 24e9),
    Accelerator("L4", 121e12, 24e9),
    Accelerator("RTX4090", 165.2e12, 24e9),
    Accelerator("RTX3090", 71e12, 24e9),
    Accelerator("MI300X", 1307.4e12, 192e9),
)
_WANTED = re.compile(r"(?:([1-9]\d{0,4})x)?(.+)", re.IGNORECASE)


def find(wanted: str) -> tuple[int, Accelerator]:
    """The number and the accelerator that "8xH100" or "L4" means. Raises UserError for an unknown one."""
    match = _WANTED.fullmatch(wanted.strip())
    name = match[2].replace(" ", "").lower() if match else ""
    for accelerator in _ACCELERATORS:
        if match and accelerator.name.lower() == name:
            return int(match[1] or 1), accelerator
    known = ", ".join(accelerator.name for accelerator in _ACCELERATORS)
    raise UserError(f"{wanted!r} is not a known accelerator: write 8xH100 or the like, with one of {known}.")


def flops_per_token(model: PreTrainedModel, length: float) -> float:
    """Floating-point operations per token of an encoder's forward pass, in sentences of `length` tokens.

    Two for every weight of a linear module, and in every layer four times the width of the queries for each token that
    a token attends to. DeBERTa's products of queries and keys with distances are counted too; norms, activations,
    softmax and biases are not.
    """
    config = model.config
    layers = int(config.num_hidden_layers)
    # ALBERT computes one layer again and again.
    shared = getattr(model, "encoder", None) if config.model_type == "albert" else None
    weights = _linear_weights(model) + (_linear_weights(shared.albert_layer_groups) * (layers - 1) if shared else 0)
    width = int(getattr(config, "true_hidden_size", config.hidden_size))  # MobileBERT's layers are narrower
    near = min(length, 2 * int(getattr(config, "sliding_window", None) or length) + 1)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * layers
    attended = sum(near if kind == "sliding_attention" else length for kind in kinds)
    return 2 * weights + 4 * attended * width + layers * _distance_flops(config, length, width)


def _distance_flops(config: PretrainedConfig, length: float, width: int) -> float:
    """Of a token in a layer of DeBERTa: its query with the keys of distances, its key with their queries, and its share
    of the projections of distances, which are computed once per sentence."""
    if not getattr(config, "relative_attention", False):
        return 0.0
    most = config.max_relative_positions if config.max_relative_positions > 0 else config.max_position_embeddings
    buckets = getattr(config, "position_buckets", -1)
    distances = 2 * (buckets if buckets > 0 else min(length, most) if config.model_type == "deberta" else most)
    terms = len(config.pos_att_type)
    return terms * 2 * distances * width * (1 + width / length)


def head_flops(model: PreTrainedModel) -> int:
    """Floating-point operations of a model's head at one position: two for every weight of its linear modules."""
    return 2 * (_linear_weights(model) - _linear_weights(model.base_model))


def _linear_weights(model: nn.Module) -> int:
    """The weights of linear modules that are applied to tokens, not to distances between them (DeBERTa's pos_...)."""
    linear = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return sum(module.weight.numel() for name, module in linear if not name.rpartition(".")[2].startswith("pos_"))
