"""``gexpr merge`` and ``gexpr status``: exact arguments of the one call."""

from __future__ import annotations

import json
import subprocess
import sys
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from gexpr.cli.main import main
from gexpr.errors import GexprError
from gexpr.runs.score_variants import UnscoredError
from gexpr.runs.status import RunStatus

MERGE = "gexpr.runs.merge.merge_run"
DEFAULTS = {
    **{"format": None, "bigwig": None, "bedgraph": None, "long": False, "vcf": None},
    **{"force": False, "keep_run": False, "top": 5},
    "strict": False,
}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_merge_defaults() -> None:
    with mock.patch(MERGE) as call, mock.patch("gexpr.logs.set_quiet") as quiet:
        result = invoke("merge", "a.h5.run", "-o", "a.h5")
    assert result.exit_code == 0 and result.output == ""
    call.assert_called_once_with("a.h5.run", "a.h5", **DEFAULTS)
    quiet.assert_called_with(False)


def test_merge_with_every_option() -> None:
    options = "--format tsv --long --vcf v.vcf --force --keep-run --top 2 --strict --quiet --output -"
    folders = "--bigwig w --bedgraph g"
    with mock.patch(MERGE) as call, mock.patch("gexpr.logs.set_quiet") as quiet:
        assert invoke("merge", *options.split(), *folders.split(), "work").exit_code == 0
    given = {"format": "tsv", "bigwig": "w", "bedgraph": "g", "long": True, "vcf": "v.vcf", "force": True}
    call.assert_called_once_with("work", "-", **given, keep_run=True, top=2, strict=True)
    quiet.assert_called_with(True)


def test_merge_into_folders_alone() -> None:
    with mock.patch(MERGE) as call:
        assert invoke("merge", "work", "--bigwig", "w").exit_code == 0
        assert invoke("merge", "work").exit_code == 2
    call.assert_called_once_with("work", None, **{**DEFAULTS, "bigwig": "w"})


def test_merge_into_several_outputs() -> None:
    with mock.patch(MERGE) as call:
        assert (
            invoke("merge", "work", "-o", "a.h5", "-o", "-", "-o", "b.vcf", "--vcf", "example").exit_code == 0
        )
    assert call.call_args.args == ("work", ("a.h5", "-", "b.vcf"))
    assert call.call_args.kwargs["vcf"].endswith(".vcf.gz") and call.call_args.kwargs["format"] is None


@pytest.mark.parametrize("name", ["hdf5", "tsv", "vcf", "parquet", "npz"])
def test_merge_knows_every_format(name: str) -> None:
    with mock.patch(MERGE) as call:
        assert invoke("merge", "work", "-o", "a", "--format", name).exit_code == 0
    call.assert_called_once_with("work", "a", **{**DEFAULTS, "format": name})


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["work"],
        ["-o", "a.h5"],
        ["work", "-o", "a", "--format", "xml"],
        ["work", "-o", "a", "--top", "-1"],
        ["work", "-o", "a", "-o", "b.h5", "--format", "tsv"],
        ["work", "--format", "tsv", "-o", "a", "-o", "b.h5"],
        ["work", "-o", "-", "-o", "-"],
    ],
    ids=" ".join,
)
def test_wrong_usage_of_merge(arguments: list[str]) -> None:
    with mock.patch(MERGE) as call:
        result = invoke("merge", *arguments)
    assert result.exit_code == 2 and "Usage: " in result.stderr
    call.assert_not_called()


@pytest.mark.parametrize(
    ("error", "code"), [(GexprError("block 3 is missing"), 1), (UnscoredError("1 allele"), 3)]
)
def test_errors_of_merge(error: GexprError, code: int) -> None:
    with mock.patch(MERGE, side_effect=error):
        result = invoke("merge", "work", "-o", "a.h5")
    assert result.exit_code == code and result.stderr == f"error: {error}\n"


def test_merge_of_what_is_no_run(tmp_path) -> None:
    result = invoke("merge", str(tmp_path), "-o", str(tmp_path / "a.h5"))
    assert result.exit_code == 1 and "not a run directory: it has no manifest.json" in result.stderr
    assert list(tmp_path.iterdir()) == []


STATUS = RunStatus("work", "predict", 10, 4, 1, 3, [1, 2, 3], 0.0, None, [])


def test_status_prints_lines() -> None:
    with (
        mock.patch("gexpr.runs.status.run_status", return_value=STATUS) as call,
        mock.patch("gexpr.runs.status.status_lines", return_value=["one", "two"]) as lines,
    ):
        result = invoke("status", "work")
    assert result.exit_code == 0 and result.stdout == "one\ntwo\n"
    call.assert_called_once_with("work")
    lines.assert_called_once_with(STATUS)


def test_status_prints_json() -> None:
    with mock.patch("gexpr.runs.status.run_status", return_value=STATUS) as call:
        result = invoke("status", "work", "--json")
    assert json.loads(result.stdout) == STATUS.to_dict() and result.stdout.count("\n") == 1
    call.assert_called_once_with("work")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["work", "--yaml"]], ids=" ".join)
def test_wrong_usage_of_status(arguments: list[str]) -> None:
    assert invoke("status", *arguments).exit_code == 2


@pytest.mark.parametrize("name", ["merge", "status"])
def test_help_needs_no_torch(name: str) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from gexpr.cli.main import main; "
        f"r = CliRunner().invoke(main, [{name!r}, '--help']); print(r.output); "
        "assert r.exit_code == 0; assert 'torch' not in sys.modules"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "RUN_DIR" in text and f"gexpr {name} " in text
