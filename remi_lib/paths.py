"""Where things lie: the checkout, its cache, its figures and its data.

CONTRIBUTING.md has a table of the environment variables that move them.

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
