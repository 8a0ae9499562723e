"""A loss of one's own, for notebook 00: the mean of Donsker-Varadhan and NWJ.

Both are lower bounds of KL(P || Q), so their mean is one.  Of all the optima of DV, which differ
by a constant, it prefers NWJ's: T* = log dP/dQ + 1.
"""

from remi_lib.losses import Terms, dv, nwj, register
from remi_lib.scores import Scores


def halfway(scores: Scores) -> Terms:
    a, b = dv(scores), nwj(scores)
    second = (a.product_term + b.product_term) / 2
    mi = a.joint_term - second
    return Terms(a.joint_term, second, anchor=b.anchor, mi=mi, objective=mi)


register("halfway", halfway, title="Halfway")
