"""Gradients of the built-in checkpoint against what its mutagenesis says."""

from __future__ import annotations

import numpy as np
import pytest

from gexpr import checkpoints
from gexpr.genome.bed import read_bed
from gexpr.genome.examples import resolve_bed, resolve_fasta
from gexpr.genome.fasta import Fasta
from gexpr.interpretation.gradients import Attributor
from gexpr.interpretation.mutagenesis import Changes, RegionScorer, region_window_start
from gexpr.results import Region
from gexpr.scoring.definitions import Mask
from gexpr.scoring.predictor import Predictor


@pytest.mark.slow
def test_gradients_resemble_mutagenesis() -> None:
    genome = Fasta(resolve_fasta("example"))
    promoter = read_bed(resolve_bed("example"))[0]
    middle = (promoter.start + promoter.end) // 2
    region = Region(promoter.chrom, middle - 20, middle + 20)
    predictor = Predictor(checkpoints.load("yeast-tss"), tracks=[0], reverse_complement=False)
    mask = Mask(200)
    scores = RegionScorer(predictor, genome, 40, Changes(), mask=mask).score_region(region, 0, 40)["logFC"]
    start = region_window_start(region, predictor.context_length)
    window = genome.codes(region.chrom, start, start + predictor.window_length)
    first = region.start - start
    found = Attributor(predictor, mask=mask).gradient(window, first, first + 40)
    codes = window[first : first + 40]
    own = found.values[np.arange(40), codes, 0]
    expected = found.values[..., 0] - own[:, None]
    others = np.ones((40, 4), dtype=bool)
    others[np.arange(40), codes] = False
    r = np.corrcoef(expected[others], scores[..., 0][others])[0, 1]
    print(f"r = {r:.3f} between gradients and {others.sum()} scores")
    assert r > 0.75
