"""The command that makes a file of scores again, from what the file says of itself; no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gexpr.genome.examples import WORD, resolve_fasta, resolve_vcf
from gexpr.genome.fasta import Fasta
from gexpr.scoring.definitions import DERIVED
from gexpr.scoring.tracks import places_named
from gexpr.writers.hdf5 import Attribute

_MOST_TRACKS = 1_000_000

_VALUES = (
    ("pseudocount", "--pseudocount", "1.0"),
    ("mask", "--mask", "all"),
    ("average", "--average", "predictions"),
    ("aggregate", "--aggregate", "none"),
    ("max_offset", "--max-offset", "0"),
    ("shifts", "--shifts", "0"),
    ("precision", "--precision", "fp32"),
    ("engine", "--engine", "incremental"),
    ("indel_shifts", "--indel-shifts", "1"),
    ("max_allele_length", "--max-allele-length", "2000"),
    ("samples", "--samples", ""),
    ("batch_size", "--batch-size", ""),
)
"""Attribute, the option that sets it, and the option's default."""
_FLAGS = (
    ("merge_strands", True, "--merge-strands"),
    ("reverse_complement", False, "--no-rc"),
    ("unsquash", False, "--no-unsquash"),
    ("compiled", True, "--compile"),
    ("phased", True, "--phased"),
    ("symbolic", True, "--symbolic"),
)
"""Attribute, the value that is not the default, and the option that gives it."""


def command_again(
    attributes: Mapping[str, Attribute], output: str, dtype: str = "float32", profile: int | None = None
) -> tuple[list[str], list[str]]:
    """A ``gexpr score-variants`` that computes the scores of a file again.

    A file of scores holds no paths: files have their names alone. What is at its default is left out, but
    for tracks, statistics and batch size.

    Args:
        attributes: those of the file.
        output: what to call the output.
        dtype: number type of the scores.
        profile: bins of the stored predictions, None without.

    Returns:
        The command's words, and what has to be known besides, in words.
    """

    def text(name: str) -> str:
        return str(attributes.get(name, ""))

    notes: list[str] = []
    command = ["gexpr", "score-variants"]
    for member in member_names(attributes):
        command += ["-c", member]
    fasta, vcf = text("fasta"), text("vcf")
    if is_example_fasta(fasta, text("fasta_digest")):
        fasta = WORD
    command += ["-f", fasta or "FASTA", "-o", output]
    tracks = text("tracks")
    if places_named(tracks, _MOST_TRACKS) is None:
        notes.append(f"Its tracks ({tracks or 'not recorded'}) have to be chosen with --tracks.")
    else:
        command += ["-t", tracks]
        if attributes.get("merge_strands") or text("aggregate") not in ("", "none"):
            notes.append("Columns may come in another order: the file says which tracks they were made of.")
    command += ["--stats", ",".join(base_statistics(text("statistics")))]
    for name, option, default in _VALUES:
        value = text(name)
        if value and value != default:
            # A value that begins like an option is bound to its own.
            command += [f"{option}={value}"] if value.startswith("-") else [option, value]
    command += [option for name, wanted, option in _FLAGS if attributes.get(name) is wanted]
    if background := text("background"):
        command += ["--background", background]
    if profile:
        command += ["--profiles", f"center:{profile}"]
    if dtype != "float32":
        command += ["--dtype", dtype]
    device = text("device")
    if device and device != "cpu":
        command += ["--device", device.split()[0]]
        notes.append(f"The scores were computed on {device}; other devices differ in the last digits.")
    if sizes := text("auto_batch_sizes"):
        command.append("--auto-batch")
        notes.append(f"Memory did not suffice for all batches; sizes {sizes} were used.")
    if aliases := text("contig_aliases"):
        notes.append(
            f"Contigs with another name in the FASTA: {aliases}; names that differ by more than 'chr' need "
            "--contig-aliases."
        )
    if vcf == "standard input":
        command.append("-")
        notes.append("The VCF came from standard input.")
    else:
        command.append(WORD if _is_example_vcf(vcf, text("vcf_sha256")) else vcf or "VCF")
    if exported := text("exported"):
        notes.append(f"gexpr export then chose rows: {exported}.")
    return command, notes


def member_names(attributes: Mapping[str, Attribute]) -> list[str]:
    """The checkpoints that made a file: one, or the members of an ensemble."""
    return _split(attributes, "checkpoint")


def member_digests(attributes: Mapping[str, Attribute]) -> list[str]:
    """SHA-256 of the weights of :func:`member_names`."""
    return _split(attributes, "checkpoint_sha256")


def _split(attributes: Mapping[str, Attribute], name: str) -> list[str]:
    value = str(attributes.get(name, "unknown"))
    return value.split(",") if attributes.get("ensemble_size", 1) != 1 else [value]


def base_statistics(statistics: str) -> list[str]:
    """Without what is derived of others: quantiles, and each phased statistic once."""
    found: dict[str, None] = {}
    for name in statistics.split(","):
        base = next((name.removesuffix(end) for end in DERIVED if name.endswith(end)), name)
        found[base] = None
    return list(found)


def option_values(command: Sequence[str], *names: str) -> list[str]:
    """What a command line gives to an option, in order.

    Args:
        command: words.
        names: the option's names: long ones, and short ones of one letter.
    """
    found = []
    for place, word in enumerate(command):
        for name in names:
            if word == name and place + 1 < len(command):
                found.append(command[place + 1])
            elif name.startswith("--") and word.startswith(f"{name}="):
                found.append(word[len(name) + 1 :])
            elif not name.startswith("--") and word.startswith(name) and len(word) > len(name):
                found.append(word[len(name) :])
    return found


def is_example_fasta(name: str, digest: str) -> bool:
    """Whether a genome, by name and digest, is the one that the word ``example`` names."""
    packaged = resolve_fasta(WORD)
    return os.path.basename(packaged) == name and packaged != WORD and Fasta(packaged).digest() == digest


def _is_example_vcf(name: str, sha256: str) -> bool:
    packaged = resolve_vcf(WORD)
    if os.path.basename(packaged) != name or packaged == WORD:
        return False
    return hashlib.sha256(Path(packaged).read_bytes()).hexdigest() == sha256
