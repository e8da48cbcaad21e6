"""Devices and numeric precision: names the user writes, and what torch is told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.errors import ConfigError, GexprError
from gexpr.scoring.definitions import PRECISIONS


def resolve_devices(name: str, environ: Mapping[str, str] = os.environ) -> list[torch.device]:
    """Devices from ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``cuda:all`` or ``cuda:N,M,...``.

    ``auto`` prefers CUDA. Where several CUDA devices are visible and a launcher numbers the
    processes of a machine (``LOCAL_RANK`` of torchrun, ``SLURM_LOCALID`` of srun), ``auto`` and
    ``cuda`` give each process its own.

    Raises:
        ConfigError: another name, or a device named twice.
        GexprError: a CUDA device that is not there.
    """
    text = name.strip().lower()
    if text == "cpu" or (text == "auto" and not torch.cuda.is_available()):
        return [torch.device("cpu")]
    match = re.fullmatch(r"auto|cuda(?::(all|\d+(?:,\d+)*))?", text)
    if match is None:
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N, cuda:N,M or cuda:all")
    if not torch.cuda.is_available():
        raise GexprError(
            f"device {name!r}: PyTorch {torch.__version__} finds no CUDA device; use --device cpu"
        )
    count = torch.cuda.device_count()
    which = match.group(1)
    if which is None:
        rank = environ.get("LOCAL_RANK") or environ.get("SLURM_LOCALID") or "0"
        indices = [int(rank) % count if rank.isdecimal() else 0]
    else:
        indices = list(range(count)) if which == "all" else [int(index) for index in which.split(",")]
    if len(set(indices)) < len(indices):
        raise ConfigError(f"device {name!r} names a device twice")
    if max(indices) >= count:
        raise GexprError(f"device {name!r}: the CUDA devices are 0 to {count - 1}")
    return [torch.device("cuda", index) for index in indices]


def resolve_device(name: str) -> torch.device:
    """The one device of a name; see :func:`resolve_devices`.

    Raises:
        ConfigError: another name, or several devices.
        GexprError: a CUDA device that is not there.
    """
    devices = resolve_devices(name)
    if len(devices) > 1:
        raise ConfigError(f"device {name!r} is {len(devices)} devices; name one, such as cuda:0")
    return devices[0]


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

    In all of them CUDA's matrix products add in float32.

    Raises:
        ConfigError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r} (known: {', '.join(PRECISIONS)})")
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    sums = matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction
    with ExitStack() as stack:
        try:
            matmul.allow_tf32 = convolution.allow_tf32 = precision == "tf32"
            # By default the parts of a long sum that several of the device's units share are added in fp16.
            matmul.allow_fp16_reduced_precision_reduction = False
            matmul.allow_bf16_reduced_precision_reduction = False
            if precision in ("fp16", "bf16"):
                dtype = torch.float16 if precision == "fp16" else torch.bfloat16
                stack.enter_context(torch.autocast(device.type, dtype=dtype))
            yield
        finally:
            matmul.allow_tf32, convolution.allow_tf32 = before
            matmul.allow_fp16_reduced_precision_reduction = sums[0]
            matmul.allow_bf16_reduced_precision_reduction = sums[1]


def upload(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device, from the host without waiting for the work that the device was given before.

    Anything else does: ``torch.tensor(numbers, device=...)``, ``.to(device)``, lists as indices of a tensor.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def indices(numbers: Sequence[int] | Sequence[tuple[int, ...]], device: torch.device) -> torch.Tensor:
    """Whole numbers on a device, int64; see :func:`upload`."""
    return upload(torch.tensor(numbers, dtype=torch.int64), device)


class Download:
    """A tensor on its way from a device; work that the device is given later does not delay it.

    Args:
        values: what to copy. It may be overwritten or freed by later work of the device.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        if not values.is_cuda:
            self._host = values
            return
        self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._host.copy_(values, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record(torch.cuda.current_stream(values.device))

    def wait(self) -> NDArray[np.floating]:
        """The values, once they are here."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.numpy()
