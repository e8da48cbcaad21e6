"""Scores of alleles on the haplotypes of samples: ``gexpr score-variants --phased``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gexpr import logs
from gexpr.results import Variant
from gexpr.runs.common import block_rows
from gexpr.runs.directory import Block
from gexpr.runs.score_variants import ScoreTask, VariantRows, _Opened
from gexpr.scoring.definitions import STATISTICS
from gexpr.scoring.engine import FastaWindows
from gexpr.scoring.haplotypes import COLUMNS, KIND_MEANINGS, HaplotypeScorer, kind_names
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.genotypes import Genotypes, choose_samples
from gexpr.variants.vcf import VcfSource

_PLANNED_ROWS = 1 << 16
"""Alleles that are looked at at a time before anything is computed."""


class PhasedRows(VariantRows):
    """The rows of phased scores; see :class:`gexpr.scoring.haplotypes.HaplotypeScorer`.

    Args:
        source: the opened VCF.
        reader: splits and judges the alleles.
        scorer: knows the haplotypes.
    """

    def __init__(self, source: VcfSource, reader: AlleleReader, scorer: HaplotypeScorer) -> None:
        super().__init__(source, reader)
        self._scorer = scorer

    def read(self, block: Block) -> list[Variant]:
        """The alleles of a block of rows, one a row, each with the row's status.

        Raises:
            InputError: a fault of the file or of its genotypes.
        """
        width = self._scorer.width
        alleles = super().read(Block(block.start // width, -(-block.end // width)))
        return [row for each in alleles for row in self._scorer.rows(each, block.start, block.end)]


class PhasedScoreTask(ScoreTask):
    """Scores of the alleles of a VCF on the haplotypes of its samples."""

    def _open(self) -> _Opened:
        options, opened = self.options, super()._open()
        samples = choose_samples(opened.source, options.samples)
        scorer = HaplotypeScorer(
            opened.predictor,
            FastaWindows(opened.genome),
            Genotypes(opened.source, opened.reader, samples),
            statistics=options.statistics,
            pseudocount=options.pseudocount,
            mask=options.mask,
            average=options.average,
            aggregate=options.aggregate,
            window_rule=options.window_rule,
        )
        return opened._replace(scorer=scorer, rows=PhasedRows(opened.source, opened.reader, scorer))

    def _haplotypes(self) -> HaplotypeScorer:
        scorer = self.open().scorer
        assert isinstance(scorer, HaplotypeScorer)
        return scorer

    def _names(self, opened: _Opened) -> tuple[str, ...]:
        return kind_names(self.options.statistics)

    def _columns(self, opened: _Opened, variants: Sequence[Variant]) -> dict[str, list[Any]]:
        return {**super()._columns(opened, variants), **self._haplotypes().columns(variants)}

    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines a score: also the samples."""
        return {
            **super().fingerprint(),
            "phased": True,
            "samples": ",".join(self._haplotypes().genotypes.samples),
        }

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Read all of the VCF, judge every allele, then read genotypes and judge every row."""
        alleles, content = super().plan()
        scorer = self._haplotypes()
        left_out = scorer.genotypes.left_out
        if left_out:
            counts = ", ".join(f"{status} {number:,}" for status, number in sorted(left_out.items()))
            logs.warning(f"haplotypes are made without alleles that cannot be shown as a sequence: {counts}")
        rows = alleles * scorer.width
        by_status: Counter[str] = Counter()
        step = max(1, _PLANNED_ROWS // scorer.width) * scorer.width
        for start in range(0, rows, step):
            found = self.open().rows.read(Block(start, min(rows, start + step)))
            by_status.update(each.status for each in found)
        definitions = {
            name + suffix: f"{STATISTICS[name].formula}; r and a: {meaning}"
            for suffix, meaning in KIND_MEANINGS.items()
            for name in self.options.statistics
        }
        return rows, {
            **content,
            "by_status": dict(by_status),
            # In their order, which a mapping loses in the manifest.
            "columns": list(COLUMNS.items()),
            "definitions": definitions,
        }

    def default_block_rows(self, rows: int) -> int:
        """Rows a block: up to four windows each, of which many are shared."""
        return block_rows(self.open().predictor, rows, 2)
