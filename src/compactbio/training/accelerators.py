"""What accelerators can do by their makers' data sheets; nothing here was measured."""

import re
from typing import NamedTuple

from compactbio.errors import UserError


class Accelerator(NamedTuple):
    """Dense bf16 matrix operations a second with float32 sums, and memory in bytes, as the data sheet prints them."""

    name: str
    flops: float
    memory: float


# NVIDIA's data sheets print the sparse rate of the newer ones, which is twice the dense one that stands here.
_TABLE = (
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
    """How many of which accelerator "8xH100" or "L4" means. Raises UserError for one that is not in the table."""
    match = _WANTED.fullmatch(wanted.strip())
    name = match[2].replace(" ", "").lower() if match else ""
    for one in _TABLE:
        if match and one.name.lower() == name:
            return int(match[1] or 1), one
    known = ", ".join(one.name for one in _TABLE)
    raise UserError(f"{wanted!r} is no accelerator of the table: write 8xH100 or the like, with one of {known}.")
