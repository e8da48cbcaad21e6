"""What a forward pass costs, without running the model: operations counted, the device's speed measured."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from gexpr.models.base import SequenceModel, on_meta_device

EFFICIENCY = 0.35
"""Share of a matrix product's speed that a forward pass is taken to reach; 0.3 to 0.6 were seen on CPUs."""


def forward_operations(model: SequenceModel) -> int:
    """Floating-point operations for one sequence, attention's inner products not counted."""
    shape = on_meta_device(type(model), model.config).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        shape(torch.zeros(1, model.context_length, 4, device="meta"))
    return counter.get_total_flops()


def matrix_speed(device: torch.device) -> float:
    """Floating-point operations a second in a product of two matrices of 1,024 x 1,024, float32."""
    matrix = torch.ones(1024, 1024, device=device)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best


def estimated_seconds(model: SequenceModel, device: torch.device) -> float:
    """Seconds for one sequence: operations over :data:`EFFICIENCY` of the device's speed; a rough number."""
    return forward_operations(model) / (EFFICIENCY * matrix_speed(device))
