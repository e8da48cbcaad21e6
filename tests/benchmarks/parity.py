"""Predictions of converted weights beside those of the program that they come from, the same weights in both.

The other program makes a model, all of whose tensors are drawn, and saves it; ``gexpr convert`` makes a
checkpoint of what it saved; both predict random sequences. Columns:

float64, float32   largest difference, relative to the largest output, of all heads. The other program's
                   features of positions are computed in float64 by its own formulas
as installed       the same in float32 with its features as it computes them, which is in float32
without ...        how much the other program's output changes without a part of its attention: what a
                   mistake there would show as

enformer-pytorch has two normalizations of the gamma features: ``features``, its default, and ``positions``,
DeepMind's; of the latter it has only a table for 1,536 bins (``use_tf_gamma``), which TensorFlow computed in
float32. Flashzoi's attention is flash-attention's Python code, with its CUDA kernels replaced by the classes
and functions for CPUs that it has beside them. The packages, besides gexpr::

    pip install enformer-pytorch borzoi-pytorch
    FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE FLASH_ATTENTION_FORCE_BUILD=TRUE \\
        pip install --no-deps --no-build-isolation flash-attn==2.7.4.post1

Examples::

    python tests/benchmarks/parity.py --json parity.json
    python tests/benchmarks/parity.py --full --only enformer-pytorch,borzoi-pytorch --threads 2

``--full`` compares full-size models on one sequence in float32, each program in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import peers
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gexpr import checkpoints
from gexpr.conversion.convert import convert
from gexpr.models.base import predict_head

PROGRAMS = ("enformer-pytorch", "borzoi-pytorch", "flashzoi")
LIMITS = {"float64": 1e-5, "float32": 1e-4}
"""The largest differences that pass."""

Outputs = dict[str, NDArray[np.floating]]


class Case(NamedTuple):
    """A model of another program, and the sequences that it is shown.

    Args:
        program: one of :data:`PROGRAMS`.
        bases: length of the sequences.
        target: bins that are predicted.
        settings: of the other program's config.
        gamma: normalization of Enformer's gamma features, ``features``, ``positions``, or ``table`` for
            TensorFlow's table of the latter.
        batch: sequences.
    """

    program: str
    bases: int
    target: int
    settings: dict[str, Any]
    gamma: str = ""
    batch: int = 2

    @property
    def tokens(self) -> int:
        """Positions that attend to each other."""
        return self.bases // (2 ** self.settings.get("num_downsamples", 7))

    def __str__(self) -> str:
        return "-".join(filter(None, [self.program, self.gamma, f"{self.bases}bp"]))


def enformer(bins: int, target: int, gamma: str, **changes: Any) -> Case:
    """A small Enformer with bins of 16 bp."""
    settings = dict(
        dim=96,
        depth=3,
        heads=2,
        output_heads={"human": 11, "mouse": 7},
        num_downsamples=4,
        dim_divisible_by=8,
        attn_dim_key=16,
    )
    settings |= changes
    return Case(
        "enformer-pytorch",
        bins * 2 ** settings["num_downsamples"],
        target,
        settings,
        gamma,  # type: ignore
    )


def borzoi(tokens: int, bins: int, **settings: Any) -> Case:
    """A Borzoi of small depth and width after the tower, whose widths are fixed."""
    program = "flashzoi" if settings.get("flashed") else "borzoi-pytorch"
    settings = dict(depth=2, bins_to_return=bins, enable_mouse_head=True, **settings)
    return Case(program, 128 * tokens, bins, settings, batch=1)


SMALL = [
    *(
        enformer(bins, target, gamma)
        for gamma in ("features", "positions")
        for bins, target in ((64, 40), (150, 100), (401, 201))
    ),
    # The table has 32 columns: heads of 192.
    enformer(1536, 896, "table", dim=384, depth=2, num_downsamples=3, use_tf_gamma=True),
    *(
        borzoi(tokens, bins, dim=192, heads=4, attn_dim_key=16, attn_dim_value=40)
        for tokens, bins in ((64, 192), (150, 400))
    ),
    # As published, a head has no fewer than the 128 numbers that are rotated.
    *(
        borzoi(tokens, bins, flashed=True, dim=heads * 160, heads=heads)
        for tokens, bins, heads in ((64, 192, 2), (150, 400, 4))
    ),
]

_ENFORMER = dict(output_heads={"human": 5313, "mouse": 1643})
FULL = [
    Case("enformer-pytorch", 196_608, 896, _ENFORMER, "features", 1),
    Case("enformer-pytorch", 196_608, 896, {**_ENFORMER, "use_tf_gamma": True}, "table", 1),
    Case("borzoi-pytorch", 524_288, 6144, {"enable_mouse_head": True}, batch=1),
    Case("flashzoi", 524_288, 6144, {"enable_mouse_head": True, "flashed": True}, batch=1),
]


# ----------------------------------------------------------------------------------------------------
# The other programs


def build(case: Case) -> nn.Module:
    """The other program's model, with drawn weights."""
    torch.manual_seed(1)
    if case.program == "enformer-pytorch":
        from enformer_pytorch import Enformer

        model = Enformer.from_hparams(target_length=case.target, **case.settings)
    else:
        if case.settings.get("flashed"):
            flash_attention_for_cpus()
        from borzoi_pytorch import Borzoi
        from borzoi_pytorch.pytorch_borzoi_transformer import get_positional_embed

        model = Borzoi.from_hparams(**case.settings)
        for module in model.modules():
            if hasattr(module, "positions"):
                module.positions = get_positional_embed(case.tokens, module.num_rel_pos_features, "cpu")
    return draw(model).eval()


@torch.no_grad()
def draw(model: nn.Module) -> nn.Module:
    """Draw every tensor, so that attention decides, and neither positions nor biases are lost in it."""
    generator = torch.Generator().manual_seed(2)
    for name, each in model.named_parameters():
        if each.ndim > 1:
            each.normal_(0, each[0].numel() ** -0.5, generator=generator)
        else:
            each.normal_(0, 0.2, generator=generator)
        if name.endswith(("to_q.weight", "to_k.weight")):
            each.mul_(1.5)
        elif name.endswith("to_rel_k.weight"):
            each.mul_(3)
        elif name.endswith(("rel_content_bias", "rel_pos_bias")):
            each.normal_(0, 0.3, generator=generator)
        elif name.endswith("Wqkv.weight"):
            width = each.shape[1]
            each[: width + (each.shape[0] - width) // 2].mul_(1.5)
        elif name.endswith("Wqkv.bias"):
            each.normal_(0, 0.5, generator=generator)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)):
            module.weight.uniform_(0.8, 1.2, generator=generator)
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
    return model


def flash_attention_for_cpus() -> None:
    """Let flash-attention be imported, and build its layers from the code for CPUs that it has."""
    if "flash_attn_2_cuda" in sys.modules:
        return
    sys.modules["flash_attn_2_cuda"] = types.ModuleType("flash_attn_2_cuda")
    kernel = types.ModuleType("flash_attn.ops.triton.rotary")

    def apply_rotary(
        x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False, inplace: bool = False, **rest: Any
    ) -> Tensor:
        from flash_attn.layers.rotary import apply_rotary_emb_torch

        assert not rest.pop("seqlen_offsets", 0) and not any(each is not None for each in rest.values())
        length = x.shape[1]
        out = apply_rotary_emb_torch(x, cos[:length], sin[:length], interleaved)
        return x.copy_(out) if inplace else out

    kernel.apply_rotary = apply_rotary  # type: ignore[attr-defined]
    sys.modules["flash_attn.ops.triton.rotary"] = kernel
    from flash_attn.modules import mha

    whole = mha.MHA
    mha.MHA = lambda **settings: whole(**{**settings, "use_flash_attn": False})


@contextmanager
def positions(case: Case, model: nn.Module, exact: bool) -> Iterator[None]:
    """The other program's positions of a case; ``exact`` are computed in float64 by its own formulas."""
    if case.program == "enformer-pytorch":
        with _enformer_positions(case.gamma, exact):
            yield
        return
    rotary = [module for module in model.modules() if hasattr(module, "pos_idx_in_fp32")]
    for each in rotary:
        each._seq_len_cached, each._cos_cached, each._sin_cached = 0, None, None
        each.pos_idx_in_fp32 = not exact
        share = torch.arange(0, each.dim, 2, dtype=torch.float64) / each.dim
        each.inv_freq = 1 / each.base**share if exact else each._compute_inv_freq()
    yield


@contextmanager
def _enformer_positions(gamma: str, exact: bool) -> Iterator[None]:
    import enformer_pytorch.modeling_enformer as peer

    embed, by_features = peer.get_positional_embed, peer.get_positional_features_gamma

    def in_float64(*arguments: Any, dtype: torch.dtype, **settings: Any) -> Tensor:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return embed(*arguments, dtype=torch.float64, **settings).to(dtype)
        finally:
            torch.set_default_dtype(before)

    def by_positions(distance: Tensor, features: int, length: int, dtype: torch.dtype) -> Tensor:
        deviation = length / (2 * features)
        mean = torch.linspace(length / features, length, features)[None]
        density = peer.gamma_pdf(
            distance.to(dtype).abs()[..., None], (mean / deviation) ** 2, mean / deviation**2
        )
        return (density + 1e-8) / torch.amax(density + 1e-8, dim=0, keepdim=True)

    try:
        if exact:
            peer.get_positional_embed = in_float64
        if gamma == "positions":
            peer.get_positional_features_gamma = by_positions
        yield
    finally:
        peer.get_positional_embed, peer.get_positional_features_gamma = embed, by_features


def sequences(case: Case, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, L, 4) one-hot; one base in 500 is unknown."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 4, (case.batch, case.bases), generator=generator)
    known = torch.rand(codes.shape, generator=generator) > 0.002
    return torch.eye(4, dtype=dtype)[codes] * known[..., None]


@torch.inference_mode()
def predicted(case: Case, model: nn.Module, x: Tensor) -> Outputs:
    """What the other program predicts: head -> (B, T, tracks)."""
    if case.program == "enformer-pytorch":
        return {head: each.numpy() for head, each in model(x).items()}
    # What its forward() does, without the float() before the heads, which float64 is not to suffer.
    embedded = model.final_joined_convs(model.get_embs_after_crop(x.transpose(1, 2)))  # type: ignore[operator]
    heads = {"human": model.human_head, "mouse": model.mouse_head}
    return {
        name: model.final_softplus(head(embedded)).transpose(1, 2).numpy()  # type: ignore[operator]
        for name, head in heads.items()
    }


# ----------------------------------------------------------------------------------------------------
# Comparison


def difference(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> float:
    """The largest difference of any head, relative to the head's largest output."""
    assert list(found) == list(expected)
    worst = 0.0
    for head, each in expected.items():
        assert found[head].shape == each.shape
        assert np.isfinite(found[head]).all() and np.isfinite(each).all()
        worst = max(worst, float(np.abs(found[head] - each).max() / np.abs(each).max()))
    return worst


def ablations(model: nn.Module) -> dict[str, Callable[[], list[Tensor]]]:
    """Parts of attention, and the tensors without which it lacks them."""

    def ending(*names: str) -> Callable[[], list[Tensor]]:
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return lambda: [each for name, each in state.items() if name.endswith(names)]

    return {
        "attention": ending("to_out.weight", "out_proj.weight"),
        "content bias": ending("rel_content_bias"),
        "position bias": ending("rel_pos_bias"),
        "biases of q, k, v": ending("Wqkv.bias"),
        "positions": ending("to_rel_k.weight", "inv_freq"),
    }


def effects(case: Case, model: nn.Module, x: Tensor) -> dict[str, float]:
    """How far the other program's predictions move without a part of its attention."""
    whole = predicted(case, model, x)
    found: dict[str, float] = {}
    for part, tensors in ablations(model).items():
        kept = [(each, each.detach().clone()) for each in tensors()]
        if not kept:
            continue
        for each, _ in kept:
            each.detach().zero_()
        _forget_angles(model)
        found[part] = difference(predicted(case, model, x), whole)
        for each, value in kept:
            each.detach().copy_(value)
        _forget_angles(model)
    return found


def _forget_angles(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "pos_idx_in_fp32"):
            module._cos_cached = None  # type: ignore[assignment]


def save_and_convert(case: Case, model: nn.Module, folder: Path) -> Path:
    """Let the other program save its model, and make a checkpoint of that."""
    # enformer-pytorch's has its tensors under two names, which safetensors does not take.
    safe = case.program != "enformer-pytorch"
    model.save_pretrained(folder / "source", safe_serialization=safe)  # type: ignore[operator]
    kind = case.program if case.program != "flashzoi" else "borzoi-pytorch"
    settings: dict[str, Any] = dict(context_length=case.bases, target_length=case.target)
    if case.gamma:
        settings["gamma_normalization"] = "features" if case.gamma == "features" else "positions"
    return convert(kind, folder / "source", folder / "checkpoint", **settings).folder


@torch.inference_mode()
def ours(folder: Path, x: Tensor, once: bool = False) -> Outputs:
    """What gexpr predicts: head -> (B, T, tracks); ``once`` computes what heads share a single time."""
    model = checkpoints.load(folder).to(x.dtype)
    if not once:
        return {head: model(x, head).numpy() for head in model.config.heads}
    kept: list[Tensor] = []
    embed = model.embed
    model.embed = lambda *given: kept.append(embed(*given)) or kept[0]  # type: ignore
    first, *others = model.config.heads
    found = {first: model(x, first).numpy()}
    return found | {head: predict_head(model.heads[head], kept[0]).numpy() for head in others}


def compare(case: Case, dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32)) -> dict[str, Any]:
    """One row of the table."""
    peer = build(case)
    row: dict[str, Any] = {"case": str(case), **case._asdict(), "tokens": case.tokens}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_and_convert(case, peer, Path(folder))
        for dtype in dtypes:
            x = sequences(case, dtype)
            found = ours(checkpoint, x)
            peer.to(dtype)
            name = str(dtype).removeprefix("torch.")
            with positions(case, peer, exact=True):
                row[name] = difference(found, predicted(case, peer, x))
                if "effects" not in row:
                    row["effects"] = effects(case, peer, x)
            if dtype == torch.float32:
                with positions(case, peer, exact=False):
                    row["as installed"] = difference(found, predicted(case, peer, x))
    return row


def compare_full(case: Case) -> dict[str, Any]:
    """One row of the table for a model of full size, each program in a process of its own."""
    row: dict[str, Any] = {"case": str(case), **case._asdict(), "tokens": case.tokens}
    number = FULL.index(case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = [__file__, "--folder", name, "--threads", str(torch.get_num_threads()), "--case", str(number)]
        kinds = ["exact", "installed"]
        if case.program == "borzoi-pytorch" or case.gamma == "table":
            kinds = ["installed"]  # no other positions
        row["memory"], row["seconds"] = {}, {}
        for part in ("convert", "gexpr", *kinds):
            record = peers.in_child(*child, "--part", part)
            row["memory"][part], row["seconds"][part] = record["mebibytes"], record["seconds"]
        outputs = {
            part: {path.stem: np.load(path, mmap_mode="r") for path in sorted((folder / part).iterdir())}
            for part in ("gexpr", *kinds)
        }
        row["as installed"] = difference(outputs["gexpr"], outputs["installed"])
        row["float32"] = difference(outputs["gexpr"], outputs[kinds[0]])
        shapes = {head: each.shape for head, each in outputs["gexpr"].items()}
        row["outputs"] = {head: list(shape) for head, shape in shapes.items()}
    return row


def part_of_full(case: Case, part: str, folder: Path) -> dict[str, Any]:
    """What a child of :func:`compare_full` does: memory is the peak of the process."""
    if part == "convert":
        seconds, _ = peers.timed(lambda: save_and_convert(case, build(case), folder))
        return {"mebibytes": peers.peak_mebibytes(), "seconds": seconds}
    x = sequences(case)
    if part == "gexpr":
        seconds, outputs = peers.timed(lambda: ours(folder / "checkpoint", x, once=True))
    else:
        model = build(case)
        with positions(case, model, exact=part == "exact"):
            seconds, outputs = peers.timed(lambda: predicted(case, model, x))
    peak = peers.peak_mebibytes()
    (folder / part).mkdir()
    for head, each in outputs.items():
        np.save(folder / part / f"{head}.npy", each)
    return {"mebibytes": peak, "seconds": seconds}


def passes(row: Mapping[str, Any]) -> bool:
    """Whether a comparison is within :data:`LIMITS`; TensorFlow's table is itself not exact enough."""
    return row["gamma"] == "table" or all(row[name] <= limit for name, limit in LIMITS.items() if name in row)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    columns = ("float64", "float32", "as installed")
    parts = ("attention", "content bias", "position bias", "biases of q, k, v", "positions")
    full = "memory" in rows[0]
    heads = ["program", "gamma", "bp", "tokens", *(columns[1:] if full else columns)]
    heads += ["peak MiB gexpr", "peak MiB other"] if full else [f"without {part}" for part in parts]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [row["program"], row["gamma"] or "–", f"{row['bases']:,}", f"{row['tokens']:,}"]
        cells += [f"{row[name]:.1e}" if name in row else "–" for name in (columns[1:] if full else columns)]
        if full:
            cells += [f"{row['memory'][part]:,.0f}" for part in ("gexpr", "installed")]
        else:
            cells += [f"{row['effects'][part]:.0e}" if part in row["effects"] else "–" for part in parts]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, separated by commas")
    parser.add_argument("--full", action="store_true", help="full-size models, some minutes each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    for hidden in ("--folder", "--part", "--case"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.part:
        print(json.dumps(part_of_full(FULL[int(options.case)], options.part, Path(options.folder))))
        return
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(PROGRAMS):
        parser.error(f"unknown program {', '.join(sorted(unknown))} (known: {', '.join(PROGRAMS)})")
    rows: list[dict[str, Any]] = []
    for case in FULL if options.full else SMALL:
        if case.program in chosen:
            print(f"{case} ...", file=sys.stderr, flush=True)
            rows.append(compare_full(case) if options.full else compare(case))
            peers.write_json(options.json, {"rows": rows, "limits": LIMITS, "machine": peers.machine()})
    print(table(rows))
    failed = [row["case"] for row in rows if not passes(row)]
    if failed:
        sys.exit(f"differ by more than {LIMITS}: {', '.join(failed)}")


if __name__ == "__main__":
    main()
