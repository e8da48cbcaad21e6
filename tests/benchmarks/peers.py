"""What the benchmarks share: the machine, peers with the same weights, children that report."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gexpr.models.base import ModelConfig, SequenceModel
from gexpr.models.enformer import Enformer, EnformerConfig
from gexpr.models.sparse_enformer import SparseEnformer, SparseEnformerConfig

Drawn = TypeVar("Drawn", bound=SequenceModel)

FULL_SIZE: dict[str, Any] = dict(
    context_length=196_608, target_length=896, heads={"human": 5313, "mouse": 1643}
)


def machine() -> dict[str, Any]:
    """Hardware and versions, for the record of a benchmark."""
    processor = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    versions = {"python": platform.python_version()}
    for name in ("torch", "gexpr", "enformer-pytorch", "tangermeme", "transformers"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **versions,
    }


def drawn_enformer(**changes: Any) -> Enformer:
    """An Enformer with drawn weights, also where training starts with zeros."""
    return drawn(Enformer, EnformerConfig.from_dict({**FULL_SIZE, **changes}))


def drawn_sparse_enformer(**changes: Any) -> SparseEnformer:
    """The same with block-sparse attention."""
    return drawn(SparseEnformer, SparseEnformerConfig.from_dict({**FULL_SIZE, **changes}))


def drawn(architecture: type[Drawn], config: ModelConfig) -> Drawn:
    """A model with all its weights drawn: zeros, with which some start in training, would hide differences.

    From plain normal distributions, which takes a tenth of the time of those that training starts from.
    """
    with torch.device("meta"):
        model = architecture(config)  # type: ignore[arg-type]
    model.to_empty(device="cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(0, each[0].numel() ** -0.5 if each.ndim > 1 else 0.1)
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)):
                module.weight.uniform_(0.8, 1.2)
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
                module.num_batches_tracked.zero_()  # type: ignore[union-attr]
    return model.eval()


def enformer_pytorch_twin(model: Enformer) -> nn.Module:
    """enformer-pytorch's model with the same weights, and the published normalization of gamma features.

    The gamma density is computed in float64, as gexpr does: in float32 it is wrong by up to 0.0025 of its
    largest value at 1,536 bins, and the programs would be compared on different positions.
    """
    import enformer_pytorch.modeling_enformer as peer

    def gamma(
        positions: Tensor, features: int, seq_len: int, dtype: torch.dtype = torch.float, **_: Any
    ) -> Tensor:
        deviation = seq_len / (2 * features)
        mean = torch.linspace(seq_len / features, seq_len, features, dtype=torch.float64)[None]
        density = peer.gamma_pdf(
            positions.double().abs()[..., None], (mean / deviation) ** 2, mean / deviation**2
        )
        return ((density + 1e-8) / (density + 1e-8).amax(0, keepdim=True)).to(dtype)

    # Its default divides by the maximum over features, which the published weights did not see.
    peer.get_positional_features_gamma = gamma
    config = model.config
    twin = peer.Enformer.from_hparams(
        dim=config.channels,
        depth=config.depth,
        heads=config.attention_heads,
        output_heads=config.heads,
        target_length=config.target_length,
        num_downsamples=config.num_downsamples,
        dim_divisible_by=config.divisible_by,
        attn_dim_key=config.key_size,
        use_checkpointing=False,
    ).eval()
    names = [
        name for name in twin.state_dict() if not name.startswith("_trunk") and "num_batches" not in name
    ]
    state = twin.state_dict()
    ours = list(_in_their_order(model))
    assert len(names) == len(ours)
    with torch.no_grad():
        for name, tensor in zip(names, ours, strict=True):
            state[name].copy_(tensor.reshape(state[name].shape))
    return twin


def _in_their_order(model: Enformer) -> list[Tensor]:
    found: list[Tensor] = []

    def norm(module: nn.Module) -> None:
        found.extend([module.weight, module.bias])  # type: ignore[list-item]
        if isinstance(module, nn.BatchNorm1d):
            found.extend([module.running_mean, module.running_var])  # type: ignore[list-item]

    def linear(module: nn.Module) -> None:
        found.append(module.weight)  # type: ignore[arg-type]
        if module.bias is not None:
            found.append(module.bias)  # type: ignore[arg-type]

    for index, block in enumerate([model.stem, *model.tower]):
        if index == 0:
            linear(block.convolution)  # type: ignore[arg-type]
        else:
            norm(block.convolution.norm)  # type: ignore[union-attr,arg-type]
            linear(block.convolution.conv)  # type: ignore[union-attr,arg-type]
        norm(block.pointwise.norm)  # type: ignore[union-attr,arg-type]
        linear(block.pointwise.conv)  # type: ignore[union-attr,arg-type]
        found.append(block.pool.weight)  # type: ignore[union-attr,arg-type]
    for block in model.transformer:
        attention = block.attention
        norm(block.attention_norm)
        found.extend([attention.content_bias, attention.position_bias])
        for layer in (attention.to_query, attention.to_key, attention.to_value, attention.to_output):
            linear(layer)
        linear(attention.to_relative_key)
        norm(block.feedforward_norm)
        linear(block.feedforward.expand)
        linear(block.feedforward.contract)
    norm(model.final.norm)
    linear(model.final.conv)
    for head in model.heads.values():
        linear(head)
    return found


def timed(function: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """Seconds and result; ``time.process_time`` as clock counts those of the processor."""
    started = clock()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started, result


def peak_mebibytes() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_child(script: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark script in a process of its own; the last line of its output is JSON."""
    ran = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    value: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return value


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def write_json(path: str | Path | None, record: dict[str, Any]) -> None:
    """Write the record of a benchmark."""
    if path is not None:
        Path(path).write_text(json.dumps(record, indent=1) + "\n")
