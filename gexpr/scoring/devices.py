"""Devices and numeric precision: names the user writes, and what torch is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from gexpr.errors import ConfigError, GexprError
from gexpr.scoring.definitions import PRECISIONS


def resolve_device(name: str) -> torch.device:
    """A torch device from ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` prefers CUDA.

    Raises:
        ConfigError: another name, or several devices.
        GexprError: a CUDA device that is not there.
    """
    text = name.strip().lower()
    if text == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if text == "cpu":
        return torch.device("cpu")
    if re.fullmatch(r"cuda:(all|\d+(,\d+)+)", text):
        raise ConfigError(f"device {name!r}: several devices are not yet supported; name one, such as cuda:0")
    match = re.fullmatch(r"cuda(?::(\d+))?", text)
    if match is None:
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise GexprError(
            f"device {name!r}: PyTorch {torch.__version__} finds no CUDA device; use --device cpu"
        )
    index = int(match.group(1) or 0)
    if index >= torch.cuda.device_count():
        raise GexprError(f"device {name!r}: the CUDA devices are 0 to {torch.cuda.device_count() - 1}")
    return torch.device("cuda", index)


def device_kind(device: torch.device) -> str:
    """``cpu``, or ``cuda`` with the device's product name: what makes results differ in the last bits."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def set_threads(count: int | None) -> None:
    """Let PyTorch use ``count`` CPU threads; None leaves its own choice, one a core."""
    if count is not None:
        torch.set_num_threads(count)


def default_batch_size(context_length: int, device: torch.device) -> int:
    """Sequences a batch: a fixed number of bases, so that memory stays moderate at any context."""
    bases = 2**17 if device.type == "cpu" else 2**20
    return max(1, min(128, bases // context_length))


@contextmanager
def numeric_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Run a block in ``fp32`` (TF32 off), ``tf32``, ``fp16`` or ``bf16`` (autocast); settings are restored.

    Raises:
        ConfigError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r} (known: {', '.join(PRECISIONS)})")
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    with ExitStack() as stack:
        try:
            matmul.allow_tf32 = convolution.allow_tf32 = precision == "tf32"
            if precision in ("fp16", "bf16"):
                dtype = torch.float16 if precision == "fp16" else torch.bfloat16
                stack.enter_context(torch.autocast(device.type, dtype=dtype))
            yield
        finally:
            matmul.allow_tf32, convolution.allow_tf32 = before
