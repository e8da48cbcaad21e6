"""Scoring, predicting and inspecting need no network: where there is none, they give the same."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "gexpr" / "data" / "examples"

# Runs before anything else in every Python process whose path it is on. An audit hook sees sockets however
# they are made, and cannot be taken away again. Sockets inside the machine are let through.
GUARD = """
import os, socket, sys

def guard(event, arguments):
    if event == "socket.__new__":
        outward = arguments[1] in (socket.AF_INET, socket.AF_INET6)
    else:
        outward = event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    if outward:
        with open(os.environ["GUARD_RECORD"], "a") as file:
            file.write(f"{event} {arguments}\\n")
        raise OSError(f"the network is blocked: {event}")

sys.addaudithook(guard)
"""

SCRIPT = """
import sys
from gexpr.cli.main import main

for line in sys.stdin.read().splitlines():
    main(line.split(), standalone_mode=False)
"""


def guarded(tmp_path: Path) -> dict[str, str]:
    """The environment of a process without network, with a home of its own."""
    (tmp_path / "guard").mkdir(exist_ok=True)
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    paths = [str(tmp_path / "guard"), os.environ.get("PYTHONPATH", ""), str(EXAMPLES.parents[2])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "GUARD_RECORD": str(tmp_path / "record"),
        "GEXPR_CACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }


def unshare() -> list[str] | None:
    """The command that runs another one in a machine without network interfaces; None where it cannot."""
    for options in (["--net"], ["--user", "--net"]):
        command = ["unshare", *options]
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    return None


@pytest.mark.parametrize("how", ["sockets raise", "no interfaces"])
def test_commands_without_network(how: str, tmp_path: Path) -> None:
    isolate: list[str] | None = []
    if how == "no interfaces" and (isolate := unshare()) is None:
        pytest.skip("this system does not let a process leave the network")
    with gzip.open(EXAMPLES / "chrI_promoters.vcf.gz", "rt") as file:
        lines = file.read().splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    (tmp_path / "v.vcf").write_text("".join(lines[: len(header) + 3]))
    (tmp_path / "r.bed").write_text("chrI\t30000\t30064\n")
    commands = [
        "inspect yeast-tss --verify",
        "score-variants -c yeast-tss -f example -o a.tsv --no-rc --device cpu -t 0 v.vcf",
        "predict -c yeast-tss -f example -o p.tsv --no-rc --device cpu -t 0 r.bed",
    ]
    result = subprocess.run(
        [*(isolate or []), sys.executable, "-c", SCRIPT],
        input="\n".join(commands),
        cwd=tmp_path,
        env=guarded(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "architecture" in result.stdout
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    assert len(rows) >= 4 and all(row[5] == "ok" and float(row[6]) == float(row[6]) for row in rows[1:])
    assert len((tmp_path / "p.tsv").read_text().splitlines()) == 2
    assert not (tmp_path / "record").exists(), (tmp_path / "record").read_text()


def test_the_guard_sees_what_reaches_out(tmp_path: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://localhost:9/')"
    result = subprocess.run(
        [sys.executable, "-c", code], env=guarded(tmp_path), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1 and "the network is blocked" in result.stderr
    assert "socket.getaddrinfo" in (tmp_path / "record").read_text()
