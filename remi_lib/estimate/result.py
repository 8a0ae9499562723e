"""What the estimator answers: a number with its interval, its history and its warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from remi_lib.intervals import Estimate


@dataclass(frozen=True)
class MutualInformation:
    """An estimate of I(X; Y) in nats; ``float()`` of it is the number.

    Attributes:
        value: the held-out estimate.  It may be slightly negative: then no dependence was found.
        interval: its 95% interval, from the spread of the samples (influence function of the
            bound) and of the seeds.  It is an interval of what these critics can see, which in
            expectation is at most the MI; where the critics have not learned all of the
            dependence the MI lies above it.
        history: a row per seed, fold and look: ``step``, and what the bound reads (nats) on
            ``training`` pairs and on the ``held_out`` ones that decide when to stop.  Both
            rest on few pairs and may be lucky; the estimate does not rest on them.
        warnings: what to know before using the number; empty if nothing was noticed.
        by_seed: the estimate of each seed alone.
        settings: what was done, by argument.
    """

    value: float
    interval: tuple[float, float]
    history: pd.DataFrame
    warnings: tuple[str, ...]
    by_seed: tuple[float, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    @property
    def estimate(self) -> Estimate:
        """Value and interval as the ledger takes them."""
        return Estimate(self.value, *self.interval)

    def __repr__(self) -> str:
        s = self.settings
        lines = [
            f"I(X; Y) = {self.value:.3f} nats; what these critics see, 95% interval: "
            f"[{self.interval[0]:.3f}, {self.interval[1]:.3f}]",
            f"  held out: {s['samples']} samples in {s['folds']} folds, {s['seeds']} seeds, "
            f"{s['loss']}" + (f" (weight {s['weight']:g})" if s["weight"] is not None else ""),
            f"  x: {s['x']}",
            f"  y: {s['y']}",
        ]
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])
