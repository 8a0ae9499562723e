"""Everyday input: every kind of array, argument and surrounding, with the right value or error."""

from __future__ import annotations

import decimal
import fractions
import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from remi_lib import estimate_mi
from tests.conftest import default_dtype
from tests.estimate.test_estimate import encode

N = 300
RNG = np.random.default_rng(0)
X = RNG.normal(size=N)
Y = X + RNG.normal(size=N)
PLAIN = float(estimate_mi(X, Y))
MASK = np.arange(N) % 10 == 0
SMALL = {"method": "critics", "folds": 2, "steps": 25, "label": None}


# --- kinds of arrays


@pytest.mark.parametrize(
    "x",
    [
        X.astype(">f8"),
        np.asfortranarray(X[:, None]),
        X[::-1].copy()[::-1],
        sp.csr_matrix(X[:, None]),
        sp.coo_array(X[:, None]),
        sp.coo_array(X),
        sp.dok_array(X[:, None]),
        torch.from_numpy(X).to_sparse(),
        pd.Series(pd.arrays.SparseArray(X)),
        pd.Series(X, dtype="Float64"),
        [decimal.Decimal(float(v)) for v in X],
        [fractions.Fraction(float(v)) for v in X],
        np.array(list(X), dtype=object),
        [torch.tensor([v], requires_grad=True) for v in X],
        [torch.tensor(v) for v in X],
        tuple(X),
        (v for v in X),
        X[:, None].tolist(),
        torch.from_numpy(X).requires_grad_(),
        X.astype(np.longdouble),
        pd.DataFrame({"a": X}, index=range(5, 5 + N)),
        np.ma.masked_array(X, mask=False),
    ],
)
def test_numbers_are_numbers(x):
    assert float(estimate_mi(x, Y)) == PLAIN


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_of_every_layout():
    dense = torch.from_numpy(X[:, None])
    for x in (dense.to_sparse_csr(), dense.to_sparse_csc(), dense.to_sparse()):
        assert float(estimate_mi(x, Y)) == PLAIN


@pytest.mark.parametrize("kind", [">i4", ">i8", "<u2"])
def test_integers_of_any_byte_order(kind):
    v = RNG.integers(0, 1000, N)
    assert (encode("x", v.astype(kind))[0] == encode("x", v)[0]).all()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([], "x: has 0 samples"),
        (np.zeros((0, 3)), "x: has 0 samples"),
        (pd.DataFrame({"a": []}), "x: has 0 samples"),
        ([[1, 2], [3]] * 50, "x: its rows differ in length"),
        (np.array([[1, 2], [3]] * 150, dtype=object), "x: a list is not allowed as a value"),
        (pd.Series([np.ones(2)] * N), "x: a ndarray is not allowed as a value"),
        ([{"a": 1}] * N, "x: a dict is not allowed as a value"),
        ([sp.csr_array([[v]]) for v in X], "x: a csr_array is not allowed as a value"),
        (pd.Series([torch.zeros(2)] * N), "x: a Tensor is not allowed as a value"),
        (iter([]), "x: has 0 samples"),
        (torch.zeros(0, 2), "x: has 0 samples"),
        ([torch.zeros(2), torch.zeros(3)] * 50, "x: its tensors differ in shape"),
        ("text", "x: a str is not allowed"),
        ({"a": X}, "x: a dict is not allowed"),
        (pd.date_range("2020", periods=N, tz="UTC").to_series(), "neither real nor discrete"),
        (pd.period_range("2020", periods=N, freq="D").to_series(), "neither real nor discrete"),
        (pd.to_timedelta(np.arange(N), "s").to_series(), "neither real nor discrete"),
        (np.zeros(N, dtype=[("a", float)]), "has fields; pass a data frame"),
        (X.astype(str), "numbers written as text, convert them with astype"),
        (np.array([[v, "a"] for v in X]), "numbers written as text"),
        (sp.csr_matrix((N, 10**7)), "is too large to be made dense"),
        (np.ma.masked_array(X, mask=MASK), "x: 30 values are NaN or infinite, the first in row 0"),
        (np.ma.masked_array(np.arange(N), mask=MASK), "x: 30 values are NaN or infinite"),
        (pd.Series(np.where(MASK, None, "a")), "x: 30 values are missing, the first in row 0"),
    ],
)
def test_what_is_no_sample_is_named(x, message):
    with pytest.raises(ValueError, match=message) as error:
        estimate_mi(x, Y)
    assert str(error.value).startswith("x:")


@pytest.mark.parametrize("y", [[], [[1, 2], [3]] * 150, [{1}] * N])
def test_the_other_side_is_named_too(y):
    with pytest.raises(ValueError, match=r"^y: "):
        estimate_mi(X, y)


@pytest.mark.parametrize(
    "x",
    [
        np.ma.masked_array(np.where(MASK, 1e6, X), mask=MASK),
        np.where(MASK, np.nan, X),
        np.where(MASK, np.inf, X),
        pd.Series(X, dtype="Float64").mask(MASK),
    ],
)
def test_missing_rows_may_be_dropped(x):
    found = estimate_mi(x, Y, drop_missing=True)
    assert float(found) == float(estimate_mi(X[~MASK], Y[~MASK]))
    assert "30 of 300 rows have missing values and were left out" in found.warnings


def test_many_categories_cost_no_memory():
    n = 20_000
    many = np.array([f"u{i}" for i in RNG.integers(0, 8000, n)])
    with pytest.raises(ValueError, match=r"x: its column is discrete and has \d+ values in 20000"):
        estimate_mi(many, RNG.normal(size=n))
    frame = pd.DataFrame({"number": RNG.normal(size=n), "user": many})
    with pytest.raises(ValueError, match="x: column 'user' is discrete and has"):
        estimate_mi(frame, RNG.normal(size=n))


def test_one_hot_columns_have_a_limit(monkeypatch):
    monkeypatch.setattr("remi_lib.estimate.columns.ONE_HOT", 1000)
    with pytest.raises(ValueError, match="its column has 5 values in 300 samples, too many for"):
        encode("x", np.arange(N) % 5)


# --- pandas: the index carries the pairing


def test_indices_that_differ_are_an_error():
    frame = pd.DataFrame({"a": X, "b": Y})
    shuffled = frame["b"].sample(frac=1, random_state=1)
    for other in (shuffled, frame["b"].reset_index(drop=True).rename(lambda i: i + 1)):
        with pytest.raises(ValueError, match="y: its index differs from that of x"):
            estimate_mi(frame["a"], other)
    assert float(estimate_mi(frame["a"], shuffled.loc[frame.index])) == PLAIN
    assert float(estimate_mi(frame["a"], Y)) == PLAIN


# --- surroundings of torch


@pytest.mark.parametrize(
    "surroundings",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: default_dtype(torch.float64),
    ],
)
def test_the_callers_switches_do_not_matter(surroundings):
    x = np.stack([X, RNG.normal(size=N)], 1)
    alone = estimate_mi(x, Y, **SMALL)
    threads = torch.get_num_threads()
    with surroundings():
        within = estimate_mi(x, Y, **SMALL)
    assert float(within) == pytest.approx(float(alone), abs=0.1)
    assert torch.get_num_threads() == threads


# --- arguments


@pytest.mark.parametrize(
    "options",
    [
        {"device": torch.device("cpu")},
        {"device": None},
        {"seed": np.int64(0)},
        {"folds": np.int8(5)},
    ],
)
def test_arguments_of_every_kind(options):
    assert float(estimate_mi(X, Y, **options)) == PLAIN


def test_widths_may_be_an_array():
    assert math.isfinite(estimate_mi(X, Y, **SMALL, hidden=np.array([8, 8])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": None}, "seed: None is not allowed; must be an integer"),
        ({"seed": 1.5}, "seed: 1.5 is not allowed"),
        ({"seed": -1}, "seed: -1 is not allowed; must be at least 0"),
        ({"steps": 1e2}, "steps: 100.0 is not allowed; must be an integer"),
        ({"steps": True}, "steps: True is not allowed"),
        ({"folds": 2.0}, "folds: 2.0 is not allowed"),
        ({"hidden": 64}, r"hidden: 64 is not allowed; must be a sequence, such as \(64, 64\)"),
        ({"hidden": (0,)}, "hidden: 0 is not allowed; must be at least 1"),
        ({"hidden": (64.0,)}, "hidden: 64.0 is not allowed"),
        ({"lr": math.inf}, "lr: inf is not allowed; must be positive and finite"),
        ({"lr": math.nan}, "lr: nan is not allowed"),
        ({"loss": "flo"}, "loss: flo needs a table with a second head"),
        ({"loss": "i_alpha"}, "loss: i_alpha needs a square table"),
        ({"method": "magic"}, "method: 'magic' is not allowed; choose one of auto, critics"),
        ({"method": "table"}, "method: 'table' needs labels on both sides"),
        ({"groups": [1, 2]}, r"groups: has shape \(2,\); must be \(300,\)"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        estimate_mi(X, Y, label=None, **options)


# --- values that were wrong


def entropy(p) -> float:
    p = np.asarray(p, float).ravel()
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


@pytest.mark.parametrize(("n", "rare"), [(2000, 8), (20_000, 20), (1000, 2), (300, 100)])
def test_a_rare_flag_with_itself_is_its_entropy(n, rare):
    y = np.zeros(n, int)
    y[np.random.default_rng(0).permutation(n)[:rare]] = 1
    truth = entropy([rare / n, 1 - rare / n])
    for kind in (int, bool, float, str):
        found = estimate_mi(y.astype(kind), y)
        assert float(found) == pytest.approx(truth, abs=0.002)
        assert 0 <= found.lower <= truth + 0.002
        assert found.p_value < 0.05 or rare < 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rare", [(8,), (4, 6, 10)])
@pytest.mark.parametrize("loss", [None, "mine"])
def test_critics_of_a_rare_label_stay_within_what_its_share_allows(rare, loss):
    """Among numbers a flag is read by critics; they read -0.56 here, and said at most 0.51."""
    n = 2000
    y = np.repeat(np.arange(len(rare) + 1), (n - sum(rare), *rare))
    y = np.random.default_rng(0).permutation(y)
    x = pd.DataFrame({"label": y.astype(str), "number": np.random.default_rng(1).normal(size=n)})
    found = estimate_mi(x, y, loss=loss, steps=200, label=None)
    truth = entropy(np.bincount(y) / n)
    assert -0.005 < float(found) < truth + 0.01
    assert "0.00 x normal" in found.method
    assert 0 <= found.lower <= truth
    assert found.interval[1] < 0.15
    assert found.p_value < 0.05


@pytest.mark.parametrize(("n", "p", "seed"), [(1000, 0.01, 1), (1000, 0.01, 2), (5000, 0.002, 2)])
def test_two_rare_flags(n, p, seed):
    generator = np.random.default_rng(seed)
    x = generator.random(n) < p
    y = np.where(x, generator.random(n) < 0.8, generator.random(n) < p / 4)
    joint = np.array([[(1 - p) * (1 - p / 4), (1 - p) * p / 4], [0.2 * p, 0.8 * p]])
    truth = entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint)
    found = estimate_mi(x, y)
    assert float(found) == pytest.approx(truth, abs=0.02)
    assert 0 <= found.interval[0] <= truth <= found.interval[1]
    assert found.lower <= truth


@pytest.mark.parametrize(
    ("values", "exponent"), [(50, 1.2), (50, 0.0), (20, 2.0), (200, 1.2), (10, 3.0)]
)
def test_zipf_categories(values, exponent):
    p = 1 / np.arange(1, values + 1) ** exponent
    p /= p.sum()
    x, z = np.random.default_rng(0).choice(values, size=(2, 2000), p=p)
    names = np.array([f"word {i}" for i in range(values)])
    found = estimate_mi(names[x], names[x])
    assert float(found) == pytest.approx(entropy(p), abs=0.08)
    apart = estimate_mi(names[x], names[z])
    assert float(apart) == pytest.approx(0, abs=0.03)
    assert apart.p_value > 0.01
    assert apart.lower < 0.02


@pytest.mark.parametrize("turns", [4, 10])
def test_fast_oscillation(turns):
    generator = np.random.default_rng(2)
    x = generator.normal(size=2000)
    y = np.sin(turns * x) + 0.3 * generator.normal(size=2000)
    found = estimate_mi(x, y)
    assert float(found) > 0.7
    assert found.interval[0] < 0.87 < found.interval[1] + 0.05
    assert found.p_value < 0.05


@pytest.mark.parametrize(("turns", "columns"), [(10, 2), (10, 12), (4, 100)])
def test_fast_oscillation_of_one_column_of_several(turns, columns):
    """Critics read nothing of it, and neighbours of all columns little; of the two columns all."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(2000, columns))
    y = np.sin(turns * x[:, 1]) + 0.3 * generator.normal(size=2000)
    for a, b, names in ((x, y, "column 1 of x and y"), (y, x, "x and column 1 of y")):
        found = estimate_mi(a, b, steps=25, label=None)
        assert 0.7 < float(found) < 0.95
        assert found.lower < 0.86
        assert any(f"nearest neighbours of {names} see more" in w for w in found.warnings)
        if columns > 2:
            break


def test_oscillation_of_a_label():
    x = np.random.default_rng(2).normal(size=2000)
    found = estimate_mi(x, (np.sin(10 * x) > 0).astype(int))
    assert float(found) == pytest.approx(math.log(2), abs=0.05)
    assert found.interval[0] < math.log(2) < found.interval[1]


def test_checkerboard():
    generator = np.random.default_rng(2)
    i, j = generator.integers(0, 8, 4000), generator.integers(0, 4, 4000)
    found = estimate_mi(
        i + generator.uniform(size=4000), 2 * j + i % 2 + generator.uniform(size=4000)
    )
    assert float(found) == pytest.approx(math.log(2), abs=0.12)
    assert found.interval[0] < math.log(2) < found.interval[1]


@pytest.mark.parametrize("kind", [int, float, str, np.int8])
def test_ids_of_many_values(kind):
    """Means of N(0, 4) by 50 ids: numbers without order."""
    generator = np.random.default_rng(1)
    code, mean = generator.integers(50, size=2000), 2 * generator.normal(size=50)
    y = mean[code] + generator.normal(size=2000)
    grid = np.linspace(-15, 15, 6001)
    density = np.exp(-((grid - mean[:, None]) ** 2) / 2) / math.sqrt(2 * math.pi)
    ratio = np.log(np.maximum(density, 1e-300) / density.mean(0))
    truth = float((density / 50 * ratio).sum() * (grid[1] - grid[0]))
    for x, z in ((code.astype(kind), y), (y, code.astype(kind))):
        found = estimate_mi(x, z)
        assert float(found) == pytest.approx(truth, abs=0.06)
        assert any("say more as labels" in w for w in found.warnings) == (kind is not str)


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_rounded_numbers(decimals):
    """Equal distances to many neighbours read up to 0.15 nats too much; broken ties do not."""
    x, y = np.random.default_rng(0).normal(size=(2, 2000))
    found = estimate_mi(np.round(x, decimals), np.round(0.8 * x + 0.6 * y, decimals))
    assert float(found) == pytest.approx(-math.log(0.6), abs=0.05)


def test_counts_are_numbers():
    """Whole numbers with an order are not taken for ids."""
    x = np.random.default_rng(0).poisson(100, 2000)
    found = estimate_mi(x, x + np.random.default_rng(1).normal(0, 10, 2000))
    assert float(found) == pytest.approx(0.5 * math.log(2), abs=0.06)
    assert not found.warnings


# --- copies


def resampled(x, y, n):
    i = np.random.default_rng(1).integers(0, len(x), n)
    return x[i], y[i]


def test_copies_stay_in_one_fold():
    """A bootstrap of independent rows says nothing: grouped, it reads nothing."""
    x, y = np.random.default_rng(0).normal(size=(2, N, 3))
    found = estimate_mi(*resampled(x, y, 1000), folds=3, steps=100, label=None)
    assert any("rows are copies of others" in w for w in found.warnings)
    assert abs(found) < 0.08
    assert found.lower < 0.03
    assert found.p_value > 0.01


@pytest.mark.parametrize("decimals", [0, 1])
def test_values_that_repeat_by_nature_are_no_copies(decimals):
    found = estimate_mi(np.round(X, decimals), np.round(Y, decimals))
    assert not any("copies" in w for w in found.warnings)


# --- many columns


def test_one_column_of_many():
    """1000 x 300, y depends on the first alone: 0.347 nats; screening finds it."""
    x = np.random.default_rng(0).normal(size=(1000, 300))
    y = x[:, 0] + np.random.default_rng(1).normal(size=1000)
    found = estimate_mi(x, y, steps=50, label=None)
    assert 0.25 < float(found) < 0.42
    assert found.lower < 0.347
    assert "screened" in found.method


def test_two_columns_of_many():
    """1000 x 300: both are found by screening."""
    x = np.random.default_rng(0).normal(size=(1000, 300))
    y = x[:, 211] + x[:, 5] + np.random.default_rng(1).normal(size=1000)
    found = estimate_mi(x, y, steps=50, label=None)
    assert float(found) == pytest.approx(0.5 * math.log(3), abs=0.1)
    assert found.lower < 0.5 * math.log(3)
    assert found.p_value < 0.05


def test_the_square_of_one_column_of_many():
    """1000 x 300: no correlation of the column itself shows it."""
    x = np.random.default_rng(0).normal(size=(1000, 300))
    y = x[:, 211] ** 2 + 0.5 * np.random.default_rng(1).normal(size=1000)
    found = estimate_mi(x, y, steps=100, label=None)
    assert float(found) == pytest.approx(float(estimate_mi(x[:, 211], y)), abs=0.15)
    assert found.p_value < 0.05


@pytest.mark.parametrize(("n", "columns"), [(2000, 300), (1000, 100), (2000, 150)])
def test_all_of_many_columns(n, columns):
    """y = w x + noise: 0.833 nats; what is missing is said."""
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(n, columns)), generator.normal(size=columns)
    noise = math.sqrt(math.exp(-2 * 0.833) / (1 - math.exp(-2 * 0.833)))
    y = x @ (w / np.linalg.norm(w)) + noise * generator.normal(size=n)
    found = estimate_mi(x, y, steps=50, label=None)
    assert 0.70 < float(found) < 0.84
    assert found.lower < 0.833
    assert float(found) > 0.75 or any("over-fitting" in w for w in found.warnings)
