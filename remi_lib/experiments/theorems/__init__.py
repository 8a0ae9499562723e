"""The theorems of the paper's appendix as small experiments, exact wherever that is possible.

On a finite set a critic is a table, P and Q are tables, and every expectation is a sum.  There a
supremum over critics is a number to compute and a bound on the number of samples one to check.
A module is one theorem or several; the functions return numbers or tidy tables.
"""

# ruff: noqa: F401
from remi_lib.experiments.theorems.averaging import (
    averages,
    averages_by_name,
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
    one_hot_ascent,
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
    batch_table,
    benchmark_contrastive_problem,
    benchmark_supervised_problem,
    contrastive_problem,
    entropy,
    labelled_sets,
    pair_information,
    random_labels,
    supervised_problem,
)
from remi_lib.experiments.theorems.samples import (
    Class,
    best_critic,
    bilinear_mi,
    channel_estimates,
    critics_name,
    estimates,
    failures,
    gaussian_estimates,
    gaussian_mi,
    last_errors,
    needed_on_channel,
    needed_on_two_cells,
    quadratic_supremum,
    sample_bound,
    samples_needed,
    supremum,
    two_cells,
)
from remi_lib.experiments.theorems.tasks import DriftTask, FixedSampleTask
from remi_lib.intervals import exact
