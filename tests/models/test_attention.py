"""All implementations of attention are one function: the dense masked reference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from gexpr.models.attention import BlockPattern, Layout, RelativeBias, attend, block_sparse
from gexpr.models.attention.choice import choose
from gexpr.models.attention.dense import relative_shift
from gexpr.models.attention.pattern import EMPTY

HEADS = 2


class Case(NamedTuple):
    """A sequence and a pattern on it."""

    length: int
    size: int = 4
    random: int = 2
    global_blocks: bool = True
    tokens: int = 0
    batch: int = 2

    def pattern(self) -> BlockPattern:
        return BlockPattern(self.size, HEADS, self.random, self.global_blocks, self.tokens, seed=(3, 1))


CASES = {
    "bigbird": Case(40),
    "odd number of blocks": Case(44, batch=3),
    "one sequence": Case(40, batch=1),
    "no random": Case(40, random=0),
    "no global": Case(40, global_blocks=False),
    "purely local": Case(40, random=0, global_blocks=False),
    "tokens": Case(40, tokens=3, global_blocks=False),
    "tokens and global blocks": Case(40, tokens=2),
    "more tokens than a block": Case(40, tokens=6, random=1),
    "last block short": Case(41),
    "last block short, tokens": Case(43, tokens=5),
    "last block short, local": Case(42, random=0, global_blocks=False),
    "too few blocks for the random ones": Case(24, random=3),
    "two blocks": Case(8),
    "blocks of one": Case(12, size=1),
    "one block": Case(3, tokens=1),
    "larger blocks": Case(70, size=10, random=1),
}


def inputs(case: Case, relative: bool, value_size: int = 10) -> list[Tensor]:
    generator = torch.Generator().manual_seed(case.length)
    total, t = case.tokens + case.length, case.length
    shapes = [(case.batch, HEADS, total, size) for size in (6, 6, value_size)]
    if relative:
        shapes += [(HEADS, 2 * t - 1, 6), (HEADS, 6), (HEADS, 6)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def run(tensors: list[Tensor], case: Case, implementation: str, **options: object) -> Tensor:
    q, k, v, *bias = tensors
    relative = RelativeBias(*bias) if bias else None
    return attend(q, k, v, case.pattern(), relative, implementation=implementation, **options)


def reference(tensors: list[Tensor], case: Case) -> Tensor:
    """Masked softmax written out with indices, independently of the package's dense code."""
    q, k, v, *bias = tensors
    t, g = case.length, case.tokens
    layout = case.pattern().layout(t)
    allowed = torch.ones(HEADS, g + t, g + t, dtype=torch.bool)
    block = torch.arange(t) // case.size
    for head in range(HEADS):
        for row in range(layout.blocks):
            attended = {row - 1, row, row + 1, *layout.global_rows, *layout.random[head, row].tolist()}
            if row in layout.global_rows:
                attended = set(range(layout.blocks))
            columns = torch.tensor([b in attended for b in block.tolist()])
            allowed[head, g:, g:][block == row] = columns
    logits = torch.einsum("bhid,bhjd->bhij", q, k)
    if bias:
        keys, content, position = bias
        logits = torch.einsum("bhid,bhjd->bhij", q + content[:, None], k)
        distance = torch.arange(t) - torch.arange(t)[:, None] + t - 1
        term = torch.einsum("bhid,hijd->bhij", q[:, :, g:] + position[:, None], keys[:, distance])
        logits = logits + torch.nn.functional.pad(term, (g, 0, g, 0))
    return logits.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize(
    ("relative", "value_size"),
    [(True, 10), (False, 10), (False, 6)],
    ids=["enformer positions", "no positions", "fused"],
)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("chunk", "dense_above"),
    [(2**19, 1.0), (100, 1.0), (100, 0.0)],
    ids=["one run", "many runs", "dense rows"],
)
def test_block_sparse_equals_dense(
    case: Case,
    relative: bool,
    value_size: int,
    chunk: int,
    dense_above: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_sparse, "CHUNK_LOGITS", chunk)
    monkeypatch.setattr(block_sparse, "CHUNK_FUSED", 4 * chunk)
    monkeypatch.setattr(block_sparse, "DENSE_ABOVE", dense_above)
    tensors = inputs(case, relative, value_size)
    expected = reference(tensors, case)
    weight = torch.randn(expected.shape, dtype=torch.float64)
    gradients = torch.autograd.grad(expected, tensors, weight)
    for implementation in ("dense", "block_sparse", "auto"):
        out = run(tensors, case, implementation)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
        for mine, theirs in zip(torch.autograd.grad(out, tensors, weight), gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("length", [1, 2, 37])
def test_everything_attends_without_a_pattern(
    relative: bool, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_sparse, "CHUNK_LOGITS", 100)
    case = Case(length, size=length, random=0, global_blocks=False)
    tensors = inputs(case, relative)
    q, k, v, *bias = tensors
    expected = reference(tensors, case)
    weight = torch.randn(expected.shape, dtype=torch.float64)
    gradients = torch.autograd.grad(expected, tensors, weight)
    for implementation in ("dense", "auto"):
        out = attend(q, k, v, None, RelativeBias(*bias) if bias else None, implementation=implementation)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
        for mine, theirs in zip(torch.autograd.grad(out, tensors, weight), gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [CASES["tokens and global blocks"], CASES["last block short"]])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("dense_above", [1.0, 0.0])
def test_dropout_is_the_same_in_the_backward_pass(
    case: Case, relative: bool, dense_above: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_sparse, "DENSE_ABOVE", dense_above)
    tensors = inputs(case, relative)

    def seeded(*values: Tensor) -> Tensor:
        torch.manual_seed(5)
        return run(list(values), case, "block_sparse", dropout=0.3, training=True)

    torch.autograd.gradcheck(seeded, tensors, fast_mode=True)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    case = Case(256, size=16, random=2, batch=4)
    q = torch.zeros(4, HEADS, 256, 6)
    v = torch.ones(4, HEADS, 256, 10)
    torch.manual_seed(0)
    out = run([q, q, v], case, "block_sparse", dropout=0.25, training=True)[..., 0]
    density = case.pattern().density(256)
    attended = torch.full((), density * 256)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    # of n equal weights, each kept with probability 3/4: variance (1/3) / n
    assert out.var().item() == pytest.approx((1 / 3 / attended).item(), rel=0.25)
    again = run([q, q, v], case, "block_sparse", dropout=0.25, training=True)[..., 0]
    assert (again != out).float().mean() > 0.5
    evaluation = run([q, q, v], case, "block_sparse", dropout=0.25, training=False)
    torch.testing.assert_close(evaluation, v)


def test_dropout_follows_the_global_seed() -> None:
    case = CASES["bigbird"]
    tensors = inputs(case, True)
    outs = []
    for _ in range(2):
        torch.manual_seed(11)
        outs.append(run(tensors, case, "block_sparse", dropout=0.1, training=True))
    assert torch.equal(*outs)


def test_hardly_sparse_patterns_are_computed_densely(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[str] = []
    plan = block_sparse._plan

    def spy(pattern: BlockPattern, length: int, kind: str, device: torch.device) -> object:
        kinds.append(kind)
        return plan(pattern, length, kind, device)

    monkeypatch.setattr(block_sparse, "_plan", spy)
    pattern = BlockPattern(4, 1, 3, True)
    densities = []
    for blocks in (8, 9, 12, 16, 32):
        x = torch.zeros(1, 1, 4 * blocks, 1)
        attend(x, x, x, pattern)
        densities.append(pattern.density(4 * blocks))
    assert kinds == ["masked", "masked", "sparse", "sparse", "sparse"]
    assert densities == sorted(densities, reverse=True)
    assert densities[1] > 0.8 > densities[2]


@pytest.mark.parametrize("case", [CASES["tokens and global blocks"], CASES["last block short, local"]])
def test_inputs_may_be_strided(case: Case) -> None:
    # as a layer makes them: heads beside each other in memory
    tensors = [x.detach() for x in inputs(case, False, 6)]
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    assert not strided[0].is_contiguous()
    out = run(strided, case, "block_sparse")
    torch.testing.assert_close(out, run(tensors, case, "dense"), rtol=0, atol=1e-10)


FUSED = """
import hashlib, json
import gexpr.cli.main
import torch
from gexpr.models.attention import BlockPattern, attend

found = {}
with torch.inference_mode():
    for size in (64, 20):
        for length in (1024, 1000):
            torch.manual_seed(0)
            q, k, v = (torch.randn(2, 3, length, size) for _ in range(3))
            for threads in (1, 2, 3, 5):
                torch.set_num_threads(threads)
                out = attend(q, k, v, BlockPattern(64, 3, 2, True))
                digest = hashlib.sha256(out.contiguous().numpy().tobytes()).hexdigest()
                found.setdefault(f"{length} of {size}", []).append(digest)
print(json.dumps(found))
"""


def test_fused_runs_do_not_depend_on_the_number_of_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MKL", "OMP"))}
    command = [sys.executable, "-c", FUSED]
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(ran.stdout)
    assert {name: len(set(digests)) for name, digests in found.items()} == dict.fromkeys(found, 1)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("value_size", [6, 10])
def test_the_fused_kernel_runs_where_it_can(
    relative: bool, dropout: float, value_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, *rest: Tensor, **options: object) -> Tensor:
        calls.append(tuple(q.shape))
        return kernel(q, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    case = CASES["bigbird"]
    run(inputs(case, relative, value_size), case, "auto", dropout=dropout, training=True)
    fused = not relative and not dropout and value_size == 6
    # the eight inner blocks of every head of two sequences, then the two global blocks
    assert calls == ([(8, 1, 4, 6)] * 2 * HEADS + [(2, HEADS, 8, 6)] if fused else [])


# What `auto` takes.


@pytest.mark.parametrize("length", [512, 4096, 16384])
@pytest.mark.parametrize("flex", [True, False])
def test_a_cpu_computes_blocks(length: int, flex: bool) -> None:
    for relative in (True, False):
        for dropout in (True, False):
            assert choose("cpu", length, 0.3, relative, dropout, flex) == "block_sparse"


@pytest.mark.parametrize(
    ("length", "flex", "chosen"),
    [
        (512, True, "dense"),
        (4095, True, "dense"),
        (4095, False, "dense"),
        (4096, True, "flex"),
        (16384, True, "flex"),
        (4096, False, "block_sparse"),
    ],
)
def test_cuda_takes_fused_kernels_and_for_long_sequences_block_masks(
    length: int, flex: bool, chosen: str
) -> None:
    assert choose("cuda", length, 0.3, False, False, flex) == chosen
    for relative, dropout in ((True, False), (False, True), (True, True)):
        assert choose("cuda", length, 0.3, relative, dropout, flex) == "block_sparse"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_pattern_of_everything_needs_no_mask(device: str) -> None:
    for length in (100, 8192):
        assert choose(device, length, 1.0, False, False, True) == "everything"
        assert choose(device, length, 1.0, True, False, True) == "block_sparse"
        assert choose(device, length, 1.0, False, True, True) == "block_sparse"


def test_relative_shift_moves_distances_to_keys() -> None:
    for length in (1, 2, 7):
        x = torch.arange(2.0 * length - 1).expand(2, length, -1).contiguous()
        i, j = torch.arange(length)[:, None], torch.arange(length)
        assert torch.equal(relative_shift(x), (j - i + length - 1).float().expand(2, -1, -1))


# Hugging Face's BigBird (transformers 5.23, BigBirdBlockSparseAttention in training mode, without dropout):
# the random blocks it drew for 16 blocks, and four rows of its output. Rows 1 to 14, two heads.
HF_RANDOM = """
4 6 7  6 7 9  8 9 5  2 6 7  8 1 2  3 8 9  1 4 5  1 4 5  4 7 6  7 2 6  4 2 3  6 9 1  4 8 1  7 1 9
3 5 4  7 6 9  1 7 8  7 6 8  2 3 9  9 4 3  5 9 3  1 4 2  6 2 7  2 1 3  1 6 5  9 6 7  3 6 9  9 2 5
"""
HF_ROWS = {
    0: "0.11867133 0.44720976 2.60552329 -0.56879264 -2.62471266 0.50165836 1.09520162 -0.65363881",
    7: "-1.42583531 1.39504978 0.04362925 -1.16703765 -2.21756318 -1.67303621 1.05110989 -1.06168803",
    30: "-0.30452426 0.63627081 0.21534303 -0.75518106 -1.11016200 0.12166900 1.59793289 0.15157782",
    63: "0.58639367 -1.53701687 -0.59378291 0.30021167 0.35949203 0.23662397 1.48722977 0.09374584",
}
HF_SUMS = (3.4943941359, 1022.7076503268)  # of the output and of its squares


class GivenPattern(BlockPattern):
    """BigBird's pattern with given random blocks."""

    def layout(self, length: int) -> Layout:
        random = np.full((2, 16, 3), EMPTY)
        random[:, 1:-1] = np.array(HF_RANDOM.split(), dtype=np.int64).reshape(2, 14, 3)
        return Layout(16, (0, 15), random)


@pytest.mark.parametrize("implementation", ["dense", "block_sparse"])
def test_equals_bigbird(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sparse, "DENSE_ABOVE", 1.0)
    x = hashed(64 * 8, 9).view(1, 64, 8)
    q, k, v = (
        (x @ (2 * hashed(64, index).view(8, 8)).T).unflatten(-1, (2, 4)).transpose(1, 2) for index in range(3)
    )
    pattern = GivenPattern(4, 2, 3, True)
    out = attend(q / 2, k, v, pattern, implementation=implementation).transpose(1, 2).flatten(2)
    assert (out.sum().item(), out.square().sum().item()) == pytest.approx(HF_SUMS, abs=1e-7)
    for row, values in HF_ROWS.items():
        assert out[0, row].tolist() == pytest.approx([float(value) for value in values.split()], abs=1e-8)


def hashed(count: int, index: int) -> Tensor:
    """Pseudo-random numbers in [-1, 1) that any implementation can repeat."""
    i = torch.arange(count, dtype=torch.int64)
    z = (i * 2654435761 + (index + 1) * 40503 * 65537 + 12345) % 2**32
    z = (z * (z % 65521) + i * 97) % 2**32
    return z.double() / 2**32 * 2 - 1


# The pattern.


@pytest.mark.parametrize("blocks", [5, 6, 7, 12, 24, 96])
@pytest.mark.parametrize("global_blocks", [True, False])
def test_random_blocks_repeat_nothing(blocks: int, global_blocks: bool) -> None:
    layout = BlockPattern(4, 3, 3, global_blocks, seed=(7,)).layout(4 * blocks)
    globals_ = {0, blocks - 1} if global_blocks else set()
    assert set(layout.global_rows) == globals_
    for head in range(3):
        for row in range(blocks):
            drawn = [block for block in layout.random[head, row].tolist() if block != EMPTY]
            fixed = {row - 1, row, row + 1} | globals_
            possible = set(range(blocks)) - fixed
            assert len(drawn) == len(set(drawn))
            assert set(drawn) <= possible
            assert len(drawn) == (0 if row in globals_ else min(3, len(possible)))


def test_random_blocks_reach_the_whole_sequence_uniformly() -> None:
    blocks, heads = 48, 400
    layout = BlockPattern(1, heads, 3, True, seed=(1,)).layout(blocks)
    for row in (1, 2, 20, 46):
        counts = np.bincount(layout.random[:, row].ravel(), minlength=blocks)
        possible = [b for b in range(1, blocks - 1) if abs(b - row) > 1]
        assert counts.sum() == counts[possible].sum() == 3 * heads
        expected = 3 * heads / len(possible)
        chi_squared = ((counts[possible] - expected) ** 2 / expected).sum()
        # mean len - 1, standard deviation sqrt(2 len)
        assert abs(chi_squared - len(possible)) < 4 * np.sqrt(2 * len(possible))


def test_random_blocks_differ_by_head_layer_and_seed_and_are_otherwise_fixed() -> None:
    def draw(*seed: int) -> np.ndarray:
        return BlockPattern(4, 2, 3, True, seed=seed).layout(128).random

    assert np.array_equal(draw(0, 0), draw(0, 0))
    assert not np.array_equal(draw(0, 0)[0], draw(0, 0)[1])
    assert not np.array_equal(draw(0, 0), draw(0, 1))
    assert not np.array_equal(draw(0, 0), draw(1, 0))
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    BlockPattern(4, 2, 3, True, seed=(99,)).layout(4 * 50)
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_blocks_stay_the_same_between_versions() -> None:
    # A checkpoint stores the seed alone: a changed draw would silently change its predictions.
    layout = BlockPattern(64, 2, 3, True, seed=(0, 0)).layout(64 * 24)
    assert layout.random[0, 1:5].tolist() == [[18, 7, 11], [5, 19, 10], [13, 7, 15], [16, 17, 20]]
    assert int(layout.random.sum()) == 1435


def test_density_is_the_share_of_attended_blocks() -> None:
    # (nb - 4)(5 + r) + 2 (4 + r) + 2 nb blocks, as BigBird
    assert BlockPattern(64, 8, 3, True).density(64 * 24) == 222 / 576
    assert BlockPattern(64, 8, 3, True).density(64 * 96) == 942 / 9216
    assert BlockPattern(64, 8).density(64 * 10) == 28 / 100


def test_mask_is_the_layout() -> None:
    pattern = BlockPattern(4, 2, 1, True, global_tokens=1, seed=(2,))
    mask = pattern.mask(22)
    assert mask.shape == (2, 23, 23)
    assert mask[:, 0].all()
    assert mask[:, :, 0].all()
    blocks = torch.from_numpy(pattern.layout(22).block_mask())
    for i in range(22):
        for j in range(22):
            assert torch.equal(mask[:, 1 + i, 1 + j], blocks[:, i // 4, j // 4])
