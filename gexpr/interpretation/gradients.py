"""Attribution by gradients: how much each base contributes to a number made of the predictions.

The number, the *target*, is the sum over scored bins, or log2 of one plus it, of each track or of all tracks
together. Predictions are averaged over strands, shifts and the members of an ensemble before it, and so are
their gradients, in the coordinates of the + strand.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.errors import ConfigError, GexprError
from gexpr.genome.codes import Codes, one_hot
from gexpr.genome.fasta import Fasta
from gexpr.interpretation.mutagenesis import region_window_start
from gexpr.models.base import SequenceModel
from gexpr.results import Region, Track
from gexpr.scoring.definitions import Mask
from gexpr.scoring.devices import numeric_precision
from gexpr.scoring.predictor import Pass, Predictor
from gexpr.scoring.transforms import LOG_UNITS, is_linear

TARGETS = ("log2sum", "sum")
METHODS = ("gradient", "integrated")
BASELINES = ("zeros", "mean", "shuffled")


class Attribution(NamedTuple):
    """Attributions of one region.

    Attributes:
        values: float32 (length, 4, columns). Of gradients: the gradient for every letter, the reference's or
            not, corrected where that was asked for. Integrated: what each letter of the region, or of its
            baseline, contributes.
        contributions: float32 (length, columns): of each base as it stands; of gradients the gradient times
            the one-hot sequence, integrated the sum over letters.
        target: float64 (columns,): the target of the sequence.
        baseline: float64 (columns,): its mean over the baselines; NaN for gradients.
    """

    values: NDArray[np.float32]
    contributions: NDArray[np.float32]
    target: NDArray[np.float64]
    baseline: NDArray[np.float64]


def baselines(
    region: NDArray[np.float32], kind: str, number: int, seed: Sequence[int]
) -> NDArray[np.float32]:
    """What integrated gradients start from, (n, length, 4).

    Args:
        region: one-hot (length, 4).
        kind: ``zeros``, all bases unknown; ``mean``, the region's composition at every position;
            ``shuffled``, the region's bases in a drawn order.
        number: how many orders are drawn.
        seed: of what is drawn.

    Raises:
        ConfigError: an unknown kind, or fewer than one order.
    """
    if kind not in BASELINES:
        raise ConfigError(f"baseline must be one of {', '.join(BASELINES)}, not {kind!r}")
    if kind == "zeros":
        return np.zeros((1, *region.shape), dtype=np.float32)
    if kind == "mean":
        return np.broadcast_to(region.mean(axis=0, keepdims=True), (1, *region.shape)).copy()
    if number < 1:
        raise ConfigError(f"the number of shuffled baselines must be 1 or more, not {number}")
    generator = np.random.default_rng(list(seed))
    return np.stack([region[generator.permutation(len(region))] for _ in range(number)])


@contextlib.contextmanager
def _frozen(models: Sequence[SequenceModel]) -> Iterator[None]:
    """Parameters need no gradients of their own meanwhile, which spares the memory for them."""
    thawed = [each for model in models for each in model.parameters() if each.requires_grad]
    for each in thawed:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in thawed:
            each.requires_grad_(True)


class Attributor:
    """Targets and their gradients with respect to one-hot sequences.

    Args:
        predictor: the models with their tracks, strands and shifts.
        target: ``log2sum`` or ``sum``.
        mask: which bins are scored, around the region.
        each_track: one column for each track; otherwise one for the sum of all.

    Raises:
        ConfigError: an unknown target, or logarithms of a track that may be negative or is a logarithm.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        target: str = "log2sum",
        mask: Mask | None = None,
        each_track: bool = False,
    ) -> None:
        if target not in TARGETS:
            raise ConfigError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
        self.predictor = predictor
        self.target = target
        self.mask = mask or Mask()
        self.each_track = each_track
        if target == "log2sum":
            for track in predictor.tracks:
                if is_linear(track) or track.transform in LOG_UNITS:
                    raise ConfigError(
                        f"log2sum is not defined for track {track.id!r} with transform {track.transform!r}; "
                        "ask for --target sum or leave the track out with --tracks"
                    )
        self.tracks = columns_of(predictor.tracks, each_track)
        """What the columns are."""

    def window(self, genome: Fasta, region: Region) -> tuple[Codes, int]:
        """What the models see of a region, and where in it the region is.

        Args:
            genome: the genome.
            region: with ``chrom`` spelt as the genome spells it.

        Returns:
            Codes, uint8 (window_length,), and the index of the region's first base in the context without
            shift, which begins ``flank`` bases into the codes.
        """
        start = region_window_start(region, self.predictor.context_length)
        low = start - self.predictor.flank
        return genome.codes(region.chrom, low, low + self.predictor.window_length), region.start - start

    def attribute(
        self,
        genome: Fasta,
        region: Region,
        *,
        method: str = "gradient",
        correct: bool = True,
        steps: int = 32,
        baseline: str = "zeros",
        shuffles: int = 10,
        seed: int = 0,
    ) -> tuple[Codes, Attribution]:
        """Bases of a region, uint8 (length,), and their attributions, on the + strand.

        Args:
            genome: the genome.
            region: with ``chrom`` spelt as the genome spells it.
            method: ``gradient`` or ``integrated``; the others are arguments of :meth:`gradient` and
                :meth:`integrated`.
            seed: of shuffled baselines, which are the same for a region in whatever company.

        Raises:
            ConfigError: an unknown method.
        """
        window, first = self.window(genome, region)
        last = first + region.end - region.start
        if method == "gradient":
            found = self.gradient(window, first, last, correct)
        elif method == "integrated":
            found = self.integrated(
                *(window, first, last),
                steps=steps,
                baseline=baseline,
                shuffles=shuffles,
                seed=(seed, region.start, region.end),
            )
        else:
            raise ConfigError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        flank = self.predictor.flank
        return window[flank + first : flank + last], found

    def scored_bins(self, first: int, last: int) -> torch.Tensor:
        """The bins that the mask asks for around bases of the context, bool (target_length,)."""
        predictor = self.predictor
        bins = torch.arange(predictor.target_length, device=predictor.device)
        if self.mask.distance is None:
            return torch.ones_like(bins, dtype=torch.bool)
        low = first - predictor.first_base - self.mask.distance
        high = last - predictor.first_base + self.mask.distance
        return ((bins + 1) * predictor.bin_size > low) & (bins * predictor.bin_size < high)

    def targets(
        self, sequences: torch.Tensor, first: int, last: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Targets of sequences, and their gradients on the bases of a region.

        Args:
            sequences: (n, window_length, 4) floats; the context without shift begins at index ``flank``.
            first, last: the region, half-open, as indices of the context without shift.

        Returns:
            float64 (n, columns) and (n, last - first, 4, columns).

        Raises:
            GexprError: memory does not suffice, a sum has no logarithm, or a gradient is not finite.
        """
        predictor = self.predictor
        scored = self.scored_bins(first, last)
        sums: Any = 0.0
        gradients: Any = 0.0
        place = slice(predictor.flank + first, predictor.flank + last)
        try:
            with _frozen(predictor.models):
                for each in predictor.passes:
                    pieces = [
                        self._pass(piece, each, scored, place)
                        for piece in sequences.split(predictor.batch_size)
                    ]
                    sums = sums + np.concatenate([piece[0] for piece in pieces])
                    gradients = gradients + np.concatenate([piece[1] for piece in pieces])
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            raise GexprError(
                f"out of memory on {predictor.device}: gradients need several times what predictions need; "
                "give a smaller --batch-size, or use a device with more memory"
            ) from error
        passes = len(predictor.passes)
        sums, gradients = sums / passes, gradients / passes
        if self.target == "log2sum":
            if (sums <= -1.0).any():
                raise GexprError(
                    f"the scored bins sum to {sums.min():g}, of which log2(1 + sum) is not defined: these "
                    "predictions can be negative; ask for --target sum"
                )
            gradients = gradients / ((sums + 1.0) * math.log(2.0))[:, None, None, :]
            sums = np.log2(sums + 1.0)
        if not (np.isfinite(sums).all() and np.isfinite(gradients).all()):
            raise GexprError(
                f"a gradient is not finite (precision {predictor.precision}): use --precision fp32"
            )
        return sums, gradients

    def _pass(
        self, sequences: torch.Tensor, each: Pass, scored: torch.Tensor, place: slice
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of scored bins in a pass, (n, columns), and gradients at ``place``, (n, bases, 4, columns)."""
        predictor = self.predictor
        member = predictor.members[each.member]
        outputs = member.outputs[each.reverse]
        leaf = sequences.to(predictor.device, member.dtype).requires_grad_(True)
        start = predictor.flank + each.shift
        with torch.enable_grad():
            window = leaf[:, start : start + predictor.context_length]
            shown = window.flip(1, 2) if each.reverse else window
            parts, places = [], []
            with numeric_precision(predictor.precision, predictor.device):
                for head, columns, where in outputs:
                    found = member.model(shown, head)
                    parts.append(found if columns is None else found.index_select(2, columns))
                    places.append(where)
            joined = torch.cat(parts, dim=2)[..., torch.cat(places).argsort()]
            joined = joined if member.dtype == torch.float64 else joined.float()
            natural = member.natural(joined.flip(1) if each.reverse else joined, each.reverse)
            if predictor.strands is not None:
                natural = predictor.strands(natural)
            sums = natural[:, scored].double().sum(dim=1)
            if not self.each_track:
                sums = sums.sum(dim=1, keepdim=True)
            count = sums.shape[1]
            gradients = [
                torch.autograd.grad(sums[:, column].sum(), leaf, retain_graph=column + 1 < count)[0][:, place]
                for column in range(count)
            ]
        stacked = torch.stack(gradients, dim=-1).double().cpu().numpy()
        return sums.detach().cpu().numpy(), stacked

    def gradient(self, codes: Codes, first: int, last: int, correct: bool = True) -> Attribution:
        """Gradient and gradient times input of a region.

        Args:
            codes: uint8 (window_length,).
            first, last: the region, half-open, as indices of the context without shift.
            correct: subtract from each position its mean over letters: the part of the gradient that leads
                away from all one-hot sequences, which says nothing of them (Majdandzic et al.,
                Genome Biology 24:109, 2023).
        """
        window = one_hot(codes)
        found, gradients = self.targets(torch.from_numpy(window)[None], first, last)
        values = gradients[0]
        if correct:
            values = values - values.mean(axis=1, keepdims=True)
        flank = self.predictor.flank
        region = window[flank + first : flank + last]
        contributions = (values * region[..., None]).sum(axis=1)
        return Attribution(
            values.astype(np.float32),
            contributions.astype(np.float32),
            found[0],
            np.full_like(found[0], np.nan),
        )

    def integrated(
        self,
        codes: Codes,
        first: int,
        last: int,
        *,
        steps: int = 32,
        baseline: str = "zeros",
        shuffles: int = 10,
        seed: Sequence[int] = (0,),
    ) -> Attribution:
        """Integrated gradients of a region (Sundararajan et al., 2017); the rest of the window stays.

        The contributions add up to the target of the sequence less that of the baseline, but for the error
        of the sum over ``steps`` points, the middles of equal stretches, that stands for the integral.

        Args:
            codes: uint8 (window_length,).
            first, last: the region, half-open, as indices of the context without shift.
            steps: points on the way from baseline to sequence.
            baseline: see :func:`baselines`; several are averaged.
            shuffles: how many shuffled baselines.
            seed: of the shuffled baselines.

        Raises:
            ConfigError: fewer than one step, or an unknown baseline.
        """
        if steps < 1:
            raise ConfigError(f"integrated gradients need 1 step or more, not {steps}")
        window = one_hot(codes)
        flank = self.predictor.flank
        place = slice(flank + first, flank + last)
        region = window[place].copy()
        points = (np.arange(steps, dtype=np.float32) + 0.5) / steps
        values: Any = 0.0
        starts: Any = 0.0
        found = baselines(region, baseline, shuffles, seed)
        for each in found:
            sequences = np.repeat(window[None], steps + 1, axis=0)
            sequences[:steps, place] = each + points[:, None, None] * (region - each)
            sequences[steps, place] = each
            targets, gradients = self.targets(torch.from_numpy(sequences), first, last)
            values = values + (region - each)[..., None] * gradients[:steps].mean(axis=0)
            starts = starts + targets[steps]
        values = values / len(found)
        target, _ = self.targets(torch.from_numpy(window)[None], first, last)
        contributions = values.sum(axis=1)
        return Attribution(
            values.astype(np.float32), contributions.astype(np.float32), target[0], starts / len(found)
        )


def columns_of(tracks: Sequence[Track], each_track: bool) -> list[Track]:
    """What the columns of attributions are: all tracks, or one for their sum."""
    if each_track:
        return list(tracks)
    if len(tracks) == 1:
        return [tracks[0]._replace(index=0)]
    return [Track(0, "sum", f"sum of {len(tracks):,} tracks", strand_pair=0)]
