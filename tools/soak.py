"""`make soak`: kill `make all -j2` at random moments, then let it finish, then compare.

Two copies of the checkout rebuild the tiny profile: one undisturbed, one killed KILLS times (the
whole process group, by SIGINT, SIGTERM and SIGKILL in turn) before a last, plain `make all`.
A third copy is rebuilt by two `make all` at once.
Afterwards every table and every verdict must be the same byte for byte, and what was measured of
the comparison is written to build/soak.csv.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from remi_lib.replication.receipt import artifacts

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("KILLS", "20"))
KEPT = (".csv", ".json")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def checkout(folder: Path) -> Path:
    """A copy of the tracked and new files, sharing this checkout's environment."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        # The tables of other profiles are inputs of the notebooks; this one's are made here.
        if not name.startswith("figures/tiny/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def make(folder: Path) -> subprocess.Popen:
    """`make all -j2 PROFILE=tiny` in a process group of its own, importing the copy's library."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with (folder / "make.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            ["make", "all", "-j2", "PROFILE=tiny"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def tables(folder: Path) -> dict[str, bytes]:
    """Every table and every file of verdicts, by name."""
    made = artifacts(folder / "figures" / "tiny")
    return {name: path.read_bytes() for name, path in made.items() if path.suffix in KEPT}


def main() -> int:
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        calm, rough = (checkout(Path(temporary) / name) for name in ("calm", "rough"))
        started = time.perf_counter()
        if make(calm).wait():
            print(
                "the undisturbed run failed:",
                (calm / "make.log").read_text(encoding="utf-8")[-2000:],
            )
            return 1
        length = time.perf_counter() - started
        print(f"undisturbed: {length:.0f} s, {len(tables(calm))} tables", flush=True)
        kills = 0
        while kills < KILLS:
            run = make(rough)
            wait = chance.uniform(0.5, 0.3 * length)
            try:
                if run.wait(wait):
                    print("a run failed:", (rough / "make.log").read_text(encoding="utf-8")[-2000:])
                    return 1
                print("finished before the next kill; starting afresh", flush=True)
                shutil.rmtree(rough / "build")
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, SIGNALS[kills % 3])
                run.wait()
                kills += 1
                print(f"kill {kills}: {SIGNALS[kills % 3 - 1].name} after {wait:.1f} s", flush=True)
        if make(rough).wait():
            print("the last run failed:", (rough / "make.log").read_text(encoding="utf-8")[-2000:])
            return 1
        shared = checkout(Path(temporary) / "shared")
        if any([run.wait() for run in [make(shared), make(shared)]]):
            print("of two at once, one failed")
            return 1
        rows = [compared("killed", rough, calm), compared("two at once", shared, calm)]
    (ROOT / "build").mkdir(exist_ok=True)
    result = pd.DataFrame(rows)
    result.to_csv(ROOT / "build" / "soak.csv", index=False)
    print(result.to_string(index=False))
    return int(bool(result["different"].sum()))


def compared(name: str, folder: Path, calm: Path) -> dict[str, object]:
    """How many files two checkouts ended with, and which differ."""
    ours, theirs = tables(folder), tables(calm)
    different = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    return {
        "case": name,
        "kills": KILLS * (name == "killed"),
        "files": len(theirs),
        "different": len(different),
        "which": " ".join(different),
    }


if __name__ == "__main__":
    sys.exit(main())
