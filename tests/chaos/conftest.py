"""Inputs for runs that are killed, and what such runs must give in the end."""

from __future__ import annotations

import pytest
from chaos_tools import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Inputs that every test may read and none may change."""
    return make_world(tmp_path_factory.mktemp("world"))
