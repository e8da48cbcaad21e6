"""Blocks that are published while the next is computed: in order, one at a time, and no error is lost."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from toy_tasks import ToyTask, run

from gexpr.errors import GexprError, InputError
from gexpr.runs.directory import RunDirectory
from gexpr.runs.signals import STOPPING
from gexpr.runs.writing import WriterThread
from gexpr.writers.parts import Part

PATIENCE = 30.0


class Published:
    """Keeps what was published, after waiting where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.items: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.fails = fails

    def __call__(self, item: str) -> None:
        assert self.go.wait(PATIENCE)
        if item == self.fails:
            raise GexprError(f"no room for {item}")
        self.items.append(item)


def test_each_is_published_in_order_when_the_work_ends() -> None:
    published = Published()
    with WriterThread(published) as writer:
        for item in "abc":
            writer.put(item)
    assert published.items == ["a", "b", "c"]


def test_work_goes_on_while_one_is_published_and_waits_for_it_with_the_next() -> None:
    published = Published()
    published.go.clear()
    with WriterThread(published) as writer:
        writer.put("a")
        assert published.items == []
        threading.Timer(0.05, published.go.set).start()
        writer.put("b")
        assert published.items[0] == "a"
    assert published.items == ["a", "b"]


def test_nothing_is_published_after_a_failure() -> None:
    published = Published(fails="b")
    with pytest.raises(GexprError, match="no room for b"):
        with WriterThread(published) as writer:
            for item in "abcd":
                writer.put(item)
    assert published.items == ["a"]


def test_a_failure_of_the_last_is_told() -> None:
    with pytest.raises(GexprError, match="no room for a"):
        with WriterThread(Published(fails="a")) as writer:
            writer.put("a")


def test_a_failure_of_the_work_comes_after_that_of_the_block_before() -> None:
    published = Published(fails="b")
    with pytest.raises(ZeroDivisionError):
        with WriterThread(published) as writer:
            writer.put("a")
            raise ZeroDivisionError
    assert published.items == ["a"]
    with pytest.raises(GexprError, match="no room for b"):
        with WriterThread(published) as writer:
            writer.put("b")
            raise ZeroDivisionError


def test_signals_are_left_to_the_main_thread() -> None:
    blocked: list[set[int]] = []
    with WriterThread(lambda _: blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))) as writer:
        writer.put("a")
    assert blocked[0] >= {getattr(signal, name) for name in STOPPING}
    assert not {getattr(signal, name) for name in STOPPING} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


# --- in a run ------------------------------------------------------------------------------


class Watched(ToyTask):
    """Does not finish its second block until the first one's part is being written, and that not before."""

    def __init__(self, journal: Path) -> None:
        super().__init__(journal)
        self.second_begun, self.first_written = threading.Event(), threading.Event()

    def compute(self, block, advance=None) -> Part:
        if block.start == 3:
            self.second_begun.set()
            assert self.first_written.wait(PATIENCE)
        return super().compute(block, advance)


def test_a_part_is_written_while_the_next_block_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Watched(tmp_path / "journal")
    write = RunDirectory.write

    def overlapped(self, manifest, block, part) -> int:
        assert task.second_begun.wait(PATIENCE)
        size = write(self, manifest, block, part)
        task.first_written.set()
        return size

    monkeypatch.setattr(RunDirectory, "write", overlapped)
    outcome = run(task, tmp_path / "a.txt")
    assert outcome.computed == 10 and task.computed() == [0, 3, 6, 9]


@pytest.mark.parametrize("workers", [1, 2])
def test_blocks_that_cannot_be_written_do_not_count(workers: int, tmp_path: Path) -> None:
    task = ToyTask(tmp_path / "journal", faults={3: "changed"})
    with pytest.raises(InputError, match="was changed"):
        run(task, tmp_path / "a.txt", workers=workers)
    assert 1 not in RunDirectory(tmp_path / "a.txt.run").finished()
