"""Alternates predicted at the price of what they change: exact, and the same for every model.

The first layers of a model (:meth:`gexpr.models.base.SequenceModel.encode`: stem and tower) see only
their surroundings, so an allele changes few of the window's tokens. Those are computed from a
*patch* of the window and spliced into the reference's tokens. In the layers that follow
(``local_stages``: dilated convolutions, attention to neighboring blocks) the change spreads like a cone of
light, and only the cone is computed, from the reference's activations around it. The rest of the model
(``finish``) runs as ever. An insertion or deletion changes all tokens behind it, which are
computed from the rest of the window.

A patch that lies inside the window is computed with some tokens more on each side, which are thrown
away: at a patch's ends the layers see zeros, as they rightly do only at a window's ends. Patches
come in a few sizes, each predicted in batches of one shape.

A small patch is computed for both alleles in one batch, and the difference is added to the reference's
tokens: what is equal in both then stays equal to the last bit.

Where windows lie on a grid (:class:`gexpr.genome.windows.WindowRule`), the reference's tokens are
computed once along the genome, in segments that overlapping windows share, and kept while memory
lasts; the few tokens at a window's ends are its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr.models.base import LocalStage, SequenceModel, receptive_field
from gexpr.scoring.devices import indices, upload
from gexpr.scoring.members import Member
from gexpr.scoring.predictor import Pass, Predictor

CACHE_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""Memory for tokens along the genome, by type of device; those not used for longest go first."""

CONE_SHARE = 0.6
"""Share of a window above which a layer is computed as a whole."""

_PAIRED = 4
"""A patch of at most this fraction (1/n) of the window is computed for both alleles."""


class Patch(NamedTuple):
    """A stretch of tokens: computed from ``start``, ``size`` of them, right from ``first`` to ``last``."""

    start: int
    size: int
    first: int
    last: int


class TrunkGeometry:
    """Which tokens of a window a changed base reaches, and what it takes to compute them.

    Args:
        model: the model.
        tokens: tokens of a window.

    Attributes:
        stride: bases a token.
        halo: tokens at the ends of a patch that are wrong unless the window ends there.
        sizes: sizes of patches, ascending; the last is the whole window.
    """

    def __init__(self, model: SequenceModel, tokens: int) -> None:
        field = receptive_field(model.local_layers)
        self.tokens = tokens
        self.stride, self.left, self.right = field
        self.halo = field.halo
        most_by_one_base = (self.left + self.right) // self.stride + 1
        size = most_by_one_base + 2 * self.halo
        self.sizes: list[int] = []
        while size < tokens:
            self.sizes.append(size)
            size *= 2
        self.sizes.append(tokens)

    def changed(self, low: int, high: int) -> tuple[int, int]:
        """Tokens, half-open, that the bases ``low`` to ``high`` (half-open) of the window reach."""
        first = -((self.right - low) // self.stride)
        last = (high - 1 + self.left) // self.stride + 1
        return max(0, first), min(self.tokens, last)

    def patch(self, low: int, high: int) -> Patch:
        """The smallest patch that holds all tokens that the bases ``low`` to ``high`` reach."""
        first, last = self.changed(low, high)
        for size in self.sizes:
            start = min(max(0, first - self.halo), self.tokens - size)
            begin = start + (self.halo if start > 0 else 0)
            end = start + size - (self.halo if start + size < self.tokens else 0)
            if begin <= first and last <= end:
                return Patch(start, size, begin, end)
        raise AssertionError("the last size is the whole window")


class Sequences(NamedTuple):
    """A batch for :class:`IncrementalPredictor`.

    Args:
        codes: uint8 (n, window_length).
        reference: for every sequence, the row of its reference: its own for a reference; -1 for the
            last reference of the batch before.
        changed: for every alternate, the window's bases (half-open) that differ from the reference's.
        windows: for every reference, contig and start of the window.
    """

    codes: torch.Tensor
    reference: Sequence[int]
    changed: Sequence[tuple[int, int]]
    windows: Sequence[tuple[str, int]]


class _References(NamedTuple):
    """References of a pass: codes (m, context_length); tokens (m, tokens, C) before, between and after
    the local stages, the last with a summary in front where the last stage makes one; and what that
    summary is made from, (m, tokens, D).
    """

    codes: torch.Tensor
    activations: list[torch.Tensor]
    projected: torch.Tensor | None

    def followed_by(self, other: _References) -> _References:
        """These and then others."""
        both = zip(self.activations, other.activations, strict=True)
        projected = None
        if self.projected is not None and other.projected is not None:
            projected = torch.cat([self.projected, other.projected])
        codes = torch.cat([self.codes, other.codes])
        return _References(codes, [torch.cat(pair) for pair in both], projected)

    def last(self) -> _References:
        """The last one alone, in memory of its own."""
        if len(self.codes) == 1:
            return self
        projected = None if self.projected is None else self.projected[-1:].clone()
        return _References(
            self.codes[-1:].clone(), [each[-1:].clone() for each in self.activations], projected
        )


def _spliced(tokens: torch.Tensor, first: int, last: int, values: torch.Tensor) -> torch.Tensor:
    """Tokens, which may be overwritten, with values from ``first`` to ``last``."""
    tokens[:, first:last] = values
    return tokens


GenomeCodes = Callable[[str, int, int], NDArray[np.uint8]]


class IncrementalPredictor:
    """Predictions of references and their alternates; see the module.

    Members of an ensemble without a local trunk are shown whole windows.

    Args:
        predictor: the models with their batch shape, strands and shifts.
        genome: codes of any interval of a contig, for tokens along the genome; None where windows lie
            on no grid.
        cache_bytes: memory for these, of all members together; None chooses by the type of device.
    """

    def __init__(
        self, predictor: Predictor, genome: GenomeCodes | None = None, cache_bytes: int | None = None
    ) -> None:
        self.predictor = predictor
        limit = CACHE_BYTES[predictor.device.type] if cache_bytes is None else cache_bytes
        with_trunk = sum(bool(model.local_layers) for model in predictor.models)
        self.trunks = [
            MemberTrunk(predictor, member, genome, limit // with_trunk) if member.model.local_layers else None
            for member in predictor.members
        ]
        """What computes the tokens of each member; None without a local trunk."""

    @staticmethod
    def applies(predictor: Predictor) -> bool:
        """Whether a model has a local trunk."""
        return any(model.local_layers for model in predictor.models)

    def forget(self) -> None:
        """Forget the last reference of the batch before; the next batch must begin with one."""
        for trunk in filter(None, self.trunks):
            trunk.forget()

    def predict_passes(
        self, batch: Sequences, bins: tuple[int, int] | None = None
    ) -> Sequence[tuple[Pass, torch.Tensor]]:
        """Predictions of one batch, pass by pass, as :meth:`Predictor.predict_passes` gives them."""
        codes = self.predictor.to_device(batch.codes)
        results = []
        for each in self.predictor.passes:
            inputs = self.predictor.oriented(codes, each)
            trunk = self.trunks[each.member]
            if trunk is not None:
                inputs = trunk.tokens(batch, inputs, each)
            results.append((each, self.predictor.natural(inputs, each, bins)))
        return results


class MemberTrunk:
    """Tokens of references and their alternates by one model with a local trunk.

    Args:
        predictor: batch shape and shifts.
        member: the model.
        genome: as for :class:`IncrementalPredictor`.
        cache_bytes: memory for tokens along the genome.
    """

    def __init__(
        self, predictor: Predictor, member: Member, genome: GenomeCodes | None, cache_bytes: int
    ) -> None:
        self.predictor = predictor
        self._member = member
        tokens = predictor.context_length // member.model.token_size
        self.geometry = TrunkGeometry(member.model, tokens)
        self._segments: _Segments | None = None
        if genome is not None and tokens >= 8 * max(1, self.geometry.halo):
            self._segments = _Segments(self._encode_one, genome, self.geometry, cache_bytes)
        self._stages = member.model.local_stages
        self._carried: dict[Pass, _References] = {}

    def forget(self) -> None:
        """Forget the last reference of the batch before."""
        self._carried.clear()

    @torch.inference_mode()
    def tokens(self, batch: Sequences, codes: torch.Tensor, each: Pass) -> torch.Tensor:
        """What the local stages leave of every sequence in a pass: (n, S + tokens, C)."""
        rows = [row for row, reference in enumerate(batch.reference) if reference == row]
        references = self._carried.get(each)
        place = {-1: 0}
        if rows:
            windows = [batch.windows[row] for row in rows]
            new = self._run_references(codes[indices(rows, codes.device)], windows, each)
            offset = 0 if references is None else 1
            place.update({row: offset + number for number, row in enumerate(rows)})
            references = new if references is None else references.followed_by(new)
        assert references is not None
        self._carried[each] = references.last()

        device = self.predictor.device
        slots = indices([place[row] for row in batch.reference], device)
        by_size: dict[int, list[tuple[int, Patch]]] = {}
        for row, reference in enumerate(batch.reference):
            patch = None if reference == row else self._patch(batch.changed[row], each)
            if patch is not None:
                by_size.setdefault(patch.size, []).append((row, patch))
        spans: dict[tuple[int, int], list[tuple[int, torch.Tensor]]] = {}
        for size, patches in by_size.items():
            tokens = self._patch_tokens(codes, references, slots, size, patches)
            for (row, patch), values in zip(patches, tokens, strict=True):
                right = values[patch.first - patch.start : patch.last - patch.start]
                spans.setdefault((patch.first, patch.last), []).append((row, right))
        result: torch.Tensor | None = None
        for span, changed in spans.items():
            changed.sort(key=lambda entry: entry[0])
            numbers = indices([row for row, _ in changed], device)
            values = torch.stack([right for _, right in changed])
            found = self._through_stages(values, references, slots[numbers], span)
            if len(changed) == len(batch.reference):
                return found
            if result is None:
                result = references.activations[-1][slots]
            result[numbers] = found
        return references.activations[-1][slots] if result is None else result

    def _patch_tokens(
        self,
        codes: torch.Tensor,
        references: _References,
        slots: torch.Tensor,
        size: int,
        patches: Sequence[tuple[int, Patch]],
    ) -> torch.Tensor:
        """Tokens of the local trunk in patches of one size: (n, size, C), right between their ends.

        Args:
            codes: (m, context_length) of all sequences.
            references: the references with their activations.
            slots: (m,), for every sequence its reference.
            size: tokens of a patch.
            patches: n rows of ``codes`` with their patches.
        """
        device = self.predictor.device
        chosen = indices([row for row, _ in patches], device)
        starts = indices([patch.start for _, patch in patches], device)
        bases = (starts * self.geometry.stride)[:, None] + torch.arange(
            size * self.geometry.stride, device=device
        )
        alternate = codes[chosen].gather(1, bases)
        if size * _PAIRED > self.geometry.tokens:
            return self._encode(alternate, 1)
        index = starts[:, None] + torch.arange(size, device=device)
        there = references.activations[0][slots[chosen][:, None], index]
        return there + self._differences(alternate, references.codes[slots[chosen]].gather(1, bases))

    def _through_stages(
        self, values: torch.Tensor, references: _References, slots: torch.Tensor, span: tuple[int, int]
    ) -> torch.Tensor:
        """What the local stages leave of some alternates: (n, S + tokens, C).

        Args:
            values: (n, last - first, C), the trunk's tokens in which alternates and references differ.
            references: the references with their activations.
            slots: (n,), for every alternate its reference.
            span: the place of these tokens, half-open.
        """
        count = self.geometry.tokens
        numbers = torch.arange(len(values), device=values.device)

        def function(chosen: torch.Tensor) -> torch.Tensor:
            at, piece = slots[chosen], values[chosen]
            first, last = span
            summary = None
            for number, stage in enumerate(self._stages):
                low = max(0, first // stage.align * stage.align - stage.reach)
                high = min(count, -(-last // stage.align) * stage.align + stage.reach)
                start, end = max(0, low - stage.reach), min(count, high + stage.reach)
                if end - start > CONE_SHARE * count:
                    whole = _spliced(references.activations[number][at], first, last, piece)
                    for rest in self._stages[number:]:
                        whole = rest.on_window(whole)
                    return whole
                if stage.project is not None and stage.summarize is not None:
                    assert references.projected is not None
                    projected = stage.project(piece, count, first)
                    summary = stage.summarize(_spliced(references.projected[at], first, last, projected))
                part = references.activations[number][at, start:end]
                part = stage.run(_spliced(part, first - start, last - start, piece), count, start)
                first, last = low, high
                piece = part[:, low - start : high - start]
            result = references.activations[-1][at]
            rows = result.shape[1] - count
            if summary is not None:
                result[:, :rows] = summary
            return _spliced(result, rows + first, rows + last, piece)

        return self.predictor.in_batches(function, numbers, len(values))

    def _run_references(
        self, codes: torch.Tensor, windows: Sequence[tuple[str, int]], each: Pass
    ) -> _References:
        """References through the local trunk and the local stages, every activation kept."""
        activations = [self._references(codes, windows, each)]
        projected = None
        for stage in self._stages:

            def function(piece: torch.Tensor, stage: LocalStage = stage) -> torch.Tensor:
                return stage.on_window(piece)

            def project(piece: torch.Tensor, stage: LocalStage = stage) -> torch.Tensor:
                assert stage.project is not None
                return stage.project(piece, self.geometry.tokens, 0)

            if stage.project is not None:
                projected = self.predictor.in_batches(project, activations[-1], 1)
            activations.append(self.predictor.in_batches(function, activations[-1], 1))
        return _References(codes, activations, projected)

    def _patch(self, changed: tuple[int, int], each: Pass) -> Patch | None:
        """The patch of an alternate in a pass; None where the pass does not show the change."""
        length = self.predictor.context_length
        offset = self.predictor.flank + each.shift
        low, high = max(0, changed[0] - offset), min(length, changed[1] - offset)
        if low >= high:
            return None
        if each.reverse:
            low, high = length - high, length - low
        return self.geometry.patch(low, high)

    def _references(
        self, codes: torch.Tensor, windows: Sequence[tuple[str, int]], each: Pass
    ) -> torch.Tensor:
        """Tokens of reference windows: (n, context_length) oriented codes -> (n, tokens, C)."""
        if self._segments is None:
            return self._encode(codes, 1)
        offset = self.predictor.flank + each.shift
        found = [
            self._segments.window(window, contig, start + offset, each.reverse)
            for window, (contig, start) in zip(codes, windows, strict=True)
        ]
        return torch.stack(found)

    def _differences(self, alternate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Tokens of alternates less tokens of references: codes (n, L) of both -> (n, L / stride, C)."""
        pairs = max(1, self.predictor.batch_size // 2)

        def function(both: torch.Tensor) -> torch.Tensor:
            flat = self._member.trunk.encode(self._member.one_hot(both.flatten(0, 1)))
            tokens = flat.unflatten(0, (-1, 2))
            return tokens[:, 0] - tokens[:, 1]

        return self.predictor.in_batches(function, torch.stack([alternate, reference], dim=1), pairs)

    def _encode(self, codes: torch.Tensor, rows: int) -> torch.Tensor:
        """Tokens of (n, L) codes, in batches of so many rows."""

        def function(piece: torch.Tensor) -> torch.Tensor:
            return self._member.trunk.encode_window(self._member.one_hot(piece))

        return self.predictor.in_batches(function, codes, rows)

    def _encode_one(self, codes: NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """Tokens of one sequence: (L,) -> (L / stride, C)."""
        return self._encode(upload(torch.as_tensor(codes), self.predictor.device)[None], 1)[0]


class _Segments:
    """Tokens along the genome, in segments of a fixed grid, the least recently used going first.

    Args:
        encode: codes of one sequence to its tokens.
        genome: codes of an interval.
        geometry: of the trunk.
        limit: bytes of tokens that are kept.
    """

    def __init__(
        self,
        encode: Callable[[NDArray[np.uint8] | torch.Tensor], torch.Tensor],
        genome: GenomeCodes,
        geometry: TrunkGeometry,
        limit: int,
    ) -> None:
        self._encode = encode
        self._genome = genome
        self._geometry = geometry
        self._limit = limit
        self._kept: OrderedDict[tuple[str, int, int, bool], torch.Tensor] = OrderedDict()
        self._bytes = 0
        self._size = min(128, max(1, geometry.tokens // 8))

    @property
    def bytes(self) -> int:
        """Bytes of tokens that are kept now."""
        return self._bytes

    def window(self, codes: torch.Tensor, contig: str, start: int, reverse: bool) -> torch.Tensor:
        """Tokens of a window as the model sees it: (tokens, C).

        Args:
            codes: its oriented codes.
            contig: where it lies.
            start: genome position of its first base on the + strand.
            reverse: whether it is shown from the - strand.
        """
        geometry = self._geometry
        halo, stride = geometry.halo, geometry.stride
        inner = self._inner(contig, start + halo * stride, geometry.tokens - 2 * halo, reverse)
        if not halo:
            return inner
        ends = 2 * halo * stride
        left, right = self._encode(codes[:ends])[:halo], self._encode(codes[-ends:])[-halo:]
        return torch.cat([left, inner, right])

    def _inner(self, contig: str, start: int, count: int, reverse: bool) -> torch.Tensor:
        stride = self._geometry.stride
        first, phase = divmod(start, stride)
        pieces = []
        token = first
        while token < first + count:
            number = token // self._size
            end = min(first + count, (number + 1) * self._size)
            segment = self._segment(contig, number, phase, reverse)
            pieces.append(segment[token - number * self._size : end - number * self._size])
            token = end
        inner = torch.cat(pieces)
        return inner.flip(0) if reverse else inner

    def _segment(self, contig: str, number: int, phase: int, reverse: bool) -> torch.Tensor:
        """Tokens of one segment in the order of the + strand."""
        key = (contig, number, phase, reverse)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        geometry = self._geometry
        start = number * self._size * geometry.stride + phase
        margin = geometry.halo * geometry.stride
        codes = self._genome(contig, start - margin, start + self._size * geometry.stride + margin)
        if reverse:
            codes = np.where(codes < 4, 3 - codes, codes)[::-1].copy()
        tokens = self._encode(codes)[geometry.halo : geometry.halo + self._size]
        tokens = (tokens.flip(0) if reverse else tokens).clone()
        self._kept[key] = tokens
        self._bytes += tokens.nbytes
        while self._bytes > self._limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return tokens
