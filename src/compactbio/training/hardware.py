"""What this machine can do, and the defaults that follow from it."""

import torch


def precision(wanted: str) -> str:
    """ "bf16" or "fp32"; of "auto" the first where the hardware has it."""
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if wanted == "auto":
        return "bf16" if able else "fp32"
    return wanted


def tokens() -> int:
    """Tokens a micro-batch."""
    return 32768 if torch.cuda.is_available() else 4096
