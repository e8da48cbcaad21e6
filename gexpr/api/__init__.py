"""The Python interface: a model that predicts, scores, mutates and attributes; results as data frames.

    model = gexpr.load("yeast-tss")
    model.predict("example", ["chrI:140,900-141,900"]).to_frame()
    model.score("example", ["chrI:141592:T:G"]).to_frame()
    model.ism("example", "chrI:141,580-141,620").to_frame()
    model.attribute("example", "chrI:141,580-141,620").to_frame()

The numbers are those of ``gexpr predict``, ``score-variants``, ``ism`` and ``attribute``, which are for many
regions and variants: they write files, use several devices and survive interruption. Here everything stays
in memory.
"""

from __future__ import annotations

from gexpr.api.model import Model, load
from gexpr.api.results import Attributions, Mutagenesis, Predictions, Scores

__all__ = ["Attributions", "Model", "Mutagenesis", "Predictions", "Scores", "load"]
