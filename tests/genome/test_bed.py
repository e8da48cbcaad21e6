import gzip
import io
import os
import sys
import threading
from pathlib import Path

import pytest

from gexpr.errors import InputError
from gexpr.genome.bed import read_bed
from gexpr.results import Region


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "regions.bed"
    path.write_bytes(content)
    return path


def test_bed3_to_bed12_tabs_spaces_and_skipped_lines(tmp_path: Path) -> None:
    text = (
        b"browser position chr1:1-2\ntrack name=x\n# comment\n\n"
        b"chr1\t0\t10\r\n"
        b"chr2 5 6 name 7.5 -\n"
        b"chr3\t1\t2\ta name with spaces\t0\t+\t1\t2\t0\t1\t1,\t0,\n"
        b"chr4\t1\t2\tn\t.\n"
        b"   \n"
        b"track5\t3\t4\t\t\t."
    )
    assert read_bed(write(tmp_path, text)) == [
        Region("chr1", 0, 10, line=5),
        Region("chr2", 5, 6, "name", "7.5", "-", 6),
        Region("chr3", 1, 2, "a name with spaces", "0", "+", 7),
        Region("chr4", 1, 2, "n", line=8),
        Region("track5", 3, 4, line=10),
    ]


def test_gzip_and_latin1(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress("chr1\t1\t2\tcaf\u00e9\n".encode("latin-1")))
    assert read_bed(path) == [Region("chr1", 1, 2, "caf\u00e9", line=1)]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"chr1\t1\t2\n")))
    assert read_bed("-") == [Region("chr1", 1, 2, line=1)]


def test_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"chr1\t1\t2\n",))
    writer.start()
    assert read_bed(pipe) == [Region("chr1", 1, 2, line=1)]
    writer.join()


def test_only_comments_is_no_region(tmp_path: Path) -> None:
    assert read_bed(write(tmp_path, b"# nothing\n")) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"chr1\t5\t5", "zero-length"),
        (b"chr1\t6\t5", "reversed"),
        (b"chr1\t-1\t5", "'-1' is not a whole number"),
        (b"chr1\t1.5\t5", "'1.5' is not a whole number"),
        (b"chr1\t1\t1e6", "'1e6' is not a whole number"),
        (b"chr1\t1\t" + b"9" * 5000, "not a whole number"),
        (b"chrom\tstart\tend", "'start' is not a whole number"),
        (b"chr1\t1\t\xb2", "not a whole number"),
        (b"chr1\t5", "2 column(s)"),
        (b"chr1,5,6", "1 column(s)"),
        (b"\t5\t6", "chromosome name is empty"),
        (b"chr1\t5\t6\tn\t0\t*", "strand '*'"),
        (b"chr1\t5\t6\0", "NUL byte"),
    ],
)
def test_bad_lines(tmp_path: Path, line: bytes, words: str) -> None:
    path = write(tmp_path, b"chr1\t1\t2\n# x\n" + line + b"\nchr1\t1\t2\n")
    with pytest.raises(InputError) as caught:
        read_bed(path)
    assert words in str(caught.value)
    assert caught.value.line == 3 and caught.value.path == str(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbfchr1\t1\t2\n", "byte order mark"),
        (b"\xff\xfec\0h\0", "UTF-16"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (gzip.compress(b"chr1\t1\t2\n" * 1000, mtime=0)[:-6], "cut short"),
        (gzip.compress(b"chr1\t1\t2\n", mtime=0) + b"rubbish", "damaged"),
        (gzip.compress(b"", mtime=0), "empty"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_bed(write(tmp_path, content))


def test_gzip_members_and_padding(tmp_path: Path) -> None:
    member = gzip.compress(b"chr1\t1\t2\n")
    assert len(read_bed(write(tmp_path, member + member + b"\0" * 600))) == 2
    with pytest.raises(InputError, match="zero bytes"):
        read_bed(write(tmp_path, member + b"\0" * 600 + member))


def test_missing_file_folder_and_url(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "absent.bed", "no such file"),
        (tmp_path, "folder"),
        ("https://example.org/a.bed", "download"),
        ("a\0b", "cannot be opened"),
    ):
        with pytest.raises(InputError, match=words):
            read_bed(path)
