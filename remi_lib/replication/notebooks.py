"""Notebooks as build steps: check the parameters, execute, keep only what finished."""

from __future__ import annotations

import builtins
import json
import os
import platform
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from remi_lib.paths import atomic, cache_dir, project_root, times_dir
from remi_lib.replication.parameters import ParameterError, Rules, check
from remi_lib.replication.receipt import reference
from remi_lib.replication.store import read_json, write_json


def run(
    name: str,
    profile: str,
    rules: Rules | None = None,
    device: Callable[[dict[str, Any]], str] = lambda values: platform.machine(),
) -> Path:
    """Execute notebooks/<name>.ipynb with params/<profile>/<name>.yaml into build/<profile>/.

    ``device`` says, given the parameters, what it ran on.  The target appears only when every cell
    ran; a failed execution is kept beside it as ``<name>.failed.ipynb``.
    """
    import papermill

    root = project_root()
    source, parameters = sources(root, name, profile)
    values = check(source, parameters, rules)
    target = root / "build" / profile / source.name
    failed = target.with_suffix(".failed.ipynb")
    reference(root)  # while figures/ is still what was shipped
    quiet_kernels(root)
    started = time.time()
    with atomic(target) as temporary, _shown_progress():
        try:
            papermill.execute_notebook(
                source, temporary, values, kernel_name="python3", progress_bar=False, cwd=root
            )
            # Before the target, which is what tells make that all is done.
            _write_times(name, profile, values, started, device(values))
        except BaseException:
            if temporary.stat().st_size:
                failed.write_bytes(temporary.read_bytes())
            raise
    failed.unlink(missing_ok=True)
    return target


def quiet_kernels(root: Path) -> None:
    """Kernels of the project use its own profile, whose log holds errors only."""
    home = Path(os.environ.setdefault("IPYTHONDIR", str(root / "build" / "ipython")))
    config = home / "profile_default" / "ipython_kernel_config.py"
    if not config.exists():
        with atomic(config) as temporary:
            temporary.write_text("c.IPKernelApp.log_level = 50\n", encoding="utf-8")


def sources(root: Path, name: str, profile: str) -> tuple[Path, Path]:
    """A notebook and its parameter file.  Raises ParameterError if one is not there."""
    found = (root / "notebooks" / f"{name}.ipynb", root / "params" / profile / f"{name}.yaml")
    for path in found:
        if not path.is_file():
            raise ParameterError(f"{path.relative_to(root)}: there is no such file")
    here = Path.cwd()  # shorter to read, where they are below it
    first, second = (p.relative_to(here) if p.is_relative_to(here) else p for p in found)
    return first, second


def _write_times(
    name: str, profile: str, values: dict[str, Any], started: float, device: str
) -> None:
    """What ran, where and how long; where all came from the cache, the time of the run before."""
    times = {
        "notebook": name,
        "profile": profile,
        "date": date.today().isoformat(),
        "seconds": round(time.time() - started, 1),
        "computed": sum(written >= started for written in _results()),
        "device": f"{device}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": version("torch"),
        "parameters": values,
    }
    path = times_dir(profile) / f"{name}.json"
    former = read_json(path) if path.exists() else {}
    if not times["computed"] and former.get("parameters") == values:
        times |= {key: former[key] for key in ("seconds", "computed") if key in former}
    write_json(times, path)


def _results() -> Iterator[float]:
    """When each result in the cache was written, though other processes write meanwhile."""
    for folder, _, files in os.walk(cache_dir()):
        if "config.json" in files:
            with suppress(OSError):
                yield (Path(folder) / "config.json").stat().st_mtime


@contextmanager
def _shown_progress() -> Iterator[None]:
    """Copy the bars that the kernel writes to REMI_PROGRESS to our stderr while it runs."""
    with tempfile.NamedTemporaryFile("r", suffix=".progress", encoding="utf-8") as feed:
        os.environ["REMI_PROGRESS"] = feed.name
        done = threading.Event()

        def copy() -> None:
            while not done.wait(1.0):
                sys.stderr.write(feed.read())
                sys.stderr.flush()

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            sys.stderr.write(feed.read())
            del os.environ["REMI_PROGRESS"]


def cleaned(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook without what papermill and editors add: the same results are the same file.

    A cell tagged ``clock`` shows times, which no run repeats: its outputs go, as do the random ids
    of styled tables and the addresses of objects.
    """
    cells = notebook["cells"]
    kept = [c for c in cells if "injected-parameters" not in c["metadata"].get("tags", [])]
    if len(kept) < len(cells):  # the injected cell took a number: count from 1 again
        for count, cell in enumerate((c for c in kept if c["cell_type"] == "code"), start=1):
            cell["execution_count"] = count
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = count
    for cell in kept:
        if "clock" in cell["metadata"].get("tags", []):
            cell["outputs"] = []
        cell["metadata"] = {"tags": t} if (t := cell["metadata"].get("tags")) else {}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    text = re.sub(r" at 0x[0-9a-f]+>", ">", stable_ids(json.dumps(kept)))
    return {**notebook, "cells": json.loads(text), "metadata": metadata}


def stable_ids(html: str) -> str:
    """pandas draws the ids of styled tables at random; here they are counted."""
    numbers: dict[str, str] = {}

    def count(match: re.Match) -> str:
        return numbers.setdefault(match[0], f"T_{len(numbers) + 1}")

    return re.sub(r"\bT_[0-9a-f]{5,32}(?![0-9a-f])", count, html)


def refresh(profile: str = "cpu") -> list[Path]:
    """Copy the executed notebooks, :func:`cleaned`, into ``notebooks/``; none if one was edited."""
    root = project_root()
    fresh = {
        root / "notebooks" / executed.name: cleaned(read_json(executed))
        for executed in sorted((root / "build" / profile).glob("[0-9]*.ipynb"))
        if (root / "notebooks" / executed.name).is_file()  # neither a failed nor a removed one
    }
    if not fresh:
        raise ParameterError(f"build/{profile}: has no executed notebook")
    for path, notebook in fresh.items():
        if _sources_of(read_json(path)) != _sources_of(notebook):
            raise ParameterError(
                f"notebooks/{path.name}: was edited after it was executed; run `make refresh` "
                "again (nothing was copied)"
            )
    for path, notebook in fresh.items():
        write_json(notebook, path)
    return list(fresh)


def _sources_of(notebook: dict[str, Any]) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def clean() -> list[Path]:
    """Clean the metadata of ``notebooks/`` in place; the files that changed."""
    changed = []
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        after = cleaned(read_json(path))
        if after != read_json(path):
            write_json(after, path)
            changed.append(path)
    return changed


def last_line(error: Exception) -> str:
    """An error in a line, as whoever ran the notebook wants to read it."""
    name = getattr(error, "ename", type(error).__name__)
    kind = getattr(builtins, name, type(error))
    hint = ""
    if isinstance(kind, type) and issubclass(kind, OSError):  # a full disk, a folder not ours
        hint = "; mend that and run the same command again: what had finished is kept"
    return f"{name}: {getattr(error, 'evalue', error)}{hint}"
