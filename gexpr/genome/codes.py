"""Nucleotide codes: A C G T = 0 1 2 3, every other letter = 4 (an all-zero one-hot row)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

UNKNOWN = 4
"""Code of N, IUPAC letters, gaps and positions outside a contig."""

_ENCODE = np.full(256, UNKNOWN, dtype=np.uint8)
for _code, _letters in enumerate((b"Aa", b"Cc", b"Gg", b"Tt")):
    for _letter in _letters:
        _ENCODE[_letter] = _code

_ENCODE_TABLE = _ENCODE.tobytes()
_DECODE = bytes.maketrans(bytes(range(5)), b"ACGTN")
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN], dtype=np.uint8)
_ONE_HOT = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), dtype=np.float32)])


def encode(text: str | bytes) -> Codes:
    """Codes of a sequence, upper or lower case.

    Args:
        text: the letters; a ``str`` may hold any character (those outside ASCII become 4).

    Returns:
        uint8 array (length,).
    """
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    # A bytearray, so that the array can be written to.
    return np.frombuffer(bytearray(raw).translate(_ENCODE_TABLE), dtype=np.uint8)


def decode(codes: Codes) -> str:
    """Letters ``ACGTN`` of a one-dimensional array of codes."""
    return np.ascontiguousarray(codes, dtype=np.uint8).tobytes().translate(_DECODE).decode("ascii")


def reverse_complement(codes: Codes) -> Codes:
    """Reverse complement along the last axis; unknown stays unknown. A new array."""
    return _COMPLEMENT[codes[..., ::-1]]


def one_hot(codes: Codes) -> NDArray[np.float32]:
    """One-hot rows in the order A, C, G, T: float32 (..., 4); code 4 gives zeros."""
    return _ONE_HOT[codes]
