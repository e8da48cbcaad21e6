"""What can be converted: the names of the sources, the settings each takes, what is known of its license.

Nothing heavy is imported here, so that the command line can ask.
"""

from __future__ import annotations

from typing import NamedTuple

CHOICES = {"gelu": ("sigmoid", "tanh"), "squash": ("shifted", "power")}
"""Settings with few values: approximations of GELU; how tracks were squashed, by baskerville's present code
or as in Borzoi's publication."""


class Kind(NamedTuple):
    """A source of weights.

    Attributes:
        options: the settings of :func:`gexpr.conversion.convert.convert` that mean something for it, besides
            those that every source takes.
        license: what the model card says of the license of the weights: what their pages say, and which.
    """

    options: frozenset[str]
    license: str


_GEOMETRY = frozenset({"context_length", "target_length"})
_ENFORMER = _GEOMETRY | {"gamma_normalization", "sparse"}
_KERAS = frozenset({"params", "squash", "gelu"})

KINDS: dict[str, Kind] = {
    "baskerville": Kind(
        _KERAS,
        "not stated for Borzoi's weights by the README.md of github.com/calico/borzoi; check with their "
        "source. Cite Linder et al., Nature Genetics 57:949 (2025)",
    ),
    "basenji2": Kind(
        _KERAS,
        "not stated for Basenji2's weights by manuscripts/cross2020/README.md of github.com/calico/basenji; "
        "check with their source. Cite Kelley, PLoS Computational Biology 16:e1008050 (2020)",
    ),
    "borzoi-pytorch": Kind(
        _GEOMETRY | {"squash"},
        "CC-BY-4.0 for johahi/borzoi-replicate-N and MIT for johahi/flashzoi-replicate-N, as their pages on "
        "huggingface.co say; for others check with their source. Cite Linder et al., Nature Genetics 57:949 "
        "(2025)",
    ),
    "enformer-pytorch": Kind(
        _ENFORMER,
        "CC-BY-4.0 for EleutherAI/enformer-official-rough and Apache-2.0 for EleutherAI/enformer-191k and "
        "enformer-preview, as their pages on huggingface.co say; for others check with their source. Cite "
        "Avsec et al., Nature Methods 18:1196 (2021)",
    ),
    "enformer-sonnet": Kind(
        _ENFORMER,
        "not stated for the weights by enformer/README.md of github.com/google-deepmind/deepmind-research, "
        "which has predictions under CC-BY-4.0; check with their source. Cite Avsec et al., Nature Methods "
        "18:1196 (2021)",
    ),
    "gexpr": Kind(
        _GEOMETRY | {"sparse"},
        "that of the checkpoint it was made of",
    ),
}
"""The sources by name."""
