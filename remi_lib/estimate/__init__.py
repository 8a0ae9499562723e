"""How much do two arrays say about each other?  :func:`estimate_mi` for your own data.

The estimate is cross-fitted.  The samples are split into folds; the critics that read a fold have
seen none of it, neither in training nor in deciding when to stop.  Every sample is read once, by
critics of several seeds whose scores are averaged: the Donsker-Varadhan bound is concave in T, so
the average critic's value is never below the average of the critics' values.

The defaults rest on :mod:`remi_lib.estimators.comparison`: on distributions of known MI no
regularised loss beats ReMINE beyond the interval of the difference, and columns need taming
against heavy tails.
"""

from __future__ import annotations

from remi_lib.estimate.columns import MARGINS, Margins, encode
from remi_lib.estimate.estimator import estimate_mi
from remi_lib.estimate.fit import Fitted, Training, fit
from remi_lib.estimate.folds import Rows, split
from remi_lib.estimate.many import conditional_mi, mi_matrix, mi_scores
from remi_lib.estimate.pairs import PairCritic, bound_of, partners_of, shifted_pairs
from remi_lib.estimate.reading import Reading, independence_p, influence, read
from remi_lib.estimate.result import MutualInformation
from remi_lib.estimate.team import Team

__all__ = [
    "MARGINS",
    "Fitted",
    "Margins",
    "MutualInformation",
    "PairCritic",
    "Reading",
    "Rows",
    "Team",
    "Training",
    "bound_of",
    "conditional_mi",
    "encode",
    "estimate_mi",
    "fit",
    "independence_p",
    "influence",
    "mi_matrix",
    "mi_scores",
    "partners_of",
    "read",
    "shifted_pairs",
    "split",
]
