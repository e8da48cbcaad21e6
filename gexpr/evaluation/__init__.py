"""Metrics on held-out contigs, a ceiling from replicates, and a 6-mer ridge as baseline."""

from gexpr.evaluation.evaluate import (
    Density,
    Evaluation,
    GeneValues,
    Metric,
    Settings,
    compare,
    difference_of,
    evaluate_model,
    evaluate_ridge,
    measured_vs_measured,
)
from gexpr.evaluation.genes import Genes, PromoterWindow, read_genes
from gexpr.evaluation.tables import summary_lines, write_genes, write_metrics

__all__ = [
    "Density",
    "Evaluation",
    "GeneValues",
    "Genes",
    "Metric",
    "PromoterWindow",
    "Settings",
    "compare",
    "difference_of",
    "evaluate_model",
    "evaluate_ridge",
    "measured_vs_measured",
    "read_genes",
    "summary_lines",
    "write_genes",
    "write_metrics",
]
