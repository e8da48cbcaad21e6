"""A model's local trunk as predictors call it: as it is, or compiled by ``torch.compile``.

The trunk is what a window's reference and an allele's patch cost most of, and it is shown sequences of a few
fixed shapes: patches, tiles, segments of the genome. What follows is not compiled: the cones of the local
stages have as many shapes as variants have surroundings, and attention brings kernels of its own.

CUDA graphs are not used: their results live in memory that the next call overwrites, and each shape would
keep its activations for good, which ``--auto-batch`` could not take back.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from gexpr.errors import ConfigError, GexprError
from gexpr.models.base import SequenceModel

BACKEND = "inductor"

MOST_SHAPES = 64
"""Shapes that PyTorch may compile one function for; its own limit of 8 is less than patches have sizes."""


class Trunk:
    """The local trunk of a model.

    Its tokens have the number type of the weights, also under autocast: what is added to them later, and
    to each other, is not rounded to half precision then.

    Args:
        model: any model; without a local trunk nothing of this may be called.
        device: where the model is.
        compiled: compile the trunk for every shape it is shown, when it is shown it first.

    Raises:
        ConfigError: PyTorch cannot compile for this device.
    """

    def __init__(self, model: SequenceModel, device: torch.device, compiled: bool = False) -> None:
        self._model = model
        self._encode: Callable[[Tensor], Tensor] = model.encode
        parameter = next(model.parameters(), None)
        self._dtype = None if parameter is None else parameter.dtype
        if compiled:
            check_compiler(device)
            self._encode = compiled_function(model.encode)

    def encode(self, x: Tensor) -> Tensor:
        """:meth:`SequenceModel.encode`: (B, n * bin_size, 4) one-hot to (B, n, C)."""
        return self._encode(x).to(self._dtype)

    def encode_window(self, x: Tensor) -> Tensor:
        """:meth:`SequenceModel.encode_window`: tile by tile."""
        return self._model.encode_window(x, self.encode)


def compiled_function(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function compiled for every shape of its argument.

    Raises:
        GexprError: on a call, when the compiler fails.
    """
    config = importlib.import_module("torch._dynamo").config
    config.recompile_limit = max(config.recompile_limit, MOST_SHAPES)
    compiled = torch.compile(function, dynamic=False, backend=BACKEND)

    def run(x: Tensor) -> Tensor:
        # A piece of one row keeps the strides of its whole, by which the compiler tells arguments apart.
        try:
            return compiled(x.reshape(-1).view(x.shape))
        except Exception as error:
            if not _is_compilers(error):
                raise
            raise GexprError(
                f"torch.compile failed for shape {tuple(x.shape)}: {_first_line(error)}; leave --compile out"
            ) from error

    return run


def check_compiler(device: torch.device) -> None:
    """Compile something small, so that what is missing is known before work begins.

    Raises:
        ConfigError: PyTorch cannot compile for this device.
    """
    try:
        torch.compile(_probe, dynamic=False, backend=BACKEND)(torch.zeros(8, device=device))
    except Exception as error:
        needs = "Triton (pip install triton) and a C compiler" if device.type == "cuda" else "a C++ compiler"
        raise ConfigError(
            f"--compile: PyTorch {torch.__version__} cannot compile for {device}: {_first_line(error)}; "
            f"install {needs} such as gcc, and Python's header files, or leave --compile out"
        ) from error


def _probe(x: Tensor) -> Tensor:
    return torch.exp(x) + 1


def _is_compilers(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))


def _first_line(error: BaseException) -> str:
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
