"""The Python interface: the same numbers as the commands, as arrays and frames."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

import gexpr
from gexpr import api, checkpoints
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.runs.common import ModelOptions
from gexpr.runs.predict import PredictOptions, predict
from gexpr.runs.score_variants import ScoreOptions, score_variants

VARIANTS = [("chr1", 500, ".", "A", "C,T"), ("1", 700, "ins", "C", "CAG"), ("chr9", 5, ".", "A", "C")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, a genome with A at 500 and C at 700, and a VCF."""
    folder = tmp_path_factory.mktemp("api")
    save_tiny_checkpoint(folder / "tiny")
    bases = np.random.default_rng(5).choice(list("ACGT"), 1500)
    bases[499], bases[699] = "A", "C"
    write_fasta(folder / "genome.fa", {"chr1": "".join(bases)})
    write_vcf(folder / "v.vcf", VARIANTS)
    (folder / "r.bed").write_text("chr1\t400\t720\ta\t0\t+\nchr1\t100\t420\tb\t0\t-\n")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> api.Model:
    return gexpr.load(folder / "tiny")


def test_a_model_is_its_module(model: api.Model, folder: Path) -> None:
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert not model.module.training
    plain = checkpoints.load(folder / "tiny")
    x = torch.nn.functional.one_hot(torch.arange(512)[None] % 4, 4).float()
    with torch.no_grad():
        assert torch.equal(model(x), plain(x))
    assert (model.context_length, model.tracks, model.config) == (512, plain.tracks, plain.config)
    assert model.module.state_dict().keys() == plain.state_dict().keys()
    assert copy.deepcopy(model).bin_size == 16
    assert "512 bp -> 24 bins of 16 bp x 4 tracks" in repr(model)
    with pytest.raises(AttributeError, match="no_such"):
        _ = model.no_such


def test_scores_are_those_of_the_command(model: api.Model, folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    options = ScoreOptions(
        model=ModelOptions(checkpoint=str(folder / "tiny")),
        statistics=("logFC", "SAD"),
        allow_unknown_contigs=True,
    )
    score_variants(str(folder / "v.vcf"), str(folder / "genome.fa"), str(folder / "s.tsv"), options)
    expected = pd.read_csv(folder / "s.tsv", sep="\t")
    scores = model.score(folder / "genome.fa", folder / "v.vcf", statistics="logFC,SAD")
    frame = scores.to_frame()
    assert list(frame["status"]) == list(expected["status"]) == ["ok", "ok", "ok", "contig_not_in_fasta"]
    assert scores.values.shape == (2, 4, 4)
    np.testing.assert_allclose(
        frame.iloc[:, 6:].to_numpy(), expected.iloc[:, -8:].to_numpy(), rtol=1e-4, atol=1e-5
    )
    assert list(frame.columns[6:8]) == ["logFC:count_A", "logFC:count_C"]
    assert not np.allclose(frame.iloc[:3, 6:], 0)


def test_variants_in_all_their_forms(model: api.Model, folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    genome = folder / "genome.fa"
    expected = model.score(genome, folder / "v.vcf").values
    texts = ["chr1:500:A:C,T", "1:700 C>CAG", "chr9:5:A:C"]
    rows = [(chrom, pos, ref, alt) for chrom, pos, _, ref, alt in VARIANTS]
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt"])
    for variants in (texts, rows, table, table.to_dict("records")):
        np.testing.assert_array_equal(model.score(genome, variants).values, expected)
    assert model.score(genome, "chr1:500:A:C").to_frame()["pos"].tolist() == [500]
    assert len(model.score(genome, []).to_frame()) == 0
    near = model.score(genome, texts, mask="center:32", tracks="count_A", reverse_complement=False)
    assert near.values.shape == (1, 4, 1)
    assert not np.allclose(near.values[0, :3], expected[0, :3, :1])


@pytest.mark.parametrize(
    "bad", ["chr1-500", ("chr1", "x", "A", "C"), {"chrom": "chr1"}, ("chr1", 5, "A", "")]
)
def test_bad_variants_are_named(model: api.Model, folder: Path, bad: object) -> None:
    with pytest.raises(GexprError, match="variant 2: "):
        model.score(folder / "genome.fa", ["chr1:500:A:C", bad])


def test_predictions_are_those_of_the_command(model: api.Model, folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    options = PredictOptions(model=ModelOptions(checkpoint=str(folder / "tiny")))
    predict(str(folder / "r.bed"), str(folder / "genome.fa"), str(folder / "p.tsv"), options)
    expected = pd.read_csv(folder / "p.tsv", sep="\t", comment=None)
    found = model.predict(folder / "genome.fa", folder / "r.bed")
    np.testing.assert_allclose(found.sums().iloc[:, -4:], expected.iloc[:, -4:], rtol=1e-4)
    frame = found.to_frame()
    assert frame["start"].tolist() == [*range(400, 720, 16), *range(404, 99, -16)]
    assert (frame["end"] - frame["start"] == 16).all()
    texts = model.predict(folder / "genome.fa", ["chr1:401-720", ("chr1", 100, 420, "b", "0", "-")])
    np.testing.assert_array_equal(texts.to_frame().iloc[:, 4:], frame.iloc[:, 4:])


def test_xarray(model: api.Model, folder: Path) -> None:
    pytest.importorskip("xarray")
    found = model.predict(folder / "genome.fa", folder / "r.bed").to_xarray()
    assert found.dims == ("region", "bin", "track")
    assert found.sel(track="count_C").shape == (2, 20)
    scores = model.score(folder / "genome.fa", folder / "v.vcf").to_xarray()
    assert scores["logFC"].sizes == {"variant": 4, "track": 4}
    assert math.isnan(scores["logFC"].sel(track="count_A")[3])
    with pytest.raises(ConfigError, match=r"\[2, 4\] bins"):
        model.predict(folder / "genome.fa", ["chr1:1-32", "chr1:1-64"]).to_xarray()


def test_bad_regions_are_named(model: api.Model, folder: Path) -> None:
    with pytest.raises(ConfigError, match="region 1: "):
        model.predict(folder / "genome.fa", [("chr1", 5, 5)])
    with pytest.raises(InputError, match="did you mean 'chr1'"):
        model.predict(folder / "genome.fa", "ch1:1-20")
    assert len(model.predict(folder / "genome.fa", ["chr1:1401-"]).values[0]) == 7
