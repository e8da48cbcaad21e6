"""Damaged files of every format through their readers, in a child process that one of them could crash.

Nothing but GexprError is raised, with one short line that names the file; and what is accepted holds all that
is there: no reader ends early without an error. ``run_corpora.py --mutants N`` takes more of them.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pysam
import pytest
from child import Child
from formats import Format, bgzf, examine_mutant, fasta_content, formats, good_fasta
from mutants import BYTES, TEXT, mutate
from toy_models import save_tiny_checkpoint

MUTANTS = 30
"""Of every format; with those of checkpoints and indices more than 500 together."""

NAMES = (
    *("VCF", "VCF in gzip", "VCF in BGZF", "VCF, compressed after the damage"),
    *("BCF", "BCF, compressed after the damage", "BED", "BED in gzip"),
    *("FASTA", "FASTA in gzip", "FASTA in BGZF", "contig aliases", "tracks.tsv"),
)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """One process for all of them; a mutant takes milliseconds, so that only a hang reaches the limit."""
    with Child(limit=120, memory=2 << 30) as process:
        yield process


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    """The formats by name."""
    return {form.name: form for form in formats(tmp_path_factory.mktemp("formats"))}


def test_all_formats_are_named(known: dict[str, Format]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_undamaged_file_is_read(
    name: str, known: dict[str, Format], tmp_path: Path, child: Child
) -> None:
    form = known[name]
    path = tmp_path / "good"
    path.write_bytes(form.store(form.good))
    cache = {"cache": str(tmp_path / "cache")} if form.task == "fasta" else {}
    answer = child.ask(form.task, path=str(path), **cache)
    expected = form.expected(path.read_bytes())
    assert expected and expected.items() <= answer.items() and answer["outcome"] == "accepted"


@pytest.mark.parametrize("name", NAMES)
def test_mutants(name: str, known: dict[str, Format], tmp_path: Path, child: Child) -> None:
    found = [examine_mutant(known[name], number, tmp_path, child) for number in range(MUTANTS)]
    faults = [(number, each.mutation, each.faults) for number, each in enumerate(found) if each.faults]
    assert faults == []
    assert Counter(each.outcome for each in found)["refused"] >= MUTANTS // 5


@pytest.mark.parametrize("form", ["plain", "bgzf", "many records"])
def test_mutants_of_index_files(form: str, tmp_path: Path, child: Child) -> None:
    """The FASTA is whole: its sequences are read right, whatever stands in the index beside it."""
    path = tmp_path / "genome.fa"
    content = good_fasta()
    if form == "many records":
        content = b"".join(b">r%d\nACGTACGTAC\nACGT\n" % number for number in range(300))
    path.write_bytes(bgzf(content) if form == "bgzf" else content)
    pysam.faidx(str(path))
    index = Path(f"{path}.fai")
    good = index.read_bytes()
    blocks = Path(f"{path}.gzi")
    for number in range(MUTANTS):
        if form == "bgzf" and number % 2:
            index.write_bytes(good)
            blocks.write_bytes(mutate(blocks.read_bytes(), f"gzi {number}", BYTES)[1])
        else:
            index.write_bytes(mutate(good, f"{form} {number}", TEXT)[1])
        answer = child.ask("fasta", path=str(path), cache=str(tmp_path / "cache"))
        assert answer["outcome"] == "accepted", answer
        expected = fasta_content(content)
        assert expected is not None and answer["sequences"] == expected["sequences"], number


@pytest.mark.parametrize("form", ["plain", "bgzf", "gzip"])
def test_mutants_of_the_cache(form: str, tmp_path: Path, child: Child) -> None:
    """What a crash or a bad disk left in the cache folder is made again, not believed."""
    path, cache = tmp_path / "genome.fa", tmp_path / "cache"
    content = good_fasta()
    path.write_bytes({"plain": bytes, "bgzf": bgzf, "gzip": gzip.compress}[form](content))
    first = child.ask("fasta", path=str(path), cache=str(cache))
    assert (
        first["outcome"] == "accepted" and first["sequences"] == (fasta_content(content) or {})["sequences"]
    )
    (entry,) = (cache / "fasta").iterdir()
    names = sorted(each.name for each in entry.iterdir() if each.name != "sequence.fa")
    assert len(names) == (3 if form == "bgzf" else 2)
    for number in range(MUTANTS):
        damaged = entry / names[number % len(names)]
        damaged.write_bytes(mutate(damaged.read_bytes(), f"{form} {number}", BYTES)[1])
        assert child.ask("fasta", path=str(path), cache=str(cache)) == first, (number, damaged.name)


@pytest.mark.parametrize("part", ["config.json", "the header of the weights", "the weights"])
def test_mutants_of_checkpoints(part: str, tmp_path: Path, child: Child) -> None:
    """The digest is made to fit, so that more than the digest is tried."""
    folder = save_tiny_checkpoint(tmp_path / "tiny")
    config, weights = folder / "config.json", folder / "model.safetensors"
    text, raw = config.read_bytes(), weights.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    digest = hashlib.sha256(raw).hexdigest().encode()
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS):
        seed = f"{part} {number}"
        if part == "config.json":
            mutation, damaged = mutate(text, seed, TEXT)
            config.write_bytes(damaged)
        else:
            if part == "the weights":
                mutation, changed = mutate(raw, seed, BYTES)
            else:
                mutation, header = mutate(raw[8 : 8 + size], seed, TEXT)
                changed = struct.pack("<Q", len(header)) + header + raw[8 + size :]
            weights.write_bytes(changed)
            config.write_bytes(text.replace(digest, hashlib.sha256(changed).hexdigest().encode()))
        answer = child.ask("checkpoint", path=str(folder))
        outcomes[answer["outcome"]] += 1
        assert answer["outcome"] in ("accepted", "refused"), (number, mutation, answer)
        if answer["outcome"] == "refused":
            message = answer["message"]
            assert str(folder) in message and message.isprintable() and len(message) < 1000, (number, message)
    assert outcomes["refused"] > MUTANTS // 2


def test_no_child_was_lost(child: Child) -> None:
    """One process read everything: none crashed or hung."""
    assert child.starts <= 1


def test_mutants_are_the_same_everywhere() -> None:
    base = gzip.compress(b"ACGT" * 100, mtime=0)
    made = [mutate(base, f"seed {number}", BYTES) for number in range(40)]
    assert made == [mutate(base, f"seed {number}", BYTES) for number in range(40)]
    assert all(damaged != base for _, damaged in made) and len({name for name, _ in made}) > 5


def test_a_child_that_dies_or_hangs_is_an_outcome() -> None:
    with Child(limit=0.5, memory=None) as process:
        assert "exit 3" in process.ask("die", code=3)["message"]
        assert process.ask("die", code=3)["outcome"] == "crashed"
        assert process.ask("hang")["outcome"] == "hung"
        assert process.starts == 3


def test_a_child_refuses_and_has_little_memory(child: Child) -> None:
    assert child.ask("vcf", path="/nowhere")["outcome"] == "refused"
    assert "MemoryError" in child.ask("allocate", size=3 << 30)["message"]
    assert child.ask("allocate", size=1 << 20)["outcome"] == "accepted"
