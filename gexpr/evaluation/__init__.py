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
from gexpr.evaluation.sequences import (
    Subset,
    TableEvaluation,
    check_members,
    evaluate_table,
    open_table,
    read_subsets,
    recorded,
)
from gexpr.evaluation.tables import (
    group_lines,
    row_lines,
    summary_lines,
    write_genes,
    write_groups,
    write_metrics,
    write_rows,
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
    "Subset",
    "TableEvaluation",
    "check_members",
    "compare",
    "difference_of",
    "evaluate_model",
    "evaluate_ridge",
    "evaluate_table",
    "evaluate_windows",
    "group_lines",
    "measured_vs_measured",
    "open_table",
    "read_genes",
    "read_subsets",
    "recorded",
    "row_lines",
    "summary_lines",
    "write_genes",
    "write_groups",
    "write_metrics",
    "write_rows",
]
