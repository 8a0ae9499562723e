"""Where results live: cached computations, published artifacts, atomic writes.

Everything is written beside its target and moved into place, so interrupted work is never
mistaken for finished work.  The cache is keyed by the configuration and by a digest of the code
that computes it: an edit to a plot redraws, an edit to a loss retrains.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

PACKAGE = Path(__file__).resolve().parent
Tables = dict[str, pd.DataFrame]


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


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the target's folder that replaces ``path`` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def write_json(value: Any, path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def publish(name: str, profile: str, data: pd.DataFrame, figure: Any = None) -> None:
    """Write an artifact: its data as CSV and, given a matplotlib figure, PNG and PDF of it."""
    folder = figures_dir(profile)
    write_csv(data, folder / f"{name}.csv")
    if figure is not None:
        for suffix, metadata in ((".png", {}), (".pdf", {"CreationDate": None})):
            with atomic(folder / f"{name}{suffix}") as temporary:
                figure.savefig(temporary, metadata=metadata)


@cache
def code_digest(module: str) -> str:
    """Digest of a library module and of every library module it imports, directly or not."""
    seen: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        source = (PACKAGE / f"{name}.py").read_text()
        seen[name] = source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("remi_lib."):
                todo.append(str(node.module).removeprefix("remi_lib.").split(".")[0])
    # Storing results is not computing them.
    seen.pop("store", None)
    return hashlib.sha256(json.dumps(sorted(seen.items())).encode()).hexdigest()


def config_key(config: Mapping[str, Any], module: str) -> str:
    """A short key of a configuration, the code that runs it and torch's version."""
    import torch

    identity = [config, code_digest(module), torch.__version__.split("+")[0]]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]


def cached(
    name: str, config: Mapping[str, Any], module: str, compute: Callable[[], Tables]
) -> Tables:
    """``compute()``, or its stored tables if this configuration was computed by this code.

    The tables are Parquet files in one folder that appears as a whole or not at all.  A folder
    that cannot be read is recomputed.
    """
    folder = cache_dir() / f"{name}-{config_key(config, module)}"
    if folder.is_dir():
        try:
            tables = {p.stem: pd.read_parquet(p) for p in sorted(folder.glob("*.parquet"))}
            if tables:
                print(f"{name}: from the cache")
                return tables
        except Exception as error:
            print(f"{name}: cache unreadable ({type(error).__name__}), computing again")
        shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    tables = compute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        for key, table in tables.items():
            table.to_parquet(temporary / f"{key}.parquet", index=False)
        (temporary / "config.json").write_text(json.dumps(config, indent=1))
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first: its result is ours
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{name}: computed in {time.perf_counter() - started:.0f} s", file=sys.stdout)
    return tables
