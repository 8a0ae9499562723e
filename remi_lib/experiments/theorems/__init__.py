"""The theorems of the paper's appendix as small experiments, exact wherever that is possible.

On a finite set a critic is a table, P and Q are tables, and every expectation is a sum.  There a
supremum over critics is a number to compute and a bound on the number of samples one to check.
A module is one theorem or several; the functions return numbers or tidy tables.
"""

# ruff: noqa: F401
from remi_lib.experiments.theorems.averaging import (
    averages,
    drift_bias,
    log_slopes,
    reading_error,
    second_term_variance,
    sharpness,
    two_valued,
)
from remi_lib.experiments.theorems.duals import (
    DISTANCES,
    POSITIVE_DISTANCES,
    Dual,
    ascend,
    ascend_duals,
    check_duals,
    duals,
    shift_family,
    shift_gap,
)
from remi_lib.experiments.theorems.finite import (
    Problem,
    noisy_channel,
    of_joint,
    one_hot_problem,
    random_problems,
    sample,
)
from remi_lib.experiments.theorems.labels import (
    batch_law,
    batch_reading,
    benchmark_contrastive_problem,
    benchmark_supervised_problem,
    contrastive_problem,
    entropy,
    exact,
    pair_information,
    random_labels,
    supervised_problem,
)
from remi_lib.experiments.theorems.samples import (
    Class,
    best_critic,
    bilinear_mi,
    estimates,
    failures,
    gaussian_estimates,
    gaussian_mi,
    quadratic_supremum,
    sample_bound,
    samples_needed,
    supremum,
    two_cells,
)
from remi_lib.experiments.theorems.tasks import DriftTask, FixedSampleTask
