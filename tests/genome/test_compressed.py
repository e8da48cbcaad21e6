import gzip
import io
import random
import struct
import zlib
from pathlib import Path

import pytest

from gexpr.errors import InputError
from gexpr.genome.compressed import CHUNK, MAX_LINE, chunks, read_lines


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 40 * CHUNK + 5])
@pytest.mark.parametrize("members", [1, 3])
def test_a_little_gzip_that_holds_a_lot_comes_in_pieces(size: int, members: int) -> None:
    content = b"A" * size
    raw = gzip.compress(content) * members
    lengths = [len(piece) for piece in chunks(io.BytesIO(raw), "x")]
    assert max(lengths, default=0) <= CHUNK and sum(lengths) == members * size


def test_content_that_hardly_compresses() -> None:
    content = random.Random(1).randbytes(3 * CHUNK + 11)
    raw = gzip.compress(content[: CHUNK + 3]) + gzip.compress(content[CHUNK + 3 :])
    assert b"".join(chunks(io.BytesIO(raw), "x")) == content


@pytest.mark.parametrize("cut", [1, 8, 9, 100])
def test_the_end_of_much_content_is_missed(cut: int) -> None:
    raw = gzip.compress(b"A" * (8 * CHUNK))[:-cut]
    with pytest.raises(InputError, match="cut short"):
        list(chunks(io.BytesIO(raw), "x"))


def test_a_line_without_end_in_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "names.tsv"
    path.write_bytes(b"a\tb\n" + b"x" * (MAX_LINE - 10) + b"\n")
    assert len(list(read_lines(path, "table"))) == 2
    path.write_bytes(gzip.compress(b"a\tb\n" + b"x" * (4 * MAX_LINE)))
    with pytest.raises(InputError, match="a line of more than") as caught:
        list(read_lines(path, "table"))
    assert caught.value.line == 2


def test_blocks_that_state_other_sizes_than_they_have() -> None:
    body = zlib.compress(b"ACGT" * 10, wbits=-15)
    for size in (0, 5, 17, 18, 25, len(body) + 24, len(body) + 26, 65535):
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size)
        raw = head + body + struct.pack("<II", zlib.crc32(b"ACGT" * 10), 40)
        with pytest.raises(InputError) as caught:
            list(chunks(io.BytesIO(raw), "x"))
        assert caught.value.offset == 0
