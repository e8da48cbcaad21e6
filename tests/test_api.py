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
from gexpr.interpretation.mutagenesis import Changes
from gexpr.runs.attribute import AttributeOptions, attribute
from gexpr.runs.common import ModelOptions
from gexpr.runs.ism import IsmOptions, ism
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


def test_regions_in_all_their_forms(model: api.Model, folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    genome = folder / "genome.fa"
    expected = model.predict(genome, folder / "r.bed").to_frame()
    table = pd.DataFrame({"chrom": "chr1", "start": [400, 100], "end": [720, 420], "strand": ["+", "-"]})
    pd.testing.assert_frame_equal(model.predict(genome, table).to_frame(), expected)
    first = expected[expected["region"] == 0]
    for region in ("chr1:401-720", ("chr1", 400, 720), [("1", 400, 720)]):
        found = model.predict(genome, region).to_frame()
        np.testing.assert_array_equal(found.iloc[:, 2:], first.iloc[:, 2:])
    with pytest.raises(ConfigError, match="no column 'end'"):
        model.predict(genome, table.drop(columns="end"))


def test_mutagenesis_is_that_of_the_command(model: api.Model, folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    h5py = pytest.importorskip("h5py")
    (folder / "short.bed").write_text("1\t500\t520\ta\t0\t+\nchr1\t600\t620\tb\t0\t-\n")
    options = IsmOptions(
        model=ModelOptions(checkpoint=str(folder / "tiny")),
        statistics=("logFC", "SAD"),
        changes=Changes(3, insertions=True),
    )
    outputs = str(folder / "i.h5"), str(folder / "i.tsv")
    ism(str(folder / "short.bed"), str(folder / "genome.fa"), outputs, options)
    done: list[int] = []
    found = model.ism(
        folder / "genome.fa",
        folder / "short.bed",
        statistics="logFC,SAD",
        deletions=3,
        insertions=True,
        advance=done.append,
    )
    assert (len(found), sum(done)) == (2, 40)
    with h5py.File(outputs[0]) as file:
        for name in ("logFC", "SAD"):
            pieces = {"": found.substitutions, "_deletion": found.deletions, "_insertion": found.insertions}
            for kind, values in pieces.items():
                expected = file[name + kind][:]
                np.testing.assert_allclose(np.stack(values[name]), expected, rtol=1e-4, atol=1e-5)
        letters = file["seqs"][:].argmax(axis=2)
    assert found.sequences == ["".join("ACGT"[code] for code in row) for row in letters]
    table = pd.read_csv(outputs[1], sep="\t")
    frame = found.to_frame()
    assert list(frame.columns[:6]) == ["region", "chrom", "pos", "ref", "alt", "logFC:count_A"]
    columns = ["chrom", "pos", "ref", "alt"]
    pd.testing.assert_frame_equal(frame[columns].astype(str), table[columns].astype(str), check_dtype=False)
    np.testing.assert_allclose(frame.iloc[:, 5:], table.iloc[:, -8:], rtol=1e-4, atol=1e-5)
    assert frame["region"].value_counts().to_dict() == {0: 20 * 7 + 18, 1: 20 * 7 + 18}
    assert np.abs(frame.iloc[:, 5:].to_numpy()).max() > 1e-3


def test_substitutions_as_xarray(model: api.Model, folder: Path) -> None:
    pytest.importorskip("xarray")
    found = model.ism(folder / "genome.fa", [("chr1", 600, 610, "b", "0", "-")])
    data = found.to_xarray()
    assert data["logFC"].sizes == {"region": 1, "position": 10, "letter": 4, "track": 4}
    assert data["pos"].values.tolist() == [list(range(610, 600, -1))]
    assert (found.deletions, found.insertions) == ({}, {})
    # A change of the - strand's base is one of its partner on the + strand.
    position, base = 609, found.sequences[0][1]
    other = "ACGT".replace(base, "")[0]
    pairs = dict(zip("ACGT", "TGCA", strict=True))
    frame = found.to_frame()
    row = frame[(frame["pos"] == position) & (frame["alt"] == pairs[other])]
    assert row["ref"].item() == pairs[base]
    assert data["logFC"].sel(letter=other, track="count_A").values[0, 1] == row["count_A"].item()
    with pytest.raises(ConfigError, match=r"\[2, 4\] bases"):
        model.ism(folder / "genome.fa", ["chr1:501-502", "chr1:501-504"]).to_xarray()
    with pytest.raises(ConfigError, match="cut it into shorter ones"):
        model.ism(folder / "genome.fa", "chr1:401-900")
    assert len(model.ism(folder / "genome.fa", []).to_frame()) == 0


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_attributions_are_those_of_the_command(method: str, model: api.Model, folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    h5py = pytest.importorskip("h5py")
    (folder / "short.bed").write_text("1\t500\t520\ta\t0\t+\nchr1\t600\t620\tb\t0\t-\n")
    settings = {"method": method, "steps": 3, "baseline": "shuffled", "shuffles": 2, "each_track": True}
    options = AttributeOptions(model=ModelOptions(checkpoint=str(folder / "tiny")), **settings)
    output = str(folder / f"{method}.h5")
    attribute(str(folder / "short.bed"), str(folder / "genome.fa"), output, options)
    found = model.attribute(folder / "genome.fa", folder / "short.bed", **settings)
    with h5py.File(output) as file:
        np.testing.assert_allclose(np.stack(found.values), file["attributions"][:], rtol=1e-3, atol=1e-6)
        contributions = file["contributions"][:]
        np.testing.assert_allclose(np.stack(found.contributions), contributions, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.target, file["target"][:], rtol=1e-5)
    frame = found.to_frame()
    assert frame["pos"].tolist() == [*range(501, 521), *range(620, 600, -1)]
    assert "".join(frame["base"]) == "".join(found.sequences)
    np.testing.assert_array_equal(frame["count_C"], np.concatenate(found.contributions)[:, 1])
    assert np.isnan(found.baseline).all() == (method == "gradient")
    assert np.abs(frame["count_C"]).max() > 0
    pytest.importorskip("xarray")
    data = found.to_xarray()
    assert data["attributions"].sizes == {"region": 2, "position": 20, "letter": 4, "track": 4}
    pd.testing.assert_series_equal(
        data["contributions"].sel(track="count_C").isel(region=1).to_series().reset_index(drop=True),
        frame["count_C"][20:].reset_index(drop=True),
        check_names=False,
    )


def test_attributions_of_the_sum_of_all_tracks(model: api.Model, folder: Path) -> None:
    pytest.importorskip("pandas")
    found = model.attribute(folder / "genome.fa", "chr1:501-520", target="sum", mask="center:64")
    assert list(found.to_frame().columns) == ["region", "chrom", "pos", "base", "sum"]
    assert found.target.shape == (1, 1)
    assert len(model.attribute(folder / "genome.fa", []).to_frame()) == 0
    with pytest.raises(ConfigError, match="method must be one of gradient, integrated"):
        model.attribute(folder / "genome.fa", "chr1:501-520", method="gradients")


def test_bad_regions_are_named(model: api.Model, folder: Path) -> None:
    with pytest.raises(ConfigError, match="region 1: "):
        model.predict(folder / "genome.fa", [("chr1", 5, 5)])
    with pytest.raises(InputError, match="did you mean 'chr1'"):
        model.predict(folder / "genome.fa", "ch1:1-20")
    assert len(model.predict(folder / "genome.fa", ["chr1:1401-"]).values[0]) == 7
