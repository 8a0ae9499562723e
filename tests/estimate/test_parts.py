"""The estimators without networks, each against its definition, and several estimates at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import digamma
from scipy.stats import multivariate_t

from remi_lib import conditional_mi, estimate_mi, mi_matrix, mi_scores
from remi_lib.estimate.columns import Column, columns_of
from remi_lib.estimate.columnwise import columnwise
from remi_lib.estimate.elliptical import FREEDOM, fit_bases, views_of
from remi_lib.estimate.folds import split
from remi_lib.estimate.independence import joined_p, permutation_p
from remi_lib.estimate.inputs import frame_of
from remi_lib.estimate.neighbours import class_and_number, numeric_pair
from remi_lib.estimate.options import Options, undisturbed
from remi_lib.estimate.reading import _caps_of, _level, _mixed
from remi_lib.estimate.tables import (
    category_pair,
    entropy,
    jackknifed_entropy,
)
from remi_lib.estimators.distributions import additive_noise, atoms_and_gaussian, bivariate, student
from tests.conftest import default_dtype

RNG = np.random.default_rng(0)


def numbers(v) -> Column:
    return Column("x", numbers=np.asarray(v, float).ravel())


def labels(v) -> Column:
    names, codes = np.unique(v, return_inverse=True)
    return Column("x", codes, len(names))


# --- neighbours


def test_neighbours_are_the_formula():
    x, y = np.random.default_rng(0).normal(size=(2, 40))
    found = numeric_pair(x, y, 3)
    for i in range(40):
        apart = np.maximum(abs(x - x[i]), abs(y - y[i]))
        radius = np.sort(apart)[3]
        near = [(abs(v - v[i]) < radius).sum() for v in (x, y)]
        expected = digamma(3) + math.log(40) - digamma(near[0]) - digamma(near[1])
        assert found[i] == pytest.approx(expected)


def test_neighbours_within_classes_are_the_formula():
    y = np.random.default_rng(0).normal(size=40)
    codes = np.arange(40) % 3
    codes[7] = 9  # alone: left out
    found = class_and_number(codes, y, 3)
    assert np.isnan(found[7])
    keep = np.arange(40) != 7
    for i in np.flatnonzero(keep):
        own = np.sort(abs(y - y[i])[codes == codes[i]])
        near = (abs(y - y[i])[keep] < own[3]).sum()
        size = (codes == codes[i]).sum()
        expected = digamma(39) + digamma(3) - digamma(size) - digamma(near)
        assert found[i] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [False, True])
def test_neighbours_agree_with_scikit_learn(classes):
    selection = pytest.importorskip("sklearn.feature_selection")
    x, y = bivariate(0.8).sample(1000, 0)
    if classes:
        codes = (x.ravel() > 0).astype(int)
        theirs = selection.mutual_info_classif(y, codes, random_state=0)[0]
        ours = class_and_number(codes, y).mean()
    else:
        theirs = selection.mutual_info_regression(x, y.ravel(), random_state=0)[0]
        ours = numeric_pair(x.ravel(), y.ravel()).mean()
    assert ours == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize(
    "distribution",
    [bivariate(0.6), additive_noise(0.4), student(1, 2, 0.2), atoms_and_gaussian(0.7, 0.4)],
    ids=lambda d: d.name,
)
def test_one_column_against_one(distribution):
    found = [columnwise(*map(numbers, distribution.sample(1000, s)), s) for s in range(5)]
    assert np.mean([f.value for f in found]) == pytest.approx(distribution.mi, abs=0.06)
    assert sum(f.lower > distribution.mi for f in found) == 0
    assert all(f.p_value == 0.005 for f in found)


def test_a_function_of_the_other_is_said_to_be_near_the_largest_value():
    x = RNG.normal(size=500)
    found = columnwise(numbers(x), numbers(x**3), 0)
    assert found.value > 4
    assert "may be larger, or infinite" in found.warnings[0]


# --- tables


def test_the_jackknife_is_the_mean_over_samples_left_out():
    codes = RNG.integers(4, size=30)
    counts = np.bincount(codes).astype(float)
    without = [entropy(counts - (np.arange(4) == c)) for c in codes]
    expected = 30 * entropy(counts) - 29 * np.mean(without)
    assert jackknifed_entropy(counts) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "values"), [(300, 3), (300, 30), (2000, 30)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_categories_through_a_noisy_channel(n, values, share):
    """y = x with probability ``share``, else anything."""
    joint = (share * np.eye(values) + (1 - share) / values) / values
    truth = 2 * math.log(values) - entropy(joint.ravel())
    found = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        pair = generator.choice(values**2, n, p=joint.ravel())
        found.append(category_pair(pair // values, pair % values, generator)[0])
    assert min(found) >= 0
    assert np.mean(found) == pytest.approx(truth, abs=0.06)


def test_the_permutation_test_is_exact():
    """Size 5% for numbers and for labels: 200 independent pairs, 3 standard errors."""
    generator = np.random.default_rng(0)
    p = []
    for _ in range(100):
        x, y = generator.normal(size=(2, 60))
        p.append(permutation_p([numbers(x)], [numbers(y)], generator))
        p.append(category_pair(*generator.integers(3, size=(2, 60)), generator)[2])
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.096


def test_the_joined_p_value_is_a_rank():
    """Whichever of exchangeable rows comes first, its p-value is one of 1/m ... m/m, each once."""
    rows = RNG.normal(size=(40, 5)) + RNG.normal(size=(40, 1))
    p = [joined_p(np.roll(rows, -i, axis=0)) for i in range(40)]
    assert sorted(p) == pytest.approx((np.arange(40) + 1) / 40)
    large = RNG.normal(size=(200, 5))
    large[0, 3] = 100  # one statistic that sees it is enough
    assert joined_p(large) < 0.05
    assert joined_p(np.zeros((40, 2))) == 1


@pytest.mark.parametrize("kind", ["length", "one of many", "labels"])
def test_the_permutation_test_of_several_columns(kind):
    generator = np.random.default_rng(0)
    x, e = generator.normal(size=(2, 300, 8))
    y = {"length": x**2 + e, "one of many": 0.5 * x[:, 3:4] + e, "labels": x + 0.5 * e}[kind]
    columns = [[numbers(v) for v in side.T] for side in (x, y, e)]
    if kind == "labels":
        columns[1] = [labels(v > 0) for v in y.T]
    assert permutation_p(columns[0], columns[1], generator) < 0.02
    assert permutation_p(columns[1], columns[0], generator) < 0.02
    assert permutation_p(columns[0], columns[2], generator) > 0.02


# --- the closed form


def test_the_normal_is_the_log_density_ratio():
    rho, n = 0.8, 20_000
    x, y = bivariate(rho).sample(n, 0)
    rows = split(n, 5, torch.Generator().manual_seed(0))
    base, final = fit_bases(views_of([numbers(x[:, 0])], [numbers(y[:, 0])]), rows, screen=False)
    index = torch.arange(50).expand(5, -1)
    u, v = x[:50, 0], y[:50, 0]
    for shift in (0, 7):
        w = np.roll(v, -shift)
        quadratic = rho**2 * (u**2 + w**2) - 2 * rho * u * w
        expected = -0.5 * math.log(1 - rho**2) - quadratic / (2 * (1 - rho**2))
        for one in (base, final):
            found = one.pairs(torch.arange(5), index, torch.tensor([0, shift]))[..., 1]
            assert np.abs(found.numpy() - expected).mean() < 0.1
            assert np.corrcoef(found[0], expected)[0, 1] > 0.999
            # Few shifts are gathered, many are taken from all products: the same numbers.
            many = one.pairs(torch.arange(5), index, torch.arange(50))
            assert torch.allclose(many[..., shift], found, atol=1e-4)


def test_the_student_t_is_the_log_density_ratio():
    """Of a Student t under monotone maps, against the densities that SciPy has."""
    nu, n, m = 2.0, 20_000, 60
    s = np.array([[1.0, 0.3, 0.5], [0.3, 1.0, 0.0], [0.5, 0.0, 1.0]])
    z = multivariate_t(shape=s, df=nu, seed=1).rvs(n)
    x, y = [numbers(np.arcsinh(z[:, 0])), numbers(z[:, 1] ** 3)], [numbers(z[:, 2])]
    rows = split(n, 5, torch.Generator().manual_seed(0))
    index, shifts = torch.arange(m).expand(5, -1), torch.tensor([0, 7])

    def density(columns: slice, values: np.ndarray) -> np.ndarray:
        return multivariate_t(shape=s[columns, columns], df=nu).logpdf(values)

    x_alone, y_alone = slice(0, 2), slice(2, 3)
    for base in fit_bases(views_of(x, y), rows, screen=False):
        assert base.form == "Student t"
        found = base.pairs(torch.arange(5), index, shifts).numpy()
        for k, shift in enumerate(shifts.tolist()):
            met = np.c_[z[:m, :2], np.roll(z[:m, 2], -shift)]
            expected = density(slice(0, 3), met)
            expected -= density(x_alone, met[:, :2]) + density(y_alone, met[:, 2:])
            # The largest of so many ranks says little of how large the value is.
            assert np.median(np.abs(found[..., k] - expected)) < 0.02
            assert np.corrcoef(found[0, :, k], expected)[0, 1] > 0.98
        # Few shifts are gathered, many are taken from all products: the same numbers.
        many = base.pairs(torch.arange(5), index, torch.arange(m)).numpy()
        np.testing.assert_allclose(many[..., shifts], found, atol=1e-3)


@pytest.mark.parametrize("kind", ["normal", "labels", "one against one"])
def test_no_student_t_where_none_is_needed(kind):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(2000, 2))
    y = x[:, :1] + generator.normal(size=(2000, 1))
    sides = [[numbers(v) for v in side.T] for side in (x, y)]
    if kind == "labels":
        sides[0][1] = labels((x[:, 1] > 0).astype(int))
    if kind == "one against one":
        sides[0] = sides[0][:1]
    views = views_of(*sides)
    assert sorted(views.tailed) == (list(FREEDOM) if kind == "normal" else [])
    rows = split(2000, 5, torch.Generator().manual_seed(0))
    base, _ = fit_bases(views, rows, screen=False)
    # Ten degrees of freedom and a normal read the same to a hundredth; one must not win.
    assert not base.tail.any() or (base.tail > 5).all()


def test_screening_keeps_what_depends():
    x = RNG.normal(size=(600, 40))
    y = np.stack([x[:, 3] + RNG.normal(size=600), x[:, 5] ** 2 + RNG.normal(size=600)], 1)
    rows = split(600, 3, torch.Generator().manual_seed(0))
    sides = [[numbers(v) for v in side.T] for side in (x, y)]
    base, _ = fit_bases(views_of(*sides), rows, screen=True)
    assert base.x[:, [3, 5]].all()
    assert base.x.sum(1).max() <= 4
    assert base.y.all()


def test_a_normal_that_is_worse_than_a_constant_is_none():
    """A rare flag lies 16 SDs out; two of them in the same held-out samples read -100 nats."""
    flag = np.zeros(1000, int)
    flag[RNG.permutation(1000)[:6]] = 1
    rows = split(1000, 5, torch.Generator().manual_seed(0))
    for view, used in ((flag, False), (RNG.permutation(1000) % 2, True)):
        views = views_of([labels(view)], [labels(view)])
        for base in fit_bases(views, rows, screen=False):
            assert bool((base.u != 0).any()) == used


def test_scores_end_at_what_labels_allow():
    """log 1 / P(x) or log 1 / P(y), the smaller; the level leaves E_Q[e^T] = 1 after that."""
    x, y = torch.tensor([[1.0, 2.0, 3.0]]).log()[0], torch.tensor([4.0, 1.0, 2.0]).log()
    role, shifts = torch.tensor([[0, 1, 2]]), torch.arange(3)
    cap = _caps_of((x, y), role, shifts)
    expected = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 2.0], [2.0, 3.0, 1.0]]).log()
    torch.testing.assert_close(cap[0], expected)
    assert _caps_of((None, None), role, shifts) is None
    tables, weights = 9 * torch.rand(1, 1, 3, 3), torch.ones(1, 1)
    level = _level(tables, weights, cap)
    mixed = _mixed(tables[None], weights, level, cap)[0, 0]
    assert (mixed <= cap[0] + 1e-6).all()
    assert mixed[:, 1:].exp().mean() == pytest.approx(1, abs=0.05)


# --- several estimates


@pytest.mark.parametrize("kind", ["xor", "common cause", "chain with noise"])
def test_conditional_mi_of_labels(kind):
    generator = np.random.default_rng(0)
    x, z, e = generator.integers(2, size=(3, 2000))
    y, truth = {
        "xor": (x ^ z, math.log(2)),
        "common cause": (z, 0.0),
        "chain with noise": (np.where(generator.random(2000) < 0.5, x, e), None),
    }[kind]
    if truth is None:
        truth = math.log(2) - entropy(np.array([0.25, 0.75]))
    found = conditional_mi(x, y, z, label=None)
    assert float(found) == pytest.approx(truth, abs=0.02)
    assert found.interval[0] - 1e-6 <= truth <= found.interval[1] + 0.01


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (1.0, 1.0)])
def test_conditional_mi_of_normals(a, b):
    """y = a x + b z + noise: I(X; Y | Z) = log(1 + a^2) / 2."""
    x, z, e = np.random.default_rng(0).normal(size=(3, 1000))
    found = conditional_mi(x, a * x + b * z + e, z, folds=3, steps=100, label=None)
    assert float(found) == pytest.approx(0.5 * math.log(1 + a**2), abs=0.05)
    assert found.interval[0] <= 0.5 * math.log(1 + a**2) < found.interval[1]


def test_conditional_mi_given_a_class():
    """y = x + noise around the mean of its class: I(X; Y | Z) = log(2) / 2, and I(X; Y) less."""
    generator = np.random.default_rng(0)
    z = generator.integers(3, size=1000)
    x, e = generator.normal(size=(2, 1000))
    found = conditional_mi(x, x + 3 * z + e, z, folds=3, steps=200, label=None)
    assert float(found) == pytest.approx(0.5 * math.log(2), abs=0.05)
    assert found.interval[0] <= 0.5 * math.log(2) < found.interval[1] + 0.03


def test_matrix():
    x, y = bivariate(0.8).sample(400, 0)
    frame = pd.DataFrame({"x": x[:, 0], "y": y[:, 0], "class": RNG.integers(3, size=400)})
    found = mi_matrix(frame, label=None)
    assert list(found.index) == list(found.columns) == ["x", "y", "class"]
    assert (found.to_numpy() == found.to_numpy().T).all()
    assert found.loc["x", "y"] == pytest.approx(bivariate(0.8).mi, abs=0.12)
    assert abs(found.loc["x", "class"]) < 0.1
    assert np.isinf(found.loc["x", "x"])
    assert found.loc["class", "class"] == pytest.approx(math.log(3), abs=0.02)
    in_bits = mi_matrix(frame, bits=True, label=None)
    assert in_bits.loc["x", "y"] == pytest.approx(found.loc["x", "y"] / math.log(2))


def test_the_matrix_breaks_ties_with_its_seed():
    x = RNG.normal(size=300).round(1)
    frame = pd.DataFrame({"x": x, "y": (x + RNG.normal(size=300)).round(1)})
    found = [mi_matrix(frame, seed, categories=0, label=None).loc["x", "y"] for seed in (0, 5)]
    each = [estimate_mi(frame.x, frame.y, s, categories=0, label=None).value for s in (0, 5)]
    assert found == each
    assert found[0] != found[1]


def test_too_few_samples_and_arguments_that_are_not_taken():
    few = RNG.normal(size=(4, 3))
    with pytest.raises(ValueError, match="frame: has 4 samples; needs at least 50"):
        mi_matrix(pd.DataFrame(few))
    with pytest.raises(ValueError, match="X: has 4 samples; needs at least 50"):
        mi_scores(few, few[:, 0])
    with pytest.raises(ValueError, match="method: conditional_mi takes none"):
        conditional_mi(*RNG.normal(size=(3, 100)), method="neighbours")


def test_scores_select_features():
    selection = pytest.importorskip("sklearn.feature_selection")
    pipeline = pytest.importorskip("sklearn.pipeline")
    linear = pytest.importorskip("sklearn.linear_model")
    x = RNG.normal(size=(300, 6))
    y = (x[:, 2] + x[:, 4] > 0).astype(int)
    chosen = selection.SelectKBest(mi_scores, k=2).fit(x, y)
    assert list(chosen.get_support(indices=True)) == [2, 4]
    model = pipeline.make_pipeline(
        selection.SelectKBest(mi_scores, k=2), linear.LogisticRegression()
    )
    assert model.fit(x, y).score(x, y) > 0.9
    with pytest.raises(ValueError, match="y: has 2 columns; must have one"):
        mi_scores(x, x[:, :2])


def test_columns_are_described_by_their_values():
    frame = frame_of(
        "x", pd.DataFrame({"age": RNG.integers(90, size=400), "sex": ["f", "m"] * 200})
    )
    age, sex = columns_of("x", frame)
    assert age.integer
    assert not age.discrete
    assert sex.values == 2


@pytest.fixture(scope="module")
def turning():
    """y turns often with the first column of x; the other says nothing."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (800, 2))
    return x, np.sin(14 * x[:, 0]) + 0.1 * rng.normal(size=800)


def test_followed_neighbours_have_the_interval_of_neighbours(turning):
    """That of the two columns alone, whose local contributions are the same."""
    x, y = turning
    followed = estimate_mi(x, y, steps=10, folds=2, label=None)
    assert "followed" in " ".join(followed.warnings)
    alone = estimate_mi(x[:, 0], y, label=None)
    assert followed.interval == pytest.approx(alone.interval, abs=0.02)  # but for how ties break
    assert followed.value == pytest.approx(alone.value, abs=0.02)


@pytest.mark.parametrize("method", ["neighbours", "table"])
def test_rows_that_belong_together_are_no_pairs_of_neighbours(method):
    x = np.arange(100) % 2 > 0
    with pytest.raises(ValueError, match=f"groups: method='{method}' takes none"):
        estimate_mi(x, x, method=method, groups=np.arange(100) // 5, label=None)


def test_copies_count_once_wherever_columns_meet_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    both = np.stack([x, x + rng.normal(size=1000)], 1)[rng.integers(0, 1000, 1000)]
    once = estimate_mi(both[:, 0], both[:, 1], label=None)
    assert once.settings["samples"] == len(np.unique(both[:, 0]))
    assert any("rows are copies of others" in w for w in once.warnings)
    assert mi_scores(both[:, :1], both[:, 1])[0] == float(once)
    assert mi_matrix(both, label=None).iloc[0, 1] == float(once)
    with pytest.raises(ValueError, match="x: has 40 different rows; needs at least 50"):
        estimate_mi(np.tile(x[:40], 3), np.tile(x[40:80], 3), label=None)


def test_an_error_of_z_is_said_of_z():
    x, bad = np.arange(100.0), np.arange(100.0)
    bad[3] = np.nan
    for z, match in (
        (bad, "z: 1 values are NaN or infinite, the first in row 3"),
        (x[1:], "z: has 99 samples, x has 100"),
        ([f"v{v}" for v in x], "z: its column is discrete and has 100 values"),
    ):
        with pytest.raises(ValueError, match=match):
            conditional_mi(x, x, z)
    with pytest.raises(TypeError, match="drop_missing: conditional_mi takes no such argument"):
        conditional_mi(x, x, bad, drop_missing=True)


def test_rows_of_y_and_z_must_belong_together():
    """With x an array, only y and z know their rows; in z, X xor Z, nothing is lost."""
    x, z = np.random.default_rng(0).integers(0, 2, size=(2, 400))
    y, given = pd.Series(x ^ z), pd.Series(z)
    assert float(conditional_mi((v for v in x), y, given)) == pytest.approx(math.log(2), abs=0.02)
    with pytest.raises(ValueError, match=r"^z: its index differs from that of y"):
        conditional_mi(x, y, given.sample(frac=1, random_state=0))
    with pytest.raises(ValueError, match=r"^y: its index differs from that of X"):
        mi_scores(pd.DataFrame({"a": x}), y.sample(frac=1, random_state=0))


def test_copies_are_said_whichever_side_shows_them():
    rng = np.random.default_rng(0)
    y, labels = rng.normal(size=200)[rng.integers(0, 200, 200)], np.arange(200) % 2
    found = conditional_mi(labels, y, labels, folds=2, steps=25, label=None)
    assert any("rows are copies of others" in w for w in found.warnings)


def test_a_conditional_result_says_what_it_is():
    labels = np.arange(400) % 2
    found = conditional_mi(labels, labels, np.arange(400) // 200, label=None)
    assert str(found).startswith("I(X; Y | Z) = ")
    assert "at least" not in str(found)
    assert "not tested" in str(found)


@pytest.mark.parametrize("shift", [2**62, -(2**62), 2**63])
@pytest.mark.parametrize("kind", ["numpy", "nullable", "objects", "masked"])
def test_large_integers_do_not_collapse(shift, kind):
    small = np.random.default_rng(0).integers(0, 10_000, 300)
    plain = np.array([int(v) + shift for v in small], np.uint64 if shift == 2**63 else np.int64)
    large: Any = {
        "numpy": plain,
        "nullable": pd.Series(plain).convert_dtypes(),
        "objects": pd.Series(plain.tolist(), dtype=object),
        "masked": np.ma.masked_array(plain, mask=False),
    }[kind]
    ours, wanted = (columns_of("x", frame_of("x", v))[0] for v in (large, small))
    assert ours.numbers is not None
    assert wanted.numbers is not None
    np.testing.assert_array_equal(ours.numbers, wanted.numbers - wanted.numbers.min())


def test_groups_are_checked():
    x = pd.DataFrame({"a": np.arange(100.0)})
    for groups, match in (
        ([None] * 100, "groups: 100 values are missing"),
        (pd.Series(range(100), index=range(1, 101)), "groups: its index differs"),
        (np.arange(99), r"groups: has shape \(99,\); must be \(100,\)"),
    ):
        with pytest.raises(ValueError, match=match):
            estimate_mi(x, x["a"], groups=groups, label=None)


def test_the_callers_defaults_do_not_reach_training():
    with torch.device("meta"), undisturbed(torch.device("cpu")):
        assert torch.zeros(1).device.type == "cpu"
    with default_dtype(torch.float64):
        with undisturbed(torch.device("cpu")):
            assert torch.zeros(1).dtype is torch.float32
        assert torch.zeros(1).dtype is torch.float64


def test_arguments_of_the_critics_are_single_numbers():
    assert Options(lr=np.float32(1e-3)).lr == pytest.approx(1e-3)
    with pytest.raises(ValueError, match=r"weight: .* must be a number"):
        Options(weight=torch.tensor([0.1, 0.2]))  # type: ignore[arg-type]
