"""Folders of TFRecords as Basenji's and Borzoi's tools write them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tf_writer import example, frames

from gexpr.datasets.basenji import BasenjiDataset, _pieces, as_tracks, read_targets, records
from gexpr.errors import InputError
from gexpr.genome.fasta import Fasta

LENGTH, BINS, TRACKS = 64, 4, 3
BORZOI = """\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription
0\tA+\ta.w5\t384\t64\t0.3\tsum_sqrt\t1\tRNA:liver: adult
1\tA-\tb.w5\t384\t64\t0.3\tsum_sqrt\t0\tRNA:liver: adult
2\tB\tc.w5\t128\t\t2\tmean\t2\tno assay
"""
BASENJI = """index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription
0\t0\tENC1\tx.bw\t32\t2\tmean\tDNASE:brain
"""


def windows(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(count)
    return [
        (draw.integers(0, 5, LENGTH, dtype=np.uint8), draw.random((BINS, TRACKS)).astype(np.float16))
        for _ in range(count)
    ]


def one_hot(codes: np.ndarray) -> bytes:
    return np.vstack([np.eye(4, dtype=bool), np.zeros((1, 4), dtype=bool)])[codes].tobytes()


def write(
    folder: Path,
    found: list[tuple[np.ndarray, np.ndarray]],
    name: str = "train-0.tfr",
    encode: Callable[[np.ndarray], bytes] = np.ndarray.tobytes,
    pack: Callable[[bytes], bytes] = zlib.compress,
) -> Path:
    path = folder / "tfrecords" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        pack(frames([example({"sequence": encode(c), "target": t.tobytes()}) for c, t in found]))
    )
    return path


def statistics(folder: Path, **changes: object) -> None:
    content = dict(num_targets=TRACKS, seq_length=LENGTH, pool_width=8, target_length=BINS, crop_bp=16)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "statistics.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("encode", [np.ndarray.tobytes, one_hot], ids=["codes", "one-hot"])
@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress], ids=["plain", "zlib", "gzip"])
def test_windows_come_back(
    encode: Callable[[np.ndarray], bytes], pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    written = windows(13)
    statistics(tmp_path, train_seqs=12, valid_seqs=1)
    for number in range(11):
        last = number == 10
        write(tmp_path, written[number : 12 if last else number + 1], f"train-{number}.tfr", encode, pack)
    write(tmp_path, written[12:], "valid-0.tfr", encode, pack)
    (tmp_path / "tfrecords" / "notes.txt").write_text("not one of them")
    (tmp_path / "targets.txt").write_text(BORZOI)
    dataset = BasenjiDataset(tmp_path)
    assert dataset.geometry == (LENGTH, BINS, 8, TRACKS) and dataset.splits == ("train", "valid")
    assert [row.identifier for row in dataset.targets] == ["A+", "A-", "B"]
    for split, expected in (("train", written[:12]), ("valid", written[12:])):
        found = list(dataset.examples(split))
        assert len(found) == len(expected)
        for each, (codes, targets) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(each.codes, codes)
            np.testing.assert_array_equal(each.targets, targets)
    assert (found[-1].path.name, found[-1].number) == ("valid-0.tfr", 0)


def test_files_of_several_genomes_and_folds_are_in_order(tmp_path: Path) -> None:
    written = windows(4)
    statistics(tmp_path)
    for name, window in zip(("0-2", "0-10", "1-0", "1-1"), written, strict=True):
        write(tmp_path, [window], f"fold3-{name}.tfr")
    dataset = BasenjiDataset(tmp_path)
    assert dataset.splits == ("fold3",) and dataset.window_count("fold3") is None
    for each, (codes, _) in zip(dataset.examples("fold3"), written, strict=True):
        np.testing.assert_array_equal(each.codes, codes)


def test_windows_as_every_dataset_has_them(tmp_path: Path) -> None:
    written = windows(3)
    statistics(tmp_path, train_seqs=3)
    write(tmp_path, written)
    dataset = BasenjiDataset(tmp_path)
    assert (dataset.tracks, dataset.track_count, dataset.window_count("train")) == ([], TRACKS, 3)
    assert (dataset.context_length, dataset.bin_size, dataset.target_length, dataset.crop) == (64, 8, 4, 2)
    for data, (codes, targets) in zip(dataset.window_data("train"), written, strict=True):
        np.testing.assert_array_equal(data.codes, codes)
        np.testing.assert_array_equal(data.targets, targets)
        assert data.targets.dtype == np.float32 and data.valid.tolist() == [True] * BINS
    written[1][1][2, 1] = np.inf
    write(tmp_path, written)
    with pytest.raises(InputError, match=r"train-0.tfr: record 1 has targets that are not finite"):
        list(dataset.window_data("train"))


@pytest.mark.parametrize("changes", [{"crop_bp": 8}, {"target_length": 5, "crop_bp": 12}], ids=str)
def test_targets_lie_in_the_middle(changes: dict[str, int], tmp_path: Path) -> None:
    statistics(tmp_path, **changes)
    with pytest.raises(InputError, match=r"do not lie in the middle of 64 bp behind crop_bp"):
        BasenjiDataset(tmp_path)


def test_a_plain_file_may_begin_like_a_compressed_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tfr"
    record = bytes(0x9C78)
    path.write_bytes(frames([record, b""]))
    assert path.read_bytes()[:2] == b"\x78\x9c"
    assert list(records(path)) == [record, b""]
    path.write_bytes(zlib.compress(b""))
    assert list(records(path)) == []


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress], ids=["zlib", "gzip"])
def test_zeros_unfold_piece_by_piece(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.tfr"
    path.write_bytes(pack(frames([bytes(20 << 20), b"last"])))
    assert path.stat().st_size < 1 << 20
    assert max(map(len, _pieces(path))) <= 16 << 20
    assert [len(each) for each in records(path)] == [20 << 20, 4]


def test_tables_of_targets(tmp_path: Path) -> None:
    (tmp_path / "borzoi.txt").write_text(BORZOI)
    rows = read_targets(tmp_path / "borzoi.txt")
    assert rows[0] == (0, "A+", "a.w5", 384.0, 64.0, 0.3, "sum_sqrt", 1, "RNA:liver: adult")
    assert rows[2].clip_soft is None and rows[2].sum_stat == "mean"
    tracks = as_tracks(rows, ["count", "count", "linear"])
    assert [track.strand for track in tracks] == ["+", "-", "."]
    assert [track.strand_pair for track in tracks] == [1, 0, 2]
    assert (tracks[0].assay, tracks[0].cell_type, tracks[0].scale) == ("RNA", "liver: adult", 0.3)
    assert (tracks[2].assay, tracks[2].cell_type, tracks[2].transform) == ("", "", "linear")

    (tmp_path / "basenji.txt").write_text(BASENJI)
    (row,) = read_targets(tmp_path / "basenji.txt")
    assert row == (0, "ENC1", "x.bw", 32.0, None, 2.0, "mean", 0, "DNASE:brain")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identifier\tdescription\n", "line 1: has no column 'index'"),
        (BORZOI.replace("0.3\tsum_sqrt\t0", "much\tsum_sqrt\t0"), "line 3: scale is 'much', not a number"),
        (BORZOI.replace("\n1\tA-", "\n2\tA-"), "line 3: index is 2, expected 1"),
        (BORZOI.replace("mean\t2", "mean\t7"), "line 4: strand_pair is 7, there are 3 tracks"),
        (BORZOI.replace("\tno assay", ""), "line 4: has 8 columns, the header 9"),
    ],
)
def test_bad_tables_of_targets(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_targets(path)


def test_files_that_are_missing_or_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"statistics.json: not Basenji's statistics"):
        BasenjiDataset(tmp_path)
    statistics(tmp_path, target_length=9)
    with pytest.raises(InputError, match="9 bins of 8 bp do not fit into 64 bp"):
        BasenjiDataset(tmp_path)
    statistics(tmp_path, train_seqs=3)
    with pytest.raises(InputError, match=r"tfrecords: has no files such as train-0.tfr"):
        BasenjiDataset(tmp_path)
    write(tmp_path, windows(2))
    with pytest.raises(InputError, match=r"2 windows of train were read, statistics\.json says 3"):
        list(BasenjiDataset(tmp_path).examples("train"))
    with pytest.raises(InputError, match="no split 'test'; there are: train"):
        next(BasenjiDataset(tmp_path).examples("test"))
    statistics(tmp_path, num_targets=2)
    with pytest.raises(InputError, match=r"record 0 has targets of 24 bytes; 4 bins of 2 tracks have 16"):
        next(BasenjiDataset(tmp_path).examples("train"))
    statistics(tmp_path, seq_length=80, crop_bp=24)
    with pytest.raises(InputError, match=r"has a sequence of 64 bytes; 80 bases have 80 or 320"):
        next(BasenjiDataset(tmp_path).examples("train"))
    (tmp_path / "targets.txt").write_text(BASENJI)
    with pytest.raises(InputError, match=r"targets.txt: 1 tracks, statistics.json says 3"):
        statistics(tmp_path)
        BasenjiDataset(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path, windows(2), pack=bytes)
    raw = path.read_bytes()
    middle = len(raw) // 4
    for damaged, message in (
        (raw[:-1], "truncated: it ends inside record 1"),
        (raw[:5], "truncated: it ends inside the head of record 0"),
        (raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :], "record 0: its checksum is wrong"),
        (b"\x01" + raw[1:], "record 0: the checksum of its length is wrong"),
        (zlib.compress(raw)[:-3], "truncated: the compressed stream has no end"),
        (zlib.compress(raw) + zlib.compress(raw), "bytes behind the end of its compressed stream"),
        (frames([b""]), "no window: 'sequence'"),
        (frames([b"\x08\x01"]), "no window: field 1 is a number where bytes are expected"),
        (frames([b"\x0a\xff"]), "no window: the data end inside a number"),
        (frames([example({"sequence": b"\x09" * LENGTH, "target": bytes(24)})]), "has a base 9"),
    ):
        path.write_bytes(damaged)
        statistics(tmp_path)
        with pytest.raises(InputError, match=message):
            list(BasenjiDataset(tmp_path).examples("train"))


def test_the_human_windows(reference_data: Path) -> None:
    """65 windows with 74 tracks; their sequences are those of the FASTA beside them."""
    folder = reference_data / "data" / "human"
    dataset = BasenjiDataset(folder)
    genome = Fasta(str(folder / "windows.fa.gz"))
    table = [line.split("\t") for line in (folder / "windows.tsv").read_text().splitlines()[1:]]
    seen = 0
    for split in ("train", "valid", "test"):
        of_split = [row for row in table if row[4] == split]
        for each, row in zip(dataset.examples(split), of_split, strict=True):
            assert (each.path.name, str(each.number)) == (row[5], row[6])
            np.testing.assert_array_equal(each.codes, genome.codes(row[0], 0, 131_072))
            assert each.targets.shape == (2048, 74) and np.isfinite(each.targets).all()
            assert each.targets.min() >= 0
            seen += 1
    assert seen == 65
    pairs = [row.strand_pair for row in dataset.targets]
    assert sum(pair == index for index, pair in enumerate(pairs)) == 20
