"""Architectures: torch modules only, no file formats. See :mod:`gexpr.models.registry`."""
