"""Regularised neural mutual-information losses (Choi & Lee, UAI 2022)."""

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

__version__ = "0.1.0"

__all__ = [
    "LOSSES",
    "TABLE1",
    "Bound",
    "Scores",
    "all_pairs",
    "class_pairs",
    "independent",
    "make_loss",
    "off_diagonal",
    "same_label_pairs",
    "support_counts",
]
