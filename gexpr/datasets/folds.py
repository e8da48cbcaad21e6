"""Folds of a cross-validation: groups of windows dealt out evenly, in a way that needs no random numbers."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gexpr.errors import ConfigError


class Fold(NamedTuple):
    """Fold ``index`` of ``number``, counted from 0: the one that validates; the others train."""

    index: int  # type: ignore[assignment]
    number: int

    def __str__(self) -> str:
        return f"{self.index}/{self.number}"


def parse_fold(text: str) -> Fold:
    """The fold that ``k/K`` means, ``0/5`` to ``4/5``.

    Raises:
        ConfigError: another text, fewer than 2 folds, or k outside them.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None:
        raise ConfigError(f"fold {text!r} is not of the form k/K, such as 0/5")
    fold = Fold(int(match[1]), int(match[2]))
    if fold.number < 2:
        raise ConfigError(f"fold {text}: there must be at least 2 folds")
    if fold.index >= fold.number:
        raise ConfigError(
            f"fold {text}: folds are counted from 0, so the last of {fold.number} is "
            f"{fold.number - 1}/{fold.number}"
        )
    return fold


def deal(sizes: Sequence[int], folds: int) -> np.ndarray:
    """The fold of each group: the largest first, each to the fold that has least so far.

    Args:
        sizes: of the groups; among equal ones the first comes first.
        folds: how many.

    Returns:
        int64 (groups,), 0 to ``folds`` - 1.

    Raises:
        ConfigError: fewer groups than folds, so that a fold would be empty.
    """
    if len(sizes) < folds:
        raise ConfigError(
            f"{len(sizes)} groups of windows (contigs, overlapping windows or clusters) cannot fill {folds} "
            "folds"
        )
    owner = np.empty(len(sizes), dtype=np.int64)
    load = [(0, fold) for fold in range(folds)]
    for group in np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable"):
        amount, fold = heapq.heappop(load)
        owner[group] = fold
        heapq.heappush(load, (amount + int(sizes[group]), fold))
    return owner
