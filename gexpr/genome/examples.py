"""The example data that comes with the package: the word ``example`` in place of a file's name.

It is chromosome I of Saccharomyces cerevisiae and variants in three of its promoters; see the NOTICE beside
the files and examples/make_example_data.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from gexpr.errors import InputError

FOLDER = Path(__file__).resolve().parent.parent / "data" / "examples"
WORD = "example"


def resolve_fasta(path: str | os.PathLike[str]) -> str:
    """The packaged FASTA for the word ``example``, any other path as it is.

    A file that is really named ``example`` in the working directory comes first.

    Raises:
        InputError: the packaged file is missing from the installation.
    """
    return _resolve(path, "chrI.fa.gz")


def resolve_vcf(path: str | os.PathLike[str]) -> str:
    """The packaged VCF for the word ``example``; see :func:`resolve_fasta`."""
    return _resolve(path, "chrI_promoters.vcf.gz")


def resolve_bed(path: str | os.PathLike[str]) -> str:
    """The packaged BED for the word ``example``; see :func:`resolve_fasta`."""
    return _resolve(path, "chrI_promoters.bed")


def _resolve(path: str | os.PathLike[str], name: str) -> str:
    text = os.fspath(path)
    if text != WORD or os.path.exists(text):
        return text
    packaged = FOLDER / name
    if not packaged.is_file():
        raise InputError("the example file is missing from this installation of gexpr", path=packaged)
    return str(packaged)
