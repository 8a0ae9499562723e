"""Where results live: cached computations, published artifacts, atomic writes.

Everything is written beside its target and moved into place.  The cache is keyed by the
configuration and by a digest of the code that computes it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

from remi_lib.paths import atomic, cache_dir, figures_dir, times_dir
from remi_lib.progress import say
from remi_lib.replication.imports import reached, text_of

Tables = dict[str, pd.DataFrame]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """A table as CSV with six digits, :func:`atomic`."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def write_json(value: Any, path: Path) -> None:
    """A value as indented JSON, :func:`atomic`."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a JSON file holds.  Raises ValueError, with its path, for one that is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON: {error}") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, not the last of the two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path | Traversable) -> Any:
    """What a YAML file holds.  Raises ValueError, with its path, for one that is not YAML.

    A key that is given twice is none either.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML: {error}") from error


# Columns that a clock or a calendar wrote: no run repeats them.
CLOCK = ("seconds", "date")


def publish(name: str, profile: str, data: pd.DataFrame, figure: Any = None) -> None:
    """Write an artifact: its data as CSV and, given a matplotlib figure, PNG and PDF of it.

    The columns :data:`CLOCK` go to :func:`record` instead: artifacts are what a second run repeats.

    Raises:
        ValueError: the table has no row, or a panel of the figure shows nothing.
    """
    if data.empty:
        raise ValueError(f"{name}: the table has no row")
    for k, panel in enumerate(figure.axes if figure is not None else ()):
        if panel.axison and not panel.has_data():
            raise ValueError(f"{name}: panel {k} of the figure is empty")
    folder = figures_dir(profile)
    clocks = [column for column in data if column in CLOCK]
    if clocks:
        record(name, profile, data)
    write_csv(data.drop(columns=clocks), folder / f"{name}.csv")
    if figure is not None:
        for suffix, metadata in ((".png", {}), (".pdf", {"CreationDate": None})):
            with atomic(folder / f"{name}{suffix}") as temporary:
                figure.savefig(temporary, metadata=metadata)


def record(name: str, profile: str, data: pd.DataFrame) -> None:
    """Keep a table of times or rates in ``build/<profile>/times``, which `make times` shows."""
    write_csv(data, times_dir(profile) / f"{name}.csv")


# Storing results, showing progress, finding folders and using processes is not computing them.
NOT_COMPUTING = ("remi_lib.replication", "remi_lib.progress", "remi_lib.paths")


@cache
def code_digest(module: str) -> str:
    """Digest of a module of the package, by its dotted name, and of every one that it imports.

    Comments and docstrings do not count: rewording what is computed does not change it.
    """
    names = [name for name in reached([module], without=NOT_COMPUTING) if "." in name]
    seen = [(name, _without_docstrings(text_of(name))) for name in names]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


@cache
def _without_docstrings(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [x for x in body if not _is_text(x)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def config_key(config: Mapping[str, Any], module: str) -> str:
    """A short key of a configuration, of the code of ``module`` that runs it, of torch's version.

    Code from elsewhere, such as that of a registered loss, belongs into the configuration.
    """
    import torch

    identity = [config, code_digest(module), torch.__version__.split("+")[0]]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]


def read_tables(folder: Path) -> Tables | None:
    """The tables of a result folder; None if it is not there or, which is said, unreadable."""
    if not (folder / "config.json").is_file():
        return None
    try:
        names = read_json(folder / "config.json")["tables"]
        return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}
    except Exception as error:
        say(f"{folder.name}: unreadable ({type(error).__name__}), to be computed again")
        return None


def write_tables(folder: Path, tables: Tables, config: Mapping[str, Any]) -> None:
    """Parquet files in a folder that appears as a whole, in place of a former one."""
    with atomic_folder(folder) as temporary:
        for name, table in tables.items():
            table.to_parquet(temporary / f"{name}.parquet", index=False)
        about = {"tables": list(tables), "config": config}
        (temporary / "config.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that replaces ``folder`` as a whole when the block succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=".writing-", ignore_cleanup_errors=True
    ) as beside:
        fresh = Path(beside) / "fresh"
        fresh.mkdir()
        yield fresh
        if folder.exists():  # out of the way before it is deleted
            folder.rename(Path(beside) / "former")
        fresh.rename(folder)


@contextmanager
def locked(*folders: Path) -> Iterator[None]:
    """Hold these results for this process; whoever else wants one waits, and finds it done.

    Taken in one order everywhere, so that two holders of several cannot wait for each other.
    """
    with ExitStack() as held:
        for folder in sorted(set(folders)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder.parent / f".{folder.name}.lock"))
        yield


def cached(
    name: str, config: Mapping[str, Any], module: str, compute: Callable[[], Tables]
) -> Tables:
    """``compute()``, or its stored tables if this configuration was computed by this code."""
    folder = cache_dir() / f"{name}-{config_key(config, module)}"
    with locked(folder):
        tables = read_tables(folder)
        if tables is not None:
            say(f"{name}: from the cache")
            return tables
        started = time.perf_counter()
        tables = compute()
        write_tables(folder, tables, config)
    say(f"{name}: computed in {time.perf_counter() - started:.0f} s")
    return tables
