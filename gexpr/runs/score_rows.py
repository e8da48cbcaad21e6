"""Rows of a file of scores: by place, status and size of the score; the strongest of each track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, InputError, did_you_mean
from gexpr.genome.places import Places
from gexpr.results import Region, Variant
from gexpr.scoring.definitions import canonical_statistic
from gexpr.scoring.tracks import Selection, select_tracks
from gexpr.writers.output import AtomicOutput
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.score_summary import Ranked
from gexpr.writers.text import TextFile

ORDERS = ("abs", "up", "down")
"""What is strong: a large absolute score, a large positive one, or a large negative one."""
MOST_KEPT = 20_000_000
"""Scores that a ranking may keep at a time."""
_READ_ROWS = 4096


class Ranking:
    """The rows with the strongest scores of each column, over blocks that come in the order of the rows.

    Equal scores rank by row. NaN never ranks; nor do, for ``up`` and ``down``, scores that are 0 or of
    the other sign.

    Args:
        columns: how many rankings there are.
        count: rows that each keeps.
        by: one of :data:`ORDERS`.

    Attributes:
        rows: (count, columns), strongest first; -1 where there are fewer.
        scores: the same, of these rows.
        marks: the same, what :meth:`add` was given.

    Raises:
        ConfigError: a value that is not allowed, or too much to keep.
    """

    def __init__(self, columns: int, count: int, by: str = "abs") -> None:
        if by not in ORDERS:
            raise ConfigError(f"the order must be one of {', '.join(ORDERS)}, not {by!r}")
        if count < 1:
            raise ConfigError(f"at least 1 row must be asked for, not {count}")
        if count * columns > MOST_KEPT:
            raise ConfigError(
                f"{count:,} rows of {columns:,} tracks are more than the {MOST_KEPT:,} scores that can be "
                "kept; ask for fewer rows or tracks"
            )
        self._by = by
        self._count = count
        shape = count, columns
        self._keys = np.full(shape, -np.inf, dtype=np.float32)
        self.rows = np.full(shape, -1, dtype=np.int64)
        self.scores = np.full(shape, np.nan, dtype=np.float32)
        self.marks = np.zeros(shape, dtype=np.int32)

    def keys(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """How strong scores are: 0 or more, or minus infinity for what does not rank."""
        values = scores.astype(np.float32)
        keys = np.abs(values) if self._by == "abs" else values if self._by == "up" else -values
        never = np.isnan(keys) if self._by == "abs" else ~(keys > 0)
        return np.where(never, np.float32(-np.inf), keys)

    def add(
        self, scores: NDArray[np.floating], rows: NDArray[np.int64], marks: NDArray[np.int32] | None = None
    ) -> None:
        """Take a block: scores (rows, columns), the rows' numbers, and a mark for each row."""
        keys = self.keys(scores)
        candidates = keys > self._keys[-1]
        if len(rows) > self._count and candidates.sum() > 4 * candidates[: self._count].size:
            least = np.partition(keys, len(rows) - self._count, axis=0)[len(rows) - self._count]
            candidates &= keys >= least
        row, column = np.nonzero(candidates)
        if not len(row):
            return
        touched = np.unique(column)
        mark = np.zeros(len(row), dtype=np.int32) if marks is None else marks[row]
        columns = np.concatenate([column, np.repeat(touched, self._count)])
        all_keys = np.concatenate([keys[row, column], self._keys[:, touched].T.ravel()])
        all_rows = np.concatenate([rows[row], self.rows[:, touched].T.ravel()])
        all_scores = np.concatenate([scores[row, column], self.scores[:, touched].T.ravel()])
        all_marks = np.concatenate([mark, self.marks[:, touched].T.ravel()])
        order = np.lexsort((all_rows, -all_keys, columns))
        columns = columns[order]
        starts = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
        sizes = np.diff(np.r_[starts, len(columns)])
        rank = np.arange(len(columns)) - np.repeat(starts, sizes)
        kept = rank < self._count
        rank, columns, order = rank[kept], columns[kept], order[kept]
        self._keys[rank, columns] = all_keys[order]
        self.rows[rank, columns] = all_rows[order]
        self.scores[rank, columns] = all_scores[order]
        self.marks[rank, columns] = all_marks[order]


def write_ranked(ranked: Sequence[Ranked], output: str, *, force: bool = False) -> None:
    """Write rankings as TSV: rank, track, statistic, score, the allele, and the file's extra columns.

    Args:
        ranked: in the order of the lines.
        output: a path, ``.gz`` for BGZF, or ``-`` for standard output; it appears when it is complete.
        force: replace an existing file.

    Raises:
        GexprError: it cannot be written.
    """
    header = ["rank", "track_id", "track_label", "statistic", "score", "chrom", "pos", "id", "ref", "alt"]
    header += [name for name, _ in ranked[0].extra] if ranked else []
    with AtomicOutput(output, force=force) as claimed:
        text = TextFile(claimed)
        text.lines(["\t".join(header)])
        for each in ranked:
            allele = each.variant
            fields = [str(each.rank), each.track.id, each.track.label, each.statistic, str(each.score)]
            fields += [allele.chrom, str(allele.pos), allele.id, allele.ref, allele.alt]
            text.lines(["\t".join([*fields, *each.extra_texts])])
        text.commit()


def named_statistic(file: ScoreFile, name: str | None) -> str:
    """A statistic of a file by any of its names; None is the first.

    Raises:
        ConfigError: there is no such statistic, or not in this file.
    """
    if name is None:
        return file.statistics[0]
    found = name if name in file.statistics else canonical_statistic(name)
    if found not in file.statistics:
        raise ConfigError(f"{file.path} has no {found}; its statistics are {', '.join(file.statistics)}")
    return found


def blocks_in(
    file: ScoreFile, places: Places | None, tables: int = 1
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Blocks (start, end) with which of their rows overlap some regions by their REF, where any does.

    Raises:
        InputError: at the end, a region's contig is none of the file's.
    """
    for start, end in file.blocks(tables):
        inside = np.ones(end - start, dtype=bool)
        if places is not None:
            first = file.positions(start, end) - 1
            lengths = np.fromiter(map(len, file.texts("ref", start, end)), dtype=np.int64, count=end - start)
            inside = places.overlap(file.texts("chrom", start, end), first, first + lengths)
        if inside.any():
            yield start, end, inside
    if places is not None and (missing := places.missing()):
        met = places.met
        names = ", ".join(met[:5]) + (", ..." if len(met) > 5 else "") if met else "none"
        near = did_you_mean(missing[0], met)
        raise InputError(
            f"no row lies on {', '.join(missing[:5])}; its contigs are {names}{near}", path=file.path
        )


def read_variants(
    file: ScoreFile, rows: NDArray[np.int64]
) -> dict[int, tuple[Variant, tuple[tuple[str, str | int | float], ...]]]:
    """The alleles and extra columns of some rows, by row."""
    wanted = np.unique(rows)
    found = {}
    for number in np.unique(wanted // _READ_ROWS).tolist():
        start, end = number * _READ_ROWS, min(file.rows, (number + 1) * _READ_ROWS)
        low, high = np.searchsorted(wanted, (start, end))
        variants = file.variants(start, end)
        extra = file.extra(start, end)
        for row in wanted[low:high].tolist():
            values = tuple((name, column[row - start]) for name, column in extra.items())
            found[row] = variants[row - start], values
    return found


def strongest_rows(
    path: str,
    *,
    count: int = 10,
    statistic: str | None = None,
    tracks: str | Selection | None = None,
    regions: Sequence[Region] = (),
    by: str = "abs",
    overall: bool = False,
) -> list[Ranked]:
    """The strongest rows of each track of a file of scores, or of all its tracks together.

    The file is read once, block by block; what is kept is bounded by ``count`` and the tracks.

    Args:
        path: HDF5 of ``gexpr score-variants``.
        count: how many rows for each track.
        statistic: which table of scores; None is the first.
        tracks: a selection, see :func:`gexpr.scoring.tracks.select_tracks`.
        regions: only rows whose REF overlaps one of these.
        by: one of :data:`ORDERS`.
        overall: one ranking of rows, each by its strongest track.

    Returns:
        In the order of the tracks, strongest first, earlier rows first among equals.

    Raises:
        GexprError: a bad file or value.
    """
    with ScoreFile(path) as file:
        name = named_statistic(file, statistic)
        columns = select_tracks(file.tracks, tracks)
        ranking = Ranking(1 if overall else len(columns), count, by)
        for start, end, inside in blocks_in(file, Places(regions) if regions else None):
            scores = file.scores(name, start, end, columns)[inside]
            rows = np.arange(start, end)[inside]
            if overall:
                best = ranking.keys(scores).argmax(axis=1)
                scores = scores[np.arange(len(rows)), best][:, None]
                ranking.add(scores, rows, best.astype(np.int32))
            else:
                ranking.add(scores, rows)
        variants = read_variants(file, ranking.rows[ranking.rows >= 0])
        found = []
        for place in range(ranking.rows.shape[1]):
            for rank, row in enumerate(ranking.rows[:, place].tolist()):
                if row >= 0:
                    column = columns[int(ranking.marks[rank, place]) if overall else place]
                    score = ranking.scores[rank, place].astype(file.dtype)
                    found.append(Ranked(rank + 1, file.tracks[column], name, score, *variants[row]))
        return found
