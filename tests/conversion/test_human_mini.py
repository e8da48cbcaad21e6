"""A real Borzoi-type model of human tracks, converted, through the commands: its accuracy, and variants."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_models import write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.genome.codes import encode
from gexpr.genome.fasta import Fasta
from gexpr.models.layers import one_hot
from gexpr.scoring.transforms import parse_squash, unsquash

pytestmark = pytest.mark.data

#: The grid that puts the window of every variant at the record's first base: 2,048 bins have 32,768 bp
#: on each side of the middle, and no variant is farther from it.
WHOLE_RECORD = ("--max-offset", "32000")
LENGTH = 131_072


class Human(NamedTuple):
    """Reference data, the converted checkpoint, and a VCF of the variants with known scores."""

    folder: Path
    checkpoint: Path
    vcf: Path
    variants: list[tuple[str, int, str, str, str]]

    @property
    def fasta(self) -> str:
        return str(self.folder / "windows.fa.gz")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def human(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Human]:
    """The model of the windows' authors, as ``gexpr convert`` makes it."""
    folder = reference_data / "data" / "human"
    made = tmp_path_factory.mktemp("human")
    mini = folder / "borzoi_mini"
    names = ("--params", str(mini / "params.json"), "--targets", str(folder / "targets.txt"))
    run("convert", "baskerville", str(mini / "model.h5"), *names, "-o", str(made / "checkpoint"))
    with open(mini / "golden" / "variants.tsv", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    variants = [(r["window"], int(r["offset0"]) + 1, f"v{i}", r["ref"], r["alt"]) for i, r in enumerate(rows)]
    before = torch.get_num_threads()
    yield Human(folder, made / "checkpoint", write_vcf(made / "variants.vcf", variants), variants)
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEXPR_CACHE", str(tmp_path / "cache"))


def score(human: Human, vcf: Path, output: Path, *arguments: str) -> dict[str, np.ndarray]:
    """Scores of a VCF, all alleles having been scored."""
    given = ["-c", str(human.checkpoint), "-f", human.fasta, "-o", os.fspath(output), "--strict", "-q"]
    run("score-variants", *given, "--device", "cpu", "--threads", "1", *arguments, str(vcf))
    with h5py.File(output) as file:
        return {name: file[name][...] for name in file}


@pytest.mark.slow
def test_accuracy_is_what_its_authors_windows_give(human: Human, tmp_path: Path) -> None:
    """Pearson's r per track over the bins of the 10 test windows, forward strand."""
    where = ("-c", str(human.checkpoint), "-d", str(human.folder), "-o", str(tmp_path / "out"))
    output = run("evaluate", *where, "--no-rc", "--device", "cpu", "--pool-width", "0", "--pictures", "none")
    with open(tmp_path / "out" / "groups.tsv", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    found = {row["assay"]: row for row in rows if (row["transform"], row["statistic"]) == ("raw", "pearson")}
    assert {assay: int(row["tracks"]) for assay, row in found.items()} == {
        "CAGE": 24, "DNASE": 10, "RNA": 30, "RNA3": 10, "all": 74
    }  # fmt: skip
    overall = [float(found["all"][name]) for name in ("mean", "median", "minimum", "maximum")]
    assert overall == pytest.approx([0.41, 0.36, 0.05, 0.93], abs=0.005)
    means = {assay: float(row["mean"]) for assay, row in found.items()}
    expected = {"CAGE": 0.329, "DNASE": 0.819, "RNA": 0.364, "RNA3": 0.321, "all": 0.409}
    assert means == pytest.approx(expected, abs=0.002)
    assert any(line.split()[:5] == ["model", "bin", "all", "raw", "74"] for line in output.splitlines())


def test_reference_alleles_are_those_of_the_windows(human: Human) -> None:
    genome = Fasta(human.fasta)
    assert len(human.variants) == 20
    for record, pos, _, ref, _ in human.variants:
        assert genome.fetch(record, pos - 1, pos) == ref


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["incremental", "plain"])
def test_sums_of_both_alleles_are_the_originals(engine: str, human: Human, tmp_path: Path) -> None:
    """On the squashed scale, forward strand, in the record as its window: what the original program did."""
    options = (*WHOLE_RECORD, "--no-rc", "--no-unsquash", "--stats", "SAD,ACTIVE_SUM", "--engine", engine)
    scores = score(human, human.vcf, tmp_path / "scores.h5", *options)
    golden = np.load(human.folder / "borzoi_mini" / "golden" / "variant_sums.npz")["sums"]
    assert scores["SAD"].shape == (20, 74)
    assert np.abs(scores["SAD"] - (golden[:, 1] - golden[:, 0])).max() < 1e-4
    largest = golden.max(axis=1)
    assert np.abs(scores["ACTIVE_SUM"] / largest - 1).max() < 1e-5


@pytest.mark.slow
def test_centered_windows_both_strands_natural_scale(human: Human, tmp_path: Path) -> None:
    """The default way of scoring against the model called by hand, on a few tracks and variants."""
    model = checkpoints.load(human.checkpoint)
    chosen = [0, 1, 26, 40, 70]
    tracks = [model.tracks[i] for i in chosen]
    assert [track.assay for track in tracks] == ["CAGE", "CAGE", "DNASE", "RNA", "RNA3"]
    assert tracks[0].strand_pair == 1 and tracks[0].strand == "+"
    few = [human.variants[i] for i in (6, 8)]
    vcf = write_vcf(tmp_path / "few.vcf", few)
    options = ("--tracks", ",".join(track.id for track in tracks))
    scores, plain, squashed = (
        score(human, vcf, tmp_path / f"{name}.h5", *options, *more)
        for name, more in (
            ("incremental", ()),
            ("plain", ("--engine", "plain")),
            ("squashed", ("--no-unsquash",)),
        )
    )
    assert [name.decode() for name in scores["target_ids"]] == [track.id for track in tracks]
    np.testing.assert_allclose(scores["logFC"], plain["logFC"], atol=2e-6)

    genome = Fasta(human.fasta)
    partners = [track.strand_pair for track in model.tracks]
    squashes = [(i, parse_squash(model.tracks[i].transform), model.tracks[i].scale) for i in chosen]

    def sums(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of both strands' average in natural scale, and as the model predicts."""
        with torch.inference_mode():
            turned = np.array([3, 2, 1, 0, 4], dtype=np.uint8)[codes][::-1].copy()
            both = [model(one_hot(torch.from_numpy(each)[None]))[0].double() for each in (codes, turned)]
        both[1] = both[1].flip(0)[:, partners]
        totals = np.zeros((2, len(chosen)))
        for column, (i, squash, scale) in enumerate(squashes):
            for each in both:
                totals[0, column] += float(unsquash(each[:, i], squash, scale).sum()) / 2
                totals[1, column] += float(each[:, i].sum()) / 2
        return totals[0], totals[1]

    for row, (record, pos, _, ref, alt) in enumerate(few):
        # The window reaches beyond the record, where there is nothing but unknown bases.
        reference = genome.codes(record, pos - 1 - LENGTH // 2, pos - 1 + LENGTH // 2)
        assert (reference == 4).sum() > 4_000 and reference[LENGTH // 2] == encode(ref)[0]
        alternate = reference.copy()
        alternate[LENGTH // 2] = encode(alt)[0]
        for found, before, after in zip((scores, squashed), sums(reference), sums(alternate), strict=True):
            expected = np.log2(after + 1) - np.log2(before + 1)
            np.testing.assert_allclose(found["logFC"][row], expected, atol=2e-6)
    # Effects are a few thousandths, and squashing halves some of those on RNA.
    assert np.abs(scores["logFC"]).max() > 1e-3
    assert np.abs(scores["logFC"] - squashed["logFC"]).max(axis=1).min() > 3e-4
