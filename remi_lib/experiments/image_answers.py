"""Runs of SLB of which it is kept which test images the network classifies correctly.

All losses share those images: image by image, the mistakes that two networks have in common cancel.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from remi_lib.critics import ImageCritic
from remi_lib.evaluation import class_accuracy
from remi_lib.experiments.image_runs import Run, execute, outputs
from remi_lib.images import ImageSet
from remi_lib.replication.store import Tables, cached


def answered(run: Run, label: str | None = None) -> Tables:
    """A run's tables and ``answers``, a row per test image: ``right``.  Remembered."""

    def compute() -> Tables:
        seen: dict[str, pd.DataFrame] = {}

        def look(critic: ImageCritic, data: ImageSet) -> None:
            logits = outputs(run.task, critic, data.test_x, data)[0]
            each = class_accuracy(logits[:, None], data.test_y[:, None])  # an image at a time
            seen["answers"] = pd.DataFrame({"right": each.bool().cpu().numpy()})

        (tables,) = execute([run], label=label, look=look)
        return {**tables, **seen}

    return cached("answers", run.config, __name__, compute)


def packed(right: np.ndarray) -> str:
    """Bits, eight of them in two hexadecimal digits, for a table to hold."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, images: int) -> np.ndarray:
    """The bits that :func:`packed` packed (images,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=images).astype(bool)
