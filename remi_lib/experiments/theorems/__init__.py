"""The theorems of the paper's appendix as small experiments, exact wherever that is possible.

On a finite set a critic is a table, P and Q are tables, and every expectation is a sum.  There a
supremum over critics is a number to compute and a bound on the number of samples one to check.
"""

# ruff: noqa: F403
from remi_lib.experiments.theorems.averaging import *
from remi_lib.experiments.theorems.duals import *
from remi_lib.experiments.theorems.finite import *
from remi_lib.experiments.theorems.labels import *
from remi_lib.experiments.theorems.samples import *
from remi_lib.experiments.theorems.tasks import *
