"""Predictions of both alleles in the output, beside those of gexpr predict."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_models import save_tiny_checkpoint, write_fasta, write_vcf

from gexpr import checkpoints
from gexpr.cli.main import main
from gexpr.errors import ConfigError
from gexpr.genome.codes import encode
from gexpr.models.layers import one_hot
from gexpr.scoring.definitions import parse_profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    sequence = "".join(np.random.default_rng(9).choice(list("ACGT"), 3000))
    write_fasta(folder / "g.fa", {"chr1": sequence})
    save_tiny_checkpoint(folder / "tiny")
    records = [
        ("chr1", p, f"v{p}", sequence[p - 1], "ACGT"[("ACGT".index(sequence[p - 1]) + 1) % 4])
        for p in (900, 1500)
    ]
    records += [
        ("chr1", 1600, "ins", sequence[1599], sequence[1599] + "ACGT"),
        ("chr1", 1700, "sv", "N", "<DEL>"),
    ]
    write_vcf(folder / "v.vcf", records)
    return folder


def run(folder: Path, command: str, *arguments: str):
    given = ["-c", str(folder / "tiny"), "-f", str(folder / "g.fa"), "--device", "cpu", "--batch-size", "4"]
    return CliRunner().invoke(main, [command, *given, *arguments])


def test_profiles_are_the_models_predictions_of_both_windows(folder, tmp_path):
    out, vcf = tmp_path / "o.h5", str(folder / "v.vcf")
    command = ("score-variants", "--profiles", "center:4", "--no-rc")
    result = run(folder, *command, "-o", str(out), vcf)
    assert result.exit_code == 0, result.output
    with h5py.File(out) as file:
        reference, alternate, start = (file[name][:] for name in ("REF", "ALT", "profile_start"))
        assert file.attrs["profile"] == 4 and file.attrs["statistics"] == "logFC"
    assert np.isnan(reference[3]).all() and start[3] == -1
    model = checkpoints.load(folder / "tiny")
    bases = (folder / "g.fa").read_text().split("\n", 1)[1].replace("\n", "")
    size, context = model.bin_size, model.context_length
    for row, position in enumerate((900, 1500)):
        window = position - 1 - context // 2
        text = bases[window : window + context]
        alt = "ACGT"[("ACGT".index(bases[position - 1]) + 1) % 4]
        changed = text[: context // 2] + alt + text[context // 2 + 1 :]
        first, rest = divmod(int(start[row]) - window - model.crop * size, size)
        assert rest == 0 and start[row] <= position - 1 < start[row] + 4 * size
        for found, sequence in ((reference[row], text), (alternate[row], changed)):
            expected = model(one_hot(torch.from_numpy(encode(sequence)[None])))[0, first : first + 4]
            assert found == pytest.approx(expected.detach().numpy(), abs=1e-5)
    near = tmp_path / "near.h5"
    assert (
        run(folder, *command, "--mask", "center:1", "--engine", "plain", "-o", str(near), vcf).exit_code == 0
    )
    with h5py.File(near) as file:
        assert file["REF"][:3] == pytest.approx(reference[:3], abs=1e-5, nan_ok=True)
        assert file["ALT"][:3] == pytest.approx(alternate[:3], abs=1e-5, nan_ok=True)


def test_bytes_do_not_depend_on_blocks_and_other_outputs_are_as_without(folder, tmp_path):
    vcf = str(folder / "v.vcf")
    outputs = ("-o", str(tmp_path / "a.h5"), "-o", str(tmp_path / "a.tsv"))
    assert run(folder, "score-variants", "--profiles", "center:2", *outputs, vcf).exit_code == 0
    arguments = ("--profiles", "center:2", "--block-rows", "1", "-o", str(tmp_path / "b.h5"), vcf)
    assert run(folder, "score-variants", *arguments).exit_code == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert run(folder, "score-variants", "-o", str(tmp_path / "c.tsv"), vcf).exit_code == 0
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "c.tsv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--profiles", "center:4", "-o", "o.tsv"], 1, "profiles need an output in HDF5"),
        (["--profiles", "center:999999", "-o", "o.h5"], 1, "a profile has from 1 to"),
        (["--profiles", "all", "-o", "o.h5"], 2, "must be center:N"),
        (["--profiles", "center:0", "-o", "o.h5"], 2, "must be center:N"),
        (["--profiles", "center:4", "--aggregate", "assay", "-o", "o.h5"], 1, "leave out --aggregate"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = run(folder, "score-variants", *arguments, str(folder / "v.vcf"))
    assert result.exit_code == code and message in result.output + str(result.exception)


def test_names_of_profiles():
    assert parse_profile(None) is None and parse_profile(" Centre:32 ") == 32
    with pytest.raises(ConfigError):
        parse_profile("center:-1")


def test_merging_into_a_format_without_profiles_is_refused_and_keeps_the_run(folder, tmp_path):
    shard = ("--profiles", "center:2", "--shard", "0/1", "--run-dir", str(tmp_path / "r"))
    assert run(folder, "score-variants", *shard, str(folder / "v.vcf")).exit_code == 0
    merged = CliRunner().invoke(main, ["merge", str(tmp_path / "r"), "-o", str(tmp_path / "m.tsv")])
    assert merged.exit_code == 1 and "profiles need an output in HDF5" in merged.output
    idle = ["merge", str(tmp_path / "r"), "-o", str(tmp_path / "m.h5"), "--vcf", str(folder / "v.vcf")]
    merged = CliRunner().invoke(main, idle)
    assert merged.exit_code == 1 and "--vcf is for an annotated VCF" in merged.output
    outputs = ["-o", str(tmp_path / "m.tsv"), "-o", str(tmp_path / "m.h5")]
    assert CliRunner().invoke(main, ["merge", str(tmp_path / "r"), *outputs]).exit_code == 0
    with h5py.File(tmp_path / "m.h5") as file:
        assert file["REF"].shape[1] == 2
    exported = CliRunner().invoke(main, ["export", str(tmp_path / "m.h5"), "-o", str(tmp_path / "e.h5")])
    assert exported.exit_code == 0 and "are not exported" in exported.output
    with h5py.File(tmp_path / "e.h5") as file:
        assert "REF" not in file and "profile" not in file.attrs


def test_the_order_of_merged_strands_is_part_of_the_run(folder, tmp_path):
    command = ("--merge-strands", "--block-rows", "1", "--run-dir", str(tmp_path / "r"))
    first = run(folder, "score-variants", *command, "-t", "0,1", "--shard", "0/2", str(folder / "v.vcf"))
    assert first.exit_code == 0, first.output
    second = run(folder, "score-variants", *command, "-t", "1,0", "--shard", "1/2", str(folder / "v.vcf"))
    assert second.exit_code == 1 and "merged_columns" in second.output
