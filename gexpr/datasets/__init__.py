"""Prepared training data: genome, tracks and windows in one HDF5 file, and how to make it."""

from gexpr.datasets.prepare import PrepareOptions, PrepareSummary, TrackSummary, prepare
from gexpr.datasets.prepared import PreparedDataset, Window, WindowData
from gexpr.datasets.tables import TrackSpec, read_track_table

__all__ = [
    "PrepareOptions",
    "PrepareSummary",
    "PreparedDataset",
    "TrackSpec",
    "TrackSummary",
    "Window",
    "WindowData",
    "prepare",
    "read_track_table",
]
