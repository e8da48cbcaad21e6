"""What a picture needs of a file of scores, in two passes over it: its size does not depend on the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import InputError
from gexpr.results import Track, Variant
from gexpr.writers.score_file import ScoreFile

BINS = 121
"""Of a histogram; odd, so that 0 lies in the middle of one where scores lie around it."""
STRETCHES = 20_000
"""Into which the drawn parts of all contigs together are cut."""


class NoScoresError(InputError):
    """A file has no row with a score."""


Blocks = Iterable[tuple[int, int, NDArray[np.bool_]]]


class Ranked(NamedTuple):
    """One place of a ranking; ``rank`` counts from 1, ``score`` is of the file's number type.

    ``extra`` are the row's extra columns, such as a sample: pairs of name and value.
    """

    rank: int
    track: Track
    statistic: str
    score: np.floating
    variant: Variant
    extra: tuple[tuple[str, str | int | float], ...] = ()

    @property
    def extra_texts(self) -> list[str]:
        """The extra columns as texts; numbers of files are float32, and have as many digits as these."""
        return [str(np.float32(value)) if isinstance(value, float) else str(value) for _, value in self.extra]


class Contig(NamedTuple):
    """A contig of a file of scores: the 0-based half-open interval in which its scored rows lie."""

    name: str
    start: int
    end: int


class Strongest(NamedTuple):
    """A row of a file: its name, contig, position (1-based) and scores in all tracks (tracks,)."""

    name: str
    contig: str
    pos: int
    scores: NDArray[np.floating]


class ScoreSummary(NamedTuple):
    """What is drawn of a file of scores.

    ``edges`` (bins + 1,) and ``counts`` (tracks, bins) are a histogram of each track. ``points`` is, for each
    contig, (n, 2): position (1-based) and score, in its strongest track, of the rows with the largest gain
    and the largest loss of each stretch. ``rows`` counts the rows, ``scored`` those with a score.
    """

    statistic: str
    tracks: tuple[Track, ...]
    rows: int
    scored: int
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    contigs: tuple[Contig, ...]
    points: Mapping[str, NDArray[np.float64]]
    strongest: Sequence[Strongest]


class _Range:
    """Limits of the scores, and of the positions on each contig."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.positions: dict[str, tuple[int, int]] = {}

    def add(
        self, chroms: NDArray[np.str_], positions: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> None:
        finite = np.isfinite(scores)
        if not finite.any():
            return
        self.low = min(self.low, float(scores[finite].min()))
        self.high = max(self.high, float(scores[finite].max()))
        chroms, positions = chroms[finite.any(axis=1)], positions[finite.any(axis=1)]
        for chrom in dict.fromkeys(chroms.tolist()):
            own = positions[chroms == chrom]
            low, high = self.positions.get(chrom, (int(own[0]), int(own[0])))
            self.positions[chrom] = min(low, int(own.min())), max(high, int(own.max()))

    def edges(self) -> NDArray[np.float64]:
        largest = max(abs(self.low), abs(self.high)) or 1.0
        low = 0.0 if self.low >= 0 else -largest
        return np.linspace(low, largest, BINS + 1)


def summarize(
    file: ScoreFile,
    statistic: str,
    columns: Sequence[int],
    blocks: Callable[[], Blocks],
    strongest: Sequence[int] = (),
) -> ScoreSummary:
    """Read a file of scores twice, block by block.

    Args:
        file: open.
        statistic: one of its statistics.
        columns: places of tracks.
        blocks: called once for each pass: which rows to read, (start, end) and which of these.
        strongest: rows whose scores are all kept.

    Raises:
        NoScoresError: no row has a score.
        InputError: a part of the file is damaged.
    """

    def read() -> Iterable[tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.floating]]]:
        for start, end, inside in blocks():
            chroms = np.array(file.texts("chrom", start, end))[inside]
            yield (
                chroms,
                file.positions(start, end)[inside],
                file.scores(statistic, start, end, columns)[inside].astype(np.float32),
            )

    limits = _Range()
    for block in read():
        limits.add(*block)
    if not limits.positions:
        raise NoScoresError("no row has a score to draw", path=file.path)
    edges = limits.edges()
    contigs = tuple(Contig(name, low - 1, high) for name, (low, high) in limits.positions.items())
    stretch = max(1, sum(each.end - each.start for each in contigs) // STRETCHES)
    counts = np.zeros((len(columns), BINS), dtype=np.int64)
    best: dict[str, dict[tuple[int, bool], tuple[int, float]]] = {each.name: {} for each in contigs}
    rows = scored = 0
    for chroms, positions, scores in read():
        rows += len(scores)
        known = np.isfinite(scores)
        scored += int(known.any(axis=1).sum())
        place = ((scores - edges[0]) / (edges[1] - edges[0])).clip(0, BINS - 1)
        cell = np.where(known, place, 0).astype(np.int64) + BINS * np.arange(len(columns))
        counts += np.bincount(cell[known], minlength=counts.size).reshape(counts.shape)
        _keep(best, stretch, chroms, positions, np.where(known, scores, 0), known.any(axis=1))
    points = {
        name: np.array(sorted(kept.values()), dtype=np.float64).reshape(-1, 2) for name, kept in best.items()
    }
    tracks = tuple(file.tracks[column] for column in columns)
    kept = [_strongest(file, statistic, columns, row) for row in strongest]
    return ScoreSummary(statistic, tracks, rows, scored, edges, counts, contigs, points, kept)


def _keep(
    best: dict[str, dict[tuple[int, bool], tuple[int, float]]],
    stretch: int,
    chroms: NDArray[np.str_],
    positions: NDArray[np.int64],
    scores: NDArray[np.floating],
    known: NDArray[np.bool_],
) -> None:
    """Keep the largest gain and the largest loss of each stretch."""
    values = np.take_along_axis(scores, np.abs(scores).argmax(axis=1)[:, None], axis=1)[:, 0]
    for row in np.flatnonzero(known).tolist():
        kept = best[str(chroms[row])]
        key = int(positions[row]) // stretch, bool(values[row] > 0)
        if key not in kept or abs(kept[key][1]) < abs(values[row]):
            kept[key] = int(positions[row]), float(values[row])


def _strongest(file: ScoreFile, statistic: str, columns: Sequence[int], row: int) -> Strongest:
    (variant,) = file.variants(row, row + 1)
    name = variant.id if variant.id != "." else f"{variant.chrom}:{variant.pos:,} {variant.ref}>{variant.alt}"
    (scores,) = file.scores(statistic, row, row + 1, columns)
    return Strongest(name, variant.chrom, variant.pos, scores)
