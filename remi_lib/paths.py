"""Where things lie: the checkout, its cache, its figures and its data; files that are whole.

CONTRIBUTING.md has a table of the environment variables that move them.

This module is ground: it imports nothing of the library.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """The checkout the library runs from, or the working directory for an installed library."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "params").is_dir() else Path.cwd()


def cache_dir() -> Path:
    """``build/cache`` of the checkout, or what REMI_CACHE names."""
    return _named("REMI_CACHE") or project_root() / "build" / "cache"


def figures_dir(profile: str) -> Path:
    """``figures/<profile>`` of the checkout, or ``<REMI_FIGURES>/<profile>``."""
    return (_named("REMI_FIGURES") or project_root() / "figures") / profile


def times_dir(profile: str) -> Path:
    """``build/<profile>/times``: what clocks said, kept apart from the figures, which repeat.

    Beside the figures, in ``<REMI_FIGURES>/times/<profile>``, where those are sent elsewhere.
    """
    elsewhere = _named("REMI_FIGURES")
    if elsewhere:
        return elsewhere / "times" / profile
    return project_root() / "build" / profile / "times"


def data_dir() -> Path:
    """``data/`` of the checkout, or what REMI_DATA names: where image archives lie."""
    return _named("REMI_DATA") or project_root() / "data"


def _named(variable: str) -> Path | None:
    """The folder that an environment variable names; None if it is unset or empty."""
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the target's folder that replaces ``path`` when the block succeeds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
    except OSError as error:  # it names the temporary file, or a folder: name the artifact
        raise type(error)(error.errno, f"cannot be written ({error.strerror})", str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
