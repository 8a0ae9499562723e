"""What the estimator answers: a number with its bound, its interval, its history, its warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from remi_lib.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MutualInformation(float):
    """An estimate of I(X; Y): a float, in nats unless bits were asked for, that knows its story.

    It may be slightly negative: then no dependence was found.

    Attributes:
        value: the number itself.
        lower: 97.5% lower confidence bound of the MI, never below 0: a Donsker-Varadhan bound of
            critics that did not see the samples it is read on, less 1.96 standard errors.
        interval: value -+ 1.96 standard errors, a negative value counting as 0, which the MI never
            is below.  With neighbours the error is enlarged (:data:`.neighbours.SPREAD`), as local
            values depend on each other.  The upper end is raised by a measure of the bias: with
            critics by how much more they read on their training pairs than on held-out ones, with
            neighbours by what the estimate loses from 3 to 8 of them.  See :func:`interval_of`.
        p_value: against independence, by permuting the pairs.
        method: what gave the value.
        history: a row per critic, seed, fold and look: ``step``, and what the bound reads (nats)
            on ``training`` pairs and on the ``held_out`` ones that decide when to stop.  Both
            rest on few pairs and may be lucky; the estimate does not rest on them.  Empty where
            nothing was trained.
        warnings: what to know before using the number; empty if nothing was noticed.
        by_seed: the estimate of each seed alone.
        unit: "nats" or "bits".
        settings: what was done, by argument.
        of: "X; Y", or "X; Y | Z".
    """

    lower: float
    interval: tuple[float, float]
    p_value: float
    method: str
    history: pd.DataFrame
    warnings: tuple[str, ...]
    by_seed: tuple[float, ...]
    unit: str
    settings: dict[str, Any]
    of: str

    def __new__(
        cls,
        value: float,
        *,
        lower: float,
        interval: tuple[float, float],
        p_value: float,
        method: str,
        history: pd.DataFrame,
        warnings: Sequence[str] = (),
        by_seed: Sequence[float] = (),
        settings: dict[str, Any] | None = None,
        bits: bool = False,
        of: str = "X; Y",
    ) -> MutualInformation:
        """``value``, ``lower``, ``interval`` and ``by_seed`` in nats, whatever the unit.

        ``of``: what the information is of, as it is printed.
        """
        scale = 1 / math.log(2) if bits else 1.0
        self = super().__new__(cls, value * scale)
        self.lower = lower * scale
        self.interval = (interval[0] * scale, interval[1] * scale)
        self.p_value, self.method, self.history = p_value, method, history
        self.warnings = tuple(warnings)
        self.by_seed = tuple(v * scale for v in by_seed)
        self.unit = "bits" if bits else "nats"
        self.settings = dict(settings or {})
        self.of = of
        return self

    def __reduce__(self) -> tuple:
        return _again, (float(self), self.__dict__)

    @property
    def value(self) -> float:
        """The number, as a plain float."""
        return float(self)

    @property
    def estimate(self) -> Estimate:
        """Value and interval as the ledger takes them."""
        return Estimate(self.value, *self.interval)

    def __repr__(self) -> str:
        low, high = self.interval
        tested = not math.isnan(self.p_value)  # a difference of bounds is none, and is not tested
        bound = f"; at least {self.lower:.3f} (97.5% confidence)" if tested else ""
        lines = [
            f"I({self.of}) = {self.value:.3f} {self.unit}{bound}",
            f"  95% interval of what was seen: [{low:.3f}, {high:.3f}]",
            f"  p = {self.p_value:.3g} if independent" if tested else "  independence: not tested",
            f"  by: {self.method}",
            *(f"  {name}: {text}" for name, text in self.settings.items() if name in "xy"),
        ]
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])

    __str__ = __repr__

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what the critics read during training: a line per critic, training and held out.

        Raises ValueError where nothing was trained, ImportError without seaborn.
        """
        if self.history.empty:
            raise ValueError(f"history: is empty, nothing was trained ({self.method})")
        import seaborn

        rows = self.history.melt(
            ["critic", "seed", "fold", "step"],
            ["training", "held_out"],
            var_name="pairs",
            value_name="bound (nats)",
        )
        drawn = seaborn.lineplot(
            rows,
            x="step",
            y="bound (nats)",
            hue="critic",
            style="pairs",
            errorbar=("pi", 80),
            ax=ax,
        )
        drawn.axhline(self.value * (math.log(2) if self.unit == "bits" else 1), color="0.5", lw=1)
        return drawn


def interval_of(value: float, half: float, lost: float = 0.0) -> tuple[float, float]:
    """value -+ half within [0, inf), its upper end raised by ``lost``; a value below 0 is 0."""
    value = max(0.0, value)
    return max(0.0, value - half), value + half + max(0.0, lost)


def _again(value: float, story: dict[str, Any]) -> MutualInformation:
    self = float.__new__(MutualInformation, value)
    self.__dict__.update(story)
    return self
