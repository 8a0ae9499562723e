"""estimate_mi: known MI, honest intervals, every kind of input, every warning, every error."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib import Scores, estimate_mi
from remi_lib.estimate.columns import MARGINS, columns_of, described, encoded
from remi_lib.estimate.folds import split
from remi_lib.estimate.inputs import frame_of
from remi_lib.estimate.pairs import PairCritic, bound_of, shifted_pairs
from remi_lib.estimate.reading import Reading, independence_p, influence, read
from remi_lib.estimate.team import Team
from remi_lib.estimators.distributions import bivariate, overlapping_intervals, sparse, student
from remi_lib.losses import dv, infonce


def encode(name, values, margins="both", categories=32):
    """What a critic sees of a side, and in words what was done to it."""
    columns = columns_of(name, frame_of(name, values), categories)
    return encoded(name, columns, margins), described(columns, MARGINS[margins])


QUICK = {"method": "critics", "folds": 3, "steps": 100, "label": None}


@pytest.fixture(scope="module")
def correlated():
    return bivariate(0.9).sample(1000, 0)


# --- the estimate


@pytest.mark.parametrize("loss", ["remine", "reinfonce", "renwj", "rejs"])
def test_known_mi(correlated, loss):
    options = {"loss": loss, "seeds": 2, "folds": 3, "steps": 200, "label": None}
    found = estimate_mi(*correlated, base=False, **options)
    assert float(found) == pytest.approx(bivariate(0.9).mi, abs=0.1)
    low, high = found.interval
    assert low < found.value < high
    assert high - low < 0.2


def test_independent_samples_have_none():
    x, y = sparse(3, 0.0).sample(1000, 1)
    found = estimate_mi(x, y, **QUICK)
    assert abs(float(found)) < 0.03
    assert found.interval[0] == 0


def test_a_class_and_a_number():
    distribution = overlapping_intervals(3)
    x, y = distribution.sample(1000, 2)
    found = estimate_mi(x, y, label=None)
    assert float(found) == pytest.approx(distribution.mi, abs=0.05)
    assert found.lower <= distribution.mi <= found.interval[1]
    assert "within classes" in found.method


def test_of_a_class_with_itself_is_its_entropy():
    x = np.random.default_rng(0).integers(4, size=600)
    found = estimate_mi(x, x, label=None)
    assert float(found) == pytest.approx(math.log(4), abs=0.01)
    assert found.lower <= float(found)
    assert "table of counts" in found.method


def test_intervals_cover_and_bounds_hold_on_an_easy_problem():
    """60 samples: a 95% interval misses the MI more than 8 times with probability 0.3%, a 97.5%
    bound exceeds it more than 5 times with probability 0.5%."""
    distribution = bivariate(0.4)
    inside = above = 0
    for seed in range(60):
        found = estimate_mi(*distribution.sample(300, seed), seed, label=None)
        inside += found.interval[0] <= distribution.mi <= found.interval[1]
        above += found.lower > distribution.mi
    assert inside >= 52
    assert above <= 5


def test_equal_seeds_are_equal_and_torch_is_left_alone(correlated):
    state = torch.random.get_rng_state()
    runs = [estimate_mi(*correlated, seed, **QUICK) for seed in (3, 3, 4)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert float(runs[0]) == float(runs[1]) != float(runs[2])
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)


@pytest.mark.parametrize("margins", ["both", "ranks"])
def test_ranks_see_through_monotone_maps(correlated, margins):
    """A pure rank transformation gives the same columns; with the standardised view beside it,
    close estimates."""
    x, y = correlated
    plain = estimate_mi(x, y, margins=margins, **QUICK)
    bent = estimate_mi(np.exp(3 * x), y**3, margins=margins, **QUICK)
    if margins == "ranks":
        assert float(bent) == float(plain)
    assert float(bent) == pytest.approx(float(plain), abs=0.06)


def test_outliers_do_not_rule_the_estimate():
    """Cauchy tails: standardised by their SD, critics extrapolate and held-out readings explode."""
    distribution = student(1, 1)
    sample = distribution.sample(1000, 0)
    found = estimate_mi(*sample, method="critics", folds=3, steps=200, label=None)
    assert float(found) == pytest.approx(distribution.mi, abs=0.12)
    assert found.interval[1] - found.interval[0] < 0.2
    assert float(estimate_mi(*sample)) == pytest.approx(distribution.mi, abs=0.08)


@pytest.mark.parametrize("bend", [np.asarray, np.arcsinh])
def test_heavy_tails_of_several_columns(bend):
    """A Student t, which a normal under the network sees a half of at n = 2000."""
    distribution = student(3, 1)
    x, y = (bend(side) for side in distribution.sample(2000, 3))
    found = estimate_mi(x, y, folds=3, steps=200, label=None)
    assert "Student t" in found.method
    assert float(found) == pytest.approx(distribution.mi, abs=0.06)
    assert found.lower < distribution.mi


def test_units_do_not_matter(correlated):
    x, y = correlated
    moved = estimate_mi(1e6 * x + 1e3, y / 1e6, **QUICK)
    assert float(moved) == pytest.approx(float(estimate_mi(x, y, **QUICK)), abs=1e-3)


# --- input


def test_columns_may_be_mixed_and_unequal():
    generator = np.random.default_rng(0)
    color = generator.choice(["red", "green", "blue"], 500)
    frame = pd.DataFrame(
        {
            "color": pd.Categorical(color),
            "flag": generator.random(500) < 0.5,
            "size": generator.normal(size=500),
            "count": generator.integers(3, size=500),
        }
    )
    seen, about = encode("x", frame)
    assert seen.shape == (500, 3 + 2 + 2 + 3)
    assert "1 numeric column, each standardised" in about
    assert "3 discrete columns, one-hot" in about
    found = estimate_mi(frame, (color == "red").astype(int), **QUICK)
    share = np.mean(color == "red")
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert float(found) == pytest.approx(entropy, abs=0.1)
    assert "standardised" in repr(found)


@pytest.mark.parametrize("margins", list(MARGINS))
def test_margins(margins):
    v = np.random.default_rng(0).standard_cauchy(500)
    seen, about = encode("x", v, margins)
    assert MARGINS[margins] in about
    assert seen.shape == (500, 2 if margins == "both" else 1)
    if margins == "raw":
        assert (seen[:, 0] == v).all()
        return
    assert np.abs(seen).max() <= (4 if margins != "standard" else 25)
    ranked = seen[:, -1]
    assert (np.argsort(ranked, kind="stable") == np.argsort(v, kind="stable")).all()
    assert ranked.std() == pytest.approx(1)


def test_integers_of_many_values_are_numbers():
    v = np.arange(100)
    assert encode("x", v)[0].shape == (100, 2)
    assert encode("x", v % 32)[0].shape == (100, 32)
    assert encode("x", v % 34)[0].shape == (100, 2)
    assert encode("x", v % 32, categories=0)[0].shape == (100, 2)
    assert encode("x", (v % 5) / 10)[0].shape == (100, 5)


def test_a_constant_is_no_information():
    y = np.random.default_rng(0).normal(size=200)
    assert float(estimate_mi(np.ones(200), y, **QUICK)) == pytest.approx(0, abs=0.05)
    assert float(estimate_mi(np.ones(200), y)) == pytest.approx(0, abs=1e-9)


def gap(position: int, value: float) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=100)
    x[position] = value
    return x


GOOD = gap(0, 0.0)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((2, 3, 4)), GOOD, {}, r"x: has shape \(2, 3, 4\); must be \(n,\) or \(n, d\)"),
        (GOOD, np.float64(1), {}, r"y: has shape \(\)"),
        (GOOD, GOOD[:99], {}, "y: has 99 samples, x has 100; they must be paired"),
        (gap(7, np.nan), GOOD, {}, "x: 1 values are NaN or infinite, the first in row 7"),
        (GOOD, gap(8, -np.inf), {}, "y: 1 values are NaN or infinite, the first in row 8"),
        (["a", None] * 50, GOOD, {}, "x: 50 values are missing, the first in row 1"),
        (GOOD, GOOD * 1j, {}, "y: complex128 is neither real nor discrete"),
        (GOOD[:20], GOOD[:20], {}, "x: has 20 samples; needs at least 50"),
        (np.zeros((100, 0)), GOOD, {}, "x: has no column"),
        (GOOD, GOOD, {"margins": "copula"}, "margins: 'copula' is not allowed; choose one of both"),
        (GOOD, GOOD, {"folds": 1}, "folds: 1 is not allowed; must be at least 2"),
        (GOOD, GOOD, {"seeds": 0}, "seeds: 0 is not allowed"),
        (GOOD, GOOD, {"loss": "mien"}, "no loss is called 'mien'"),
        (GOOD, GOOD, {"loss": "mine", "weight": 0.1}, "weight: mine has no penalty"),
        (GOOD, GOOD, {"device": "tpu"}, "device: 'tpu' is not there"),
        (GOOD, GOOD, {"hidden": ()}, "hidden: needs at least one layer"),
        (GOOD, GOOD, {"lr": 0.0}, "lr: 0.0 is not allowed; must be positive and finite"),
    ],
)
def test_errors_name_the_argument(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_mi(x, y, label=None, **options)


# --- warnings


def warned(found, text: str) -> bool:
    return any(text in warning for warning in found.warnings)


def test_nothing_to_warn_of(correlated):
    found = estimate_mi(*correlated, method="critics", label=None, patience=3)
    assert not warned(found, "over-fitting")
    assert not warned(found, "log K")
    assert not warned(found, "diverged")


@pytest.mark.parametrize("loss", ["infonce", "remine"])
def test_near_log_k(loss):
    x = np.random.default_rng(0).normal(size=(300, 2))
    found = estimate_mi(x, x, loss=loss, steps=200, label=None)
    where = "above" if max(found.by_seed) > math.log(60) else "near"
    assert warned(found, f"{where} log K = 4.09 (K = 60 pairs")
    if loss == "infonce":
        assert max(found.by_seed) < math.log(60)


def test_diverged(correlated):
    x, y = correlated
    found = estimate_mi(x * 1000, y, loss="nwj", lr=1.0, margins="raw", base=False, **QUICK)
    assert warned(found, "3 of 3 critics diverged")
    assert math.isnan(float(found))
    assert warned(found, "there is no estimate")
    assert "nan" in repr(found)


def test_over_fitting():
    """Two relations among twenty columns and 150 samples: learned by heart, not found."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(150, 20))
    y = x[:, :2] + generator.normal(size=(150, 2))
    found = estimate_mi(x, y, base=False, steps=100, label=None)
    assert warned(found, "over-fitting: the critics read")
    assert float(found) < math.log(2)
    assert {"training", "held_out", "seed", "fold", "step"} <= set(found.history)
    last = found.history.groupby("fold").last()
    assert (last["training"] > last["held_out"] + 1).all()


def test_unfinished():
    x, y = sparse(3, 0.9, 3).sample(500, 0)
    found = estimate_mi(x, y, base=False, steps=50, label=None)
    assert warned(found, "still improving at step 50")


# --- the parts


def test_shifted_pairs_are_the_formulas():
    values = torch.randn(2, 7, 4, dtype=torch.float64)
    own, others = values[..., 0], values[..., 1:]
    expected = own.mean(-1) - others.exp().mean((-2, -1)).log()
    torch.testing.assert_close(dv(shifted_pairs(values)).mi, expected)
    expected = (own - values.exp().mean(-1).log()).mean(-1)
    torch.testing.assert_close(infonce(shifted_pairs(values, True)).mi, expected)
    for per_row in (False, True):
        table = shifted_pairs(values, per_row)
        assert torch.allclose(table.joint_mass(), torch.ones(2).double())
        assert torch.allclose(table.log_product.exp().sum(), torch.ones(()).double())


def test_pair_critic_is_its_layers():
    critic = PairCritic([5], 2, 3, (8, 6))
    x, y = torch.randn(1, 4, 2), torch.randn(1, 4, 3)
    found = critic(x, y, torch.tensor([0, 1, 3]))
    for i in range(4):
        for column, shift in enumerate((0, 1, 3)):
            h = torch.cat([x[0, i], y[0, (i + shift) % 4]])
            for layer in range(2):
                w, b = critic.weights[layer][0], critic.biases[layer][0]
                h = torch.nn.functional.silu(h @ w + b)
            torch.testing.assert_close(found[0, i, column], (h @ critic.weights[2][0])[0])


@pytest.mark.parametrize("n", [100, 103])
def test_no_sample_is_read_by_a_critic_that_saw_it(n):
    rows = split(n, 4, torch.Generator().manual_seed(0))
    assert rows.test.shape == (4, n // 4)
    for fold in range(4):
        roles = [set(r[fold].tolist()) for r in (rows.train, rows.watch, rows.test)]
        assert sum(map(len, roles)) == len(set().union(*roles))
        assert len(set().union(*roles)) >= n - 1  # folds are as large as the smallest
    assert len(set(rows.test.flatten().tolist())) == n // 4 * 4


def test_groups_stay_in_one_role():
    groups = np.random.default_rng(0).integers(60, size=500)
    rows = split(500, 5, torch.Generator().manual_seed(0), groups)
    for fold in range(5):
        roles = [set(groups[r[fold]]) for r in (rows.train, rows.watch, rows.test)]
        assert sum(map(len, roles)) == len(set().union(*roles))
    assert rows.test.shape[1] > 70
    with pytest.raises(ValueError, match="groups: 2 groups do not fill 5 folds"):
        split(500, 5, torch.Generator(), np.arange(500) % 2)


@pytest.mark.parametrize("per_row", [False, True])
def test_influence_predicts_the_spread_of_the_bound(per_row):
    """Over fresh samples of a fixed critic, the bound scatters as its influences say."""
    generator = torch.Generator().manual_seed(0)
    n = 80
    x = torch.randn(2000, n, generator=generator, dtype=torch.float64)
    y = 0.6 * x + 0.8 * torch.randn(2000, n, generator=generator, dtype=torch.float64)
    met = (torch.arange(n).unsqueeze(1) + torch.arange(n)) % n
    values = 0.5 * x.unsqueeze(-1) * y[:, met]
    table = shifted_pairs(values, per_row)
    seen = bound_of(per_row)(table).mi.std().item()
    gain = influence(table, per_row)
    assert gain.mean(-1).abs().max() < 1e-9
    said = (gain.var(-1) / n).mean().sqrt().item()
    assert said == pytest.approx(seen, rel=0.1)


def test_reading_averages_the_usable_critics_of_each_fold():
    rows = split(60, 3, torch.Generator().manual_seed(0))
    data = [torch.randn(60, 1), torch.randn(60, 1)]
    team = Team(data, rows, None, None, range(6), (8,))
    everybody = torch.ones(6, dtype=torch.bool)
    alive = everybody.clone()
    alive[0] = False
    stream = torch.Generator()
    whole, part = (read(team, who, False, stream) for who in (everybody, alive))
    assert whole.value != part.value
    by_hand = []
    for fold in range(3):
        own = rows.test[fold]
        tables = team.critic(data[0][own][None], data[1][own][None], torch.arange(20))
        by_hand.append(dv(shifted_pairs(tables[[fold, fold + 3]].mean(0))).mi.item())
    assert whole.value == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert whole.gains.mean().item() == pytest.approx(whole.value, abs=1e-6)
    with torch.no_grad():
        for parameter in team.critic.parameters():
            parameter[0] = math.nan  # a dead critic does not reach the others
    assert read(team, alive, False, stream).value == pytest.approx(part.value)
    alive[3] = False
    assert math.isnan(read(team, alive, False, stream).value)
    assert isinstance(whole, Reading)
    assert whole.ceiling == pytest.approx(math.log(20))


def test_a_large_fold_of_which_few_pairs_were_read_still_has_a_p_value():
    """Of 6 shifts the smallest p is 1/7; the normal in their place knows dependence and none."""
    generator = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 5, 2000, generator=generator)
    met = (torch.arange(2000).unsqueeze(1) + torch.arange(7)) % 2000
    dependent = independence_p(x.unsqueeze(-1) * (x + e)[:, met], generator)
    assert dependent < 1e-6
    nulls = [
        independence_p(a.unsqueeze(-1) * b[:, met], generator)
        for a, b in torch.randn(200, 2, 1, 2000, generator=generator)
    ]
    assert np.mean(np.array(nulls) <= 0.05) == pytest.approx(0.05, abs=0.046)  # 3 standard errors


def test_the_p_value_of_a_fixed_critic_has_its_size():
    """One fold, a critic that has not seen it: uniform p-values, whatever the critic."""
    generator = torch.Generator().manual_seed(0)
    p = []
    for _ in range(200):
        x, y = torch.randn(2, 1, 30, generator=generator)
        met = (torch.arange(30).unsqueeze(1) + torch.arange(30)) % 30
        p.append(independence_p((x.unsqueeze(-1) * y[:, met]), generator))
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.095  # 5%, and 3 standard errors
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.11)


def test_result_is_a_number_with_its_story(correlated):
    found = estimate_mi(*correlated, **QUICK)
    assert isinstance(found, float)
    assert float(found) == found.value == found.estimate.value
    assert f"{found.value:.3f} nats; at least {found.lower:.3f}" in repr(found)
    assert "x normal + network + " in found.method
    assert found.settings["seed"] == 0
    assert found.settings["loss"] == "remine"
    assert found.p_value < 0.05
    assert len(found.by_seed) == 1
    assert found.history["step"].max() <= 100
    assert set(found.history["critic"]) == {"normal + network"}
    assert isinstance(shifted_pairs(torch.zeros(3, 3)), Scores)
    assert found.plot().get_xlabel() == "step"


def test_the_result_does_what_numbers_do():
    found = estimate_mi(*bivariate(0.9).sample(200, 0), label=None)
    value = found.value
    assert f"{found:.3f}" == f"{value:.3f}"
    assert found > 0.1
    assert max([found, 0.0]) is found
    assert round(found, 3) == round(value, 3)
    assert np.mean([found, found]) == value
    assert np.asarray([found]).dtype == float
    assert sum([found, found]) == 2 * value
    assert hash(found) == hash(value)
    again = pickle.loads(pickle.dumps(found))
    assert again == found == copy.deepcopy(found)
    assert again.lower == found.lower
    assert repr(again) == repr(found)
    assert json.loads(json.dumps(found)) == value
    with pytest.raises(ValueError, match="history: is empty"):
        found.plot()


def test_bits():
    x, y = bivariate(0.9).sample(200, 0)
    nats, bits = (estimate_mi(x, y, bits=b, label=None) for b in (False, True))
    for name in ("value", "lower"):
        assert getattr(bits, name) == pytest.approx(getattr(nats, name) / math.log(2))
    assert bits.interval == pytest.approx([v / math.log(2) for v in nats.interval])
    assert "bits" in repr(bits)


def test_it_is_imported_only_when_asked_for():
    code = (
        "import sys, remi_lib; late = {'sklearn', 'torchvision', 'matplotlib', 'papermill'}; "
        "print(sys.modules.keys() & {'pandas', 'scipy', 'joblib', *late}); "
        "remi_lib.estimate_mi; print(sys.modules.keys() & late)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()"] * 2
