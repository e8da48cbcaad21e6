"""A Slurm cluster for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from private_slurm import PrivateSlurm, lacking


@pytest.fixture(scope="session")
def slurm() -> Iterator[PrivateSlurm]:
    """A Slurm cluster of one node, this machine; skips where it cannot be started."""
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    with PrivateSlurm() as cluster:
        yield cluster
