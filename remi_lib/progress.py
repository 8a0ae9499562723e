"""Progress of long work: a bar in a notebook, a line in the terminal of whoever runs it.

A kernel's output ends up in the notebook.  So when REMI_PROGRESS names a file, bars are written
there and the process that started the notebook shows them; nothing is stored.
"""

from __future__ import annotations

import os

from tqdm.auto import tqdm as auto_tqdm
from tqdm.std import tqdm


def say(text: str) -> None:
    """A line for whoever runs it: to REMI_PROGRESS if that is set, else to standard output."""
    path = os.environ.get("REMI_PROGRESS")
    if path:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text + "\n")
    else:
        print(text)


def progress(total: int, label: str | None, unit: str = "step") -> tqdm:
    """A tqdm bar; silent if ``label`` is None."""
    path = os.environ.get("REMI_PROGRESS")
    if path and label is not None:
        stream = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - lives as long as the process
        return tqdm(total=total, desc=label, unit=unit, file=stream, mininterval=5, ncols=90)
    return auto_tqdm(total=total, desc=label, unit=unit, disable=label is None, leave=False)
