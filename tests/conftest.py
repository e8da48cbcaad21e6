"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The defaults of whoever runs the tests are not theirs.
os.environ["GEXPR_CONFIG"] = ""
for _name in (
    "CHECKPOINT",
    "FASTA",
    "DEVICE",
    "THREADS",
    "BATCH_SIZE",
    "PRECISION",
    "QUIET",
    "VERBOSE",
    "LOG_JSON",
):
    os.environ.pop(f"GEXPR_{_name}", None)

# A busy machine is not a fault of the code.
hypothesis.settings.register_profile("gexpr", deadline=None)
hypothesis.settings.load_profile("gexpr")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data (data/, corpora/), from GEXPR_TEST_DATA; skips without it."""
    value = os.environ.get("GEXPR_TEST_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("GEXPR_TEST_DATA does not name a folder of reference data")
    return Path(value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where no CUDA device is present."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
