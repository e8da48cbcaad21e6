"""Whole prediction runs on a tiny checkpoint."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_models import write_fasta, write_vcf

from gexpr import checkpoints, logs
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.genome.codes import encode, one_hot
from gexpr.genome.places import parse_region
from gexpr.runs.common import DtypeCast, ModelOptions
from gexpr.runs.control import RunOptions
from gexpr.runs.dry_run import dry_run_predictions
from gexpr.runs.merge import merge_run
from gexpr.runs.predict import PredictOptions, PredictSummary, predict
from gexpr.runs.predict_alleles import predict_alleles
from gexpr.runs.shards import Shard
from gexpr.writers.score_file import ScoreFile


@pytest.fixture(autouse=True)
def loud() -> None:
    logs.set_quiet(False)


@pytest.fixture
def options(inputs) -> PredictOptions:
    return PredictOptions(model=ModelOptions(inputs.checkpoint, device="cpu", batch_size=2))


def test_predictions_are_the_models_own(inputs, options, tmp_path: Path, capsys) -> None:
    import torch

    summary = predict(inputs.bed, inputs.fasta, str(tmp_path / "a.h5"), options)
    assert (summary.regions, summary.bins) == (2, 12)
    assert "2 regions with 12 bins of 16 bp predicted" in capsys.readouterr().err
    model = checkpoints.load(inputs.checkpoint)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["predictions"].shape == (2, 6, 4)
        assert file["chrom"].asstr()[:].tolist() == ["chr1", "1"]
        for index, (start, flip) in enumerate([(500, False), (800, True)]):
            # 6 of 24 bins lie in the middle: 9 bins and 4 cropped ones before them.
            window_start = start - (9 + 4) * 16
            window = encode(inputs.sequence[window_start : window_start + 512])
            with torch.inference_mode():
                forward = model(torch.from_numpy(one_hot(window))[None])[0]
                reverse = model(torch.from_numpy(one_hot(window)[::-1, ::-1].copy())[None])[0]
            mean = (forward + reverse.flip(0)[:, [3, 2, 1, 0]]) / 2
            expected = mean[9:15].numpy()
            assert np.allclose(file["predictions"][index], expected[::-1] if flip else expected, atol=1e-5)


@pytest.mark.parametrize("rc", [False, True])
def test_regions_of_several_lengths_and_strands(rc: bool, inputs, options, tmp_path: Path) -> None:
    """Against windows worked out by hand: short, tiled, at both ends of the contig, on both strands."""
    import torch

    regions = [
        (100, 133, "+"),
        (1000, 1700, "-"),  # 44 bins in two windows
        (0, 20, "-"),
        (2950, 3000, "."),
        (1500, 1501, "-"),
    ]
    bed = tmp_path / "r.bed"
    bed.write_text("".join(f"chr1\t{a}\t{b}\tr{a}\t0\t{s}\n" for a, b, s in regions))
    options = dataclasses.replace(options, model=options.model._replace(reverse_complement=rc))
    predict(str(bed), inputs.fasta, str(tmp_path / "a.h5"), options)
    predict(str(bed), inputs.fasta, str(tmp_path / "a.tsv"), options)
    model = checkpoints.load(inputs.checkpoint)
    padded = "N" * 600 + inputs.sequence + "N" * 600
    sums = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()[1:]]
    with h5py.File(tmp_path / "a.h5") as file:
        offsets = file["offsets"][:]
        assert file.attrs["layout"] == "bins of all regions, tracks"
        assert np.diff(offsets.astype(int)).tolist() == [3, 44, 2, 4, 1]
        for index, (start, end, strand) in enumerate(regions):
            bins = -(-(end - start) // 16)
            first = start - (16 * bins - (end - start)) // 2
            assert (file["bin_start"][index], file["bin_end"][index]) == (first, first + 16 * bins)
            pieces = []
            for low, high in [(0, bins)] if bins <= 24 else [(0, bins // 2), (bins // 2, bins)]:
                before = (24 - (high - low)) // 2
                window_start = first + 16 * (low - before - 4)
                window = one_hot(encode(padded[600 + window_start : 600 + window_start + 512]))
                with torch.inference_mode():
                    forward = model(torch.from_numpy(window)[None])[0]
                    turned = model(torch.from_numpy(window[::-1, ::-1].copy())[None])[0]
                reverse = turned.flip(0)[:, [3, 2, 1, 0]]
                shown = (forward + reverse) / 2 if rc else (reverse if strand == "-" else forward)
                pieces.append(shown[before : before + high - low].numpy())
            expected = np.concatenate(pieces)[:: -1 if strand == "-" else 1]
            found = file["predictions"][offsets[index] : offsets[index + 1]]
            assert np.allclose(found, expected, atol=1e-5), regions[index]
            assert np.allclose(np.float64(sums[index][5:]), expected.sum(axis=0), rtol=1e-4)


def test_predictions_that_are_not_finite_stop_the_run(inputs, options, tmp_path: Path, monkeypatch) -> None:
    values = [np.ones((6, 4), np.float32), np.full((6, 4), np.nan, np.float32)]
    monkeypatch.setattr("gexpr.runs.predict.predict_stretches", lambda *_: iter(values))
    with pytest.raises(GexprError, match="1:800-896: a prediction is not finite"):
        predict(inputs.bed, inputs.fasta, str(tmp_path / "a.h5"), options)
    assert os.listdir(tmp_path) == ["a.h5.run"]  # planned, so that the same command goes on


def test_tsv_sums_and_npz(inputs, options, tmp_path: Path) -> None:
    predict(inputs.bed, inputs.fasta, str(tmp_path / "a.h5"), options)
    predict(inputs.bed, inputs.fasta, str(tmp_path / "a.tsv"), options)
    one = tmp_path / "one.bed"
    one.write_text("chr1\t500\t596\n")
    predict(str(one), inputs.fasta, str(tmp_path / "a.npz"), options)
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    with h5py.File(tmp_path / "a.h5") as file, np.load(tmp_path / "a.npz") as archive:
        values = file["predictions"][:]
        assert np.allclose(np.float64([row[5:] for row in rows[1:]]), values.sum(axis=1), rtol=1e-6)
        assert np.array_equal(archive["predictions"], values[0])
    assert rows[2][:5] == ["1", "800", "896", "b", "-"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr9\t1\t5", "line 2: the FASTA has no contig 'chr9'"),
        ("chr1\t2990\t3001", "line 2: .*past the end"),
    ],
)
def test_regions_off_the_genome(line: str, message: str, inputs, options, tmp_path: Path) -> None:
    bed = tmp_path / "bad.bed"
    bed.write_text(f"chr1\t1\t5\n{line}\n")
    with pytest.raises(InputError, match=message):
        predict(str(bed), inputs.fasta, str(tmp_path / "a.h5"), options)
    assert os.listdir(tmp_path) == ["bad.bed"]


def test_npz_is_refused_for_two_regions_before_the_model_is_loaded(inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one region"):
        predict(
            inputs.bed, inputs.fasta, str(tmp_path / "a.npz"), PredictOptions(model=ModelOptions("missing"))
        )


def test_float16_overflow_is_told_once(capsys) -> None:
    cast = DtypeCast("float16")
    assert np.isinf(cast(np.float32([1e6]))).all()
    cast(np.float32([1e6]))
    assert capsys.readouterr().err.count("warning:") == 1
    with pytest.raises(ConfigError):
        DtypeCast("float8")


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long regions are cut into rows of two windows."""
    monkeypatch.setattr("gexpr.runs.predict._STRETCH_BASES", 2 * 512)


def test_tracks_along_the_genome(inputs, options, tmp_path: Path, small_rows) -> None:
    """Overlapping regions on both strands, a long one and a whole contig, against the HDF5 of the run."""
    import pyBigWig

    bed = tmp_path / "r.bed"
    bed.write_text("chr1\t100\t1300\tlong\t0\t-\n1\t1000\t1100\t.\t0\t+\nchr1\t2990\t3000\n")
    options = dataclasses.replace(
        options,
        regions=(parse_region("chrM"),),
        bigwig=str(tmp_path / "bw"),
        bedgraph=str(tmp_path / "bg"),
    )
    summary = predict(str(bed), inputs.fasta, str(tmp_path / "a.h5"), options)
    assert summary is not None and summary.regions == 4
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "bg", "bw", "r.bed"]
    sums = {"chr1": np.zeros((3000, 4)), "chrM": np.zeros((300, 4))}
    covers = {name: np.zeros((len(values), 1)) for name, values in sums.items()}
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["chrom"].asstr()[:].tolist() == ["chrM", "chr1", "1", "chr1"]
        assert (file["bin_start"][0], file["bin_end"][0], file["end"][0]) == (0, 304, 300)
        offsets = file["offsets"][:]
        assert np.diff(offsets.astype(int)).tolist() == [19, 75, 7, 1]
        for region, strand in enumerate(file["strand"].asstr()[:]):
            values = file["predictions"][offsets[region] : offsets[region + 1]][:: -1 if strand == "-" else 1]
            contig = "chrM" if region == 0 else "chr1"
            for number, row in enumerate(values):
                low = file["bin_start"][region] + 16 * number
                sums[contig][max(0, low) : low + 16] += row
                covers[contig][max(0, low) : low + 16] += 1
    for column, base in enumerate("ACGT"):
        lines = gzip.decompress((tmp_path / "bg" / f"count_{base}.bedGraph.gz").read_bytes()).decode()
        rows = [line.split("\t") for line in lines.splitlines()]
        assert rows == sorted(rows, key=lambda row: (row[0], int(row[1])))
        with pyBigWig.open(str(tmp_path / "bw" / f"count_{base}.bw")) as file:
            assert file.chroms() == {"chr1": 3000, "chrM": 300}
            for contig in sums:
                with np.errstate(invalid="ignore"):
                    expected = (sums[contig] / covers[contig])[:, column].astype(np.float32)
                assert np.array_equal(
                    file.values(contig, 0, len(expected), numpy=True), expected, equal_nan=True
                )
                drawn = np.full(len(expected), np.nan, np.float32)
                for chrom, low, high, value in rows:
                    if chrom == contig:
                        drawn[int(low) : int(high)] = np.float32(value)
                assert np.array_equal(drawn, expected, equal_nan=True)


@pytest.mark.parametrize("rc", [False, True])
def test_rows_of_long_regions_change_nothing(rc: bool, inputs, options, tmp_path: Path, monkeypatch) -> None:
    bed = tmp_path / "r.bed"
    bed.write_text("chr1\t0\t2000\ta\t0\t-\nchr1\t50\t60\tb\t0\t+\nchr1\t900\t2950\tc\t0\t+\n")
    options = dataclasses.replace(options, model=options.model._replace(reverse_complement=rc))
    predict(str(bed), inputs.fasta, [str(tmp_path / "a.h5"), str(tmp_path / "a.tsv")], options)
    monkeypatch.setattr("gexpr.runs.predict._STRETCH_BASES", 512)
    run = RunOptions(block_rows=4)
    predict(str(bed), inputs.fasta, [str(tmp_path / "b.h5"), str(tmp_path / "b.tsv")], options, run)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert a["offsets"][:].tolist() == b["offsets"][:].tolist() == [0, 125, 126, 255]
        assert np.allclose(a["predictions"][:], b["predictions"][:], atol=1e-6)
    tables = [np.loadtxt(tmp_path / name, skiprows=1, usecols=range(5, 9)) for name in ("a.tsv", "b.tsv")]
    assert tables[0].shape == (3, 4) and np.allclose(*tables, rtol=1e-6)


def test_shards_and_resumed_runs_have_the_same_bytes(inputs, options, tmp_path: Path, small_rows) -> None:
    def whole(folder: str) -> PredictOptions:
        return dataclasses.replace(
            options, contigs=(), bigwig=str(tmp_path / folder / "bw"), bedgraph=str(tmp_path / folder / "bg")
        )

    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    h5 = [str(tmp_path / name / "a.h5") for name in ("one", "two", "three")]
    predict(None, inputs.fasta, h5[0], whole("one"), RunOptions(block_rows=3))
    run = RunOptions(block_rows=1, run_dir=str(tmp_path / "work"))
    for shard in (1, 0):
        part = dataclasses.replace(run, shard=Shard(shard, 2))
        assert predict(None, inputs.fasta, None, dataclasses.replace(options, contigs=()), part) is None
    summary = merge_run(
        str(tmp_path / "work"),
        h5[1],
        bigwig=str(tmp_path / "two" / "bw"),
        bedgraph=str(tmp_path / "two" / "bg"),
    )
    assert isinstance(summary, PredictSummary) and summary.regions == 2 and summary.bins == 188 + 19
    # A run that ends in the middle: its second shard's blocks are there, then all is done.
    third = RunOptions(block_rows=1, shard=Shard(1, 2))
    predict(None, inputs.fasta, h5[2], whole("three"), third)
    predict(None, inputs.fasta, h5[2], whole("three"), RunOptions())
    for name in ("two", "three"):
        assert sorted(os.listdir(tmp_path / name)) == ["a.h5", "bg", "bw"]
        assert Path(tmp_path / name / "a.h5").read_bytes() == Path(h5[0]).read_bytes()
        for kind in ("bw", "bg"):
            assert folder_bytes(tmp_path / name / kind) == folder_bytes(tmp_path / "one" / kind)


def test_sequences_are_predicted_from_end_to_end(inputs, options, tmp_path: Path) -> None:
    pieces = {"first": inputs.sequence[:700], "second": inputs.sequence[100:132]}
    fasta = str(write_fasta(tmp_path / "s.fa", pieces))
    predict(None, fasta, str(tmp_path / "a.h5"), dataclasses.replace(options, sequences=True))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["chrom"].asstr()[:].tolist() == list(pieces)
        assert file["end"][:].tolist() == [700, 32] and file["bin_end"][:].tolist() == [704, 32]
        assert file["offsets"][:].tolist() == [0, 44, 46] and "bed" not in file.attrs
        values = file["predictions"][:]
    bed = tmp_path / "r.bed"
    bed.write_text("second\t0\t32\n")
    predict(str(bed), fasta, str(tmp_path / "b.h5"), options)
    with h5py.File(tmp_path / "b.h5") as file:
        assert np.allclose(file["predictions"][0], values[44:], atol=1e-6)


def test_overlap_takes_bins_from_the_middle(inputs, options, tmp_path: Path) -> None:
    """Every bin alone in the middle of its window is what the largest overlap gives."""
    bed = tmp_path / "r.bed"
    bed.write_text("chr1\t1000\t1480\n")
    single = tmp_path / "single.bed"
    single.write_text("".join(f"chr1\t{at}\t{at + 16}\n" for at in range(1000, 1480, 16)))
    widest = dataclasses.replace(options, overlap=23 * 16)
    predict(str(bed), inputs.fasta, str(tmp_path / "a.h5"), widest)
    predict(str(single), inputs.fasta, str(tmp_path / "b.h5"), options)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert a.attrs["window_overlap"] == 368 and "window_overlap" not in b.attrs
        assert np.allclose(a["predictions"][0], b["predictions"][:, 0], atol=1e-6)
    with pytest.raises(ConfigError, match=r"cannot overlap by 384 bp.*from 0 to 368"):
        predict(str(bed), inputs.fasta, str(tmp_path / "c.h5"), dataclasses.replace(options, overlap=384))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regions": (parse_region("chr9"),)}, "--region: the FASTA has no contig 'chr9'"),
        ({"regions": (parse_region("chr1:2,990-3,001"),)}, "past the end of the contig"),
        ({"regions": (parse_region("chr1:3,001-"),)}, "chr1:3,001- begins past the end"),
        ({"contigs": ("chr1", "chrZ")}, "no contig 'chrZ'"),
        ({"contigs": ("chr1", "1")}, "wanted twice"),
        ({}, "nothing is to be predicted"),
    ],
)
def test_regions_that_are_not_there(change: dict, message: str, inputs, options, tmp_path: Path) -> None:
    with pytest.raises(GexprError, match=message):
        predict(None, inputs.fasta, str(tmp_path / "a.h5"), dataclasses.replace(options, **change))
    assert os.listdir(tmp_path) == []


def test_folders_of_tracks_that_cannot_be_used(inputs, options, tmp_path: Path) -> None:
    taken = tmp_path / "bw"
    taken.write_text("a file")
    options = dataclasses.replace(options, bigwig=str(taken))
    with pytest.raises(GexprError, match="it is not a folder"):
        predict(inputs.bed, inputs.fasta, None, options)
    options = dataclasses.replace(options, bigwig=str(tmp_path / "no" / "bw"))
    with pytest.raises(GexprError, match="cannot make the folder"):
        predict(inputs.bed, inputs.fasta, None, options)
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / "count_C.bw").write_text("old")
    with pytest.raises(GexprError, match=r"count_C\.bw exists; give --force"):
        predict(inputs.bed, inputs.fasta, None, dataclasses.replace(options, bigwig=str(folder)))
    assert sorted(os.listdir(tmp_path)) == ["bw", "held"] and os.listdir(folder) == ["count_C.bw"]


def test_a_file_for_each_track_alone(inputs, options, tmp_path: Path, capsys) -> None:
    options = dataclasses.replace(
        options, model=options.model._replace(tracks="1,0"), bedgraph=str(tmp_path / "bg")
    )
    lines = dry_run_predictions(inputs.bed, inputs.fasta, None, options, RunOptions())
    assert lines[0] == "2 regions with 12 bins" and os.listdir(tmp_path) == []
    predict(inputs.bed, inputs.fasta, None, options)
    assert os.listdir(tmp_path) == ["bg"]
    assert sorted(os.listdir(tmp_path / "bg")) == ["count_A.bedGraph.gz", "count_C.bedGraph.gz"]
    assert f"written to {tmp_path / 'bg'}" in capsys.readouterr().err


def test_both_alleles_in_all_bins(inputs, options, tmp_path: Path) -> None:
    """The reference is that of a region in the same window, the alternate that of another genome."""
    start = 1500
    alternate = "ACGT"[("ACGT".index(inputs.sequence[start]) + 1) % 4]
    vcf = write_vcf(tmp_path / "v.vcf", [("1", start + 1, "v", inputs.sequence[start], alternate)])
    predict_alleles(str(vcf), inputs.fasta, str(tmp_path / "v.h5"), options)
    changed = inputs.sequence[:start] + alternate + inputs.sequence[start + 1 :]
    other = str(write_fasta(tmp_path / "other.fa", {"chr1": changed}))
    bed = tmp_path / "r.bed"
    bed.write_text(f"chr1\t{start - 192}\t{start + 192}\n")
    for fasta, name in ((inputs.fasta, "REF"), (other, "ALT")):
        predict(str(bed), fasta, str(tmp_path / f"{name}.h5"), options)
        with h5py.File(tmp_path / "v.h5") as found, h5py.File(tmp_path / f"{name}.h5") as expected:
            assert found["profile_start"][:].tolist() == [start - 192]
            assert found[name].shape == (1, 24, 4)
            assert np.allclose(found[name][:], expected["predictions"][:], atol=1e-5)
    with h5py.File(tmp_path / "v.h5") as found:
        assert not np.allclose(found["REF"][:], found["ALT"][:], atol=1e-5)
    with pytest.raises(ConfigError, match="need an output in HDF5"):
        predict_alleles(str(vcf), inputs.fasta, str(tmp_path / "v.tsv"), options)
    with pytest.raises(ConfigError, match="leave out --genome"):
        predict_alleles(
            str(vcf), inputs.fasta, str(tmp_path / "w.h5"), dataclasses.replace(options, contigs=())
        )


def _allele(sequence: str, start: int) -> tuple[str, str]:
    """A base of a sequence and another one."""
    return sequence[start], "ACGT"[("ACGT".index(sequence[start]) + 1) % 4]


def test_both_alleles_over_regions(inputs, options, tmp_path: Path) -> None:
    """Reference and alternate are the predictions of the region in this genome and in another one."""
    sequence = inputs.sequence
    snv, deletion = 1503, 1600
    ref, alt = _allele(sequence, snv)
    elsewhere = (100, *_allele(sequence, 99))
    records = [
        ("1", snv + 1, "snv", ref, alt),
        ("1", elsewhere[0], "no", *elsewhere[1:]),
        ("1", deletion + 1, "del", sequence[deletion : deletion + 4], sequence[deletion]),
        ("1", deletion + 1, "star", sequence[deletion], "*"),
    ]
    vcf = str(write_vcf(tmp_path / "v.vcf", records))
    bed = tmp_path / "r.bed"
    bed.write_text("chr1\t1400\t1650\tlong\nchr1\t1500\t1505\tshort\nchr1\t10\t20\n")
    predict_alleles(vcf, inputs.fasta, str(tmp_path / "v.h5"), options, bed=str(bed))
    predict(str(bed), inputs.fasta, str(tmp_path / "r.h5"), options)
    changed = sequence[:snv] + alt + sequence[snv + 1 :]
    other = str(write_fasta(tmp_path / "other.fa", {"chr1": changed}))
    predict(str(bed), other, str(tmp_path / "o.h5"), options)
    with h5py.File(tmp_path / "v.h5") as found, h5py.File(tmp_path / "r.h5") as here:
        assert found["snp"].asstr()[:].tolist() == ["snv", "del", "star", "snv"]
        assert found["region"][:].tolist() == [0, 0, 0, 1]
        assert found["region_name"].asstr()[:].tolist() == ["long", "long", "long", "short"]
        assert found["region_bins"][:].tolist() == [16, 16, 16, 1]
        starts = here["bin_start"][:].tolist()
        assert found["profile_start"][:].tolist() == [starts[0], starts[0], -1, starts[1]]
        reference, alternate, sums = found["REF"][:], found["ALT"][:], found["SAD"][:]
        assert reference.shape == (4, 16, 4)
        assert np.allclose(reference[0], here["predictions"][:16], atol=1e-5)
        assert np.array_equal(reference[0], reference[1]) and np.isnan(reference[2]).all()
        assert np.allclose(reference[3, 0], here["predictions"][16], atol=1e-5)
        assert np.isnan(reference[3, 1:]).all() and np.isnan(alternate[3, 1:]).all()
        with h5py.File(tmp_path / "o.h5") as there:
            assert np.allclose(alternate[0], there["predictions"][:16], atol=1e-5)
            assert np.allclose(alternate[3, 0], there["predictions"][16], atol=1e-5)
        assert np.abs(alternate[1] - reference[1]).max() > 1e-3
        differences = np.nansum(alternate - reference, axis=1)
        assert np.allclose(sums[[0, 1, 3]], differences[[0, 1, 3]], atol=1e-4)
        assert np.isnan(sums[2]).all()
    with ScoreFile(tmp_path / "v.h5") as file:
        assert [len(file.profiles(row)[0]) for row in range(4)] == [16, 16, 16, 1]
    whole = (tmp_path / "v.h5").read_bytes()
    run = RunOptions(run_dir=str(tmp_path / "run"), block_rows=1)
    for number in (1, 0):
        shard = dataclasses.replace(run, shard=Shard(number, 2))
        predict_alleles(vcf, inputs.fasta, None, options, shard, str(bed))
    merge_run(run.run_dir, str(tmp_path / "m.h5"))
    assert (tmp_path / "m.h5").read_bytes() == whole


def test_alleles_over_regions_that_cannot_be_predicted(inputs, options, tmp_path: Path, capsys) -> None:
    vcf = str(write_vcf(tmp_path / "v.vcf", [("1", 100, "v", *_allele(inputs.sequence, 99))]))
    long = dataclasses.replace(options, regions=(parse_region("1:1,000-1,400"),))
    with pytest.raises(ConfigError, match=r"chr1:999-1400 has 26 bins of 16 bp.*24"):
        predict_alleles(vcf, inputs.fasta, str(tmp_path / "v.h5"), long)
    away = dataclasses.replace(options, regions=(parse_region("1:1,000-1,100"),))
    predict_alleles(vcf, inputs.fasta, str(tmp_path / "v.h5"), away)
    assert "no variant of" in capsys.readouterr().err
    with h5py.File(tmp_path / "v.h5") as found:
        assert found["REF"].shape == (0, 7, 4)
    with pytest.raises(ConfigError, match="cannot both be standard input"):
        predict_alleles("-", inputs.fasta, str(tmp_path / "w.h5"), options, bed="-")


def test_a_change_in_a_repeat_is_shown_in_the_regions_window(inputs, options, tmp_path: Path) -> None:
    """Left-aligned it would lie a thousand bases away; the bins that it draws out have no value."""
    sequence = inputs.sequence[:300] + 1500 * "A" + inputs.sequence[300:900]
    fasta = str(write_fasta(tmp_path / "a.fa", {"chr1": sequence}))
    vcf = str(write_vcf(tmp_path / "v.vcf", [("1", 1501, "v", "AAA", "A")]))
    region = dataclasses.replace(options, regions=(parse_region("1:1,450-1,550"),))
    predict_alleles(vcf, fasta, str(tmp_path / "v.h5"), region)
    with h5py.File(tmp_path / "v.h5") as found:
        assert found["status"].asstr()[:].tolist() == ["ok"]
        assert np.isfinite(found["ALT"][:]).all()
