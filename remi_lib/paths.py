"""Where things lie: the checkout, its cache, its figures and its data.

Environment variables of the project, all optional (also a table in CONTRIBUTING.md):

- ``REMI_CACHE``: stored results, in place of ``build/cache``.
- ``REMI_DATA``: image archives, in place of ``data/``.
- ``REMI_FIGURES``: artifacts, in place of ``figures/``; times then go beside them.
- ``REMI_REFERENCE``: the figures a check compares its verdicts with (``make check`` sets it).
- ``REMI_PROGRESS``: a file to which kernels write their progress (``make`` sets it).
- ``REMI_IMAGENET``: the ImageNet tree that notebook 08 reads under the GPU profile.
- ``REMI_PER_GPU``: local processes that share a GPU (1).
- ``REMI_GPU_SHARE``: the part of a GPU that a Ray task takes (1).
- ``REMI_BMI_PYTHON``: the interpreter with benchmark-mi (``make compare`` sets it).
- ``ENGINE``, ``RAY_ADDRESS``: ``ray`` runs the image sweeps on that Ray cluster.
- ``KILLS``: how often ``make soak`` kills (20).

This module is ground: it imports nothing of the library.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """The checkout the library runs from, or the working directory for an installed library."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "params").is_dir() else Path.cwd()


def cache_dir() -> Path:
    """``build/cache`` of the checkout, or what REMI_CACHE names."""
    return Path(os.environ.get("REMI_CACHE") or project_root() / "build" / "cache")


def figures_dir(profile: str) -> Path:
    """``figures/<profile>`` of the checkout, or ``<REMI_FIGURES>/<profile>``."""
    return Path(os.environ.get("REMI_FIGURES") or project_root() / "figures") / profile


def times_dir(profile: str) -> Path:
    """``build/<profile>/times``: what clocks said, kept apart from the figures, which repeat.

    Beside the figures, in ``<REMI_FIGURES>/times/<profile>``, where those are sent elsewhere.
    """
    elsewhere = os.environ.get("REMI_FIGURES")
    if elsewhere:
        return Path(elsewhere) / "times" / profile
    return project_root() / "build" / profile / "times"


def data_dir() -> Path:
    """``data/`` of the checkout, or what REMI_DATA names: where image archives lie."""
    return Path(os.environ.get("REMI_DATA") or project_root() / "data")
