"""What a report tells of a file of scores, collected in one pass: statuses, kinds of alleles, tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.results import Track
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.score_summary import Blocks, Ranked, ScoreSummary

KINDS = ("substitution", "insertion", "deletion", "other")
"""Of alleles, by their spelling; ``other``: of equal length, both lengths changed, or no sequence."""


class TrackScores(NamedTuple):
    """One track: how many rows have a score, the root of their mean square, and the extremes (NaN: none)."""

    track: Track
    scored: int
    rms: float
    lowest: float
    highest: float


class Overview(NamedTuple):
    """Counts of a file: ``scored`` rows have a score in some track; the mappings hold no zeros."""

    rows: int
    scored: int
    statuses: Mapping[str, int]
    kinds: Mapping[str, int]
    contigs: int
    tracks: tuple[TrackScores, ...]


class RunRecord(NamedTuple):
    """What the logs of a run tell: the commands as they were called, and time.

    ``started`` and ``ended`` are seconds since 1970, ``seconds`` is the computing time of all processes.
    """

    commands: tuple[tuple[str, ...], ...]
    started: float
    ended: float
    seconds: float
    rows: int
    processes: int
    records: int | None


class Member(NamedTuple):
    """A checkpoint that made the scores: its card as Markdown, or why there is none."""

    name: str
    sha256: str
    folder: str | None
    card: str | None
    reason: str


class ScoreReport(NamedTuple):
    """Everything that a report tells of a file of scores but for pictures of single variants.

    ``narrowed`` says in words which rows and tracks were chosen. ``statistics`` are pairs of name and
    formula. ``summaries`` has one for each statistic, that of the ranking first, and is empty where no row
    has a score. ``rows`` is the ranking by ``by``; ``others`` are, for each of its rows, the scores in the
    same track of the other statistics. ``again`` is a command that makes the scores again, and ``notes``
    what it cannot say.
    """

    name: str
    size: int
    sha256: str
    attributes: Mapping[str, Attribute]
    statistics: tuple[tuple[str, str], ...]
    narrowed: tuple[str, ...]
    overview: Overview
    summaries: tuple[ScoreSummary, ...]
    by: str
    rows: tuple[Ranked, ...]
    others: tuple[tuple[tuple[str, np.floating], ...], ...]
    run: RunRecord | None
    again: tuple[str, ...]
    notes: tuple[str, ...]
    members: tuple[Member, ...]


def kind_of(ref: str, alt: str) -> str:
    """One of :data:`KINDS`."""
    if not (ref.isalpha() and alt.isalpha()):
        return "other"
    if len(ref) == len(alt) == 1:
        return "substitution"
    shorter, longer = sorted((ref.upper(), alt.upper()), key=len)
    if len(shorter) == len(longer) or not _is_contained(shorter, longer):
        return "other"
    return "insertion" if len(alt) > len(ref) else "deletion"


def _is_contained(shorter: str, longer: str) -> bool:
    """Whether one allele is the other with one stretch left out."""
    common = 0
    while common < len(shorter) and shorter[common] == longer[common]:
        common += 1
    rest = len(shorter) - common
    return rest == 0 or longer.endswith(shorter[common:])


def overview(file: ScoreFile, statistic: str, columns: Sequence[int], blocks: Blocks) -> Overview:
    """Read a file of scores once, block by block.

    Args:
        file: open.
        statistic: one of its statistics.
        columns: places of tracks.
        blocks: which rows to read, (start, end) and which of these.

    Raises:
        InputError: a part of the file is damaged.
    """
    statuses: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    contigs: set[str] = set()
    rows = scored = 0
    numbers = np.zeros(len(columns), dtype=np.int64)
    squares = np.zeros(len(columns))
    lowest, highest = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
    for start, end, inside in blocks:
        kept = np.flatnonzero(inside).tolist()
        texts = {name: file.texts(name, start, end) for name in ("status", "chrom", "ref", "alt")}
        statuses.update(texts["status"][row] for row in kept)
        kinds.update(kind_of(texts["ref"][row], texts["alt"][row]) for row in kept)
        contigs.update(texts["chrom"][row] for row in kept)
        scores: NDArray[np.float64] = file.scores(statistic, start, end, columns)[inside].astype(np.float64)
        known = np.isfinite(scores)
        rows += len(kept)
        scored += int(known.any(axis=1).sum())
        numbers += known.sum(axis=0)
        squares += np.square(np.where(known, scores, 0.0)).sum(axis=0)
        if len(kept):
            lowest = np.minimum(lowest, np.where(known, scores, np.inf).min(axis=0))
            highest = np.maximum(highest, np.where(known, scores, -np.inf).max(axis=0))
    tracks = tuple(
        TrackScores(
            file.tracks[column],
            int(numbers[place]),
            float(np.sqrt(squares[place] / numbers[place])) if numbers[place] else float("nan"),
            float(lowest[place]) if numbers[place] else float("nan"),
            float(highest[place]) if numbers[place] else float("nan"),
        )
        for place, column in enumerate(columns)
    )
    ordered = {name: kinds[name] for name in KINDS if kinds[name]}
    return Overview(rows, scored, dict(statuses), ordered, len(contigs), tracks)
