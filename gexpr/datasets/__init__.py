"""Sequences with measured values: prepared files, folders of TFRecords, tables; windows to train on."""

from gexpr.datasets.basenji import BasenjiDataset
from gexpr.datasets.folds import Fold, parse_fold
from gexpr.datasets.prepare import PrepareOptions, PrepareSummary, TrackSummary, prepare
from gexpr.datasets.prepared import PreparedDataset, Window
from gexpr.datasets.sequence_table import Construct, SequenceTable, TableWindows, table_kind
from gexpr.datasets.stored import MiddleWindows, StoredWindows
from gexpr.datasets.tables import TrackSpec, read_track_table
from gexpr.datasets.windowed import Batch, Draws, TrainingSource, WindowData, WindowedDataset

__all__ = [
    "BasenjiDataset",
    "Batch",
    "Construct",
    "Draws",
    "Fold",
    "MiddleWindows",
    "PrepareOptions",
    "PrepareSummary",
    "PreparedDataset",
    "SequenceTable",
    "StoredWindows",
    "TableWindows",
    "TrackSpec",
    "TrackSummary",
    "TrainingSource",
    "Window",
    "WindowData",
    "WindowedDataset",
    "parse_fold",
    "prepare",
    "read_track_table",
    "table_kind",
]
