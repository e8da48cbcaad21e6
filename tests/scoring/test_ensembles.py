"""Ensembles: predictions of several models averaged in natural scale, in both engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from toy_models import BaseCounts, tiny_model, variant

from gexpr.errors import ConfigError
from gexpr.genome.codes import encode
from gexpr.genome.fasta import Fasta
from gexpr.genome.windows import CENTERED, WindowRule
from gexpr.models.base import SequenceModel
from gexpr.results import Variant
from gexpr.scoring.definitions import ENGINES
from gexpr.scoring.engine import FastaWindows, VariantScorer
from gexpr.scoring.predictor import Predictor

STATISTICS = ("logFC", "SAD", "D2")


@pytest.fixture(scope="module")
def members() -> list[SequenceModel]:
    """Two models with other weights."""
    return [tiny_model(3), tiny_model(4)]


@pytest.fixture(scope="module")
def variants(sequence: str) -> list[Variant]:
    """Substitutions, insertions and deletions, more than a batch."""
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    substitutions = [(at, sequence[at], other[sequence[at]]) for at in (700, 705, 1004)]
    indels = [(705, "", "GATTA"), (1200, sequence[1200:1207], "")]
    return [variant(*each, row) for row, each in enumerate(substitutions + indels)]


def score(
    models: SequenceModel | Sequence[SequenceModel],
    genome: Fasta,
    variants: list[Variant],
    *,
    shifts: tuple[int, ...] = (0,),
    profile: int | None = None,
    **settings,
) -> dict[str, np.ndarray]:
    predictor = Predictor(models, batch_size=3, shifts=shifts)
    scorer = VariantScorer(
        predictor, FastaWindows(genome), statistics=STATISTICS, profile=profile, **settings
    )
    return scorer.score(variants)


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 2e-5) -> None:
    for name in STATISTICS:
        assert np.abs(found[name]).max() > 1e-3
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=atol, err_msg=name)


# --- predictions ---------------------------------------------------------------------------


def test_predictions_are_the_mean_over_members_strands_and_shifts(members: list[SequenceModel]) -> None:
    settings = dict(batch_size=2, shifts=(-2, 0), tracks=[2, 0])
    predictor = Predictor(members, **settings)
    assert [each.member for each in predictor.passes] == [0] * 4 + [1] * 4
    codes = np.random.default_rng(1).integers(0, 5, (2, predictor.window_length), dtype=np.uint8)
    singles = [Predictor(each, **settings).predict(codes) for each in members]
    assert (singles[0] - singles[1]).abs().max() > 0.01
    torch.testing.assert_close(predictor.predict(codes), sum(singles) / 2)
    assert predictor.forwards == 8
    assert predictor.with_shifts((0,)).models == members


def test_members_are_averaged_in_the_units_of_the_first(members: list[SequenceModel]) -> None:
    """Counts, and roots of three times the counts: squared and divided by three before the mean."""
    first, second = BaseCounts(), BaseCounts()
    second.tracks = [
        track._replace(transform="squashed:shifted_power,exponent=0.5", scale=3.0) for track in first.tracks
    ]
    predictor = Predictor([first, second], batch_size=1, reverse_complement=False)
    codes = np.random.default_rng(1).integers(0, 4, (1, 64), dtype=np.uint8)
    counts = Predictor(first, batch_size=1, reverse_complement=False).predict(codes)
    torch.testing.assert_close(predictor.predict(codes), (counts + ((counts + 1) ** 2 - 1) / 3) / 2)
    assert predictor.tracks == first.tracks


@pytest.mark.parametrize(
    ("change", "unsquash", "message"),
    [
        (
            dict(transform="log2"),
            True,
            "track 'count_A' has the transform 'count' and scale 1 in one, 'log2'",
        ),
        (dict(transform="linear"), True, "'linear' and 1 in the other"),
        (dict(transform="squashed:power,exponent=0.5"), False, "cannot be averaged"),
    ],
)
def test_scales_that_cannot_be_averaged(change: dict, unsquash: bool, message: str) -> None:
    other = BaseCounts()
    other.tracks = [track._replace(**change) for track in other.tracks]
    with pytest.raises(ConfigError, match=message) as caught:
        Predictor([BaseCounts(), other], unsquash=unsquash, names=["f0", "f1"])
    assert "checkpoints f0 and f1 are no ensemble" in str(caught.value)


def with_tracks(**changes) -> BaseCounts:
    """A model whose second track differs."""
    model = BaseCounts()
    model.tracks[1] = model.tracks[1]._replace(**changes)
    return model


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (BaseCounts(context_length=128), "context_length is 64 bp in one and 128 in the other"),
        (BaseCounts(target_length=4), "target_length is 8 bins in one and 4 in the other"),
        (BaseCounts(bin_bases=2), "bin_size is 4 bp in one and 2 in the other"),
        (with_tracks(id="x"), "the id of track 1 is 'count_C' in one and 'x' in the other"),
        (with_tracks(strand="-"), r"the strand of track 1 is '\+' in one and '-' in the other"),
        (with_tracks(strand_pair=1), "the strand_pair of track 1 is 2 in one and 1 in the other"),
    ],
)
def test_models_that_are_no_ensemble(other: SequenceModel, message: str) -> None:
    with pytest.raises(ConfigError, match=f"f0 and f2 are no ensemble: {message}"):
        Predictor([BaseCounts(), BaseCounts(), other], names=["f0", "f1", "f2"])


def test_labels_are_those_of_the_first_and_other_heads_do_not_matter() -> None:
    predictor = Predictor([BaseCounts(), with_tracks(label="other", assay="CAGE", cell_type="x")])
    assert predictor.tracks == BaseCounts().tracks
    with pytest.raises(ConfigError, match="no model"):
        Predictor([])


def test_closing_puts_every_model_back() -> None:
    models = [BaseCounts().train(), BaseCounts().eval()]
    with Predictor([*models, models[0]]) as predictor:
        assert not any(model.training for model in predictor.models)
    assert [model.training for model in models] == [True, False]


# --- scores --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_score_is_the_statistic_of_the_averaged_predictions(
    engine: str, members: list[SequenceModel], sequence: str, genome: Fasta, variants: list[Variant]
) -> None:
    """By hand, for substitutions: forward and reverse complement of both models, through plain calls."""
    found = score(members, genome, variants, engine=engine)
    chosen = [each for each in variants if len(each.norm_ref) == len(each.norm_alt) == 1]
    assert len(chosen) == 3
    for each in chosen:
        window = sequence[each.start - 256 : each.start + 256]
        changed = window[:256] + each.norm_alt + window[257:]
        sums = []
        for text in (window, changed):
            codes = torch.from_numpy(encode(text).copy()).long()
            forward = torch.nn.functional.one_hot(codes, 4).float()[None]
            reverse = forward.flip(1, 2)
            with torch.inference_mode():
                passes = [model(forward)[0] for model in members]
                passes += [model(reverse)[0].flip(0)[:, [3, 2, 1, 0]] for model in members]
            sums.append((sum(passes) / 4).sum(0).double())
        np.testing.assert_allclose(found["SAD"][each.row], sums[1] - sums[0], atol=2e-5)
        expected = torch.log2(sums[1] + 1) - torch.log2(sums[0] + 1)
        np.testing.assert_allclose(found["logFC"][each.row], expected, atol=2e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("average", "alone"), [("scores", "scores"), ("checkpoint-scores", "predictions")])
def test_averages_of_scores(
    engine: str,
    average: str,
    alone: str,
    members: list[SequenceModel],
    genome: Fasta,
    variants: list[Variant],
) -> None:
    """The mean of what each member alone gives, profiles included."""
    settings = dict(engine=engine, shifts=(-1, 0), profile=6)
    found = score(members, genome, variants, average=average, **settings)
    singles = [score(each, genome, variants, average=alone, **settings) for each in members]
    assert_close(found, {name: (singles[0][name] + singles[1][name]) / 2 for name in STATISTICS})
    for name in ("REF", "ALT"):
        np.testing.assert_allclose(found[name], (singles[0][name] + singles[1][name]) / 2, atol=1e-5)
    assert np.array_equal(found["profile_start"], singles[0]["profile_start"])
    together = score(members, genome, variants, average="predictions", **settings)
    assert np.abs(found["D2"] - together["D2"]).max() > 1e-3


@pytest.mark.parametrize("average", ["predictions", "scores", "checkpoint-scores"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_twice_is_the_model(
    engine: str, average: str, members: list[SequenceModel], genome: Fasta, variants: list[Variant]
) -> None:
    settings = dict(engine=engine, average=average)
    once = score(members[0], genome, variants, **settings)
    assert_close(score([members[0]] * 2, genome, variants, **settings), once, atol=2e-6)
    alone = score([members[0]], genome, variants, **settings)
    assert all(np.array_equal(alone[name], once[name]) for name in STATISTICS)


@pytest.mark.parametrize("rule", [CENTERED, WindowRule("bin")], ids=["centered", "grid"])
def test_engines_agree_also_where_a_member_has_no_trunk(
    rule: WindowRule, members: list[SequenceModel], genome: Fasta, variants: list[Variant]
) -> None:
    counts = BaseCounts(context_length=512, target_length=24, bin_bases=16)
    mixed = [members[0], counts, members[1]]
    plain, incremental = (
        score(mixed, genome, variants, engine=engine, window_rule=rule, shifts=(0, 3)) for engine in ENGINES
    )
    assert_close(plain, incremental)
    scorer = VariantScorer(Predictor(mixed, batch_size=3), FastaWindows(genome))
    assert scorer.engine == "incremental" and scorer._incremental is not None
    assert [trunk is None for trunk in scorer._incremental.trunks] == [False, True, False]


def test_members_share_the_memory_for_tokens_along_the_genome(
    members: list[SequenceModel], genome: Fasta
) -> None:
    scorer = VariantScorer(
        Predictor(members, batch_size=3),
        FastaWindows(genome),
        window_rule=WindowRule("bin"),
        cache_bytes=1000,
    )
    assert scorer._incremental is not None
    segments = [trunk._segments for trunk in scorer._incremental.trunks if trunk is not None]
    assert [each._limit for each in segments if each is not None] == [500, 500]
