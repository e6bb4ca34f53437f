"""What this machine is and can do, and the defaults that follow from it."""

import os
import platform
import re
import resource
from pathlib import Path

import torch

from compactbio.records.machine import cores as cores

CUDA_TOKENS = 32_768
_STATUS = Path("/proc/self/status")


def has_bf16() -> bool:
    """Whether the device multiplies in bf16 itself; where it does not, PyTorch emulates it, many times as slowly."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def precision(wanted: str) -> str:
    """ "bf16" or "fp32"; of "auto" the first where the hardware has it."""
    if wanted == "auto":
        return "bf16" if has_bf16() else "fp32"
    return wanted


def tokens() -> int:
    """Tokens a micro-batch."""
    return CUDA_TOKENS if torch.cuda.is_available() else 4096


def gpus() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES names each GPU that this process may use."""
    return named(torch.cuda.device_count() if torch.cuda.is_available() else 0, os.environ.get("CUDA_VISIBLE_DEVICES"))


def named(count: int, visible: str | None) -> tuple[str, ...]:
    """The names of `count` GPUs where CUDA_VISIBLE_DEVICES is `visible`: numbers, or the names of cards and their
    parts."""
    names = map(str, range(count)) if visible is None else (name.strip() for name in visible.split(","))
    return tuple(names)[:count]


def processor() -> str:
    """The name of this machine's processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def device() -> str:
    """The name of the device that models run on: "cpu", or the GPU's own."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def peak() -> int:
    """The most memory in bytes that this process has taken so far; on CUDA the device's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # On Linux getrusage's ru_maxrss would start at the peak of the process that started this one.
    found = re.search(r"^VmHWM:\s*(\d+) kB$", _text(_STATUS), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
