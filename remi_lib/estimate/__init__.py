"""How much do two arrays say about each other?  :func:`estimate_mi` for your own data.

The estimate is cross-fitted.  The samples are split into folds; the critics that read a fold have
seen none of it, neither in training nor in deciding when to stop.  Every sample is read once.
Where there are critics of several seeds their scores are averaged: the Donsker-Varadhan bound is
concave in T, so the average critic's value is never below the average of the critics' values.

The defaults rest on :mod:`remi_lib.estimators.comparison`: on distributions of known MI no
regularised loss beats ReMINE beyond the interval of the difference, and columns need taming
against heavy tails.
"""

from __future__ import annotations

from remi_lib.estimate.estimator import estimate_mi
from remi_lib.estimate.many import conditional_mi, mi_matrix, mi_scores
from remi_lib.estimate.result import MutualInformation

__all__ = ["MutualInformation", "conditional_mi", "estimate_mi", "mi_matrix", "mi_scores"]
