"""Input that can be read only once: it is stored first, so that a run that it began can be continued."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_tools import (
    Gexpr,
    World,
    at_event,
    check_parts,
    hold,
    killed_at_the_end,
    run,
    sha256,
    signal_self,
    unfinished,
)

pytestmark = pytest.mark.chaos

BLOCKS = ["--block-rows", "12"]
KILL = functools.partial(
    at_event, "os.rename", r"\.000003\.part\..*", 0, functools.partial(signal_self, signal.SIGKILL)
)


@pytest.fixture(scope="module")
def piped(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the output of an undisturbed run that reads standard input."""
    folder = tmp_path_factory.mktemp("piped")
    assert run(world.score("-o", "out.h5", vcf="-"), folder, stdin=world.vcf) == (0, "", "")
    return sha256(folder / "out.h5")


@contextmanager
def feed(pipe: Path, file: Path, size: int | None = None) -> Iterator[None]:
    """Write a file, or its beginning, to a named pipe; then keep it open for as long as the block lasts."""
    if not pipe.exists():
        os.mkfifo(pipe)
    program = "import sys\nsys.stdout.buffer.write(open(sys.argv[1], 'rb').read()[:int(sys.argv[2])])\n"
    if size is not None:
        program += "sys.stdout.flush()\nimport time\ntime.sleep(600)\n"
    # In a shell: opening a pipe waits for its reader.
    command = f'exec "{sys.executable}" -c "$0" "$1" "$2" > "$3"'
    arguments = ["bash", "-c", command, program, str(file), str(size or 1 << 40), str(pipe)]
    writer = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        writer.kill()
        writer.wait()


def test_killed_and_given_the_same_again(world: World, piped: str, tmp_path: Path) -> None:
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    with feed(tmp_path / "pipe", world.vcf):
        assert run(command, tmp_path, stdin=tmp_path / "pipe", before=KILL).code == -signal.SIGKILL
    assert check_parts(tmp_path / "out.h5.run") == {0, 1, 2}
    with feed(tmp_path / "pipe", world.vcf):
        assert run(command, tmp_path, stdin=tmp_path / "pipe") == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped
    assert not (tmp_path / "out.h5.run").exists() and unfinished(tmp_path) == []


def test_killed_and_given_nothing(world: World, piped: str, tmp_path: Path) -> None:
    """``< /dev/null``: what is stored is used."""
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    assert run(command, tmp_path, stdin=world.vcf, before=KILL).code == -signal.SIGKILL
    assert run(command, tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped


def shorter(data: bytes) -> bytes:
    return data[: data.rindex(b"\n", 0, -1) + 1]


def longer(data: bytes) -> bytes:
    return data + data[data.rindex(b"\n", 0, -1) + 1 :]


def changed(data: bytes) -> bytes:
    return data.replace(b"v95", b"v59")


@pytest.mark.parametrize("change", [shorter, longer, changed])
def test_another_content(change: Callable[[bytes], bytes], world: World, piped: str, tmp_path: Path) -> None:
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    assert run(command, tmp_path, stdin=world.vcf, before=KILL).code == -signal.SIGKILL
    (tmp_path / "other.vcf").write_bytes(change(world.vcf.read_bytes()))
    result = run(command, tmp_path, stdin=tmp_path / "other.vcf")
    assert (result.code, result.error) == (
        1,
        "error: out.h5.run holds a run of another standard input; give the same input to continue it, "
        "--restart to discard it, or another --run-dir",
    )
    assert check_parts(tmp_path / "out.h5.run") == {0, 1, 2}
    assert run(command, tmp_path, stdin=world.vcf) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped


def test_restart_takes_another_content(world: World, piped: str, tmp_path: Path) -> None:
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    (tmp_path / "other.vcf").write_bytes(shorter(world.vcf.read_bytes()))
    assert run(command, tmp_path, stdin=tmp_path / "other.vcf", before=KILL).code == -signal.SIGKILL
    assert run([*command, "--restart"], tmp_path, stdin=world.vcf) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped


def test_killed_while_it_is_stored(world: World, piped: str, tmp_path: Path) -> None:
    """Half an input is never taken for a whole one."""
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    long = tmp_path / "long.vcf"
    long.write_bytes(world.vcf.read_bytes() + world.vcf.read_bytes().split(b"INFO\n")[1] * 1000)
    run_dir = tmp_path / "out.h5.run"
    with feed(tmp_path / "pipe", long, size=2_500_000):
        process = Gexpr(command, tmp_path, stdin=tmp_path / "pipe")
        with killed_at_the_end([process]):
            process.until(
                lambda: any(path.stat().st_size > 1 << 20 for path in run_dir.glob(".input.vcf.*")),
                "some input",
            )
            process.send(signal.SIGKILL)
            assert process.wait().code == -signal.SIGKILL
    assert not (run_dir / "input.vcf").exists() and len(unfinished(tmp_path)) == 1
    assert run(command, tmp_path).code == 1
    assert unfinished(tmp_path) == [] and not run_dir.exists()
    assert run(command, tmp_path, stdin=world.vcf) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped


def test_nothing_at_all(world: World, tmp_path: Path) -> None:
    for arguments in (["-o", "out.h5"], ["--shard", "0/2", "--run-dir", "out.h5.run"], ["-o", "-"]):
        for command in (world.score(*arguments, vcf="-"), world.predict(*arguments, bed="-")):
            result = run(command, tmp_path)
            assert (result.code, result.out) == (1, "")
            assert result.error.startswith("error: standard input: the file is empty (0 bytes)")
            assert not (tmp_path / "out.h5.run").exists()


def test_shards_of_one_standard_input(world: World, piped: str, tmp_path: Path) -> None:
    """The first gets the input, the others nothing, or the same."""
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    for i, stdin in enumerate([world.vcf, os.devnull, world.vcf]):
        assert run([*command, "--shard", f"{i}/3"], tmp_path, stdin=stdin) == (0, "", "")
    assert run(["merge", "out.h5.run", "-o", "out.h5", "--quiet"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped


def test_two_shards_store_at_the_same_moment(world: World, piped: str, tmp_path: Path) -> None:
    """One is given other records; it finds what the first one has stored."""
    command = world.score("-o", "out.h5", *BLOCKS, vcf="-")
    (tmp_path / "other.vcf").write_bytes(changed(world.vcf.read_bytes()))
    here, go = tmp_path / "here", tmp_path / "go"
    before = functools.partial(at_event, "os.link", r"\.input\.vcf\..*", 0, functools.partial(hold, here, go))
    late = Gexpr([*command, "--shard", "1/2"], tmp_path, stdin=tmp_path / "other.vcf", before=before)
    with killed_at_the_end([late]):
        late.until(here.exists, "its input")
        assert run([*command, "--shard", "0/2"], tmp_path, stdin=world.vcf) == (0, "", "")
        go.touch()
        result = late.wait()
    assert result.code == 1 and "holds a run of another standard input" in result.error
    assert run([*command, "--shard", "1/2"], tmp_path) == (0, "", "")
    assert run(["merge", "out.h5.run", "-o", "out.h5", "--quiet"], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.h5") == piped


@pytest.mark.parametrize("kind", ["VCF", "BED"])
def test_a_named_pipe(kind: str, world: World, tmp_path: Path) -> None:
    """Killed and given again; then the same from a file of that name, for comparison."""
    file = world.vcf if kind == "VCF" else world.bed
    pipe = tmp_path / "in"

    def command(output: str, run_dir: str) -> list[str]:
        options = ["-o", output, "--run-dir", run_dir, "--block-rows", "4"]
        return world.score(*options, vcf="in") if kind == "VCF" else world.predict(*options, bed="in")

    for before, code in ((KILL, -signal.SIGKILL), (None, 0)):
        with feed(pipe, file):
            assert run(command("piped.h5", "work"), tmp_path, before=before).code == code
    pipe.unlink()
    pipe.write_bytes(file.read_bytes())
    assert run(command("file.h5", "other"), tmp_path) == (0, "", "")
    assert sha256(tmp_path / "piped.h5") == sha256(tmp_path / "file.h5")
    assert not (tmp_path / "work").exists() and unfinished(tmp_path) == []


@pytest.mark.parametrize("kind", ["VCF", "BED"])
def test_process_substitution(kind: str, world: World, tmp_path: Path) -> None:
    """``<(cat x.vcf)`` is a pipe whose name changes from call to call: the second finds 63 taken."""
    environment = {**os.environ, "GEXPR_CACHE": str(tmp_path / ".cache"), "OMP_NUM_THREADS": "1"}
    command, file = (world.score(), world.vcf) if kind == "VCF" else (world.predict(), world.bed)
    quoted = " ".join(f"'{part}'" for part in [sys.executable, "-m", "gexpr", *command[:-1]])
    for redirection, shard in (("", "--shard 0/2 --run-dir out.tsv.run"), ("63< /dev/null", "-o out.tsv")):
        result = subprocess.run(
            ["bash", "-c", f"exec {redirection}; {quoted} {shard} <(cat '{file}')"],
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, "")
    assert run([*command[:-1], "-o", "file.tsv", command[-1]], tmp_path) == (0, "", "")
    assert sha256(tmp_path / "out.tsv") == sha256(tmp_path / "file.tsv")


def test_a_stream_from_a_stream(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """``cat x.vcf | gexpr ... - -o -`` gives the lines of a file, and leaves no temporary file."""
    (tmp_path / "tmp").mkdir()
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    with feed(tmp_path / "pipe", world.vcf):
        result = run(
            world.score("-o", "-", *BLOCKS, vcf="-"),
            tmp_path,
            stdin=tmp_path / "pipe",
            environment=environment,
        )
    assert (result.code, result.err) == (0, "")
    (tmp_path / "out.tsv").write_text(result.out)
    assert sha256(tmp_path / "out.tsv") == expected["tsv"] and os.listdir(tmp_path / "tmp") == []
