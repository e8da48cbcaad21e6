"""The job behind ``gexpr background``: scores of many variants to tables of their magnitudes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr import logs
from gexpr.errors import ConfigError, InputError
from gexpr.genome.fasta import Fasta
from gexpr.runs.common import assign_devices
from gexpr.runs.control import RunOptions
from gexpr.runs.quantiles import CONDITIONS
from gexpr.runs.score_variants import ScoreOptions, ScoreTask, score_variants
from gexpr.scoring.background import make_table
from gexpr.writers.background import Background, Magnitudes, write_background
from gexpr.writers.output import AtomicOutput, check_outputs, publish, refuse_existing
from gexpr.writers.score_file import ScoreFile

SOURCE = (
    "checkpoint",
    "fasta",
    "fasta_digest",
    "vcf",
    "vcf_sha256",
    "gexpr_version",
    "indel_shifts",
    "engine",
)
"""Attributes that say where a background comes from."""
FEW = 1000
_BYTES = 1 << 30


class BackgroundSummary(NamedTuple):
    """What was made."""

    output: str
    variants: int
    left_out: int
    tracks: int
    statistics: tuple[str, ...]
    exact: bool


def background_of_scores(scores: str, output: str, *, force: bool = False) -> BackgroundSummary:
    """Make a background of a file of scores.

    Args:
        scores: HDF5 as ``gexpr score-variants`` writes it. Rows that are not ``ok`` are left out.
        output: the background.
        force: replace an existing output.

    Raises:
        InputError: the file of scores cannot be read, or no row is ``ok``.
        GexprError: the output cannot be written.
    """
    check_outputs((output,), [scores])
    with ScoreFile(scores) as file, AtomicOutput(output, force=force) as claimed:
        if "haplotype" in file.columns:
            raise InputError("scores on haplotypes; a background is made of single variants", path=scores)
        ok = np.concatenate(
            [
                np.array([status == "ok" for status in file.texts("status", start, end)], dtype=bool)
                for start, end in file.blocks()
            ]
            or [np.zeros(0, dtype=bool)]
        )
        variants = int(ok.sum())
        if not variants:
            raise InputError("no variant of it was scored; a background needs some", path=scores)
        if variants < FEW:
            logs.warning(
                f"{variants:,} variants are few for a background: quantiles are steps of 1/{variants:,}"
            )
        columns = max(1, _BYTES // (4 * file.rows))
        tables: dict[str, Magnitudes] = {}
        exact = True
        with logs.progress("sorting", len(file.tracks) * len(file.statistics), "tracks") as bar:
            for name in file.statistics:

                def read(first: int, last: int, name: str = name) -> NDArray[np.floating]:
                    found = [
                        file.scores(name, start, end, range(first, last))[ok[start:end]]
                        for start, end in file.blocks()
                    ]
                    bar.advance(last - first)
                    values = np.concatenate(found)
                    if not np.isfinite(values).all():
                        raise InputError(f"a score of {name} is not finite (float16?)", path=scores)
                    return values

                table = make_table(read, len(file.tracks), variants, columns)
                tables[name] = Magnitudes(table.magnitudes, table.ranks)
                exact = table.exact
        attributes = {
            name: value for name, value in file.attributes.items() if name in (*CONDITIONS, *SOURCE)
        }
        ids = tuple(track.id for track in file.tracks)
        background = Background(ids, variants, tables, attributes)
        write_background(claimed, background, tuple(file.tracks))
        summary = BackgroundSummary(output, variants, file.rows - variants, len(ids), tuple(tables), exact)
    kept = "all of them" if exact else f"{len(next(iter(tables.values())).ranks):,} quantiles of each track"
    logs.info(
        f"background of {variants:,} variants ({summary.left_out:,} not scored), {len(ids):,} tracks, "
        f"{', '.join(tables)}; {kept} written to {output}"
    )
    return summary


def make_background(
    vcf: str, fasta: str, output: str, options: ScoreOptions, run: RunOptions
) -> BackgroundSummary:
    """Score variants, and make a background of the scores.

    The scores are kept as ``OUTPUT.scores.h5`` until the background is complete, so that the same call
    continues after an interruption.

    Args:
        vcf, fasta, options: as for :func:`gexpr.runs.score_variants.score_variants`.
        output: the background.
        run: how the variants are scored.

    Raises:
        GexprError: bad input, options or environment.
        Interrupted: a signal came; the same call continues.
    """
    refuse_existing(output, run.force)
    check_outputs((output,), [vcf, fasta])
    model, run = assign_devices(options.model, run)
    options = dataclasses.replace(options, model=model)
    scores = f"{output}.scores.h5"
    if run.force or not os.path.exists(scores):
        score_variants(vcf, fasta, scores, options, run)
    else:
        _check_scores(scores, ScoreTask(vcf, vcf, fasta, options).fingerprint())
    summary = background_of_scores(scores, output, force=run.force)
    os.unlink(scores)
    return summary


def _check_scores(scores: str, expected: Mapping[str, Any]) -> None:
    """Raise ConfigError when scores that an earlier run has left are not those of this one."""
    with ScoreFile(scores) as file:
        for name in (*CONDITIONS, *_OF_SCORES):
            theirs, ours = file.attributes.get(name), expected.get(name)
            if theirs != ours:
                raise ConfigError(
                    f"{scores}, which an earlier run has left, was made with {name} {theirs}, this run has "
                    f"{ours}: remove it, or give --force"
                )


_OF_SCORES = ("statistics", "tracks", "vcf_sha256", "fasta_digest", "precision")


def random_variants(fasta: str, number: int, seed: int, output: str) -> str:
    """Write a VCF of random substitutions: places and alternates drawn evenly, sorted, each once.

    Args:
        fasta: the genome; bases other than A, C, G, T are never drawn.
        number: how many.
        seed: equal ones give equal variants.
        output: the background that is made of them; the VCF lies beside it.

    Returns:
        The VCF's path.

    Raises:
        ConfigError: more than a third of all places would be needed.
    """
    genome = Fasta(fasta)
    names, lengths = list(genome.names), np.array([genome.lengths[name] for name in genome.names])
    ends = np.cumsum(lengths)
    if number * 3 > ends[-1]:
        raise ConfigError(f"{number:,} random variants are too many for {ends[-1]:,} bases")
    draw = np.random.Generator(np.random.PCG64(seed))
    chosen: dict[tuple[int, int], tuple[str, str]] = {}
    tries = 0
    while len(chosen) < number and tries < 20:
        tries += 1
        for place in draw.integers(0, ends[-1], number - len(chosen)).tolist():
            contig = int(np.searchsorted(ends, place, "right"))
            position = int(place - (ends[contig] - lengths[contig]))
            ref = genome.fetch(names[contig], position, position + 1)
            step = int(draw.integers(1, 4))
            if ref in "ACGT":
                chosen.setdefault((contig, position), (ref, "ACGT"[("ACGT".index(ref) + step) % 4]))
    lines = ["##fileformat=VCFv4.2", f"##source=gexpr background --random {number} --seed {seed}"]
    lines += [f"##contig=<ID={name},length={length}>" for name, length in zip(names, lengths, strict=True)]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    for (contig, position), (ref, alt) in sorted(chosen.items()):
        lines.append(f"{names[contig]}\t{position + 1}\t.\t{ref}\t{alt}\t.\t.\t.")
    path = f"{output}.variants.vcf"
    publish(Path(path), [("\n".join(lines) + "\n").encode()])
    return path
