"""Windows through a model, and whole contigs, every bin from the central part of some window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.checkpoints.ensembles import check_agreement, outputs_of
from gexpr.errors import ConfigError, GexprError
from gexpr.genome.windows import Tile, tile
from gexpr.models.base import SequenceModel
from gexpr.models.layers import one_hot
from gexpr.results import Track

CENTRAL_SHARE = 0.5
"""Largest share of a window's context whose predictions are used; the rest is context for them."""


def central_bins(model: SequenceModel, share: float = CENTRAL_SHARE) -> int:
    """Bins in the middle of a window that are used: at most ``share`` of the context, never all cropped.

    The number differs from ``target_length`` by an even number, so that the same number of bins is
    left out on each side.
    """
    most = int(share * model.context_length) // model.bin_size
    excess = max(0, model.target_length - most)
    return max(model.target_length - 2 * ((excess + 1) // 2), 2 - model.target_length % 2)


Models = SequenceModel | Sequence[SequenceModel]
"""A model, or the members of an ensemble."""


def members_of(models: Models) -> list[SequenceModel]:
    """The models of an ensemble, or the one.

    Raises:
        ConfigError: they differ in bins, tracks, or the scale of a track.
    """
    members = [models] if isinstance(models, SequenceModel) else list(models)
    if len(members) > 1:
        numbered = [(f"model {number}", each) for number, each in enumerate(members, start=1)]
        check_agreement(
            [outputs_of(name, each, each.tracks) for name, each in numbered],
            same_scale=True,
        )
        sizes = {next(iter(each.config.heads.values())) for each in members}
        if len(sizes) > 1:
            raise ConfigError(
                f"the models are no ensemble: their first heads have {' and '.join(map(str, sorted(sizes)))} "
                "tracks"
            )
    return members


class WindowPredictor:
    """Predicts windows in the scale of the training targets.

    Predictions of both strands are averaged: those of the reverse complement have their bins
    reversed and their ``strand_pair`` tracks swapped. So are those of the members of an ensemble.

    Args:
        models: in eval mode, on one device, where they stay.
        tracks: the tracks of the first head, which is the one that is evaluated.
        reverse_complement: average over both strands, or use the forward strand alone.
        batch_size: windows in a forward pass; None takes about 131,072 bases (1,048,576 on CUDA).

    Raises:
        ConfigError: reverse complement with a stranded track that has no partner, or models that are no
            ensemble.
    """

    def __init__(
        self,
        models: Models,
        tracks: Sequence[Track],
        *,
        reverse_complement: bool = True,
        batch_size: int | None = None,
    ) -> None:
        self.members = members_of(models)
        self.model = model = self.members[0]
        """The first model, whose geometry is that of all."""
        self.device = next(model.parameters()).device
        self.reverse_complement = reverse_complement
        bases = 2**20 if self.device.type == "cuda" else 2**17
        self.batch_size = batch_size or max(1, bases // model.context_length)
        partners = [i if track.strand_pair < 0 else track.strand_pair for i, track in enumerate(tracks)]
        if reverse_complement:
            for i, track in enumerate(tracks):
                if track.strand != "." and partners[i] == i:
                    raise ConfigError(
                        f"track {track.id!r} is of strand {track.strand} and has no strand_pair, so the "
                        "reverse complement cannot be averaged; use --no-rc"
                    )
                if not partners[i] < len(tracks):
                    raise ConfigError(
                        f"strand_pair {partners[i]} of track {track.id!r} is not in the first head"
                    )
        self._partners = torch.tensor(partners, device=self.device)

    def __call__(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predictions float32 (windows, target_length, tracks) of uint8 codes (windows, context_length).

        Raises:
            GexprError: a prediction is not finite.
        """
        predictions = self._forward(torch.from_numpy(codes).to(self.device)).cpu().numpy()
        if not np.isfinite(predictions).all():
            raise GexprError(
                "the model predicts values that are not finite; its weights or settings are at fault"
            )
        return predictions

    @torch.inference_mode()
    def _forward(self, codes: torch.Tensor) -> torch.Tensor:
        total = self._of_member(self.members[0], codes)
        for model in self.members[1:]:
            total = total + self._of_member(model, codes)
        return total / len(self.members) if len(self.members) > 1 else total

    def _of_member(self, model: SequenceModel, codes: torch.Tensor) -> torch.Tensor:
        forward = model(one_hot(codes)).float()
        if not self.reverse_complement:
            return forward
        flipped = torch.where(codes < 4, 3 - codes, codes).flip(1)
        reverse = model(one_hot(flipped)).float().flip(1)
        return (forward + reverse.index_select(2, self._partners)) / 2


class ContigPredictor(WindowPredictor):
    """Predicts all bins of a contig; arguments as of :class:`WindowPredictor`."""

    @property
    def _core(self) -> int:
        return central_bins(self.model)

    def windows(self, bins: int) -> list[Tile]:
        """Windows that together predict bins 0 to ``bins`` once; ``first_bin`` counts used bins only."""
        size = self.model.bin_size
        return tile(0, bins * size, self.model.context_length, self._core * size, size)

    def predict(
        self, codes: NDArray[np.uint8], bins: int, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Predictions (bins, tracks) of a contig.

        Args:
            codes: uint8 (contig length,); beyond it the model sees unknown bases.
            bins: bins to predict, from the contig's first base on.
            advance: called with the number of windows after each batch.
        """
        tiles = self.windows(bins)
        context = self.model.context_length
        edge = (self.model.target_length - self._core) // 2
        padded = np.full(len(codes) + 2 * context, 4, dtype=np.uint8)
        padded[context : context + len(codes)] = codes
        parts = []
        for first in range(0, len(tiles), self.batch_size):
            batch = tiles[first : first + self.batch_size]
            rows = np.full((len(batch), context), 4, dtype=np.uint8)
            for row, each in zip(rows, batch, strict=True):
                piece = padded[each.window_start + context : each.window_start + 2 * context]
                row[: len(piece)] = piece
            for values, each in zip(self(rows), batch, strict=True):
                parts.append(values[edge + each.first_bin : edge + each.last_bin])
            if advance is not None:
                advance(len(batch))
        return np.concatenate(parts)
