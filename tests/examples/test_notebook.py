"""The notebook runs, and its numbers are those stored in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook" / "quickstart.ipynb"


def texts(notebook: Any) -> list[str]:
    """What each code cell shows as text, memory addresses and pictures aside."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text = output.get("data", {}).get("text/plain", "")
            if "image/png" not in output.get("data", {}):
                shown.append(text)
    return shown


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    if not NOTEBOOK.exists():
        pytest.skip("the examples are not here")
    stored = nbformat.read(NOTEBOOK, as_version=4)
    expected = texts(stored)
    assert any("ref_mismatch" in text for text in expected)
    nbclient.NotebookClient(stored, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert texts(stored) == expected
