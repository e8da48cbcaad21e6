"""Sequences with measured tracks: prepared files and how to make them, folders of TFRecords."""

from gexpr.datasets.basenji import BasenjiDataset
from gexpr.datasets.prepare import PrepareOptions, PrepareSummary, TrackSummary, prepare
from gexpr.datasets.prepared import PreparedDataset, Window
from gexpr.datasets.tables import TrackSpec, read_track_table
from gexpr.datasets.windowed import WindowData, WindowedDataset

__all__ = [
    "BasenjiDataset",
    "PrepareOptions",
    "PrepareSummary",
    "PreparedDataset",
    "TrackSpec",
    "TrackSummary",
    "Window",
    "WindowData",
    "WindowedDataset",
    "prepare",
    "read_track_table",
]
