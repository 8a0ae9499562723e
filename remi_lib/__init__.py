"""Regularised neural mutual-information losses (Choi & Lee, UAI 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remi_lib.losses import LOSSES, TABLE1, Bound, make_loss
from remi_lib.scores import (
    Scores,
    all_pairs,
    class_pairs,
    independent,
    off_diagonal,
    same_label_pairs,
    support_counts,
)

if TYPE_CHECKING:
    from remi_lib.estimate import (
        MutualInformation,
        conditional_mi,
        estimate_mi,
        mi_matrix,
        mi_scores,
    )

__version__ = "0.1.0"

__all__ = [
    "LOSSES",
    "TABLE1",
    "Bound",
    "MutualInformation",
    "Scores",
    "all_pairs",
    "class_pairs",
    "conditional_mi",
    "estimate_mi",
    "independent",
    "make_loss",
    "mi_matrix",
    "mi_scores",
    "off_diagonal",
    "same_label_pairs",
    "support_counts",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # The estimator brings pandas; whoever only wants a loss does not wait for it.
    if name in ("MutualInformation", "estimate_mi", "conditional_mi", "mi_matrix", "mi_scores"):
        from remi_lib import estimate

        return globals().setdefault(name, getattr(estimate, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
