"""Predictions in natural scale, averaged over strands, shifts and models, in batches of one shape."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr import logs
from gexpr.checkpoints.ensembles import check_agreement, outputs_of
from gexpr.errors import ConfigError, GexprError
from gexpr.models.base import SequenceModel
from gexpr.scoring.definitions import PRECISIONS
from gexpr.scoring.devices import default_batch_size, numeric_precision
from gexpr.scoring.members import Member, model_tracks
from gexpr.scoring.strands import MergedStrands


class Pass(NamedTuple):
    """One way of predicting a sequence: moved by ``shift`` bp, on one strand, by one model of an ensemble."""

    shift: int
    reverse: bool
    member: int = 0


def default_tracks(model: SequenceModel) -> list[int]:
    """Indices of the first head's tracks: what is predicted when nothing was selected."""
    return list(range(next(iter(model.config.heads.values()))))


def _is_lack_of_memory(error: BaseException) -> bool:
    # PyTorch reports a failed allocation on the CPU as a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@dataclass
class _Work:
    """What a predictor, and those with other shifts made of it, have done."""

    batch_size: int
    forwards: int = 0


class Predictor:
    """A model, or an ensemble of models, made ready to predict selected tracks.

    Every forward pass has exactly ``batch_size`` sequences, short batches being padded with
    unknown bases, so that a prediction does not depend on how many others are made with it.
    The models are moved to ``device`` and to eval mode; :meth:`close` puts them back as they were.

    Args:
        model: maps (batch, context_length, 4) to (batch, target_length, tracks); or several, whose
            predictions are averaged as those of strands and shifts are. They predict the same bins and
            tracks; transforms and scales of a track may differ, since its predictions are brought to the
            natural scale of the first.
        tracks: indices of the tracks to return, in this order; None takes the first head's.
        device: where to run.
        batch_size: sequences in a forward pass; None chooses by context length and device.
        reverse_complement: also predict the reverse complement and average.
        shifts: displacements of the window in bp to average over; a positive shift moves the
            window to the right.
        precision: ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
        unsquash: invert ``squashed:...`` transforms; False leaves those tracks as the model predicts them.
        merge_strands: add the predictions, in natural scale, of tracks that are a strand pair; see
            :class:`gexpr.scoring.strands.MergedStrands`.
        auto_batch: when memory does not suffice, go on with half the sequences a forward pass; the
            results then differ in their last digits from those of the full batch.
        compile: let PyTorch compile the model's local trunk; see :mod:`gexpr.scoring.compiled`.
        names: what messages call the models.

    Raises:
        ConfigError: a value that is not allowed, shifts that would move a window's middle out of its
            output, tracks whose transform cannot be inverted, strands that cannot be added, or models
            that are no ensemble.
    """

    def __init__(
        self,
        model: SequenceModel | Sequence[SequenceModel],
        *,
        tracks: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
        batch_size: int | None = None,
        reverse_complement: bool = True,
        shifts: Sequence[int] = (0,),
        precision: str = "fp32",
        unsquash: bool = True,
        merge_strands: bool = False,
        auto_batch: bool = False,
        compile: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        models = [model] if isinstance(model, SequenceModel) else list(model)
        if not models:
            raise ConfigError("no model to predict with")
        names = names or [f"model {number}" for number in range(1, len(models) + 1)]
        model = models[0]
        self.device = torch.device(device)
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch size must be at least 1, not {batch_size}")
        if precision not in PRECISIONS:
            raise ConfigError(f"unknown precision {precision!r} (known: {', '.join(PRECISIONS)})")
        self.context_length = model.context_length
        self.bin_size = model.bin_size
        self.target_length = model.target_length
        self.first_base = model.crop * model.bin_size
        """Window coordinate of the first base of the first output bin."""
        if self.context_length != self.bin_size * (self.target_length + 2 * model.crop):
            raise ConfigError(
                f"the {self.target_length} bins of {self.bin_size} bp, {model.crop} cropped on both "
                f"sides, do not lie in the middle of its {self.context_length} bp"
            )
        self.batch_size = batch_size or default_batch_size(self.context_length, self.device)
        self.reverse_complement = reverse_complement
        self.precision = precision
        self._set_shifts(shifts)

        known = model_tracks(model)
        if len(models) > 1:
            numbered = zip(names, models, strict=True)
            check_agreement([outputs_of(name, each, model_tracks(each)) for name, each in numbered])
        indices = default_tracks(model) if tracks is None else list(tracks)
        if not indices or not all(0 <= index < len(known) for index in indices):
            raise ConfigError(f"track indices must lie between 0 and {len(known) - 1}, not {indices}")
        self.strands = MergedStrands(known, indices, unsquash) if merge_strands else None
        """What adds strand pairs, or None."""
        if self.strands is not None:
            indices = self.strands.used
        self.used_tracks = [known[index] for index in indices]
        """The first model's tracks that are predicted."""
        self.tracks = self.used_tracks if self.strands is None else self.strands.tracks
        """What the last axis of predictions is."""
        self.unsquash = unsquash
        if precision == "bf16":
            logs.warning(
                "bf16 keeps 8 significant bits: its error exceeds many weak effects (those of yeast-tss "
                "change by 63 %, by 12 % in fp16); see docs/performance.md"
            )
        self.auto_batch = auto_batch
        self._work = _Work(self.batch_size)
        self.compile = compile
        self.members = [Member(each, indices, self.device, unsquash, compile) for each in models]
        """The models, in the order of :attr:`Pass.member`."""
        for name, member in zip(names[1:], self.members[1:], strict=True):
            member.in_units_of(self.members[0], (names[0], name))
        logs.detail(
            f"{', '.join(names)}: {len(self.tracks)} of {len(known)} tracks on {self.device} in {precision}, "
            f"batches of {self.batch_size} x {self.context_length:,} bp, {len(self.passes)} passes a sequence"
        )

    def _set_shifts(self, shifts: Sequence[int]) -> None:
        if not shifts or len(set(shifts)) != len(shifts):
            raise ConfigError(f"shifts must be one or more distinct numbers, not {tuple(shifts)}")
        self.shifts = tuple(sorted(shifts))
        self.flank = max(abs(shift) for shift in self.shifts)
        """Bases that a window needs beyond the context on each side, for the shifts."""
        if 2 * self.flank >= self.target_length * self.bin_size:
            raise ConfigError(
                f"a shift of {self.flank:,} bp is too large: the model predicts the middle "
                f"{self.target_length * self.bin_size:,} bp of its window, and shifts must be less than half "
                "of that"
            )
        self.window_length = self.context_length + 2 * self.flank

    def with_shifts(self, shifts: Sequence[int]) -> Predictor:
        """The same predictor, models included, that averages over other shifts.

        Raises:
            ConfigError: as for a new one.
        """
        other = copy.copy(self)
        other._set_shifts(shifts)
        return other

    @property
    def models(self) -> list[SequenceModel]:
        """The models whose predictions are averaged."""
        return [member.model for member in self.members]

    @property
    def model(self) -> SequenceModel:
        """The first model."""
        return self.members[0].model

    @property
    def forwards(self) -> int:
        """Forward passes made so far, each of one batch, also with other shifts."""
        return self._work.forwards

    @property
    def used_batch_size(self) -> int:
        """Sequences in a forward pass: ``batch_size``, or less after ``auto_batch`` has halved it."""
        return self._work.batch_size

    @property
    def passes(self) -> list[Pass]:
        """All passes that are averaged."""
        strands = (False, True) if self.reverse_complement else (False,)
        return [
            Pass(shift, reverse, member)
            for member in range(len(self.members))
            for shift in self.shifts
            for reverse in strands
        ]

    def predict_passes(
        self,
        codes: NDArray[np.uint8] | torch.Tensor,
        *,
        reverse_only: bool = False,
        bins: tuple[int, int] | None = None,
    ) -> Iterator[tuple[Pass, torch.Tensor]]:
        """Predictions of one batch, pass by pass, squashed transforms being inverted in each.

        Args:
            codes: uint8 (n, window_length), n at most ``batch_size``; the context without shift
                begins at index ``flank``.
            reverse_only: without ``reverse_complement``, show the model the reverse strand
                instead of the forward one.
            bins: the bins of the target, half-open, that are wanted; None is all of them.

        Yields:
            The pass and (n, bins, tracks) float32 on the device, in natural scale, bins in the order
            of ``codes`` and tracks as labeled, whatever the strand shown.

        Raises:
            GexprError: the device's memory does not suffice.
        """
        batch = self.to_device(codes)
        for each in self.passes:
            if reverse_only and not self.reverse_complement:
                each = each._replace(reverse=True)
            yield each, self.natural(self.oriented(batch, each), each, bins)

    def to_device(self, codes: NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """A batch of codes, checked, on the device."""
        batch = torch.as_tensor(codes)
        if batch.shape[1:] != (self.window_length,) or not 0 < len(batch) <= self.batch_size:
            raise ValueError(
                f"a batch must be (1..{self.batch_size}, {self.window_length}), not {tuple(batch.shape)}"
            )
        return batch.to(self.device, non_blocking=True)

    def oriented(self, batch: torch.Tensor, each: Pass) -> torch.Tensor:
        """Codes as the model sees them in a pass: (n, window_length) -> (n, context_length)."""
        start = self.flank + each.shift
        window = batch[:, start : start + self.context_length]
        return torch.where(window < 4, 3 - window, window).flip(1) if each.reverse else window

    @torch.inference_mode()
    def natural(self, inputs: torch.Tensor, each: Pass, bins: tuple[int, int] | None = None) -> torch.Tensor:
        """Predictions of the selected tracks, bins and tracks as on the + strand, in natural scale.

        Args:
            inputs: what the pass's model sees: uint8 codes (n, context_length), or the tokens (n, bins, C)
                behind its local trunk and local stages.
            each: the pass: which model, and whether it is shown the - strand.
            bins: the bins of the target, half-open and as on the + strand, that are wanted; None is all.

        Returns:
            (n, bins, tracks), float32 unless the model computes in float64.

        Raises:
            GexprError: the device's memory does not suffice.
        """
        self._work.forwards += -(-len(inputs) // self.batch_size)
        member, reverse = self.members[each.member], each.reverse
        low, high = bins or (0, self.target_length)
        wanted = (self.target_length - high, self.target_length - low) if reverse else (low, high)

        def run(piece: torch.Tensor) -> torch.Tensor:
            return member.predict(piece, reverse, wanted)

        result = self.in_batches(run, inputs, self.batch_size)
        natural = member.natural(result.flip(1) if reverse else result, reverse)
        return natural if self.strands is None else self.strands(natural)

    @torch.inference_mode()
    def in_batches(
        self, function: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, size: int
    ) -> torch.Tensor:
        """Apply a function to batches of exactly ``size`` rows, the last one filled up.

        When memory does not suffice and ``auto_batch`` allows it, the batches are halved from then on.

        Args:
            function: maps (size, ...) to (size, ...).
            inputs: (n, ...); codes are filled up with unknown bases, other numbers with zeros.
            size: rows a batch.

        Raises:
            GexprError: the device's memory does not suffice.
        """
        fill = 4 if inputs.dtype == torch.uint8 else 0
        while True:
            halvings = self.batch_size // self.used_batch_size
            rows = max(1, size // halvings)
            try:
                results = []
                with numeric_precision(self.precision, self.device):
                    for piece in inputs.split(rows):
                        short = rows - len(piece)
                        if short:
                            piece = torch.cat([piece, piece.new_full((short, *piece.shape[1:]), fill)])
                        results.append(function(piece)[: rows - short])
                return results[0] if len(results) == 1 else torch.cat(results)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_lack_of_memory(error):
                    raise
                if not self.auto_batch or self.used_batch_size == 1:
                    raise self._out_of_memory(self.used_batch_size) from error
            # Outside the handler, whose traceback would keep the tensors alive.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            logs.warning(
                f"out of memory on {self.device} with {self.used_batch_size} x {self.context_length:,} bp "
                f"a batch: going on with {self.used_batch_size // 2}; the last digits of the results may "
                f"differ from those of --batch-size {self.batch_size}"
            )
            self._work.batch_size //= 2

    def _out_of_memory(self, size: int) -> GexprError:
        advice = (
            "a batch: give a smaller --batch-size, or --auto-batch"
            if size > 1
            else "a batch, the smallest possible: use a device with more memory"
        )
        return GexprError(f"out of memory on {self.device} with {size} x {self.context_length:,} bp {advice}")

    def predict(self, codes: NDArray[np.uint8] | torch.Tensor, *, reverse_only: bool = False) -> torch.Tensor:
        """Mean of :meth:`predict_passes` over all passes: (n, target_length, tracks) float32."""
        total: torch.Tensor | None = None
        count = 0
        for _, predictions in self.predict_passes(codes, reverse_only=reverse_only):
            total = predictions if total is None else total + predictions
            count += 1
        assert total is not None
        return total / count

    def close(self) -> None:
        """Put the models back in the mode and on the device they came from."""
        # Backwards: a model that is there twice came as its first member found it.
        for member in reversed(self.members):
            member.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
