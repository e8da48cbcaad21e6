"""``kill -9`` at any moment: finished blocks are sound, nothing is half there, and a rerun completes.

The promise is about bytes: the output of a run that was killed many times and continued with other
numbers of shards has the SHA-256 of one that nobody disturbed.
"""

from __future__ import annotations

import functools
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos_tools import (
    Gexpr,
    World,
    at_event,
    check_parts,
    file_events,
    killed_at_the_end,
    run,
    sha256,
    signal_self,
    unfinished,
)

from gexpr.runs.directory import RunDirectory
from gexpr.writers.output import temporary_name

pytestmark = pytest.mark.chaos

KILLS = 10


def command(world: World, kind: str) -> Callable[..., list[str]]:
    """The command line of a kind of run, in small blocks."""
    if kind.startswith("predict"):
        return functools.partial(world.predict, "--block-rows", "2")
    return functools.partial(world.score, "--block-rows", "12")


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        ("score-variants h5", 0),
        ("score-variants h5", 1),
        ("score-variants tsv", 2),
        ("score-variants tsv.gz", 3),
        ("predict h5", 4),
        ("predict tsv.gz", 5),
    ],
)
def test_killed_at_random(kind: str, seed: int, world: World, tmp_path: Path) -> None:
    """Whole runs, shards of changing counts and merges are killed at random until enough have died.

    A process dies some milliseconds after one of its changes to a file: anywhere, and however fast it is.
    """
    base = command(world, kind)
    suffix = kind.split()[1]
    assert run(base("-o", f"whole.{suffix}"), tmp_path) == (0, "", "")
    expected = sha256(tmp_path / f"whole.{suffix}")
    draw = random.Random(seed)
    output = tmp_path / f"out.{suffix}"
    run_dir = Path(f"{output}.run")
    killed = 0
    finished: set[int] = set()

    def check() -> None:
        """What holds after every death."""
        nonlocal finished
        if output.exists():
            # It had its name already; what was killed is the removal of the run directory.
            assert sha256(output) == expected
            output.unlink()
            finished = set()
        now = check_parts(run_dir)
        planned = (run_dir / "manifest.json").exists()
        assert now >= finished or not planned, "a finished block was lost"
        finished = now if planned else set()

    def strike(commands: list[list[str]], events: int) -> None:
        """Start processes, each of which dies within so many changes to files."""
        nonlocal killed
        running = []
        with killed_at_the_end(running):
            for each in commands:
                fate = (None, draw.randrange(events), str(tmp_path), draw.uniform(0.0, 0.03))
                running.append(Gexpr(each, tmp_path, before=functools.partial(file_events, *fate)))
            for each in running:
                result = each.wait()
                assert result.code in (0, -signal.SIGKILL), result
                killed += result.code == -signal.SIGKILL
        check()

    rounds = 0
    while killed < KILLS:
        rounds += 1
        assert rounds < 5 * KILLS, f"only {killed} processes died"
        count = draw.choice([None, None, 2, 3, 5])
        if finished and len(finished) == RunDirectory(run_dir).manifest().blocks:
            strike([["merge", str(run_dir), "-o", str(output), "--quiet"]], events=12)
        elif count is None:
            strike([base("-o", str(output))], events=60)
        else:
            shards = draw.sample(range(count), k=2)
            strike([base("-o", str(output), "--shard", f"{i}/{count}") for i in shards], events=40)

    for i in range(2):
        result = run(base("-o", str(output), "--shard", f"{i}/2"), tmp_path)
        assert result.code == 0, result.err
    check_parts(run_dir)
    result = run(["merge", str(run_dir), "-o", str(output), "--quiet"], tmp_path)
    assert (result.code, result.err) == (0, "")
    assert sha256(output) == expected
    assert not run_dir.exists() and unfinished(tmp_path) == []


def test_killed_before_every_change_to_a_file(world: World, tmp_path: Path) -> None:
    """Every kind of step is once the last: cache, folders, locks, logs, manifest, parts, output, removal."""
    lines = world.vcf.read_text().splitlines(keepends=True)
    (tmp_path / "v.vcf").write_text("".join(lines[:14]))
    base = world.score("--block-rows", "12", "-o", "out", "--format", "tsv", vcf=tmp_path / "v.vcf")

    def attempt(name: str, kill_at: int | None) -> tuple[Path, list[str], int]:
        folder = tmp_path / name
        folder.mkdir()
        log = str(tmp_path / f"{name}.events")
        result = run(base, folder, before=functools.partial(file_events, log, kill_at, str(folder)))
        events = Path(log).read_text().replace(str(folder), "").splitlines()
        return folder, [re.sub(r"[0-9]+|(?<=new-)\w+", "N", event) for event in events], result.code

    folder, events, code = attempt("undisturbed", None)
    assert code == 0
    expected = sha256(folder / "out")
    steps = {event: number for number, event in reversed(list(enumerate(events)))}
    for step in ("os.link /out.run/.manifest", "os.rename /out.run/parts/", "os.rename /.out", "os.rmdir"):
        assert any(event.startswith(step) for event in steps), events
    # The last of several counts too: the part after which nothing is left to compute.
    last = max(number for number, event in enumerate(events) if event.startswith("os.rename /out.run/parts"))
    for number in sorted({*steps.values(), last}):
        folder, seen, code = attempt(f"kill{number}", number)
        assert (code, len(seen)) == (-signal.SIGKILL, number + 1), (events[number], code)
        check_parts(folder / "out.run")
        if not (folder / "out").exists():
            result = run(base, folder)
            assert result == (0, "", ""), (events[number], result)
            assert not (folder / "out.run").exists() and unfinished(folder) == [], events[number]
        assert sha256(folder / "out") == expected, events[number]


@pytest.mark.parametrize(
    "path", [r"\.manifest\.json\..*", r"\.input\.vcf\..*", r"\.000003\.part\..*", r"\.out\.h5\..*"]
)
def test_the_next_process_cleans_up(path: str, world: World, tmp_path: Path) -> None:
    """At once, and not only when the run directory is removed; what a living process writes stays."""
    command = world.score("-o", "out.h5", "--block-rows", "12", "--keep-run", vcf="-")
    event = "os.rename" if "part" in path or "out" in path else "os.link"
    die = functools.partial(signal_self, signal.SIGKILL)
    result = run(command, tmp_path, stdin=world.vcf, before=functools.partial(at_event, event, path, 0, die))
    assert result.code == -signal.SIGKILL and len(unfinished(tmp_path)) == 1
    parts = tmp_path / "out.h5.run" / "parts"
    theirs = temporary_name(parts / "000005.part")
    theirs.touch()
    assert run(command, tmp_path, stdin=world.vcf).code == 0
    assert unfinished(tmp_path) == [str(theirs.relative_to(tmp_path))]


def test_a_process_of_its_own(world: World, expected: dict[str, str], tmp_path: Path) -> None:
    """Not a fork of one that has everything loaded, but the command as it is called."""
    arguments = world.score("-o", "out.h5", "--block-rows", "4")
    parts = tmp_path / "out.h5.run" / "parts"
    process = Gexpr(arguments, tmp_path, fresh=True)
    with killed_at_the_end([process]):
        process.until(lambda: (parts / "000001.part").exists(), "two blocks")
        process.send(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL
    assert len(check_parts(parts.parent)) >= 2 and not (tmp_path / "out.h5").exists()
    result = run([argument for argument in arguments if argument != "--quiet"], tmp_path, fresh=True)
    assert result.code == 0 and result.err.startswith("continuing: ")
    assert sha256(tmp_path / "out.h5") == expected["h5"] and unfinished(tmp_path) == []
