"""Backgrounds: made of scores, and used to rank others, in every output."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.errors import ConfigError, InputError
from gexpr.genome.examples import resolve_fasta, resolve_vcf
from gexpr.runs.background import random_variants
from gexpr.runs.quantiles import summary_columns
from gexpr.variants.vcf import open_vcf
from gexpr.writers.background import read_background


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn genome, a tiny model, a background of 60 random variants, and others to be ranked."""
    folder = tmp_path_factory.mktemp("background")
    draw = np.random.default_rng(5)
    sequence = "".join(draw.choice(list("ACGT"), 4000))
    write_fasta(folder / "g.fa", {"chr1": sequence[:2500], "chr2": sequence[2500:]})
    save_tiny_checkpoint(folder / "tiny")
    records = []
    for position in (700, 1000, 1400):
        ref = sequence[position - 1]
        alts = ",".join(base for base in "ACGT" if base != ref)
        records.append(("chr1", position, f"v{position}", ref, alts))
    records.append(("chr1", 1500, "sv", sequence[1499], "<DEL>"))
    write_vcf(folder / "v.vcf", records)
    made = make(folder, "--random", "60", "--stats", "logFC,SAD", "-o", str(folder / "bg.h5"))
    assert made.exit_code == 0, made.output
    assert "60 variants are few" in made.stderr
    assert sorted(path.name for path in folder.glob("bg.h5*")) == ["bg.h5"]
    return folder


def make(folder: Path, *arguments: str):
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "4"]
    return CliRunner().invoke(main, ["background", *given, *arguments])


def score(folder: Path, *arguments: str, vcf: str = "v.vcf"):
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "4"]
    return CliRunner().invoke(main, ["score-variants", *given, *arguments, str(folder / vcf)])


def test_random_variants_are_sorted_distinct_fit_the_genome_and_come_again(folder, tmp_path):
    path = random_variants(str(folder / "g.fa"), 300, 7, str(tmp_path / "a"))
    found = [(r.chrom, r.pos, r.ref, r.alts) for r in open_vcf(path).records()]
    assert len(found) == len({each[:2] for each in found}) == 300
    assert found == sorted(found) and {each[0] for each in found} == {"chr1", "chr2"}
    genome = dict(part.split("\n", 1) for part in (folder / "g.fa").read_text().split(">")[1:])
    assert all(genome[c].replace("\n", "")[p - 1] == ref and alts != (ref,) for c, p, ref, alts in found)
    again = random_variants(str(folder / "g.fa"), 300, 7, str(tmp_path / "b"))
    assert Path(again).read_bytes() == Path(path).read_bytes()
    other = random_variants(str(folder / "g.fa"), 300, 8, str(tmp_path / "c"))
    assert Path(other).read_bytes() != Path(path).read_bytes()
    with pytest.raises(ConfigError, match="too many for 4,000 bases"):
        random_variants(str(folder / "g.fa"), 2000, 1, str(tmp_path / "d"))


def test_a_background_holds_the_sorted_magnitudes_of_its_variants_scores(folder, tmp_path):
    random_variants(str(folder / "g.fa"), 60, 1, str(tmp_path / "a"))
    shutil.copy(tmp_path / "a.variants.vcf", folder / "a.variants.vcf")
    out = tmp_path / "scores.h5"
    assert score(folder, "--stats", "logFC,SAD", "-o", str(out), vcf="a.variants.vcf").exit_code == 0
    background = read_background(folder / "bg.h5")
    with h5py.File(out) as file:
        assert background.variants == 60
        for name in ("logFC", "SAD"):
            assert np.array_equal(background.statistics[name].values, np.sort(np.abs(file[name][:]), axis=0))
    same = tmp_path / "same.h5"
    made = CliRunner().invoke(main, ["background", "--scores", str(out), "-o", str(same)])
    assert made.exit_code == 0, made.output
    ours, theirs = read_background(same), background
    assert ours.tracks == theirs.tracks
    assert {k: v for k, v in ours.attributes.items() if not k.startswith("vcf")} == {
        k: v for k, v in theirs.attributes.items() if not k.startswith("vcf")
    }


def test_scores_are_ranked_in_every_output(folder, tmp_path):
    pytest.importorskip("pyarrow")
    outputs = [tmp_path / f"o.{suffix}" for suffix in ("h5", "tsv", "vcf", "parquet")]
    arguments = [text for path in outputs for text in ("-o", str(path))]
    result = score(folder, "--background", str(folder / "bg.h5"), "--stats", "SAD,logFC", *arguments)
    assert result.exit_code == 0, result.output
    background = read_background(folder / "bg.h5")
    with h5py.File(outputs[0]) as file:
        assert file.attrs["statistics"] == "SAD,logFC,SAD_quantile,logFC_quantile"
        assert file.attrs["background"] == "bg.h5"
        assert file.attrs["background_sha256"] == background.sha256
        ids = [target.decode() for target in file["target_ids"][:]]
        for name in ("logFC", "SAD"):
            sizes = background.statistics[name].values
            for row in range(9):
                for track, value in enumerate(file[name][row]):
                    below = (sizes[:, track] < abs(value)).sum()
                    equal = (sizes[:, track] == abs(value)).sum()
                    expected = np.sign(value) * (below + equal / 2) / 60
                    assert file[f"{name}_quantile"][row, track] == pytest.approx(expected, abs=1e-6)
            assert np.isnan(file[f"{name}_quantile"][9]).all()
        quantiles = file["SAD_quantile"][:]
        largest = np.abs(quantiles[:9]).max(axis=1)
        assert np.allclose(file["max_abs_quantile"][:9], largest) and np.isnan(file["max_abs_quantile"][9])
        tops = [text.decode() for text in file["top_tracks"][:]]
        assert tops[9] == "." and tops[0].split("|")[0] == ids[int(np.abs(quantiles[0]).argmax())]
    exported = tmp_path / "e.tsv"
    names = ["--stats", "logFC_quantile,SAD", "-o", str(exported)]
    result = CliRunner().invoke(main, ["export", str(outputs[0]), *names])
    assert result.exit_code == 0, result.output
    assert f"{ids[0]}:logFC_quantile" in exported.read_text().splitlines()[0]
    header, *lines = outputs[1].read_text().splitlines()
    assert header.split("\t")[5:9] == ["status", "max_abs_quantile", "top_tracks", f"{ids[0]}:SAD"]
    assert np.float32(lines[0].split("\t")[6]) == np.float32(largest[0])
    import pyarrow.parquet
    import pysam

    rows = pyarrow.parquet.read_table(outputs[3]).to_pylist()
    assert {row["statistic"] for row in rows} == {"SAD", "logFC", "SAD_quantile", "logFC_quantile"}
    assert rows[0]["max_abs_quantile"] == pytest.approx(float(largest[0]))
    with pysam.VariantFile(str(outputs[2])) as file:
        assert "background" in file.header.info[f"GEXPR_SAD_quantile_{ids[0]}"].description
        records = list(file)
    assert len(records[0].info["GEXPR_MAX_ABS_QUANTILE"]) == 3
    assert records[0].info["GEXPR_MAX_ABS_QUANTILE"][0] == pytest.approx(float(largest[0]), rel=1e-5)
    assert records[0].info["GEXPR_TOP_TRACKS"][0] == tops[0]
    assert records[3].info["GEXPR_MAX_ABS_QUANTILE"] == (None,)


def test_bytes_depend_on_neither_blocks_nor_what_came_before(folder, tmp_path):
    ranked = ("--background", str(folder / "bg.h5"))
    assert score(folder, *ranked, "-o", str(tmp_path / "a.h5")).exit_code == 0
    assert score(folder, *ranked, "--block-rows", "2", "-o", str(tmp_path / "b.h5")).exit_code == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "center:20"], "made with mask all, this run has center:20"),
        (["--no-rc"], "reverse_complement True, this run has False"),
        (["--pseudocount", "2"], "pseudocount 1.0, this run has 2.0"),
        (["--stats", "D2"], "holds logFC, SAD, none of D2"),
        (["--aggregate", "assay"], "aggregate"),
        (["--shifts", "-1,1"], "shifts"),
    ],
)
def test_scores_of_another_kind_are_not_ranked(folder, tmp_path, arguments, message):
    result = score(folder, "--background", str(folder / "bg.h5"), *arguments, "-o", str(tmp_path / "o.tsv"))
    assert result.exit_code == 1 and message in result.output + str(result.exception)
    assert not (tmp_path / "o.tsv").exists()


def test_some_of_the_tracks_and_statistics_are_enough(folder, tmp_path):
    result = score(
        folder,
        "--background",
        str(folder / "bg.h5"),
        "-t",
        "3,1",
        "--stats",
        "D2,SAD",
        "-o",
        str(tmp_path / "o.h5"),
    )
    assert result.exit_code == 0, result.output
    whole = tmp_path / "w.h5"
    assert (
        score(folder, "--background", str(folder / "bg.h5"), "--stats", "SAD", "-o", str(whole)).exit_code
        == 0
    )
    with h5py.File(tmp_path / "o.h5") as some, h5py.File(whole) as everything:
        assert np.array_equal(some["SAD_quantile"][:9], everything["SAD_quantile"][:9][:, [3, 1]])
        assert "D2_quantile" not in some


def test_auto_is_the_background_in_the_checkpoints_folder(folder, tmp_path):
    result = score(folder, "--background", "auto", "-o", str(tmp_path / "o.tsv"))
    assert result.exit_code == 1 and "has no background of its own" in result.output + str(result.exception)
    shutil.copytree(folder / "tiny", tmp_path / "own")
    shutil.copy(folder / "bg.h5", tmp_path / "own" / "background.h5")
    given = ["-c", str(tmp_path / "own"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "4"]
    command = ["score-variants", *given, "--background", "auto", "-o", str(tmp_path / "o.tsv")]
    result = CliRunner().invoke(main, [*command, str(folder / "v.vcf")])
    assert result.exit_code == 0, result.output
    assert "max_abs_quantile" in (tmp_path / "o.tsv").read_text()


def test_an_interrupted_background_uses_the_scores_that_are_there(folder, tmp_path):
    scores = tmp_path / "common.h5.scores.h5"
    assert score(folder, "-o", str(scores)).exit_code == 0
    command = ("--vcf", str(folder / "v.vcf"), "-o", str(tmp_path / "common.h5"))
    other = make(folder, *command, "--no-rc")
    assert other.exit_code == 1 and "reverse_complement True, this run has False" in str(other.output)
    with mock.patch("gexpr.runs.background.score_variants") as again:
        made = make(folder, *command)
    assert made.exit_code == 0, made.output
    again.assert_not_called()
    assert not scores.exists()
    assert read_background(tmp_path / "common.h5").variants == 9
    assert "1 not scored" in made.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--vcf", "v.vcf"],
        ["-c", "a", "-f", "b"],
        ["-c", "a", "-f", "b", "--vcf", "v", "--random", "3"],
        ["--scores", "s.h5", "--vcf", "v"],
        ["--scores", "s.h5", "--stats", "SAD"],
        ["--scores", "s.h5", "--seed", "2"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    result = CliRunner().invoke(main, ["background", "-o", "o.h5", *arguments])
    assert result.exit_code == 2
    assert "give --scores" in result.output or "takes the place" in result.output


def test_files_that_are_no_backgrounds(folder, tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="no HDF5 file"):
        read_background(tmp_path / "text")
    scores = tmp_path / "s.h5"
    assert score(folder, "-o", str(scores)).exit_code == 0
    with pytest.raises(InputError, match="it holds 'gexpr variant scores 1', not gexpr background 1"):
        read_background(scores)
    good = (folder / "bg.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError):
        read_background(tmp_path / "cut.h5")
    (tmp_path / "wrong.h5").write_bytes(good)
    with h5py.File(tmp_path / "wrong.h5", "r+") as file:
        file["logFC"][5] = -1
    with pytest.raises(InputError, match="not finite and ascending"):
        read_background(tmp_path / "wrong.h5")
    none = tmp_path / "none.vcf"
    write_vcf(none, [("chr1", 700, ".", "N", "<DEL>")])
    shutil.copy(none, folder / "none.vcf")
    assert score(folder, "-o", str(tmp_path / "n.h5"), vcf="none.vcf").exit_code == 0
    made = CliRunner().invoke(
        main, ["background", "--scores", str(tmp_path / "n.h5"), "-o", str(tmp_path / "o")]
    )
    assert made.exit_code == 1 and "no variant of it was scored" in made.output + str(made.exception)


def test_the_summary_names_at_most_three_tracks():
    class Track:
        def __init__(self, name: str) -> None:
            self.id = name

    tracks = [Track(name) for name in "abcd"]
    quantiles = np.array([[0.1, -0.9, 0.5, 0.9], [np.nan] * 4])
    found = summary_columns(quantiles, tracks)
    assert found["top_tracks"] == ["b|d|c", "."]
    assert found["max_abs_quantile"][0] == pytest.approx(0.9) and np.isnan(found["max_abs_quantile"][1])


def test_the_packaged_checkpoint_has_a_background_of_its_own(tmp_path):
    fasta, vcf = resolve_fasta("example"), resolve_vcf("example")
    wanted = ("SSA1:c.-161A>C", "SSA1:c.-1A>C")
    lines = gzip.decompress(Path(vcf).read_bytes()).decode().splitlines()
    kept = [line for line in lines if line.startswith("#") or line.split("\t")[2] in wanted]
    (tmp_path / "two.vcf").write_text("\n".join(kept) + "\n")
    command = ["score-variants", "-c", "yeast-tss", "-f", fasta, "--background", "auto", "--device", "cpu"]
    out = tmp_path / "o.h5"
    result = CliRunner().invoke(main, [*command, "-o", str(out), str(tmp_path / "two.vcf")])
    assert result.exit_code == 0, result.output
    with h5py.File(out) as file:
        names = file["snp"].asstr()[:].tolist()
        quantiles = file["logFC_quantile"][:]
        assert file["max_abs_quantile"][names.index(wanted[0])] > 0.99
        assert (np.sign(quantiles) == np.sign(file["logFC"][:])).all()
    background = read_background(Path(checkpoints.resolve("yeast-tss")) / "background.h5")
    assert background.variants == 5000 and set(background.statistics) == {"logFC", "SAD"}
