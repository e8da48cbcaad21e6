"""The models of a predictor: one, or the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gexpr.errors import ConfigError, GexprError
from gexpr.models.base import SequenceModel
from gexpr.models.layers import one_hot
from gexpr.results import Track, affine_shift
from gexpr.scoring.compiled import Trunk
from gexpr.scoring.transforms import NaturalScale, is_linear, parse_squash


def model_tracks(model: SequenceModel) -> list[Track]:
    """The model's tracks; numbered ones without names when its checkpoint lists none."""
    return list(model.tracks) or numbered_tracks(sum(model.config.heads.values()))


def numbered_tracks(number: int) -> list[Track]:
    """Tracks of a model whose checkpoint names none."""
    return [Track(i, f"track_{i}", f"track_{i}") for i in range(number)]


class Member:
    """One model: some of its tracks, in their natural scale.

    The model is moved to ``device`` and to eval mode; :meth:`close` puts it back as it was.

    Args:
        model: maps (batch, context_length, 4) to (batch, target_length, tracks).
        indices: the tracks that are predicted, in this order.
        device: where to run.
        unsquash: invert ``squashed:...`` transforms.
        compile: let PyTorch compile the model's local trunk.

    Raises:
        ConfigError: a transform that cannot be inverted, or a trunk that cannot be compiled.
    """

    def __init__(
        self,
        model: SequenceModel,
        indices: Sequence[int],
        device: torch.device,
        unsquash: bool = True,
        compile: bool = False,
    ) -> None:
        self.model = model
        self.known = model_tracks(model)
        """All tracks of the model."""
        used = [self.known[index] for index in indices]
        pairs = [track.strand_pair if track.strand_pair >= 0 else track.index for track in used]
        # On the reverse complement a column holds its partner's prediction, in the partner's scale.
        self._columns = {False: list(indices), True: pairs}
        self._unsquash = unsquash
        self._natural = {
            reverse: NaturalScale([self.known[index] for index in columns], unsquash)
            for reverse, columns in self._columns.items()
        }
        self._factors: dict[bool, torch.Tensor] | None = None
        self.outputs = {
            reverse: _head_columns(model, columns, device) for reverse, columns in self._columns.items()
        }
        """For each strand and every head in use: its name, columns to take (None: all), where they go."""
        parameter = next(model.parameters(), None)
        self.dtype = torch.float32 if parameter is None else parameter.dtype
        """Number type of the model."""
        self._device = device
        self._came = (model.training, device if parameter is None else parameter.device)
        model.to(device).eval()
        self.trunk = Trunk(model, device, compile)
        """The model's local trunk, as it is to be called."""

    def in_units_of(self, other: Member, names: tuple[str, str]) -> None:
        """Predict in the units of another member.

        Args:
            other: of the same tracks.
            names: what messages call the other member and this one.

        Raises:
            ConfigError: a track whose natural scale is of another kind, such as counts and logarithms.
        """
        factors = {}
        for reverse, columns in self._columns.items():
            both = [(other.known[index], self.known[index]) for index in columns]
            numbers = [_conversion(theirs, own, self._unsquash, names) for theirs, own in both]
            factors[reverse] = torch.tensor(numbers, dtype=self.dtype, device=self._device)
        if not all((each == 1).all() for each in factors.values()):
            self._factors = factors

    def natural(self, predictions: torch.Tensor, reverse: bool) -> torch.Tensor:
        """Predictions (..., tracks) of a strand in natural scale, in the units of the first member."""
        natural = self._natural[reverse](predictions)
        return natural if self._factors is None else natural * self._factors[reverse]

    def one_hot(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, L) codes to (n, L, 4) in the model's number type."""
        return one_hot(codes, self.dtype)

    def predict(self, piece: torch.Tensor, reverse: bool, bins: tuple[int, int]) -> torch.Tensor:
        """A batch through the model: (n, bins, tracks), bins and scale as the model gives them.

        Args:
            piece: uint8 codes (n, context_length), or the tokens behind the local trunk and local stages.
            reverse: whether they are shown from the - strand, so that tracks are those of the partners.
            bins: the bins of the target, half-open and as shown, that are wanted.

        Raises:
            GexprError: the model gives other bins than its settings say.
        """
        outputs = self.outputs[reverse]
        head, columns, _ = outputs[0]
        if piece.dtype == torch.uint8:
            piece = self.one_hot(piece)
            if self.model.local_layers:
                self.model.check_input(piece)
                piece = self.trunk.encode_window(piece)
                for stage in self.model.local_stages:
                    piece = stage.on_window(piece)
        result = self._head(piece, head, columns, bins)
        if len(outputs) > 1:
            width = sum(len(places) for _, _, places in outputs)
            first = result
            result = first.new_empty((*first.shape[:2], width))
            result[..., outputs[0][2]] = first
            for head, columns, places in outputs[1:]:
                result[..., places] = self._head(piece, head, columns, bins)
        return result

    def _head(
        self, inputs: torch.Tensor, head: str, columns: torch.Tensor | None, bins: tuple[int, int]
    ) -> torch.Tensor:
        """Some tracks and bins of one head from tokens, or from one-hot for a model without a local trunk."""
        if self.model.local_layers:
            predictions = self.model.finish(inputs, head, columns, bins)
        else:
            predictions = self.model(inputs, head)[:, bins[0] : bins[1]]
            if columns is not None:
                predictions = predictions.index_select(2, columns)
        expected = (inputs.shape[0], bins[1] - bins[0])
        if tuple(predictions.shape[:2]) != expected:
            raise GexprError(f"the model returned {tuple(predictions.shape)} instead of {expected} bins")
        return predictions if self.dtype == torch.float64 else predictions.float()

    def close(self) -> None:
        """Put the model back in the mode and on the device it came from."""
        training, device = self._came
        self.model.to(device).train(training)


def _head_columns(
    model: SequenceModel, indices: Sequence[int], device: torch.device
) -> list[tuple[str, torch.Tensor | None, torch.Tensor]]:
    """For every head in use: name, columns to take (None: all), where they go in the result."""
    columns, start = [], 0
    for head, size in model.config.heads.items():
        places = [place for place, index in enumerate(indices) if start <= index < start + size]
        if places:
            wanted = [indices[place] - start for place in places]
            # Not to choose spares a copy of the head's weights in every pass.
            whole = wanted == list(range(size))
            taken = None if whole else torch.tensor(wanted, device=device)
            columns.append((head, taken, torch.tensor(places, device=device)))
        start += size
    return columns


def _conversion(theirs: Track, own: Track, unsquash: bool, names: tuple[str, str]) -> float:
    """What predictions of a track in natural scale are multiplied by to be in another member's units."""
    (kind, unit), (own_kind, own_unit) = _unit(theirs, unsquash), _unit(own, unsquash)
    if kind == own_kind:
        return unit / own_unit
    raise ConfigError(
        f"the checkpoints {names[0]} and {names[1]} are no ensemble: track {own.id!r} has the transform "
        f"{theirs.transform!r} and scale {theirs.scale:g} in one, {own.transform!r} and {own.scale:g} in the "
        "other, and such predictions cannot be averaged"
    )


def _unit(track: Track, unsquash: bool) -> tuple[str, float]:
    """What a track's natural scale is: a kind, and how many times the value that was measured.

    Values of one kind become each other by multiplication.
    """
    if is_linear(track):
        # What was affine is undone to the value itself.
        return "linear", track.scale if affine_shift(track.transform) is None else 1.0
    if track.transform == "count":
        return "count", track.scale
    if track.transform.startswith("squashed:") and unsquash:
        return "count", 1.0 if parse_squash(track.transform).form == "power" else track.scale
    return f"{track.transform} of {track.scale!r} times the value", 1.0
