"""What was made, beside what is committed: the reference, the receipt and the times.

python -m remi_lib.replication.receipt reference              fills build/reference
python -m remi_lib.replication.receipt compare --profile cpu  writes build/cpu/receipt.csv, says it
python -m remi_lib.replication.receipt times --profile cpu    how long each notebook took

Checks compare with the *reference*, never with ``figures/`` itself, which `make all` rewrites.
Training is chaotic, so another type of CPU gives other trajectories; what has to agree is each
statistic, within its interval over seeds, and each table in shape and in the middle of its columns.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from remi_lib.paths import figures_dir, project_root, times_dir
from remi_lib.replication.claims import compatible
from remi_lib.replication.store import atomic_folder, locked, read_json, write_csv

KEPT = ("figures", "notebooks")
ROOM = 0.05  # share of rows, or claims, that another machine's rounding may tip
IDENTICAL, WITHIN, DIFFERS, REDRAWN = "identical", "within intervals", "differs", "redrawn"
NEW, MISSING = "not committed", "not made"


# --- The reference ------------------------------------------------------------------------------


def reference(root: Path | None = None) -> Path:
    """``build/reference``: figures/ and notebooks/ as git has them committed or staged.

    Without git it is a copy of what the checkout holds, taken once.  Whatever writes figures asks
    for the reference first, so the copy is what was shipped.
    """
    root = root or project_root()
    folder = root / "build" / "reference"
    listed = _staged(root)
    identity = hashlib.sha256(listed).hexdigest() if listed else "as shipped"
    with locked(folder):
        stamp = folder / "identity"
        former = stamp.read_text(encoding="utf-8") if stamp.is_file() else None
        if former == identity or (former and not listed):
            return folder
        with atomic_folder(folder) as fresh:
            if listed:
                names = b"\0".join(line.split(b"\t", 1)[1] for line in listed.split(b"\0") if line)
                checkout = ["checkout-index", "-z", "--stdin", "-q", f"--prefix={fresh}/"]
                _git(root, *checkout, given=names + b"\0")
            else:
                for name in KEPT:
                    if (root / name).is_dir():
                        shutil.copytree(root / name, fresh / name)
            (fresh / "identity").write_text(identity, encoding="utf-8")
    return folder


def _staged(root: Path) -> bytes:
    """What git's index holds of the kept folders, a line per file; empty without git."""
    try:
        return _git(root, "ls-files", "-s", "-z", "--", *KEPT)
    except (OSError, subprocess.CalledProcessError):
        return b""


def _git(root: Path, *arguments: str, given: bytes | None = None) -> bytes:
    done = subprocess.run(
        ["git", *arguments], cwd=root, input=given, capture_output=True, check=True
    )
    return done.stdout


# --- Comparing artifacts ------------------------------------------------------------------------


def compare_tables(old: Path, new: Path) -> tuple[str, str]:
    """How a CSV differs from a former one, and where.

    Within intervals: the same columns, rows and words, as many missing numbers, medians in place;
    what the paper prints, which no machine computes, unchanged.
    """
    if old.read_bytes() == new.read_bytes():
        return IDENTICAL, ""
    a, b = pd.read_csv(old), pd.read_csv(new)
    if list(a.columns) != list(b.columns):
        return DIFFERS, "columns"
    if len(a) != len(b):
        return DIFFERS, f"{len(b)} rows, not {len(a)}"
    why = [reason for column in a if (reason := _moved(a[column], b[column]))]
    return (DIFFERS, "; ".join(why)) if why else (WITHIN, "")


def _moved(old: pd.Series, new: pd.Series) -> str:
    """Why a column is not where it was; empty if it is."""
    if str(old.name).startswith("paper"):
        return "" if old.equals(new) else f"{old.name}: what the paper prints has changed"
    numbers = [_numeric(column) for column in (old, new)]
    if numbers[0] != numbers[1] and len(old.dropna()) and len(new.dropna()):
        return f"{old.name}: numbers became text, or text numbers"
    if not all(numbers):
        changed = (_words(old) != _words(new)).mean()
        return f"{old.name}: {changed:.0%} of the texts" if changed > ROOM else ""
    lost = abs(np.isfinite(old).mean() - np.isfinite(new).mean())
    if lost > ROOM:
        return f"{old.name}: {lost:.0%} more, or fewer, finite numbers"
    a, b = (column.replace([np.inf, -np.inf], np.nan).dropna() for column in (old, new))
    if min(len(a), len(b)) < 3:
        return ""
    low, middle, high = a.quantile([0.1, 0.5, 0.9])
    room = 0.5 * (high - low) + 0.02 * abs(middle) + 1e-6
    shift = abs(b.median() - middle)
    return f"{old.name}: the median moved by {shift:.3g}" if shift > room else ""


def _numeric(column: pd.Series) -> bool:
    """Whether a column has a median: booleans are words."""
    types = pd.api.types
    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)


def _words(column: pd.Series) -> pd.Series:
    """A column of texts without the numbers in them."""
    texts = column.astype(object).fillna("").astype(str)
    return texts.str.replace(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", regex=True)


def compare_claims(old: Path, new: Path) -> tuple[str, str]:
    """The same for one notebook's stored verdicts: the statistics against their intervals."""
    if old.read_bytes() == new.read_bytes():
        return IDENTICAL, ""
    a, b = _entries(old), _entries(new)
    if a.keys() != b.keys():
        return DIFFERS, "claims: " + ", ".join(sorted(a.keys() ^ b.keys()))
    off = [key for key in a if not compatible(a[key], b[key])]
    # Each pair of independent 95% intervals fails to meet in about 0.6% of cases.
    return (DIFFERS, ", ".join(off)) if len(off) > ROOM * len(a) else (WITHIN, ", ".join(off))


def moved_verdicts(old: Path, new: Path) -> dict[str, str]:
    """The claims whose verdict is another one: ``{id: "holds -> not resolved"}``."""
    a, b = _entries(old), _entries(new)
    return {
        key: f"{a[key]['verdict']} -> {b[key]['verdict']}"
        for key in a.keys() & b.keys()
        if a[key]["verdict"] != b[key]["verdict"]
    }


def _entries(path: Path) -> dict[str, dict]:
    found = read_json(path)
    # A notebook's verdicts are a list, the whole ledger has its messages beside them.
    entries = found["claims"] if isinstance(found, dict) else found
    return {entry["id"]: entry for entry in entries}


def artifacts(folder: Path) -> dict[str, Path]:
    """The artifacts of a profile by name: tables, pictures and verdicts, without the pages."""
    found = [*folder.glob("[!.]*.*"), *folder.glob("claims/[!.]*.json")]  # none half-written
    return {path.relative_to(folder).as_posix(): path for path in sorted(found) if path.is_file()}


def compared(committed: Path, made: Path) -> pd.DataFrame:
    """A row per artifact of either folder: ``artifact, status, why``."""
    old, new = artifacts(committed), artifacts(made)
    rows = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            status, why = MISSING, ""
        elif name not in old:
            status, why = NEW, ""
        elif name.endswith(".csv"):
            status, why = compare_tables(old[name], new[name])
        elif name.startswith("claims/"):
            status, why = compare_claims(old[name], new[name])
        else:
            same = old[name].read_bytes() == new[name].read_bytes()
            status, why = IDENTICAL if same else REDRAWN, ""
        rows.append((name, status, why))
    return pd.DataFrame(rows, columns=["artifact", "status", "why"])


def receipt(profile: str) -> pd.DataFrame:
    """:func:`compared` of what lies in figures/<profile> and the reference; printed and kept."""
    committed = reference() / "figures" / profile
    made = figures_dir(profile)
    table = compared(committed, made)
    write_csv(table, project_root() / "build" / profile / "receipt.csv")
    print(summary(table, committed, made, profile))
    return table


def summary(table: pd.DataFrame, committed: Path, made: Path, profile: str) -> str:
    """The receipt in a few lines."""
    if not committed.is_dir():
        return f"receipt ({profile}): {len(table)} artifacts; none of this profile is committed"
    kinds = {
        "tables": table["artifact"].str.endswith(".csv"),
        "notebooks' statistics": table["artifact"].str.startswith("claims/"),
        "pictures": table["artifact"].str.endswith((".png", ".pdf")),
    }
    lines = [f"receipt ({profile}), against the committed artifacts:"]
    for kind, chosen in kinds.items():
        counts = table.loc[chosen, "status"].value_counts()
        told = ", ".join(f"{n} {status}" for status, n in counts.items())
        lines.append(f"  {kind}: {told or 'none'}")
    told = table[table["status"].isin([DIFFERS, MISSING, NEW])]
    lines += [f"  {row.artifact}: {row.status} ({row.why or '-'})" for row in told.itertuples()]
    moved: dict[str, str] = {}
    for old in sorted(committed.glob("claims/*.json")):
        new = made / "claims" / old.name
        moved |= moved_verdicts(old, new) if new.is_file() else {}
    lines.append(f"  verdicts that moved: {len(moved) or 'none'}")
    lines += [f"    {claim}: {how}" for claim, how in moved.items()]
    return "\n".join(lines)


# --- Clocks -------------------------------------------------------------------------------------


def times(profile: str) -> pd.DataFrame:
    """A row per notebook that ran here; ``seconds`` of the last run that computed something."""
    files = sorted(times_dir(profile).glob("[!.]*.json"))
    rows = [read_json(path) for path in files]
    columns = ["notebook", "seconds", "computed", "device", "python", "torch", "date"]
    return pd.DataFrame(rows, columns=columns)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; never fails because of what it finds."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("command", choices=["reference", "compare", "times"])
    parser.add_argument("--profile", default="cpu", help="a folder of figures/ (default: cpu)")
    options = parser.parse_args(arguments)
    if options.command == "reference":
        reference()
    elif options.command == "compare":
        receipt(options.profile)
    else:
        _say_times(options.profile)
    return 0


def _say_times(profile: str) -> None:
    table = times(profile)
    if table.empty:
        print(f"build/{profile}/times: nothing has run here yet; `make all` writes it")
        return
    print(table.to_string(index=False))
    print(f"all: {table['seconds'].sum():.0f} s of notebooks")
    for path in sorted(times_dir(profile).glob("*.csv")):
        print(f"\n{path.stem}\n{pd.read_csv(path).to_string(index=False)}")


if __name__ == "__main__":
    sys.exit(main())
