"""Verdicts of notebook 7: Fig 8, from what each critic says of each image set."""

from __future__ import annotations

import pandas as pd

from remi_lib.experiments.verdicts.common import sayer, test_images
from remi_lib.images import load_images
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import with_test_images


def judge(
    ledger: Ledger,
    name: str,
    sets: pd.DataFrame,
    areas: pd.DataFrame,
    far: str,
    accuracies: pd.Series | None = None,
) -> None:
    """Judge notebook 7's claims for one data set; ``far`` is the foreign set they are about.

    ``accuracies``: of ReMINE's networks on test images, where they are known.
    """
    say = sayer(ledger, name)
    remine = sets[sets["loss"] == "remine"].set_index(["set", "seed"])
    known, held_out, other = (remine.loc[kind] for kind in ("train", "test", far))
    say("fig8.train-at-the-ideal", known["median"] / load_images(name).classes)
    say("fig8.false-pairs-at-0", known["quiet"])
    say("fig8.test-alike", held_out["near"])
    say("fig8.foreign-rejected", other["rejected"])
    if accuracies is not None and len(accuracies) > 1:
        evidence = with_test_images(accuracies, [accuracies], test_images(name))
        say("fig8.accurate-enough", evidence)
    area = areas[areas["loss"] == "remine"].set_index(["score", "seed", "foreign"])["auroc"]
    gain = (area["largest"] - area["softmax"]).unstack("foreign")
    say("fig8.beats-max-softmax", gain[far], dict(gain))
