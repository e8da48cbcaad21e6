"""Metrics on held-out contigs or windows, a ceiling from replicates, and a 6-mer ridge as baseline."""

from gexpr.evaluation.bins import Density, Metric
from gexpr.evaluation.evaluate import (
    Evaluation,
    GeneValues,
    Settings,
    compare,
    difference_of,
    evaluate_model,
    evaluate_ridge,
    measured_vs_measured,
)
from gexpr.evaluation.genes import Genes, PromoterWindow, read_genes
from gexpr.evaluation.groups import Group
from gexpr.evaluation.tables import (
    group_lines,
    summary_lines,
    write_genes,
    write_groups,
    write_metrics,
)
from gexpr.evaluation.windows import evaluate_windows

__all__ = [
    "Density",
    "Evaluation",
    "GeneValues",
    "Genes",
    "Group",
    "Metric",
    "PromoterWindow",
    "Settings",
    "compare",
    "difference_of",
    "evaluate_model",
    "evaluate_ridge",
    "evaluate_windows",
    "group_lines",
    "measured_vs_measured",
    "read_genes",
    "summary_lines",
    "write_genes",
    "write_groups",
    "write_metrics",
]
