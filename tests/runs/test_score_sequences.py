"""Scores of constructs: one row for each of any input, against a model worked out on paper."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.errors import ConfigError, GexprError, InputError
from gexpr.genome.codes import encode
from gexpr.models import registry
from gexpr.models.base import SequenceModel
from gexpr.models.layers import one_hot
from gexpr.results import Track, affine_shift, affine_transform
from gexpr.runs import score_sequences as module
from gexpr.runs.common import ModelOptions
from gexpr.runs.score_sequences import SequenceOptions, UnscoredSequencesError, score_sequences
from gexpr.runs.sequence_rows import Columns
from gexpr.scoring.members import Member
from gexpr.training import from_dict, train

LENGTH = 12
WEIGHTS = np.array([1.0, 2.0, 4.0, 8.0])
"""What an A, C, G, T adds to the prediction at position 0; one more for each position."""


def expected(sequence: str) -> float:
    """The prediction for an input of twelve letters."""
    assert len(sequence) == LENGTH
    return float(sum(WEIGHTS["ACGT".index(b)] + i for i, b in enumerate(sequence.upper()) if b in "ACGT"))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose first track is :func:`expected`, and whose second is twice that, as a target."""
    model: Any = registry.build(
        "cnn",
        dict(
            context_length=LENGTH,
            heads={"t": 2},
            channels=[4],
            kernels=[1],
            pool=1,
            hidden=[],
            link="linear",
        ),
    )
    with torch.no_grad():
        block = model.convolutions[0]
        block.conv.weight.copy_(torch.eye(4)[..., None])
        block.conv.bias.zero_()
        block.norm.running_var.fill_(1 - block.norm.eps)
        weight = torch.tensor(WEIGHTS)[None, :] + torch.arange(LENGTH)[:, None]
        model.heads["t"].weight.copy_(torch.stack([weight.flatten(), 2 * 0.5 * weight.flatten()]))
        model.heads["t"].bias.copy_(torch.tensor([0.0, -3.0]))
    tracks = [
        Track(0, "sum", "Sum"),
        Track(1, "double", "Double", strand_pair=1, scale=0.5, transform=affine_transform(-3.0)),
    ]
    folder = tmp_path_factory.mktemp("network") / "net"
    return checkpoints.save(folder, model, tracks, {}, "A model worked out on paper.")


def options(network: Path, **changes: Any) -> SequenceOptions:
    model = ModelOptions(str(network), reverse_complement=False, device="cpu", batch_size=4)
    if "tracks" in changes:
        model = model._replace(tracks=changes.pop("tracks"))
    return SequenceOptions(model=model, **changes)


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a TSV."""
    raw = path.read_bytes()
    text = gzip.decompress(raw).decode() if path.suffix == ".gz" else raw.decode()
    header, *rows = (line.split("\t") for line in text.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def run(
    tmp_path: Path, network: Path, content: str | bytes, name: str = "in.tsv", **changes: Any
) -> list[dict[str, str]]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    score_sequences(str(path), str(tmp_path / "out.tsv"), options(network, force=True, **changes))
    return table(tmp_path / "out.tsv")


def invoke(*arguments: str | Path, **settings: Any) -> Result:
    return CliRunner().invoke(main, ["score-sequences", "--device", "cpu", *map(str, arguments)], **settings)


A, B = "ACGTACGTACGT", "TTTTACGTACGT"


def test_single_sequences(tmp_path: Path, network: Path) -> None:
    rows = run(tmp_path, network, f"name\tsequence\nx\t{A}\ny\t{B.lower()}\n")
    assert [row["id"] for row in rows] == ["0", "1"]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    for row, sequence in zip(rows, (A, B), strict=True):
        assert float(row["sum"]) == pytest.approx(expected(sequence))
        assert float(row["double"]) == pytest.approx(2 * expected(sequence))


def test_pairs_of_a_table(tmp_path: Path, network: Path) -> None:
    content = f"id,wt,mut\nv1,{A},{B}\nv2,{B},{B}\n"
    chosen = Columns(reference="wt", alternate="mut")
    rows = run(tmp_path, network, content, "in.csv", columns=chosen)
    assert list(rows[0]) == [
        *("id", "status", "sum:ref", "double:ref", "sum:alt", "double:alt", "sum:SAD", "double:SAD")
    ]
    assert [row["id"] for row in rows] == ["v1", "v2"]
    difference = expected(B) - expected(A)
    assert float(rows[0]["sum:SAD"]) == pytest.approx(difference)
    assert float(rows[0]["double:SAD"]) == pytest.approx(2 * difference)
    assert float(rows[0]["sum:ref"]) == pytest.approx(expected(A))
    assert float(rows[0]["double:alt"]) == pytest.approx(2 * expected(B))
    assert float(rows[1]["sum:SAD"]) == 0


def test_log_fold_changes_where_all_tracks_allow_them(tmp_path: Path, network: Path) -> None:
    content = f"a\tb\n{A}\t{B}\n"
    chosen = Columns(reference="a", alternate="b")
    (row,) = run(tmp_path, network, content, columns=chosen, tracks="sum")
    change = np.log2(expected(B) + 1) - np.log2(expected(A) + 1)
    assert float(row["sum:logFC"]) == pytest.approx(change, rel=1e-5)
    (row,) = run(
        tmp_path, network, content, columns=chosen, tracks="sum", statistics=("logSED",), pseudocount=3.0
    )
    assert "sum:SAD" not in row
    change = np.log2(expected(B) + 3) - np.log2(expected(A) + 3)
    assert float(row["sum:logFC"]) == pytest.approx(change, rel=1e-5)
    with pytest.raises(ConfigError, match="logFC is not defined for track 'double'"):
        run(tmp_path, network, content, columns=chosen, statistics=("logFC",))
    with pytest.raises(ConfigError, match="logFC is given twice"):
        options(network, statistics=("logFC", "logSED"))
    with pytest.raises(ConfigError, match="there are no pairs"):
        run(tmp_path, network, f"seq\n{A}\n", statistics=("SAD",))


def test_every_row_has_its_row(tmp_path: Path, network: Path) -> None:
    cells = [
        (A, B, "ok"),
        ("", B, "empty"),
        (A, "", "empty"),
        (A, A[:-1], "too_short"),
        (A, A + "A", "too_long"),
        (A, A[:-1] + "U", "bad_letter"),
        (A, A[:-1] + "-", "bad_letter"),
        (A, A[:-1] + "é", "bad_letter"),
        # Unicode's Kelvin sign is a K where case is ignored.
        (A, A[:-1] + "\u212a", "bad_letter"),
        (A, A[:-1] + "r", "ok"),
        ("", "?", "empty"),
        ("", "", "empty"),
        (A, "r" + A[1:], "ok"),
    ]
    content = "r\ta\n" + "".join(f"{ref}\t{alt}\n" for ref, alt, _ in cells)
    rows = run(tmp_path, network, content, columns=Columns(reference="r", alternate="a"), tracks="sum")
    assert [row["status"] for row in rows] == [status for *_, status in cells]
    for row, (ref, _, status) in zip(rows, cells, strict=True):
        assert (row["sum:SAD"] == "nan") == (status != "ok")
        # What can be predicted is, also of a row whose other sequence cannot.
        assert (row["sum:ref"] == "nan") == (ref != A)
    assert float(rows[9]["sum:alt"]) == pytest.approx(expected(A[:-1] + "N"))


@pytest.mark.parametrize("block", [1, 3])
def test_blocks_make_no_difference(
    tmp_path: Path, network: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(4)
    sequences = ["".join(generator.choice(list("ACGT"), LENGTH)) for _ in range(11)]
    content = "seq\n" + "\n".join(sequences) + "\n"
    whole = run(tmp_path, network, content)
    monkeypatch.setattr(module, "_MOST_ROWS", block)
    assert run(tmp_path, network, content) == whole


@pytest.mark.parametrize(
    ("side", "short", "long"),
    [
        ("left", "NNN" + A[:9], (A + B)[12:]),
        ("right", A[:9] + "NNN", A),
        ("both", "N" + A[:9] + "NN", (A + B)[6:18]),
    ],
)
def test_shorter_and_longer_sequences(
    tmp_path: Path, network: Path, side: str, short: str, long: str
) -> None:
    rows = run(tmp_path, network, f"seq\n{A[:9]}\n{A + B}\n", pad=side, crop=side)
    assert float(rows[0]["sum"]) == pytest.approx(expected(short))
    assert float(rows[1]["sum"]) == pytest.approx(expected(long))


def test_where_no_row_has_the_models_length(tmp_path: Path, network: Path) -> None:
    with pytest.raises(InputError, match=r"in\.tsv, line 2: sequence v has 9 bases, .*takes 12.*--pad"):
        run(tmp_path, network, f"id\tseq\nv\t{A[:9]}\n")
    with pytest.raises(InputError, match=r"v has 13 bases.*--crop"):
        run(tmp_path, network, f">v\n{A}A\n", "in.fa")
    assert not (tmp_path / "out.tsv").exists()


def test_prefix_and_suffix(tmp_path: Path, network: Path) -> None:
    rows = run(tmp_path, network, f"seq\n{A[2:10]}\n", prefix="gg", suffix="CC")
    assert float(rows[0]["sum"]) == pytest.approx(expected("GG" + A[2:10] + "CC"))
    with pytest.raises(ConfigError, match="prefix 'A-' is not made of bases"):
        options(network, prefix="A-")


def with_ends(network: Path, folder: Path, construct: Any) -> Path:
    model: SequenceModel = checkpoints.load(str(network))
    return checkpoints.save(folder, model, model.tracks, {"construct": construct}, "With ends.")


def test_a_checkpoint_names_the_ends_of_its_constructs(tmp_path: Path, network: Path) -> None:
    named = with_ends(network, tmp_path / "named", {"prefix": "GG", "suffix": "CC"})
    middle = A[2:10]
    rows = run(tmp_path, named, f"seq\n{middle}\nGG{middle}CC\n{B}\nGG{middle[1:]}CC\n", pad="left")
    inputs = [f"GG{middle}CC", f"GG{middle}CC", B, f"NGG{middle[1:]}CC"]
    assert [float(row["sum"]) for row in rows] == pytest.approx([expected(each) for each in inputs])
    (row,) = run(tmp_path, named, f"seq\n{middle}\n", prefix="", suffix="", pad="right")
    assert float(row["sum"]) == pytest.approx(expected(middle + "NNNN"))
    # Ends that are asked for are added always.
    with pytest.raises(InputError, match=r"16 bases with the 4 of prefix and suffix"):
        run(tmp_path, named, f"seq\nGG{middle}CC\n", prefix="GG", suffix="CC")
    other = with_ends(network, tmp_path / "other", {"prefix": "A", "suffix": ""})
    both = options(named)
    both = SequenceOptions(model=both.model._replace(checkpoint=(str(named), str(other))))
    with pytest.raises(ConfigError, match="different ends"):
        score_sequences(str(tmp_path / "in.tsv"), str(tmp_path / "o.tsv"), both)


@pytest.mark.parametrize("construct", ["GG", {"prefix": 3}, {"prefix": "G-"}])
def test_ends_of_a_checkpoint_that_cannot_be(tmp_path: Path, network: Path, construct: Any) -> None:
    named = with_ends(network, tmp_path / "named", construct)
    with pytest.raises(GexprError, match="construct: not a prefix and suffix"):
        run(tmp_path, named, f"seq\n{A}\n")


def test_two_fasta_files(tmp_path: Path, network: Path) -> None:
    (tmp_path / "alt.fa").write_text(f">v1 mutant\n{B[:5]}\n{B[5:]}\n>v1\n\n")
    content = f">v1\n{A}\n>v1\n{A}\n"
    rows = run(tmp_path, network, content, "ref.fa", second=str(tmp_path / "alt.fa"))
    assert [(row["id"], row["status"]) for row in rows] == [("v1", "ok"), ("v1", "empty")]
    assert float(rows[0]["sum:SAD"]) == pytest.approx(expected(B) - expected(A))
    with pytest.raises(InputError, match=r"alt\.fa, line 4: record 2 is v1, but that of .* \(line 3\) is v2"):
        run(
            tmp_path,
            network,
            content.replace(f">v1\n{A}\n>v1", f">v1\n{A}\n>v2"),
            second=str(tmp_path / "alt.fa"),
        )
    with pytest.raises(InputError, match=r"2 records, but .* has 1"):
        run(tmp_path, network, f">v1\n{A}\n", second=str(tmp_path / "alt.fa"))


def test_a_fasta_file_and_a_table_of_names(tmp_path: Path, network: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("alt\tref\nm\tw\nw\tw\nx\tw\n")
    rows = run(
        tmp_path, network, f">w\n{A}\n>m\n{B}\n", "all.fa", pairs=str(tmp_path / "pairs.tsv"), tracks="sum"
    )
    assert [(row["id"], row["status"]) for row in rows] == [("m", "ok"), ("w", "ok"), ("x", "missing_pair")]
    assert float(rows[0]["sum:SAD"]) == pytest.approx(expected(B) - expected(A))
    assert float(rows[2]["sum:ref"]) == pytest.approx(expected(A))
    assert rows[2]["sum:alt"] == rows[2]["sum:SAD"] == "nan"
    with pytest.raises(InputError, match=r"line 3: w is also the name of the record on line 1"):
        run(tmp_path, network, f">w\n{A}\n>w\n{B}\n", "all.fa", pairs=str(tmp_path / "pairs.tsv"))


@pytest.mark.parametrize(
    ("name", "content", "changes", "message"),
    [
        ("a.tsv", "x\ty\n1\t2\n", {}, "no column 'sequence' or 'seq'.*--ref-column"),
        ("a.tsv", f"seq\n{A}\n", {"columns": Columns(sequence="s")}, "no column 's'; it has: seq"),
        ("a.tsv", f"r\n{A}\n", {"columns": Columns(reference="r", alternate="b")}, "no column 'b'"),
        ("a.tsv", f"seq\n{A}\t{A}\n", {}, "line 2: has 2 columns, the header 1"),
        ("a.tsv", "", {}, "is empty"),
        ("a.tsv", "\n\n", {}, "holds no sequence"),
        ("a.fa", f">\n{A}\n", {}, "line 1: a record without a name"),
        ("a.tsv", gzip.compress(b"seq\n" + A.encode() * 500, mtime=0)[:-9], {}, "cut short|damaged"),
        ("a.tsv", b"\x89HDF\r\n", {}, "HDF5"),
        ("a.parquet", b"PAR1PAR1", {}, "cannot be read as Parquet"),
        ("a.fa", f">a\n{A}\n", {"columns": Columns(sequence="s")}, "FASTA file, which has no columns"),
        ("a.tsv", f"seq\n{A}\n", {"columns": Columns(reference="s")}, "give both"),
        ("a.tsv", f"s\n{A}\n", {"columns": Columns("s", "s", "s")}, "give one or the other"),
        ("a.tsv", f"s\n{A}\n", {"second": "b.fa", "pairs": "p"}, "give one"),
    ],
)  # fmt: skip
def test_hostile_inputs(
    tmp_path: Path, network: Path, name: str, content: Any, changes: dict[str, Any], message: str
) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(GexprError, match=message):
        run(tmp_path, network, content, name, **changes)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_lines_of_other_systems_and_compression(tmp_path: Path, network: Path) -> None:
    plain = run(tmp_path, network, f"id\tseq\nv\t{A}\nw\t{B}\n")
    assert run(tmp_path, network, f"id\tseq\r\nv\t{A}\r\n\r\nw\t {B} \r\n") == plain
    assert run(tmp_path, network, gzip.compress(f"id\tseq\nv\t{A}\nw\t{B}\n".encode()), "i.tsv.gz") == plain
    assert run(tmp_path, network, f">v x\n{A[:4]}\r\n{A[4:]}\n\n>w\n{B}", "i.fa") == plain
    assert run(tmp_path, network, f">v x\n{A}\n>w\n{B}", "i.txt") == plain


def test_both_strands(tmp_path: Path, network: Path) -> None:
    model = options(network).model._replace(reverse_complement=True, tracks="sum")
    (tmp_path / "in.tsv").write_text("seq\nAAAAAAAAAAAA\n")
    score_sequences(str(tmp_path / "in.tsv"), str(tmp_path / "o.tsv"), SequenceOptions(model=model))
    (row,) = table(tmp_path / "o.tsv")
    assert float(row["sum"]) == pytest.approx((expected("A" * 12) + expected("T" * 12)) / 2)


def test_other_formats_hold_the_same(tmp_path: Path, network: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in.tsv").write_text(f"id\tr\ta\nv1\t{A}\t{B}\nv2\t{A}\t\n")
    chosen = options(network, columns=Columns(reference="r", alternate="a"))
    for suffix in ("tsv", "tsv.gz", "h5", "parquet"):
        score_sequences(str(tmp_path / "in.tsv"), str(tmp_path / f"o.{suffix}"), chosen)
    rows = table(tmp_path / "o.tsv")
    assert table(tmp_path / "o.tsv.gz") == rows
    assert (tmp_path / "o.tsv.gz").read_bytes().endswith(bytes.fromhex("1b0003000000000000000000"))
    found = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    assert list(found[0]) == list(rows[0])
    for row, other in zip(rows, found, strict=True):
        for name, value in other.items():
            if name in ("id", "status"):
                assert row[name] == value
            elif value is None:
                assert row[name] == "nan"
            else:
                assert np.float32(row[name]) == np.float32(value)
    with h5py.File(tmp_path / "o.h5") as file:
        assert file.attrs["format"] == "gexpr sequence scores"
        assert file.attrs["command"] == "score-sequences"
        assert [each.decode() for each in file["target_ids"]] == ["sum", "double"]
        assert [each.decode() for each in file["status"]] == ["ok", "empty"]
        for name in ("ref", "alt", "SAD"):
            texts = [[row[f"{track}:{name}"] for track in ("sum", "double")] for row in rows]
            np.testing.assert_array_equal(file[name][()], np.array(texts, dtype=np.float32))
        assert file["SAD"].attrs["definition"] == "sum(alt) - sum(ref)"


def test_the_parquet_that_was_written_can_be_read(tmp_path: Path, network: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    content = arrow.table({"id": [7, 8], "seq": [A, None]})
    pyarrow.parquet.write_table(content, tmp_path / "in.parquet")
    score_sequences(str(tmp_path / "in.parquet"), str(tmp_path / "out.tsv"), options(network))
    assert [(row["id"], row["status"]) for row in table(tmp_path / "out.tsv")] == [
        ("7", "ok"),
        ("8", "empty"),
    ]


def test_names_with_nul_bytes_and_tabs(tmp_path: Path, network: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    for name in ("a\tb\n", "a\0b"):
        pyarrow.parquet.write_table(arrow.table({"id": [name], "seq": [A]}), tmp_path / "in.parquet")
        if "\0" in name:
            with pytest.raises(InputError, match="row 0: a NUL byte in the column id"):
                score_sequences(str(tmp_path / "in.parquet"), str(tmp_path / "o.h5"), options(network))
        else:
            score_sequences(str(tmp_path / "in.parquet"), str(tmp_path / "o.tsv"), options(network))
            assert [row["id"] for row in table(tmp_path / "o.tsv")] == ["a b"]


def test_a_halved_batch_is_recorded(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.tsv").write_text(f"seq\n{A}\n{B}\n")
    chosen = options(network)
    chosen = SequenceOptions(model=chosen.model._replace(auto_batch=True))
    predict = Member.predict

    def small(self: Member, piece: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(piece) > 2:
            raise torch.OutOfMemoryError
        return predict(self, piece, *rest)

    parquet = pytest.importorskip("pyarrow.parquet")
    for halved in (False, True):
        if halved:
            monkeypatch.setattr(Member, "predict", small)
        for name in ("o.h5", "o.parquet"):
            score_sequences(str(tmp_path / "in.tsv"), str(tmp_path / name), replace(chosen, force=True))
        with h5py.File(tmp_path / "o.h5") as file:
            assert file.attrs.get("auto_batch_sizes") == ("2" if halved else None)
        metadata = parquet.ParquetFile(tmp_path / "o.parquet").metadata.metadata
        assert metadata.get(b"auto_batch_sizes") == (b"2" if halved else None)


def test_outputs_appear_whole_and_are_not_replaced(tmp_path: Path, network: Path) -> None:
    (tmp_path / "in.tsv").write_text(f"seq\n{A}\n{A[1:]}\n")
    source, out = str(tmp_path / "in.tsv"), str(tmp_path / "out.tsv")
    with pytest.raises(UnscoredSequencesError, match="1 row was not scored"):
        score_sequences(source, out, options(network, strict=True))
    assert len(table(tmp_path / "out.tsv")) == 2
    with pytest.raises(GexprError, match="exists; give --force"):
        score_sequences(source, out, options(network))
    with pytest.raises(ConfigError, match="also an input"):
        score_sequences(source, source, options(network, force=True))
    with pytest.raises(ConfigError, match="suffix"):
        score_sequences(source, str(tmp_path / "out.xyz"), options(network))


def test_the_command_from_standard_input_to_standard_output(network: Path) -> None:
    result = invoke("-c", network, "-o", "-", "-t", "sum", "-", input=f">v\n{A}\n>w\n{B}\n")
    assert result.exit_code == 0, result.output
    header, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert header == ["id", "status", "sum"]
    assert [(row[0], float(row[2])) for row in rows] == [
        ("v", pytest.approx(expected(A))),
        ("w", pytest.approx(expected(B))),
    ]
    assert "2 rows read, 2 scored from 2 sequences" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "content", "code", "message"),
    [
        (["--strict"], f"seq\n{A}\n\n{A[1:]}\n", 3, "not scored: too_short 1"),
        ([], f"seq\n{A}\n{A[1:]}\n", 0, "warning: standard input, line 3: sequence 1 has 11 bases"),
        ([], f"seq\n{A[1:]}\n", 1, "error: standard input, line 2: sequence 0 has 11 bases"),
        ([], "seq\n", 0, "warning: standard input holds no sequence; the output will be empty"),
        (["--prefix", "xyz"], f"seq\n{A}\n", 2, "is not made of bases"),
        (["--stats", "nonsense"], f"seq\n{A}\n", 2, "unknown statistic"),
        (["--pad", "up"], f"seq\n{A}\n", 2, "'up' is not one of"),
        (["--tracks", "nothing"], f"seq\n{A}\n", 1, "no track matches"),
    ],
)
def test_exit_codes(network: Path, arguments: list[str], content: str, code: int, message: str) -> None:
    result = invoke("-c", network, "-o", "-", *arguments, "-", input=content)
    assert result.exit_code == code, result.output
    assert message in result.output


def test_all_options_of_the_command_arrive(network: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"name,w,m\nv,{A[2:]},{B[2:]}\n")
    text = "--ref-column w --alt-column m --id-column name --prefix G --suffix C --crop both --pad left"
    more = "--stats SAX,D1 -t 0 --rc --batch-size 3 --precision fp32 --threads 1 --force --quiet"
    out = tmp_path / "o.h5"
    out.write_text("old")
    result = invoke("-c", network, "-o", out, *text.split(), *more.split(), tmp_path / "in.csv")
    assert result.exit_code == 0, result.output
    assert not result.output
    with h5py.File(out) as file:
        assert {"ref", "alt", "SAX", "D1"} <= set(file)
        assert "SAD" not in file
        attributes = dict(file.attrs)
    assert (attributes["prefix"], attributes["suffix"]) == ("G", "C")
    assert (attributes["pad"], attributes["crop"]) == ("left", "both")
    assert attributes["reverse_complement"] and attributes["batch_size"] == 3


def test_a_model_with_many_bins_gives_their_sum(tmp_path: Path) -> None:
    from toy_models import save_tiny_checkpoint

    network = save_tiny_checkpoint(tmp_path / "tiny")
    generator = np.random.default_rng(2)
    one, two = ("".join(generator.choice(list("ACGT"), 512)) for _ in range(2))
    (tmp_path / "in.tsv").write_text(f"r\ta\n{one}\t{two}\n")
    chosen = options(network, columns=Columns(reference="r", alternate="a"), statistics=("SAD", "D2"))
    score_sequences(str(tmp_path / "in.tsv"), str(tmp_path / "o.tsv"), chosen)
    (row,) = table(tmp_path / "o.tsv")
    model = checkpoints.load(str(network)).eval()
    with torch.inference_mode():
        x = torch.stack([torch.eye(4)[["ACGT".index(base) for base in each]] for each in (one, two)])
        predictions = model(x).numpy()
    name = model.tracks[0].id
    np.testing.assert_allclose(float(row[f"{name}:ref"]), predictions[0, :, 0].sum(), rtol=1e-4)
    distance = np.linalg.norm(predictions[1, :, 0] - predictions[0, :, 0])
    np.testing.assert_allclose(float(row[f"{name}:D2"]), distance, rtol=1e-3)


def test_a_model_trained_between_adapters_takes_sequences_without_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    parts = ["".join(generator.choice(list("ACGT"), 20)) for _ in range(40)]
    lines = [
        f"{part}\t{part.count('G') - 7}\t{'valid' if i > 30 else 'train'}" for i, part in enumerate(parts)
    ]
    (tmp_path / "t.tsv").write_text("sequence\tvalue\tsplit\n" + "\n".join(lines) + "\n")
    ends = {"prefix": "GGTT", "suffix": "CCA"}
    config = from_dict(
        {
            "data": {
                "path": str(tmp_path / "t.tsv"),
                "value_columns": ["value"],
                "targets": "standardized",
                **ends,
            },
            "model": {
                "architecture": "cnn",
                "settings": {"channels": [8], "kernels": [5], "hidden": [], "link": "linear"},
            },
            "loss": {"name": "mse"},
            "schedule": {"steps": 3},
            "augmentation": {"reverse_complement": False},
            "training": {"batch_size": 8, "steps_per_epoch": 3, "metric": "pearson"},
        }
    )
    train(config, tmp_path / "run")
    network = tmp_path / "run/checkpoint"
    assert checkpoints.describe(str(network)).training["construct"] == ends
    (tmp_path / "in.tsv").write_text(f"id\tseq\npart\t{parts[0]}\nwhole\tGGTT{parts[0]}CCA\n")
    score_sequences(str(tmp_path / "in.tsv"), str(tmp_path / "o.tsv"), options(network))
    part, whole = table(tmp_path / "o.tsv")
    assert part["value"] == whole["value"]
    model = checkpoints.load(str(network)).eval()
    (track,) = model.tracks
    shift = affine_shift(track.transform)
    assert shift is not None
    with torch.inference_mode():
        x = one_hot(torch.from_numpy(encode(f"GGTT{parts[0]}CCA")))[None]
        natural = (float(model(x)) - shift) / track.scale
    assert float(part["value"]) == pytest.approx(natural, rel=1e-5)
