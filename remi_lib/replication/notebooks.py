"""Notebooks as build steps: check the parameters, execute, keep only what finished.

python -m remi_lib.replication.notebooks COMMAND, where the command is

check --profile cpu          all parameter files
run 01_drift --profile cpu   build/cpu/01_drift.ipynb
refresh                      executed cpu notebooks -> notebooks/
clean                        metadata only; 1 if a file changed
"""

from __future__ import annotations

import argparse
import ast
import builtins
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from remi_lib.losses import LOSSES, split_name
from remi_lib.paths import cache_dir, project_root, times_dir
from remi_lib.replication.receipt import reference
from remi_lib.replication.store import atomic, write_json


class ParameterError(ValueError):
    """A parameter file that does not fit its notebook; the message names file, key and value."""


def declared(notebook: Path) -> dict[str, Any]:
    """The names and values of a notebook's cell tagged ``parameters``."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook}: needs exactly one cell tagged 'parameters'")
    values = {}
    for node in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
        elif not isinstance(node, ast.Expr):
            raise ParameterError(f"{notebook}: the parameters cell may only assign literals")
    return values


def _device_exists(device: str) -> bool:
    from remi_lib.devices import resolve_device

    try:
        resolve_device(device)
    except ValueError:
        return False
    return True


def _loss_exists(name: str) -> bool:
    try:
        split_name(name)
    except ValueError:
        return False
    return True


_LOSS_NAMES = f"one of {', '.join(LOSSES)}, or name@module of one that the module registers"

# What a key may hold, in every notebook that declares it; lists are checked item by item.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "losses": (_loss_exists, _LOSS_NAMES),
    "loss": (_loss_exists, _LOSS_NAMES),
    "weight": (lambda v: v >= 0, "lambda >= 0"),
    "weights": (lambda v: v >= 0, "lambda >= 0"),
    "batch": (lambda v: v >= 2, "at least 2"),
    "batches": (lambda v: v >= 2, "at least 2"),
    "steps": (lambda v: v >= 1, "at least 1"),
    "epochs": (lambda v: v >= 1, "at least 1"),
    "seeds": (lambda v: v >= 2, "at least 2, for an interval"),
    "levels": (lambda v: v > 0, "a positive MI in nats"),
    "device": (_device_exists, "a device of this machine, or auto"),
}


def check(notebook: Path, parameters: Path) -> dict[str, Any]:
    """The values of a parameter file, verified against the notebook that declares them.

    Raises ParameterError for a key the notebook does not declare, a value of another type than
    the declared one, or one outside :data:`RULES`.
    """
    expected = declared(notebook)
    try:
        given = yaml.safe_load(parameters.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ParameterError(f"{parameters}: is not YAML: {error}") from error
    if not isinstance(given, dict):
        raise ParameterError(f"{parameters}: must hold 'key: value' lines")
    for key, value in given.items():
        if key not in expected:
            raise ParameterError(
                f"{parameters}: unknown key {key!r}; {notebook.name} declares: "
                + ", ".join(expected)
            )
        _check_type(parameters, key, value, expected[key])
        if key in RULES:
            test, allowed = RULES[key]
            for item in value if isinstance(value, list) else [value]:
                if not test(item):
                    raise ParameterError(f"{parameters}: {key}: {item!r} is not allowed; {allowed}")
    return given


def _check_type(file: Path, key: str, value: Any, default: Any) -> None:
    if default is None:
        return
    if isinstance(default, list) and isinstance(value, list):
        for item in value if default else []:
            _check_type(file, key, item, default[0])
        return
    wanted = type(default)
    fits = isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
    if wanted is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        hint = ""
        if isinstance(value, str) and wanted is not str:
            hint = " (YAML reads 1e-3 as text: write 1.0e-3)"
        raise ParameterError(
            f"{file}: {key}: {value!r} is {type(value).__name__}, "
            f"the notebook declares {wanted.__name__}{hint}"
        )


def run(name: str, profile: str) -> Path:
    """Execute notebooks/<name>.ipynb with params/<profile>/<name>.yaml into build/<profile>/.

    The target appears only when every cell ran; a failed execution is kept beside it as
    ``<name>.failed.ipynb`` and the exception is raised again.
    """
    import papermill

    root = project_root()
    source, parameters = _sources(root, name, profile)
    values = check(source, parameters)
    target = root / "build" / profile / source.name
    failed = target.with_suffix(".failed.ipynb")
    reference(root)  # while figures/ is still what was shipped
    quiet_kernels(root)
    started = time.time()
    with atomic(target) as temporary, _shown_progress():
        try:
            papermill.execute_notebook(
                source,
                temporary,
                values,
                kernel_name="python3",
                progress_bar=False,
                cwd=root,
            )
            # Before the target, which is what tells make that all is done.
            _write_times(name, profile, values, started)
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


def _sources(root: Path, name: str, profile: str) -> tuple[Path, Path]:
    source = root / "notebooks" / f"{name}.ipynb"
    parameters = root / "params" / profile / f"{name}.yaml"
    for path in (source, parameters):
        if not path.is_file():
            raise ParameterError(f"{path.relative_to(root)}: there is no such file")
    return source.relative_to(Path.cwd()) if source.is_relative_to(Path.cwd()) else source, (
        parameters.relative_to(Path.cwd()) if parameters.is_relative_to(Path.cwd()) else parameters
    )


def _write_times(name: str, profile: str, values: dict[str, Any], started: float) -> None:
    """What ran, where and how long; ``computed`` results were new, also those of a neighbour.

    Where all came from the cache, the time is kept of the run that computed them.
    """
    import torch

    from remi_lib.devices import resolve_device

    device = resolve_device(values.get("device", "auto"))
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    times = {
        "notebook": name,
        "profile": profile,
        "date": date.today().isoformat(),
        "seconds": round(time.time() - started, 1),
        "computed": sum(p.stat().st_mtime >= started for p in cache_dir().rglob("config.json")),
        "device": f"{device.type} ({hardware}, {os.cpu_count()} cores)",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "parameters": values,
    }
    path = times_dir(profile) / f"{name}.json"
    former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not times["computed"] and former.get("parameters") == values:
        times |= {key: former[key] for key in ("seconds", "computed") if key in former}
    write_json(times, path)


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
    """A notebook without what papermill and editors add; ids, tags, outputs and counts stay.

    A cell tagged ``clock`` shows times, which no run repeats: its outputs go.
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
    return {**notebook, "cells": kept, "metadata": metadata}


def refresh(profile: str = "cpu") -> list[Path]:
    """Copy the executed notebooks into ``notebooks/``, :func:`cleaned`.

    Raises ParameterError, and copies none, if one was edited after it was executed.
    """
    root = project_root()
    fresh = {
        root / "notebooks" / executed.name: cleaned(
            json.loads(executed.read_text(encoding="utf-8"))
        )
        for executed in sorted((root / "build" / profile).glob("[0-9]*.ipynb"))
        if not executed.name.endswith(".failed.ipynb")
    }
    for path, notebook in fresh.items():
        if path.exists() and _sources_of(
            json.loads(path.read_text(encoding="utf-8"))
        ) != _sources_of(notebook):
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
        before = json.loads(path.read_text(encoding="utf-8"))
        after = cleaned(json.loads(path.read_text(encoding="utf-8")))
        if after != before:
            write_json(after, path)
            changed.append(path)
    return changed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("command", choices=["check", "run", "refresh", "clean"])
    parser.add_argument("name", nargs="?", help="a notebook, e.g. 01_drift")
    parser.add_argument("--profile", default="cpu", help="a folder of params/ (default: cpu)")
    options = parser.parse_args(arguments)
    root = project_root()
    try:
        if options.command == "refresh":
            refresh(options.profile)
            return 0
        if options.command == "clean":
            return int(bool(clean()))
        files = sorted((root / "params" / options.profile).glob("*.yaml"))
        if not files:
            raise ParameterError(f"params/{options.profile}: no such profile")
        for name in [options.name] if options.name else [f.stem for f in files]:
            check(*_sources(root, name, options.profile))
            if options.command == "run":
                run(name, options.profile)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        print(f"error: {options.name}: {_last_line(error)}", file=sys.stderr)
        return 1
    return 0


def _last_line(error: Exception) -> str:
    name = getattr(error, "ename", type(error).__name__)
    kind = getattr(builtins, name, type(error))
    hint = ""
    if isinstance(kind, type) and issubclass(kind, OSError):  # a full disk, a folder not ours
        hint = "; mend that and run the same command again: what had finished is kept"
    return f"{name}: {getattr(error, 'evalue', error)}{hint}"


if __name__ == "__main__":
    sys.exit(main())
