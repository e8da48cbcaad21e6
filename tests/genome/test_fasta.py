import gzip
import hashlib
import os
import pickle
import random
import threading
from pathlib import Path

import pysam
import pytest

from gexpr.errors import InputError
from gexpr.genome import fasta as fasta_module
from gexpr.genome.codes import decode, encode
from gexpr.genome.fasta import Fasta
from gexpr.genome.fasta_index import index_beside


def check_content(fasta: Fasta, sequences: dict[str, str]) -> None:
    assert fasta.names == list(sequences)
    assert fasta.lengths == {name: len(text) for name, text in sequences.items()}
    for name, text in sequences.items():
        assert fasta.fetch(name, 0, len(text)) == text.upper()
    for start, end in ((0, 1), (65_500, 65_600), (65_536, 131_072), (131_071, 200_003), (7, 7)):
        assert fasta.fetch("chrA", start, end) == sequences["chrA"][start:end].upper()


def age(path: Path, seconds: int) -> None:
    """Set the modification time to ``seconds`` after some fixed moment."""
    os.utime(path, (1_600_000_000 + seconds, 1_600_000_000 + seconds))


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["plain", "bgzipped", "gzip", "uneven", "crlf", "no_last_newline"])
def test_every_form_reads_the_same(
    kind: str, plain: Path, bgzipped: Path, fasta_text: str, sequences: dict[str, str], tmp_path: Path
) -> None:
    path = {"plain": plain, "bgzipped": bgzipped}.get(kind, tmp_path / "other.fa")
    if kind == "gzip":
        path.write_bytes(gzip.compress(fasta_text.encode()))
    elif kind == "uneven":
        path.write_text(fasta_text.replace("ACGTN", "ACG\nTN", 1))
    elif kind == "crlf":
        path.write_bytes(fasta_text.replace("\n", "\r\n").encode())
    elif kind == "no_last_newline":
        path.write_text(fasta_text[:-1])
    fasta = Fasta(path)
    check_content(fasta, sequences)
    sha = hashlib.sha256()
    for name, text in sequences.items():
        sha.update(f"{name}\n{text.upper()}\n{len(text)}\n".encode())
    assert fasta.digest() == sha.hexdigest()


def test_our_index_files_are_those_of_samtools(plain: Path, bgzipped: Path, cache: Path) -> None:
    for path in (plain, bgzipped):
        Fasta(path)
        pysam.faidx(str(path))
        (made,) = cache.rglob("*/sequence.fai")
        assert made.read_text() == Path(f"{path}.fai").read_text()
        if path == bgzipped:
            assert (made.parent / "sequence.gzi").read_bytes() == Path(f"{path}.gzi").read_bytes()
        for old in made.parent.iterdir():
            old.unlink()
        made.parent.rmdir()


def test_padding_outside_the_contig(plain: Path) -> None:
    fasta = Fasta(plain)
    assert decode(fasta.codes("chrM", -3, 10)) == "NNNGATTACANNN"
    assert decode(fasta.codes("chrM", 0, 7)) == "GATTACA"
    assert decode(fasta.codes("chrM", 2, 4)) == "TT"
    for start, end in ((-9, -4), (7, 12), (-4, 0), (1000, 1003)):
        assert fasta.codes("chrM", start, end).tolist() == [4] * (end - start)
    assert fasta.codes("chrM", 3, 3).shape == (0,)
    with pytest.raises(InputError, match="reversed"):
        fasta.codes("chrM", 4, 3)


@pytest.mark.parametrize("kept", [1, 3, 64])
def test_codes_are_those_of_the_letters(
    kept: int, bgzipped: Path, sequences: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pieces they are put together from, and however many of these are kept."""
    monkeypatch.setattr(fasta_module, "_PIECE", 1000)
    monkeypatch.setattr(fasta_module, "_KEPT_PIECES", kept)
    fasta = Fasta(bgzipped)
    text = sequences["chrA"]
    draw = random.Random(kept)
    for _ in range(200):
        start = draw.choice([draw.randrange(-50, 200_053), 1000 * draw.randrange(200)])
        end = start + draw.choice([0, 1, 999, 1000, 1001, 2000, 5003, 31_000, 32_001, 40_000])
        padded = "N" * max(0, -start) + text[max(0, start) : max(0, end)]
        found = fasta.codes("chrA", start, end)
        assert (found == encode(padded.ljust(end - start, "N"))).all()
        # What is kept does not change with what was given out.
        found[:] = 9


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 8), (8, 9), (5, 3), (100, 200)])
def test_fetch_outside_the_contig_is_an_error(plain: Path, start: int, end: int) -> None:
    with pytest.raises(InputError, match="7 bases"):
        Fasta(plain).fetch("chrM", start, end)


def test_unknown_contig(plain: Path) -> None:
    with pytest.raises(InputError, match="no contig 'chrX'"):
        Fasta(plain).fetch("chrX", 0, 1)
    with pytest.raises(InputError, match="no contig 'chrX'"):
        Fasta(plain).codes("chrX", 0, 1)


def test_pickle_and_threads(bgzipped: Path, sequences: dict[str, str]) -> None:
    fasta = Fasta(bgzipped)
    fasta.fetch("chrA", 0, 10)
    check_content(pickle.loads(pickle.dumps(fasta)), sequences)
    wrong = []

    def work(first: int) -> None:
        for start in range(first, 190_000, 4001):
            if fasta.fetch("chrA", start, start + 3000) != sequences["chrA"][start : start + 3000].upper():
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_forked_process_reads_through_its_own_handle(bgzipped: Path, sequences: dict[str, str]) -> None:
    fasta = Fasta(bgzipped)
    fasta.fetch("chrA", 0, 100_000)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        good = all(fasta.fetch("chrA", 0, n) == sequences["chrA"][:n].upper() for n in (90_000, 150_000))
        os.write(write, b"good" if good else b"bad")
        os._exit(0)
    assert fasta.fetch("chrA", 50_000, 180_000) == sequences["chrA"][50_000:180_000].upper()
    assert os.read(read, 10) == b"good"
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)


# --- index files and cache -----------------------------------------------------------------


def test_a_good_index_beside_the_file_is_used(bgzipped: Path, sequences: dict[str, str], cache: Path) -> None:
    pysam.faidx(str(bgzipped))
    check_content(Fasta(bgzipped), sequences)
    assert files_in(cache) == []


@pytest.mark.parametrize("damage", ["older", "offset", "truncated", "other_genome", "rubbish", "one_missing"])
@pytest.mark.parametrize("form", ["plain", "bgzipped"])
def test_a_stale_index_is_never_used(
    damage: str,
    form: str,
    request: pytest.FixtureRequest,
    sequences: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path: Path = request.getfixturevalue(form)
    pysam.faidx(str(path))
    fai = Path(f"{path}.fai")
    lines = fai.read_text().splitlines(keepends=True)
    if damage == "older":
        age(fai, 0)
        age(path, 10)
    elif damage == "offset":
        name, length, offset, rest = lines[0].split("\t", 3)
        fai.write_text("\t".join((name, length, str(int(offset) - 6), rest)) + "".join(lines[1:]))
    elif damage == "truncated":
        fai.write_text("".join(lines[:-1]))
    elif damage == "other_genome":
        fai.write_text("".join(line.replace("\t50\t51", "\t60\t61") for line in lines))
    elif damage == "rubbish":
        fai.write_bytes(b"\x00\xff rubbish")
    else:
        fai.write_text("".join(lines[1:]))
    assert index_beside(str(path))[0] is None
    check_content(Fasta(path), sequences)
    assert "made a new index" in capsys.readouterr().err


def test_a_genome_replaced_under_its_index(plain: Path, fasta_text: str) -> None:
    pysam.faidx(str(plain))
    plain.write_text(">another header line, longer than before\n" + fasta_text.split("\n", 1)[1])
    age(plain, 0)
    age(Path(f"{plain}.fai"), 10)
    assert Fasta(plain).names == ["another", "chrB", "chrM"]


def test_a_read_only_folder_is_no_obstacle(plain: Path, sequences: dict[str, str], cache: Path) -> None:
    plain.parent.chmod(0o555)
    try:
        check_content(Fasta(plain), sequences)
    finally:
        plain.parent.chmod(0o755)
    assert [path.name for path in plain.parent.iterdir()] == ["genome.fa"]
    assert "sequence.fai" in files_in(cache)


def test_a_cache_that_cannot_be_written(plain: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(InputError, match=r"set GEXPR_CACHE"):
        Fasta(plain, cache_dir=blocker / "cache")
    pysam.faidx(str(plain))
    fasta = Fasta(plain, cache_dir=blocker / "cache")
    assert fasta.digest() == Fasta(plain, cache_dir=tmp_path / "good").digest()


def test_the_cache_entry_serves_again_and_is_replaced_when_the_file_changes(
    plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Fasta(plain).digest()
    first = files_in(cache)

    def refuse(*arguments: object) -> None:
        raise AssertionError("the file was scanned again")

    with monkeypatch.context() as patch:
        patch.setattr("gexpr.genome.fasta_index.scan", refuse)
        assert Fasta(plain).digest() == digest
    plain.write_text(">x\nAC\n")
    changed = Fasta(plain)
    assert changed.names == ["x"] and changed.digest() != digest
    assert files_in(cache) == first


def test_a_damaged_cache_entry_is_made_again(plain: Path, cache: Path, sequences: dict[str, str]) -> None:
    digest = Fasta(plain).digest()
    for name, content in (("entry.json", "{"), ("sequence.fai", "rubbish"), ("entry.json", '{"digest": 1}')):
        (found,) = cache.rglob(name)
        found.write_text(content)
        fasta = Fasta(plain)
        check_content(fasta, sequences)
        assert fasta.digest() == digest


def test_a_file_that_changes_in_use(plain: Path) -> None:
    fasta = Fasta(plain)
    plain.write_text(">x\nAC\n")
    with pytest.raises(InputError, match="changed while it was in use"):
        fasta.fetch("chrA", 0, 10)
    plain.unlink()
    with pytest.raises(InputError, match="gone"):
        fasta.fetch("chrA", 0, 10)


def test_an_index_that_lies_is_found_by_the_digest(plain: Path, fasta_text: str) -> None:
    records = "".join(f">r{i}\nACGT\n" for i in range(300))
    plain.write_text(records.replace(">r150\nACGT\n", ">other\nACGT\n"))
    pysam.faidx(str(plain))
    fai = Path(f"{plain}.fai")
    fai.write_text(fai.read_text().replace("other", "r1500"))
    age(fai, 2_000_000_000 - 1_600_000_000)
    with pytest.raises(InputError, match="does not fit"):
        Fasta(plain).digest()


def test_processes_that_fill_the_cache_at_the_same_time(bgzipped: Path, sequences: dict[str, str]) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                fasta = Fasta(bgzipped)
                code = 0 if fasta.fetch("chrA", 0, 99_999) == sequences["chrA"][:99_999].upper() else 2
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    check_content(Fasta(bgzipped), sequences)


def test_what_a_killed_process_left_is_removed_a_day_later(plain: Path, cache: Path) -> None:
    old, new = cache / "fasta" / ".new-old", cache / "fasta" / ".new-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    age(old, 0)
    Fasta(plain)
    assert not old.exists() and new.exists()


# --- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words", "line"),
    [
        (b"", "empty", None),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "web page", None),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS", None),
        (b"\xef\xbb\xbf>x\nACGT\n", "byte order mark", 1),
        (b"ACGT\n", "must start with '>'", 1),
        (b"##fileformat=VCFv4.2\n#CHROM\tPOS\n", "not a letter|must start", 1),
        (b">x\nACGT\n>y\nAC\n>x\nGG\n", "'x' occurs twice", 5),
        (b">x\nACGT\n>\nAC\n", "without a name", 3),
        (b"> x\nACGT\n", "without a name", 1),
        (b">x\nACGT\nAC1T\n", "'1' is not a letter", 3),
        (b">x\nAC GT\n", "' ' is not a letter", 2),
        (b">x\nAC\0GT\n", "not a letter", 2),
        (b">x\nACGT\n>y\0\0 z\nACGT\n", "NUL byte in a name", 3),
        (b"PK\x03\x04", "zip archive", None),
        (b"BZh91AY", "bzip2", None),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_not_fasta(tmp_path: Path, content: bytes, words: str, line: int | None, packed: bool) -> None:
    path = tmp_path / "bad.fa"
    path.write_bytes(content)
    if packed:
        pysam.tabix_compress(str(path), str(tmp_path / "bad.fa.gz"), force=True)
        path = tmp_path / "bad.fa.gz"
    with pytest.raises(InputError, match=words) as caught:
        Fasta(path)
    assert caught.value.line == line and caught.value.path == str(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Fasta(tmp_path / "absent.fa")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe"):
        Fasta(tmp_path / "pipe")


@pytest.mark.parametrize("where", ["eof_marker", "block_boundary", "mid_block", "flipped", "tail"])
@pytest.mark.parametrize("indexed", [False, True])
def test_damaged_bgzf(bgzipped: Path, where: str, indexed: bool) -> None:
    if indexed:
        pysam.faidx(str(bgzipped))
    raw = bytearray(bgzipped.read_bytes())
    second = raw.index(b"\x1f\x8b\x08\x04", 100)
    if where == "eof_marker":
        raw = raw[:-28]
    elif where == "block_boundary":
        raw = raw[:second]
    elif where == "mid_block":
        raw = raw[: second + 1000]
    elif where == "flipped":
        raw[second + 500] ^= 0x10
    else:
        raw += b"rubbish"
    bgzipped.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        fasta = Fasta(bgzipped)
        fasta.digest()
    if where == "flipped":
        assert caught.value.offset == second
    assert caught.value.offset is not None


def test_damage_met_by_random_access_is_an_error(bgzipped: Path) -> None:
    pysam.faidx(str(bgzipped))
    raw = bytearray(bgzipped.read_bytes())
    starts = [i for i in range(len(raw)) if raw[i : i + 4] == b"\x1f\x8b\x08\x04"]
    raw[starts[2] + 500] ^= 0x10
    bgzipped.write_bytes(raw)
    for name in (f"{bgzipped}.fai", f"{bgzipped}.gzi"):
        age(Path(name), 2_000_000_000 - 1_600_000_000)
    fasta = Fasta(bgzipped)
    with pytest.raises(InputError, match=r"cannot be read|damaged"):
        fasta.fetch("chrA", 140_000, 180_000)


def test_gzip_cut_short(tmp_path: Path, fasta_text: str) -> None:
    path = tmp_path / "genome.fa.gz"
    path.write_bytes(gzip.compress(fasta_text.encode())[:-1000])
    with pytest.raises(InputError, match="cut short"):
        Fasta(path)


def test_an_empty_contig(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\n>b\nAC\n\n>c\n")
    fasta = Fasta(path)
    assert fasta.lengths == {"a": 0, "b": 2, "c": 0}
    assert fasta.fetch("a", 0, 0) == "" and fasta.fetch("b", 0, 2) == "AC"
    assert fasta.codes("c", -1, 1).tolist() == [4, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("blank", ["\n", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("lines", ["GATTACA", "GATTACA\nGATT", "GATTACA\n\nGATT", "GA\nGATT"])
def test_blank_lines_before_a_sequence(tmp_path: Path, lines: str, blank: str, end: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(f">a\n{blank}ACGT\n>b\n{blank}{lines}{end}".encode())
    fasta = Fasta(path)
    expected = lines.replace("\n", "")
    assert fasta.lengths == {"a": 4, "b": len(expected)}
    assert fasta.fetch("a", 0, 4) == "ACGT" and fasta.fetch("b", 0, len(expected)) == expected
    assert fasta.fetch("b", 1, 3) == expected[1:3]


@pytest.mark.parametrize(
    "name", [b"chr\x1e1", b"chr\x85", b"chr\xe9", "chré".encode(), "a\u2028b".encode(), b"\x01", b"'\""]
)
@pytest.mark.parametrize("text", [b"ACGT\nACGT\n", b"ACG\nACGTA\n"])
def test_names_of_any_bytes(tmp_path: Path, name: bytes, text: bytes) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(b">first\nA\n>" + name + b" words\n" + text)
    for _ in range(2):
        fasta = Fasta(path)
        found = fasta.names[1]
        assert found.encode() == name or found.encode("latin-1") == name
        assert fasta.fetch(found, 0, 8) == "ACGTACGT" or fasta.fetch(found, 0, 8) == "ACGACGTA"


@pytest.mark.data
def test_the_yeast_genome(reference_data: Path) -> None:
    fasta = Fasta(reference_data / "data" / "yeast" / "sacCer3.fa.gz")
    assert fasta.lengths["chrI"] == 230_218 and sum(fasta.lengths.values()) == 12_071_326
    assert fasta.fetch("chrI", 0, 20) == "CCACACCACACCCACACACC"
