"""The incremental engine against the plain one: models, offsets, kinds of allele, edges, strands, rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, variant

from gexpr.errors import ConfigError
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import CENTERED, WindowRule
from gexpr.models import registry
from gexpr.models.base import LocalStage, SequenceModel, receptive_field
from gexpr.results import Variant
from gexpr.scoring.definitions import Mask
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.incremental import MemberTrunk, TrunkGeometry
from gexpr.scoring.predictor import Predictor

COMMON = dict(context_length=1024, target_length=40, heads={"tracks": 4})
TOKENS = 64
TRANSFORMER = dict(num_downsamples=4, divisible_by=8, depth=2, attention_heads=2, key_size=8)
LOCAL_BELOW = dict(
    num_downsamples=4,
    divisible_by=8,
    channels=24,
    depth=3,
    attention_heads=2,
    key_size=8,
    block_size=2,
    random_blocks=1,
    random_layers=(2,),
    global_layers=(2,),
)
TOKENS_ABOVE = dict(
    depth=4, random_blocks=0, global_blocks=False, global_tokens=3, global_layers=(2, 3), random_layers=()
)
CONVOLUTIONS = dict(
    channels=(8, 10, 12, 14), kernels=(10, 1, 6, 3), pools=(1, 4, 4, 1), dropout=0.1, final_channels=16
)
MODELS = {
    "enformer": ("enformer", dict(**COMMON, **TRANSFORMER, channels=24)),
    "enformer max pooling, dilated": (
        "enformer",
        dict(**COMMON, **TRANSFORMER, channels=24, pooling="max", dilated_layers=2, stem_kernel=9),
    ),
    "sparse_enformer": (
        "sparse_enformer",
        dict(**COMMON, **TRANSFORMER, channels=24, positions="rotary", block_size=4, random_blocks=1),
    ),
    "sparse_enformer with global tokens": (
        "sparse_enformer",
        dict(**COMMON, **TRANSFORMER, channels=24, block_size=4, random_blocks=1, global_tokens=2),
    ),
    "sparse_enformer, local below": (
        "sparse_enformer",
        dict(**COMMON, **LOCAL_BELOW, dilated_layers=2),
    ),
    "sparse_enformer, local below, rotary": (
        "sparse_enformer",
        dict(**COMMON, **LOCAL_BELOW, positions="rotary", global_tokens=1),
    ),
    "sparse_enformer, local below global tokens": (
        "sparse_enformer",
        dict(**COMMON, **{**LOCAL_BELOW, **TOKENS_ABOVE}),
    ),
    "sparse_enformer, local below global tokens, rotary": (
        "sparse_enformer",
        dict(**COMMON, **{**LOCAL_BELOW, **TOKENS_ABOVE}, positions="rotary", dilated_layers=1),
    ),
    "borzoi": (
        "borzoi",
        dict(
            context_length=1024,
            target_length=160,
            heads={"tracks": 4},
            stem_channels=8,
            stem_kernel=7,
            tower_channels=(12, 16, 24),
            depth=2,
            attention_heads=2,
            key_size=8,
            relative_features=8,
            final_channels=20,
        ),
    ),
    "basenji": (
        "basenji",
        dict(
            **COMMON,
            stem_channels=8,
            num_downsamples=4,
            tower_start=12,
            dilated_layers=3,
            dilated_channels=8,
            final_channels=16,
        ),
    ),
    "basenji of 2018": (
        "basenji",
        dict(
            **COMMON,
            **CONVOLUTIONS,
            form="dense",
            dilated_layers=3,
            dilated_channels=6,
            dilated_rate=2.0,
            activation="relu",
            link="exp_linear",
        ),
    ),
    "standard": ("standard", dict(**COMMON, **CONVOLUTIONS)),
    "exp_decay": ("exp_decay", dict(**COMMON, **CONVOLUTIONS, decays=(0.02, 0.3))),
    "exp_decay, softmax": (
        "exp_decay",
        dict(**COMMON, **CONVOLUTIONS, learned=True, own_bin=False, weights="softmax"),
    ),
    "decay_attention": ("decay_attention", dict(**COMMON, **CONVOLUTIONS, attention_heads=(2, 1))),
    "decay_attention, exponential": (
        "decay_attention",
        dict(**COMMON, **CONVOLUTIONS, decay="exponential", own_bin=False, relu_scores=True),
    ),
}


def draw(name: str, **changes: object) -> SequenceModel:
    """A model with drawn weights everywhere: layers that start at zero would hide mistakes."""
    architecture, settings = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = registry.build(architecture, {**settings, **changes})
        for each in model.parameters():
            torch.nn.init.normal_(each, std=each[0].numel() ** -0.5 if each.ndim > 1 else 0.3)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        if hasattr(model.config, "positions"):
            for tower in model.tower:  # type: ignore[union-attr]
                getattr(tower, "pointwise", tower).conv.bias.data.normal_()
    model.tracks = BaseCounts().tracks
    return model.double().eval()


def alleles(sequence: str, at: int) -> list[tuple[str, str]]:
    """Substitutions of one and more bases, insertions and deletions at a position."""
    base = sequence[at]
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    return [
        (base, other[base]),
        (sequence[at : at + 3], "".join(other[each] for each in sequence[at : at + 3])),
        ("", "GATTACA"),
        (sequence[at : at + 5], ""),
        (sequence[at : at + 16], ""),
        (sequence[at : at + 2], "T" * 18),
    ]


def values(model: SequenceModel, genome: Fasta, variants: list[Variant], engine: str, **settings):
    """Statistics in float64, by row; and the scorer."""
    predictor = Predictor(
        model,
        batch_size=settings.pop("batch_size", 4),
        reverse_complement=settings.pop("rc", True),
        shifts=settings.pop("shifts", (0,)),
    )
    scorer = VariantScorer(
        predictor, FastaWindows(genome), statistics=["logFC", "D2", "SAX"], engine=engine, **settings
    )
    found = torch.full((3, len(variants), 4), torch.nan, dtype=torch.float64)
    for rows, result, _ in scorer._results(variants):
        for number, targets in enumerate(rows):
            found[:, targets] = result[:, number : number + 1].double()
    return found, scorer


def only_trunk(scorer: VariantScorer) -> MemberTrunk:
    """What computes the tokens of the one model."""
    assert scorer._incremental is not None
    (trunk,) = scorer._incremental.trunks
    assert trunk is not None
    return trunk


def largest_difference(model: SequenceModel, genome: Fasta, variants: list[Variant], **settings) -> float:
    """The largest difference between the engines."""
    plain, first = values(model, genome, variants, "plain", **settings)
    incremental, second = values(model, genome, variants, "incremental", **settings)
    assert (first.engine, second.engine) == ("plain", "incremental")
    assert torch.isfinite(plain).all() and plain[0].abs().max() > 1e-4
    return float((plain - incremental).abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_a_token_sees_exactly_what_the_layers_say(name: str) -> None:
    """Perturb every offset of a bin, near and far: the tokens that change are those of the geometry."""
    model = draw(name)
    geometry = TrunkGeometry(model, TOKENS)
    field = receptive_field(model.local_layers)
    codes = torch.tensor(np.random.default_rng(2).integers(0, 4, 1024))
    one_hot = torch.eye(4, dtype=torch.float64)[codes]
    middle = TOKENS // 2 * geometry.stride
    positions = [*range(middle, middle + geometry.stride), *range(0, 1024, 37), 1023]
    with torch.inference_mode():
        before = model.encode(one_hot[None])
        reached = set()
        for position in positions:
            for base in range(1, 4):
                changed = one_hot.clone()
                changed[position] = torch.eye(4, dtype=torch.float64)[(codes[position] + base) % 4]
                tokens = (model.encode(changed[None]) != before).any(-1)[0].nonzero()[:, 0].tolist()
                first, last = geometry.changed(position, position + 1)
                assert first <= min(tokens) and max(tokens) < last
                reached |= {(t * field.stride - field.left <= position) for t in tokens}
                if position in range(middle, middle + geometry.stride):
                    reached |= {("first", min(tokens) == first), ("last", max(tokens) == last - 1)}
    assert {("first", True), ("last", True)} <= reached, "the field is no larger than need be"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("low", "high"), [(0, 16), (7, 600), (507, 508), (512, 1024), (1000, 1024), (0, 1024)]
)
def test_a_patch_holds_what_changes_and_is_right(name: str, low: int, high: int) -> None:
    model = draw(name)
    geometry = TrunkGeometry(model, TOKENS)
    one_hot = torch.eye(4, dtype=torch.float64)[np.random.default_rng(3).integers(0, 4, 1024)][None]
    patch = geometry.patch(low, high)
    first, last = geometry.changed(low, high)
    assert 0 <= patch.first <= first < last <= patch.last <= TOKENS and patch.size in geometry.sizes
    with torch.inference_mode():
        whole = model.encode(one_hot)
        start, end = patch.start * geometry.stride, (patch.start + patch.size) * geometry.stride
        part = model.encode(one_hot[:, start:end])
    inside = slice(patch.first - patch.start, patch.last - patch.start)
    torch.testing.assert_close(part[:, inside], whole[:, patch.first : patch.last], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rc", [False, True], ids=["one strand", "both strands"])
@pytest.mark.parametrize("name", MODELS)
def test_equal_to_the_plain_engine(name: str, rc: bool, sequence: str, genome: Fasta) -> None:
    """Every offset in a bin, every kind of allele, both ends of a contig."""
    model = draw(name)
    snvs = [(at, alleles(sequence, at)[0]) for at in range(960, 976)]
    kinds = [(at, allele) for at in (971, 3, 1975) for allele in alleles(sequence, at)]
    variants = [variant(at, *allele, row) for row, (at, allele) in enumerate(snvs + kinds)]
    assert largest_difference(model, genome, variants, rc=rc) < 1e-10
    single = draw(name).float()
    plain, incremental = (
        values(single, genome, variants, each, rc=rc)[0] for each in ("plain", "incremental")
    )
    assert (plain - incremental)[0].abs().max() < 2e-5, "logFC"


@pytest.mark.parametrize("rule", [CENTERED, WindowRule("bin"), WindowRule(8), WindowRule(50)], ids=str)
@pytest.mark.parametrize("shifts", [(0,), (-3, 0, 1)], ids=["no shifts", "shifts"])
@pytest.mark.parametrize("name", ["enformer", "sparse_enformer", "basenji"])
def test_window_rules_and_shifts(
    name: str, shifts: tuple[int, ...], rule: WindowRule, sequence: str, genome: Fasta
) -> None:
    model = draw(name)
    positions = [2, 700, 703, 707, 716, 731, 1020, 705, 1990]
    pairs = [(at, allele) for at in positions for allele in alleles(sequence, at)[:4]]
    variants = [variant(at, ref, alt, row) for row, (at, (ref, alt)) in enumerate(pairs)]
    assert largest_difference(model, genome, variants, shifts=shifts, window_rule=rule) < 1e-10


@pytest.mark.parametrize("engine", ["plain", "incremental"])
@pytest.mark.parametrize("rule", [CENTERED, WindowRule("bin"), WindowRule(50)], ids=str)
def test_scores_do_not_depend_on_company_order_or_memory(
    rule: WindowRule, engine: str, sequence: str, genome: Fasta
) -> None:
    model = draw("sparse_enformer")
    positions = np.random.default_rng(5).permutation(np.arange(300, 1700, 43)).tolist()
    variants = [variant(at, *alleles(sequence, at)[row % 6], row) for row, at in enumerate(positions)]
    together, _ = values(model, genome, variants, engine, window_rule=rule)
    reverse, _ = values(model, genome, variants[::-1], engine, window_rule=rule)
    assert (together - reverse.flip(1)).abs().max() < 1e-10
    for row in (0, 7, 20):
        alone, _ = values(model, genome, [variants[row]], engine, window_rule=rule)
        assert (alone[:, 0] - together[:, row]).abs().max() < 1e-10
    tight, _ = values(model, genome, variants, engine, window_rule=rule, cache_bytes=1)
    assert torch.equal(tight, together)


def test_the_cache_keeps_to_its_limit_and_is_used(sequence: str, genome: Fasta) -> None:
    model = draw("enformer")
    variants = [variant(at, *alleles(sequence, at)[0], row) for row, at in enumerate(range(300, 1700, 20))]
    calls: list[int] = []
    encode = model.encode

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape[0] * x.shape[1])
        return encode(x)

    model.encode = counted  # type: ignore[method-assign]
    work = {}
    for limit in (1, 2**20):
        calls.clear()
        _, scorer = values(
            model, genome, variants, "incremental", window_rule=WindowRule("bin"), cache_bytes=limit
        )
        work[limit] = sum(calls)
        segments = only_trunk(scorer)._segments
        assert segments is not None
        assert segments.bytes <= limit or len(segments._kept) == 1
    assert work[2**20] < 0.7 * work[1]
    calls.clear()
    values(model, genome, variants, "plain", window_rule=WindowRule("bin"))
    assert work[2**20] < 0.6 * sum(calls)


def test_a_null_variant_scores_exactly_0(sequence: str, genome: Fasta) -> None:
    model = draw("sparse_enformer").float()
    variants = [
        variant(900, sequence[900], sequence[900], 0),
        variant(900, *alleles(sequence, 900)[0], 1),
        variant(905, sequence[905:909], sequence[905:909], 2),
    ]
    for rule in (CENTERED, WindowRule(50)):
        found, _ = values(model, genome, variants, "incremental", window_rule=rule)
        assert (found[:, [0, 2]] == 0).all() and (found[:, 1] != 0).any()


def test_only_what_changes_is_computed(sequence: str, genome: Fasta) -> None:
    """An SNV costs one pass of the trunk for the reference, and a patch of both alleles."""
    model = draw("enformer")
    geometry = TrunkGeometry(model, TOKENS)
    seen: list[int] = []
    encode = model.encode

    def counted(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[0] * x.shape[1] // 16)
        return encode(x)

    model.encode = counted  # type: ignore[method-assign]
    values(model, genome, [variant(900, *alleles(sequence, 900)[0])], "incremental", rc=False, batch_size=2)
    assert seen == [TOKENS, 2 * geometry.sizes[0]]


@pytest.mark.parametrize("name", ["sparse_enformer, local below", "basenji"])
def test_only_the_cone_of_local_layers_is_computed(name: str, sequence: str, genome: Fasta) -> None:
    model = draw(name)
    seen: list[int] = []
    stages = model.local_stages
    assert len(stages) >= 3

    def counting(stage: LocalStage) -> LocalStage:
        def run(x: torch.Tensor, window: int, start: int) -> torch.Tensor:
            seen.append(x.shape[1])
            return stage.run(x, window, start)

        def whole(x: torch.Tensor) -> torch.Tensor:
            seen.append(x.shape[1])
            return stage.on_window(x)

        return stage._replace(run=run, whole=whole)

    predictor = Predictor(model, batch_size=2, reverse_complement=False)
    scorer = VariantScorer(predictor, FastaWindows(genome))
    only_trunk(scorer)._stages = [counting(stage) for stage in stages]
    list(scorer._results([variant(900, *alleles(sequence, 900)[0])]))
    reference, alternate = seen[: len(stages)], seen[len(stages) :]
    assert reference == [TOKENS] * len(stages)
    assert len(alternate) == len(stages) and max(alternate) < 0.6 * TOKENS
    assert alternate == sorted(alternate)


@pytest.mark.parametrize("name", [name for name in MODELS if "local" in name or name == "basenji"])
def test_a_stage_is_right_on_a_part_of_a_window(name: str) -> None:
    model = draw(name)
    with torch.inference_mode():
        channels = model.encode(torch.zeros(1, 64, 4, dtype=torch.float64)).shape[2]
        tokens = torch.randn(1, TOKENS, channels, dtype=torch.float64)
        for stage in model.local_stages:
            whole = stage.run(tokens, TOKENS, 0)
            for start, end in ((0, 32), (20, 44), (32, TOKENS)):
                part = stage.run(tokens[:, start:end], TOKENS, start)
                low = 0 if start == 0 else stage.reach
                high = end - start - (0 if end == TOKENS else stage.reach)
                expected = whole[:, start + low : start + high]
                torch.testing.assert_close(part[:, low:high], expected, rtol=0, atol=1e-12)
            together = stage.on_window(tokens)
            torch.testing.assert_close(together[:, -TOKENS:], whole, rtol=0, atol=1e-12)
            if stage.project is not None and stage.summarize is not None:
                assert together.shape[1] > TOKENS
                pieces = [
                    stage.project(tokens[:, low:high], TOKENS, low) for low, high in ((0, 9), (9, TOKENS))
                ]
                projected = torch.cat(pieces, dim=1)
                torch.testing.assert_close(
                    stage.summarize(projected), together[:, :-TOKENS], rtol=0, atol=1e-12
                )


@pytest.mark.parametrize("engine", ["plain", "incremental"])
@pytest.mark.parametrize("rule", [CENTERED, WindowRule("bin"), WindowRule(100)], ids=str)
def test_only_the_bins_that_a_mask_needs_are_predicted(
    engine: str, rule: WindowRule, sequence: str, genome: Fasta
) -> None:
    """Far bins are not computed, and the scores of substitutions, insertions and deletions stay."""
    model = draw("enformer")
    near = [variant(place, *allele) for place in (900, 907, 1011) for allele in alleles(sequence, place)]
    settings = dict(mask=Mask(40), window_rule=rule, shifts=(-3, 0, 5))
    everything, whole = values(model, genome, near, engine, **settings)
    needed, scorer = values(model, genome, near, engine, **settings, max_allele_length=18)
    assert whole.bins == (0, 40) and 9 < scorer.bins[0] < 17 and 23 < scorer.bins[1] < 34
    torch.testing.assert_close(needed, everything, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="an allele of 18 bases; 17 were promised"):
        values(model, genome, near, engine, **settings, max_allele_length=17)


def test_a_model_without_a_local_trunk_takes_the_plain_engine(sequence: str, genome: Fasta) -> None:
    predictor = Predictor(BaseCounts(), batch_size=4)
    scorer = VariantScorer(predictor, FastaWindows(genome), engine="incremental")
    assert scorer.engine == "plain"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "fast"}, "engine must be one of incremental, plain"),
        ({"window_rule": WindowRule(3)}, "less than half a bin.*give 0, bin, or 8 and more"),
        ({"window_rule": WindowRule(5000)}, "too large"),
    ],
)
def test_bad_settings(settings: dict, message: str, genome: Fasta) -> None:
    with pytest.raises(ConfigError, match=message):
        VariantScorer(Predictor(draw("enformer")), FastaWindows(genome), **settings)


@pytest.mark.parametrize("bin_size", [1, 16, 128])
@pytest.mark.parametrize("rule", [WindowRule("bin"), WindowRule(64), WindowRule(1000)], ids=str)
def test_the_window_depends_on_the_position_alone(rule: WindowRule, bin_size: int) -> None:
    starts = {}
    for position in range(0, 5000, 7):
        start = rule.window_start(position, 1024, bin_size)
        offset = position - (start + 512)
        assert abs(offset) <= rule.largest_offset(bin_size)
        assert rule.max_offset == "bin" or abs(offset) <= int(rule.max_offset)
        assert start % bin_size == 0 and start % rule.step(bin_size) == 0
        starts[position] = start
    assert list(starts.values()) == sorted(starts.values())
    assert CENTERED.window_start(777, 1024, bin_size) == 777 - 512
