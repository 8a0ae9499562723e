"""The theorems' experiments against closed forms, hand calculations and naive loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from remi_lib import make_loss
from remi_lib.experiments import theorems
from remi_lib.experiments.theorems import DISTANCES, POSITIVE_DISTANCES, Dual, Problem, sample_bound
from remi_lib.intervals import Estimate
from remi_lib.losses import dv, nwj
from remi_lib.optimum import contrastive_law
from remi_lib.replication.claims import CONFIRMED, Ledger
from remi_lib.tasks import grid
from remi_lib.training import train

LOG2 = math.log(2)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    # Training anywhere in this process makes the CPU flush denormal numbers.
    return st.floats(low, high, allow_subnormal=False)


@st.composite
def problems(draw) -> Problem:
    """Random P and Q on up to 3 x 4 cells; P may have empty cells, Q not."""
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    mass = floats(0.01, 1)
    sizes = {"min_size": rows * columns, "max_size": rows * columns}
    q = torch.tensor(draw(st.lists(mass, **sizes)), dtype=torch.float64).view(rows, columns)
    p = torch.tensor(draw(st.lists(floats(0, 1), **sizes)), dtype=torch.float64)
    p = torch.where(p < 0.05, 0.0, p).view(rows, columns)
    p[0, 0] += 0.05
    return Problem(p / p.sum(), q / q.sum())


def redv(distance: str, weight: float, target: float) -> Dual:
    return Dual("ReDV", dv, distance, DISTANCES[distance], weight, target)


def renwj(distance: str, weight: float) -> Dual:
    return Dual("ReNWJ", nwj, distance, POSITIVE_DISTANCES[distance], weight, 1.0)


any_redv = st.builds(redv, st.sampled_from(sorted(DISTANCES)), floats(0.01, 20), floats(-6, 6))
any_renwj = st.builds(renwj, st.sampled_from(sorted(POSITIVE_DISTANCES)), floats(0.01, 20))
critic_seeds = st.integers(0, 2**30)


@settings(deadline=None, max_examples=150)
@given(problems(), st.one_of(any_redv, any_renwj), critic_seeds, floats(0.01, 30))
def test_theorem_1_no_critic_exceeds_kl(problem, dual, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    t = scale * torch.randn(problem.p.shape, generator=generator, dtype=torch.float64)
    assert dual(problem.scores(t)) <= problem.kl() + 1e-9


@settings(deadline=None, max_examples=150)
@given(problems(), st.one_of(any_redv, any_renwj))
def test_theorem_1_the_supremum_is_kl(problem, dual):
    """Reached at the optimum; where P has empty cells, approached as T there falls."""
    best = dual.optimum(problem).clamp(min=-60)
    assert dual(problem.scores(best)).item() == pytest.approx(problem.kl().item(), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(problems(), floats(-30, 30))
def test_lemma_9_and_what_the_penalty_makes_of_it(problem, shift):
    best = problem.log_ratio().clamp(min=-60)
    at, shifted = problem.scores(best), problem.scores(best + shift)
    assert dv(shifted).mi.item() == pytest.approx(dv(at).mi.item(), abs=1e-9)
    cost = redv("squared", 1.0, 0.0)(at) - redv("squared", 1.0, 0.0)(shifted)
    assert cost.item() == pytest.approx(shift**2, rel=1e-6, abs=1e-6)


def test_duals_by_hand():
    """P = (1/2, 1/2), Q = (1/4, 3/4) and T = (log 2, 0): every sum fits on a line."""
    problem = Problem(torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.25, 0.75]]).double())
    scores = problem.scores(torch.tensor([[LOG2, 0.0]]).double())
    second = math.log(0.25 * 2 + 0.75)
    value = LOG2 / 2 - second
    assert redv("absolute", 2.0, 1.0)(scores).item() == pytest.approx(value - 2 * abs(second - 1))
    assert redv("discrete", 2.0, 1.0)(scores).item() == pytest.approx(value - 2)
    second = 1.25 / math.e
    value = LOG2 / 2 - second
    log_distance = math.log(second) ** 2
    assert renwj("log", 3.0)(scores).item() == pytest.approx(value - 3 * log_distance)


@pytest.mark.parametrize("family", ["mine", "nwj"])
def test_duals_are_the_librarys_regularised_losses(family):
    """The squared distance of Eq. 14 and the log-Euclidean one of Eq. 15."""
    problem = theorems.random_problems(5, 3, 3, seed=0)
    scores = problem.scores(torch.randn(5, 3, 3, dtype=torch.float64))
    loss = make_loss("re" + family, weight=0.7, tau=math.inf)
    dual = redv("squared", 0.7, 0.0) if family == "mine" else renwj("log", 0.7)
    torch.testing.assert_close(dual(scores), loss(scores).objective)


def test_check_and_ascent_agree_with_theorem_1():
    found = theorems.duals(weights=(0.1, 10.0), targets=(-2.0, 3.0))
    assert len(found) == 3 * 2 * 2 + 4 * 2
    some = theorems.random_problems(4, 2, 3, seed=3)
    table = theorems.check_duals(some, found, critics=40, seed=0)
    assert table["gap"].max() < 1e-9
    assert table["excess"].max() < 0
    climbed = theorems.ascend_duals(some, found)
    assert len(climbed) == 2 * 2 * 2 + 3 * 2
    assert climbed["gap"].between(-1e-9, 1e-3).all()
    assert climbed["off_target"].max() < 1e-3


def test_a_wrong_dual_is_found_out():
    """The authors' code anchors log E_Q[e^T] of NWJ at 0: its supremum is below KL."""
    some = theorems.random_problems(4, 2, 3, seed=3)
    wrong = Dual("ReNWJ", nwj, "squared", DISTANCES["squared"], 1.0, 1 / math.e)
    assert (some.kl() - wrong(some.scores(wrong.optimum(some)))).min() > 0.01


def test_one_hot_supremum_is_not_attained():
    """DV of t on and -t off the diagonal is short by log(1 + (N-1) e^(-2t)), for every t."""
    problem = theorems.one_hot_problem(16)
    for t in (1.0, 3.0, 8.0):
        critic = torch.where(torch.eye(16).bool(), t, -t).double()
        gap = math.log(1 + 15 * math.exp(-2 * t))
        assert (problem.kl() - dv(problem.scores(critic)).mi).item() == pytest.approx(gap)
    _, trace = theorems.ascend(redv("squared", 1.0, 0.0), problem, 400, 1.0, "sgd", every=100)
    assert trace["off_max"].diff().dropna().lt(0).all()


def test_supremum_against_a_numerical_optimiser():
    loss = make_loss("remine", weight=0.5, target=-1.0)
    nwj_loss = make_loss("renwj", weight=0.5, tau=math.inf)
    found = theorems.sample(theorems.noisy_channel(3, 0.4), 20, 3, seed=4)
    for which in (loss, nwj_loss):
        suprema = theorems.supremum(found, which, -3.0, 1.5)
        for p, q, ours in zip(*found, suprema, strict=True):
            problem = Problem(p, q)

            def negative(x, which=which, problem=problem):
                t = torch.from_numpy(x).view(3, 3).requires_grad_()
                value = -which(problem.scores(t)).objective
                value.backward()
                return value.item(), t.grad.flatten().numpy()

            bounds = [(-3.0, 1.5)] * 9
            theirs = minimize(negative, np.zeros(9), jac=True, bounds=bounds, tol=1e-14)
            assert ours.item() == pytest.approx(-theirs.fun, abs=1e-6)


def test_supremum_of_a_small_class_in_closed_form():
    loss = make_loss("mine")
    found = theorems.supremum(theorems.one_hot_problem(16), loss, -2.0, 2.0)
    assert found.item() == pytest.approx(math.log(16) - math.log(1 + 15 * math.exp(-4)))


def test_estimates_are_consistent_and_biased_up():
    problem, loss = theorems.noisy_channel(4, 0.3), make_loss("remine")
    table = theorems.estimates(problem, loss, -4.0, 4.0, (32, 4096), draws=50)
    middle = table.groupby("n")["estimate"].median()
    assert middle[32] > middle[4096] > problem.kl().item() - 0.01
    assert middle[4096] == pytest.approx(problem.kl().item(), abs=0.02)


def test_samples_are_laws_and_repeatable():
    found, again = (theorems.sample(theorems.noisy_channel(4, 0.3), 50, 3, seed=1) for _ in "ab")
    for law, same in zip(found, again, strict=True):
        assert law.shape == (3, 4, 4)
        torch.testing.assert_close(law.sum((-2, -1)), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(law * 50, (law * 50).round())
        assert (law == same).all()
    assert not (found.p == found.q).all()


def test_gaussian_suprema():
    """Newton against scipy on a sample; the closed forms against a fine grid."""
    generator = torch.Generator().manual_seed(0)
    phi_p, phi_q = torch.randn(2, 40, 2, generator=generator, dtype=torch.float64)
    phi_p = phi_p + 0.3

    def negative(theta):
        t = phi_q.numpy() @ theta
        return -(phi_p.numpy().mean(0) @ theta - np.log(np.exp(t).mean()))

    theirs = minimize(negative, np.zeros(2), tol=1e-12)
    value, theta = theorems.quadratic_supremum(phi_p.unsqueeze(0), phi_q.unsqueeze(0))
    assert value.item() == pytest.approx(-theirs.fun, abs=1e-8)
    np.testing.assert_allclose(theta[0], theirs.x, atol=1e-4)
    grid_ = np.linspace(-0.99, 0.99, 20001)
    assert theorems.bilinear_mi(0.8) == pytest.approx(
        (0.8 * grid_ + 0.5 * np.log(1 - grid_**2)).max(), abs=1e-7
    )
    assert theorems.gaussian_mi(0.0) == 0
    table = theorems.gaussian_estimates(0.8, [4096], draws=20, seed=1)
    middle = table.groupby("critics")["estimate"].median()
    assert middle["quadratic"] == pytest.approx(theorems.gaussian_mi(0.8), abs=0.03)
    assert middle["bilinear"] == pytest.approx(theorems.bilinear_mi(0.8), abs=0.03)


def test_fixed_sample_is_the_same_at_every_step_and_exact_is_exact():
    task = theorems.FixedSampleTask(symbols=3, hidden=4, noise=0.5)
    members = grid(loss="remine", seed=range(2), batch=(20, 50))
    blocks = list(task.batches(members, 3, torch.device("cpu")))
    (first, *rest) = [batch for block in blocks for batch in block]
    assert len(rest) == 2
    assert all((a == b).all() for batch in rest for a, b in zip(first, batch, strict=True))
    np.testing.assert_allclose(first[0].sum((-2, -1)), 1, rtol=1e-6)
    trained = train(task, members, 300, lr=0.02, optimizer="adam", device="cpu")
    last = trained.history.terms.groupby("member").last()
    probe = trained.history.probes.groupby("member").last()
    truth = theorems.noisy_channel(3, 0.5).kl().item()
    assert (probe["exact_mi"] < truth + 1e-4).all()
    assert (last["mi"] > probe["exact_mi"]).any()


def test_sample_bound_by_hand():
    """M = d = K = L = 1, epsilon = 1, delta = 2/e: 2 (log 16 + 2 + 1) = 11.5, rounded up."""
    assert sample_bound(1, 1, 1, 1, 1, 2 / math.e) == 12
    assert sample_bound(2, 1, 1, 1, 1, 2 / math.e) == math.ceil(8 * (math.log(16) + 5))


def test_two_cells_break_the_bound_as_calculated_by_hand():
    """No sample in Q's rare cell: the estimate is too high by log(2)/2 + 1/(16 lambda)."""
    bound = 14.0
    target = LOG2 - bound
    problem, critics = theorems.two_cells(bound, target), theorems.Class(2, bound)
    loss = make_loss("remine", weight=1.0, target=target)
    limits = critics.low, critics.high
    truth = theorems.supremum(problem, loss, *limits)
    assert truth.item() == pytest.approx(problem.kl().item(), abs=1e-6)
    unlucky = Problem(problem.p, torch.tensor([[0.0, 1.0]]).double())
    error = theorems.supremum(unlucky, loss, *limits) - truth
    assert error.item() == pytest.approx(LOG2 / 2 + 1 / 16, abs=1e-4)
    n = critics.samples(0.3, 0.05)
    assert (1 - problem.q[0, 0].item()) ** n > 0.95
    assert theorems.failures(problem, loss, critics, n, 0.3, draws=50).mean() > 0.9
    benign = theorems.two_cells(bound, 0.0)
    assert not theorems.failures(benign, make_loss("remine"), critics, n, 0.3, draws=50).any()


def test_samples_needed_is_where_failures_begin():
    problem, loss = theorems.noisy_channel(3, 0.4), make_loss("mine")
    critics = theorems.Class(9, 3.0)
    n = theorems.samples_needed(problem, loss, critics, 0.2, 0.1, draws=100)
    shares = [
        theorems.failures(problem, loss, critics, m, 0.2, draws=100).mean() for m in (n, n // 2)
    ]
    assert shares[0] <= 0.1 < shares[1]
    assert n < critics.samples(0.2, 0.1)


def test_theorem_5_by_hand():
    """Q even on two cells, P = (3/4, 1/4), one sample: e^T is 3/2 or 1/2 times e^C."""
    problem = Problem(torch.tensor([[[0.75, 0.25]]]).double(), torch.full((1, 1, 2), 0.5).double())
    table = theorems.second_term_variance(problem, [-1.0, 0.0, 2.0], n=1, draws=40_000, seed=0)
    exact = np.exp(2 * table["C"]) / 4
    np.testing.assert_allclose(table["mean_exact"], exact)
    np.testing.assert_allclose(table["mean"], exact, rtol=0.03)
    np.testing.assert_allclose(table["log"], math.log(3) ** 2 / 4, rtol=0.03)
    # Every C sees the same draws, so that sampling cannot tilt the slope.
    assert theorems.log_slopes(table, "mean") == pytest.approx(2, abs=1e-9)
    assert theorems.log_slopes(table, "log") == pytest.approx(0, abs=1e-9)
    for shift in (0.0, 5.0):
        found = theorems.two_valued(math.log(1.5) + shift, math.log(0.5) + shift, 0.5, 1)
        assert found.variance == pytest.approx(math.log(3) ** 2 / 4)
        assert found.limit == pytest.approx(shift)


@pytest.mark.parametrize("n", [1, 7, 6000])
def test_two_valued_moments_against_sampling(n):
    found = theorems.two_valued(2.0, -1.0, 0.3, n)
    hits = np.random.default_rng(0).binomial(n, 0.3, 200_000)
    value = np.log((hits * math.exp(2) + (n - hits) * math.exp(-1)) / n)
    assert found.mean == pytest.approx(value.mean(), abs=4 * value.std() / 400)
    assert found.variance == pytest.approx(value.var(), rel=0.02)
    assert found.limit == pytest.approx(math.log(0.3 * math.exp(2) + 0.7 * math.exp(-1)))


def test_drift_bias_by_hand():
    """Two batches, constants 0 and log 3: mean log 3 / 2, log of the mean log 2."""
    bias = theorems.drift_bias(torch.tensor([0.0, math.log(3)]))
    assert bias.item() == pytest.approx(math.log(3) / 2 - LOG2)
    assert theorems.drift_bias(torch.full((5,), 7.0)).item() == pytest.approx(0, abs=1e-6)


def history(constants: np.ndarray, noise: np.ndarray) -> pd.DataFrame:
    """One member whose critic is perfect but for a drifting constant."""
    second, joint = constants + noise, constants + math.log(16)
    terms = {"joint_term": joint, "batch_partition": second, "log_partition": constants}
    rows = pd.DataFrame({**terms, "exact_joint": joint, "mi": joint - second})
    return rows.assign(member=0, loss="mine", seed=0, gap=12.0, step=np.arange(len(constants)))


def test_averages_tell_drift_from_jensen():
    generator = np.random.default_rng(0)
    still, sliding = np.zeros(4000), np.linspace(0, -3, 4000)
    hits = generator.binomial(100, 1 / 16, 4000)
    critic = 16 * hits / 100 + 1e-4
    noise = np.log(critic)
    tables = {
        name: theorems.averages(history(c, noise), (1, 100, 4000), 16, 100).set_index("window")
        for name, c in (("still", still), ("sliding", sliding))
    }
    # Macro: Jensen's bias and no other, with drift or without.
    macro = {name: table["bias"][1] for name, table in tables.items()}
    assert macro["still"] == pytest.approx(macro["sliding"], abs=1e-9)
    assert macro["still"] == pytest.approx(tables["still"]["jensen"][1], abs=0.02)
    assert macro["still"] > 0.05
    # Micro: unbiased without drift, biased by the closed form with it.
    assert tables["still"]["bias"][4000] == pytest.approx(0, abs=0.01)
    drift = -1.5 - math.log((1 - math.exp(-3)) / 3)
    assert tables["sliding"]["drift"][4000] == pytest.approx(drift, abs=1e-3)
    assert tables["sliding"]["bias"][4000] == pytest.approx(drift, abs=0.01)
    assert tables["sliding"]["bias_centred"][4000] == pytest.approx(0, abs=0.01)


def test_drift_task_records_exact_terms():
    task = theorems.DriftTask(symbols=4, hidden=8)
    members = grid(loss=["mine", "remine"], seed=0, batch=16)
    trained = train(task, members, 30, device="cpu")
    terms = trained.history.terms
    np.testing.assert_allclose(terms["batch_partition"], terms["product_term"], rtol=1e-5)
    # The last record is of the critic before its last update; one more step shows the next.
    more = train(task, members, 31, device="cpu").history.terms.groupby("member").last()
    scores = task.exact(trained.critic)
    found = dv(scores)
    np.testing.assert_allclose(more["exact_joint"], found.joint_term.detach(), rtol=1e-4)
    np.testing.assert_allclose(more["log_partition"], found.product_term.detach(), atol=1e-5)


def test_reading_error_falls_with_samples_and_grows_with_mi():
    table = theorems.reading_error(16, [100, 10_000])
    assert table["rms"].iloc[0] > 5 * table["rms"].iloc[1]
    assert theorems.reading_error(256, [100])["rms"].iloc[0] > table["rms"].iloc[0]
    # Many samples: the delta method, sqrt((N - 1) / n).
    assert table["rms"].iloc[1] == pytest.approx(math.sqrt(15 / 10_000), rel=0.05)


labellings = st.lists(st.integers(0, 4), min_size=6, max_size=30)


@settings(deadline=None, max_examples=100)
@given(labellings)
def test_theorems_7_and_8_hold_on_any_labelled_set(labels):
    y = torch.tensor(labels)
    p = np.bincount(labels) / len(labels)
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    assert theorems.entropy(y) == pytest.approx(entropy, abs=1e-9)
    for problem in (theorems.supervised_problem(y), theorems.contrastive_problem(y)):
        assert problem.p.sum().item() == pytest.approx(1)
        assert problem.kl().item() == pytest.approx(entropy, abs=1e-9)


def test_benchmark_measures_by_hand():
    """Three samples labelled 0 and three labelled 1, then five to one."""
    even, lopsided = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 0, 1])
    kl = theorems.benchmark_supervised_problem
    assert kl(even).kl().item() == pytest.approx(LOG2)
    assert kl(lopsided).kl().item() == pytest.approx(LOG2)  # H(Y) = 0.451
    # Balanced: log((N - 1) / (n - 1)) = log(5 / 2), not log 2.
    pairs = theorems.benchmark_contrastive_problem
    assert pairs(even).kl().item() == pytest.approx(math.log(5 / 2))
    assert pairs(lopsided).kl().item() == pytest.approx(math.log(30 / 20))
    for labels in (even, lopsided):
        counts = torch.bincount(labels).tolist()
        assert theorems.pair_information(counts) == pytest.approx(pairs(labels).kl().item())


def test_random_labels_have_pairs():
    for seed in range(5):
        counts = torch.bincount(theorems.random_labels(40, 7, seed))
        assert counts.sum() == 40
        assert counts.min() >= 2


def test_batch_law_against_enumeration():
    """Every batch of 4 from a set with counts 3, 2, 3."""
    labels = [0] * 3 + [1] * 2 + [2] * 3
    seen: dict[int, int] = {}
    batches = list(itertools.combinations(labels, 4))
    for batch in batches:
        pairs = sum(a == b for a, b in itertools.permutations(batch, 2))
        seen[pairs] = seen.get(pairs, 0) + 1
    law = theorems.batch_law([3, 2, 3], 4).set_index("pairs")
    assert dict(law["probability"]) == pytest.approx({k: v / len(batches) for k, v in seen.items()})
    assert law["reading"][2] == pytest.approx(math.log(12 / 2))


def test_batch_law_of_the_paper():
    """CIFAR-10 at batch 10: P(J = 0) is that of ten images of ten classes."""
    law = theorems.batch_law([5000] * 10, 10)
    assert law["probability"].sum() == pytest.approx(1, abs=1e-8)
    assert (law["probability"] * law["pairs"]).sum() == pytest.approx(90 * 4999 / 49999)
    found = theorems.batch_reading(law)
    none = math.prod(5000 * (10 - i) / (50_000 - i) for i in range(10))
    assert found.empty == pytest.approx(none, rel=1e-6)
    # The optimum oracle's sampled law agrees.
    sampled = contrastive_law([5000] * 10, 10)
    share = sampled.tables.log_product.exp()[..., 0].sum(-1)
    reading = -share.clamp(min=1 / 90).log()
    weight = sampled.probability * (share > 0)
    mean = ((weight * reading).sum() / weight.sum()).item()
    assert found.mean == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("batch", [1, 9])
def test_batch_law_names_what_is_allowed(batch):
    with pytest.raises(ValueError, match=f"batch: {batch} is not allowed; from 2 to 8"):
        theorems.batch_law([4, 4], batch)


def test_sharpness_explains_scatter_by_the_gap():
    generator = np.random.default_rng(0)
    hits = generator.binomial(100, 1 / 16, 20_000)
    constants = np.zeros(20_000)
    table = theorems.sharpness(history(constants, np.log(16 * hits / 100 + 1e-4)), 16, 100)
    row = table.loc[("mine", 0)]
    assert row["exact MI"] == pytest.approx(math.log(16))
    assert row["SD"] == pytest.approx(row["SD of the gap"], rel=0.05)


def test_verdict_table_selects_by_the_beginning_of_an_id():
    ledger = Ledger("13_samples_and_averages", "cpu")
    assert ledger.judge("thm5.exponential", Estimate(2.0, 1.99, 2.01)) == CONFIRMED
    assert len(ledger.table("thm5")) == 1
    assert ledger.table("thm6", "thm34").empty
