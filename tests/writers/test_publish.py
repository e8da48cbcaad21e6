"""Small files that appear whole or not at all, and what killed processes leave."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gexpr.errors import ConfigError, GexprError
from gexpr.writers import output as module
from gexpr.writers.output import (
    AtomicOutput,
    publish,
    refuse_existing,
    refuse_input,
    remove_leftovers,
    temporary_name,
    write_all,
)


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(path: Path, process: int) -> Path:
    """A temporary file as another process of this host would have left it."""
    mine = temporary_name(path)
    left = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{process}."))
    left.write_bytes(b"half")
    return left


# --- publish -------------------------------------------------------------------------------


def test_pieces_become_a_file(tmp_path: Path) -> None:
    assert publish(tmp_path / "a", [b"one ", memoryview(b"two"), b""])
    assert (tmp_path / "a").read_bytes() == b"one two" and os.listdir(tmp_path) == ["a"]
    assert publish(tmp_path / "a", [b"three"])
    assert (tmp_path / "a").read_bytes() == b"three"


def test_an_existing_file_can_be_left_alone(tmp_path: Path) -> None:
    assert publish(tmp_path / "a", [b"one"], replace=False)
    assert not publish(tmp_path / "a", [b"two"], replace=False)
    assert (tmp_path / "a").read_bytes() == b"one" and os.listdir(tmp_path) == ["a"]


def test_an_existing_file_can_be_left_alone_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert publish(tmp_path / "a", [b"one"], replace=False)
    assert not publish(tmp_path / "a", [b"two"], replace=False)
    assert (tmp_path / "a").read_bytes() == b"one" and os.listdir(tmp_path) == ["a"]


def test_of_many_writers_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread stands for a process: it has its own temporary name."""
    monkeypatch.setattr(
        module, "temporary_name", lambda path: path.with_name(f".{path.name}.{threading.get_ident()}.part")
    )
    barrier = threading.Barrier(8)
    won: list[bytes] = []

    def write(number: int) -> None:
        text = str(number).encode() * 1000
        barrier.wait()
        if publish(tmp_path / "a", [text], replace=False):
            won.append(text)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [(tmp_path / "a").read_bytes()] and os.listdir(tmp_path) == ["a"]


def test_the_name_is_given_last_and_everything_is_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append("folder" if os.path.isdir(name) else f"file of {os.path.getsize(name)}")
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        events.append("rename")
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    publish(tmp_path / "a", [b"12345"])
    assert events == ["file of 5", "rename", "folder"]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("call", ["write_all", "fsync", "sync_folder"])
def test_a_disk_that_is_full_leaves_nothing_new(
    call: str, replace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (module, call)), full)
    with pytest.raises(GexprError, match=r"^cannot write .*a: No space left on device$"):
        publish(tmp_path / "a", [b"one"], replace=replace)
    # When only the folder could not be brought to the disk, the whole file has its name.
    assert os.listdir(tmp_path) == (["a"] if call == "sync_folder" else [])


def test_data_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def pieces():
        yield b"one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "a", pieces())
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GexprError, match="No such file"):
        publish(tmp_path / "no" / "a", [b""])


def test_a_file_that_takes_a_byte_at_a_time(tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.taken = bytearray()

        def write(self, data: memoryview) -> int:
            self.taken += data[:3]
            return len(data[:3])

    slow = Slow()
    write_all(slow, b"0123456789")  # type: ignore[arg-type]
    assert slow.taken == b"0123456789"


# --- temporary names -----------------------------------------------------------------------


def test_a_temporary_name_is_hidden_and_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node_7.cluster.example")
    monkeypatch.setattr(os, "getpid", lambda: 42)
    assert temporary_name(tmp_path / "a.h5") == tmp_path / ".a.h5.node-7-cluster-example.42.part"


def test_leftovers_of_dead_processes_go(tmp_path: Path, dead: int) -> None:
    path = tmp_path / "a.h5"
    gone = left_by(path, dead)
    kept = [
        left_by(path, os.getppid()),
        left_by(tmp_path / "b.h5", dead),
        left_by(tmp_path / "xa.h5", dead),
        tmp_path / f".a.h5.another-host.{dead}.part",
        tmp_path / ".a.h5.part",
        tmp_path / f"a.h5.{dead}.part",
        left_by(path, 10**20),  # no process can have this number
    ]
    for each in kept:
        each.write_bytes(b"")
    remove_leftovers(path)
    assert not gone.exists() and all(each.exists() for each in kept)


def test_leftovers_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "no" / "a")


def test_an_output_removes_the_leftovers_of_its_own_name(tmp_path: Path, dead: int) -> None:
    left_by(tmp_path / "a.tsv", dead)
    other = left_by(tmp_path / "b.tsv", dead)
    with AtomicOutput(str(tmp_path / "a.tsv")) as claimed:
        assert set(os.listdir(tmp_path)) == {other.name, temporary_name(tmp_path / "a.tsv").name}
        claimed.commit()
    assert set(os.listdir(tmp_path)) == {other.name, "a.tsv"}


# --- refusals ------------------------------------------------------------------------------


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "lost").symlink_to("nowhere")
    for name in ("a", "link", "."):
        with pytest.raises(GexprError, match="exists; give --force"):
            refuse_existing(tmp_path / name, False)
        refuse_existing(tmp_path / name, True)
    for path in (tmp_path / "new", tmp_path / "lost", Path("/dev/null")):
        refuse_existing(path, False)
    for name in ("a", "link"):
        with pytest.raises(GexprError, match="exists; give --force"):
            AtomicOutput(str(tmp_path / name))
    assert (tmp_path / "a").read_text() == "old" and len(os.listdir(tmp_path)) == 3


def test_a_write_protected_output_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o444)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write everything")
    with pytest.raises(GexprError, match="write-protected"):
        AtomicOutput(str(path), force=True)


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.vcf").write_text("")
    (tmp_path / "link").symlink_to("v.vcf")
    os.link(tmp_path / "v.vcf", tmp_path / "hard")
    for name in ("v.vcf", "link", "hard", "../" + tmp_path.name + "/v.vcf"):
        with pytest.raises(ConfigError, match=r"is also an input \(.*v\.vcf\); give another name"):
            refuse_input(str(tmp_path / name), ["-", None, "missing", str(tmp_path / "v.vcf")])
    for other in ("-", str(tmp_path / "new"), "/dev/null", str(tmp_path)):
        refuse_input(other, ["-", "/dev/null", str(tmp_path), str(tmp_path / "v.vcf")])
