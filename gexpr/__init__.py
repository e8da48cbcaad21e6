"""gexpr: score genetic variants with sparse-attention sequence-to-expression models.

``gexpr.load(NAME_OR_PATH)`` gives a trained model, which predicts regions and scores variants.
Importing the package imports nothing heavy: PyTorch is imported by the first attribute that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from gexpr.api import load


def __getattr__(name: str) -> Any:
    if name == "load":
        from gexpr.api import load

        return load
    raise AttributeError(f"module 'gexpr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
