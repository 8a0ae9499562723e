"""A profile of long runs as cells: done one by one, resumed anywhere, with what computed each.

The cache is keyed by the code, so an edit would make a night of results look undone; a cell is
therefore looked for by its configuration alone, and its record says which commit computed it.

A machine may not last; what is committed does.  The records of finished cells are committed
beside their rows (:func:`records`); an empty cache does not have such a cell computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pyarrow.parquet import read_metadata

from remi_lib.paths import cache_dir, project_root
from remi_lib.progress import say
from remi_lib.replication.store import Tables, code_digest, read_json, read_tables, write_json

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A run, the folder it fills and what it costs.

    ``folders`` is how the paths of such folders begin in the cache, ``config`` what is stored in
    them, ``cost`` in any unit that cells of ``kind`` share.
    """

    kind: str
    name: str
    folders: str
    config: Mapping[str, Any]
    module: str
    cost: float
    compute: Callable[[], object]

    @property
    def record(self) -> Path:
        """Where it is written what computed the cell."""
        return cache_dir() / "cells" / f"{self.kind}-{self.name.replace(' ', '_')}.json"

    @property
    def digest(self) -> str:
        """Of the configuration: a committed row counts for this very configuration only."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:12]


def folder_of(cell: Cell) -> Path | None:
    """The folder with the cell's newest result, whatever code computed it; None if there is none.

    A result with a table that cannot be opened is none.
    """
    wanted = json.loads(json.dumps(cell.config))
    newest = sorted(cache_dir().glob(f"{cell.folders}*/config.json"), key=_written, reverse=True)
    for path in newest:
        try:
            found = _config(path, path.stat().st_mtime_ns)
        except (OSError, ValueError, KeyError):
            continue
        if {key: found.get(key) for key in wanted} == wanted:
            return path.parent
    return None


@cache
def _config(path: Path, written: int) -> dict[str, Any]:
    """A result's configuration, read once for as long as its file stays: a plan asks often.

    Raises OSError, ValueError or KeyError for a result that is not whole.
    """
    about = read_json(path)
    for name in about.get("tables", []):
        read_metadata(path.parent / f"{name}.parquet")
    return about["config"]


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has just replaced it
        return 0.0


def tables_of(cell: Cell) -> Tables | None:
    """The cell's result, whatever code computed it; None if there is none."""
    folder = folder_of(cell)
    return None if folder is None else read_tables(folder)


def finish(
    cells: Sequence[Cell], again: bool = False, committed: pd.DataFrame | None = None
) -> bool:
    """Compute what is missing, in the order given; ``again``: what older code computed, too.

    ``committed``: a table of :func:`records`; its cells are not missing.  A cell that another
    process is at is left to it, and one whose images are not here is left out: False if any was.
    """
    absent: dict[str, list[str]] = {}
    for cell in cells:
        cell.record.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), FileLock(cell.record.with_suffix(".lock"), timeout=0):
            state = state_of(cell, committed, running=False)
            if state == "missing" or (again and state == "done by other code"):
                say(f"{cell.kind} {cell.name}: {left(cells, committed)}")
                started = time.time()
                try:
                    cell.compute()
                except FileNotFoundError as error:  # its images are not here; others' may be
                    absent[str(error)] = [*absent.get(str(error), []), cell.name]
                    continue
                write_json(provenance(cell, time.time() - started), cell.record)
    for reason, names in absent.items():
        say(f"{len(names)} cells left out, {names[0]} first: {reason}")
    return not absent


def provenance(cell: Cell, seconds: float | None = None) -> Record:
    """What computed a cell: commit, digest of the code, torch, CPU type, and how long it took."""
    import torch

    return {
        "kind": cell.kind,
        "cell": cell.name,
        "config": cell.digest,
        "commit": commit(),
        "code": code_digest(cell.module)[:12],
        "torch": torch.__version__.split("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cost": cell.cost,
        "seconds": seconds,
    }


def commit() -> str:
    """The checkout's commit; "-dirty" if a tracked file outside figures/ differs from it.

    A sitting writes into figures/ itself, and nothing there computes.  "unknown" without git.
    """

    def git(*command: str) -> subprocess.CompletedProcess[str]:
        words = ["git", "-C", str(project_root()), *command]
        return subprocess.run(words, capture_output=True, text=True)

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        changed = git("diff", "--quiet", "HEAD", "--", ".", ":!figures").returncode
    except OSError:
        return "unknown"
    if head.returncode:
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed else "")


def record_of(cell: Cell) -> Record:
    """The record of a cell; empty if it has none."""
    try:
        return read_json(cell.record)
    except (OSError, ValueError):
        return {}


def records(cells: Sequence[Cell]) -> pd.DataFrame:
    """What computed each cell that is done on this machine; a row a cell, no clock readings."""
    done = [record_of(cell) for cell in cells if folder_of(cell) is not None]
    return pd.DataFrame([record for record in done if record], columns=RECORDED)


RECORDED = ["kind", "cell", "config", "commit", "code", "torch", "cpu", "cost"]


def _committed(cell: Cell, table: pd.DataFrame | None) -> Record:
    """The cell's row in a table of :func:`records`; empty if it has none."""
    if table is None:
        return {}
    own = table[(table["kind"] == cell.kind) & (table["config"] == cell.digest)]
    return {} if own.empty else own.iloc[0].to_dict()


def state_of(cell: Cell, committed: pd.DataFrame | None = None, running: bool = True) -> str:
    """ "done", "done by other code", "committed", "running" or "missing".

    "committed": its rows are in the committed tables, its result is not on this machine.
    """
    if folder_of(cell) is not None:
        known = record_of(cell).get("code")
        same = known in (None, code_digest(cell.module)[:12])
        return "done" if same else "done by other code"
    if _committed(cell, committed):
        return "committed"
    return "running" if running and _held(cell) else "missing"


def _held(cell: Cell) -> bool:
    path = cell.record.with_suffix(".lock")
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True


def status(cells: Sequence[Cell], committed: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row per cell: kind, cell, state, the commit that computed it, seconds (measured or due)."""
    pace = _pace(cells)
    rows = []
    for cell in cells:
        state, record = state_of(cell, committed), record_of(cell) or _committed(cell, committed)
        due = state in ("missing", "running")
        seconds = cell.cost * pace[cell.kind] if due else record.get("seconds")
        rows.append([cell.kind, cell.name, state, record.get("commit", ""), seconds])
    return pd.DataFrame(rows, columns=["kind", "cell", "state", "commit", "seconds"])


def _pace(cells: Sequence[Cell]) -> dict[str, float]:
    """Seconds per unit of cost of each kind, of what this machine did; NaN if it did nothing."""
    pace: dict[str, float] = {}
    for kind in {cell.kind for cell in cells}:
        known = [r for c in cells if c.kind == kind and (r := record_of(c)).get("seconds")]
        cost = sum(r["cost"] for r in known)
        pace[kind] = sum(r["seconds"] for r in known) / cost if cost else float("nan")
    return pace


def left(cells: Sequence[Cell], committed: pd.DataFrame | None = None) -> str:
    """How much is left, in words: "3 of 40 cells done, 1.6 hours left on one core"."""
    table = status(cells, committed)
    done = ~table["state"].isin(["missing", "running"])
    due = table.loc[~done, "seconds"]
    hours = f"{due.sum() / 3600:.1f} hours left on one core"
    if len(due) and due.isna().all():
        hours = "the time left is unknown until a cell of each kind has run on this machine"
    elif due.isna().any():
        hours = f"at least {hours} ({due.isna().sum()} cells of unknown cost)"
    return f"{done.sum()} of {len(table)} cells done, {hours}"


def merged(former: pd.DataFrame | None, fresh: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Rows of ``fresh`` in place of former ones with the same keys; the other former ones stay."""
    if former is None or former.empty:
        return fresh.reset_index(drop=True)
    both = pd.concat([former, fresh], ignore_index=True)
    return both.drop_duplicates(list(keys), keep="last", ignore_index=True)


def one_thread() -> None:
    """One thread for this process: two processes beat two threads."""
    import torch

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
