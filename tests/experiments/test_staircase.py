"""The Gaussian staircase: closed forms, the exact critic, other estimators, errors per level."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal

from remi_lib import LOSSES, Scores, make_loss, off_diagonal
from remi_lib.critics import ConcatCritic
from remi_lib.experiments import gaussian_staircase, staircase_oracle
from remi_lib.experiments.verdicts.gaussian_staircase import judge
from remi_lib.losses import FAMILIES, RIVALS, EmaMine, dv, flo, i_alpha, optimal_shift, tuba
from remi_lib.replication.claims import Ledger
from remi_lib.rivals import NAMES
from remi_lib.scores import with_head
from remi_lib.tasks import TRANSFORMS, CorrelatedGaussian, Member, StaircaseTask, grid
from remi_lib.training import train
from tests.conftest import crossed, refuses

SMALL = StaircaseTask((1.0, 2.0), each=6, dim=3, width=8)


def exact_table(mi: float, n: int, loss: str, dim: int = 3) -> Scores:
    """The exact critic of a loss on all pairs of n samples."""
    task = StaircaseTask((mi,), 1, dim)
    generator = torch.Generator().manual_seed(1)
    rho = torch.tensor([task.data.rho(mi)])
    x, y = (a.double() for a in task.data.sample(generator, rho, n))
    ratio = task.data.log_ratio(x[0], y[0], rho[0].double())
    table = off_diagonal(ratio + optimal_shift(loss))
    return with_head(table, -ratio) if loss == "flo" else table


def test_correlation_gives_the_mi():
    data = CorrelatedGaussian(20)
    for mi in (0.5, 2.0, 10.0):
        rho = data.rho(mi)
        assert -10 * math.log(1 - rho**2) == pytest.approx(mi)


def test_log_ratio_against_scipy():
    data, rho = CorrelatedGaussian(2), 0.7
    x, y = torch.randn(2, 5, 2, dtype=torch.float64)
    covariance = np.eye(4) + rho * np.eye(4, k=2) + rho * np.eye(4, k=-2)
    joint = multivariate_normal(np.zeros(4), covariance)
    ours = data.log_ratio(x, y, torch.tensor(rho, dtype=torch.float64))
    for i in range(5):
        for j in range(5):
            pair = torch.cat([x[i], y[j]]).numpy()
            marginals = multivariate_normal(np.zeros(4), np.eye(4)).logpdf(pair)
            assert ours[i, j].item() == pytest.approx(joint.logpdf(pair) - marginals)
    diagonal = data.log_ratio_of_pairs(x, y, torch.tensor(rho, dtype=torch.float64))
    torch.testing.assert_close(diagonal, ours.diagonal())


@pytest.mark.parametrize("name", [*LOSSES, *(r.name for r in RIVALS)])
def test_exact_critic_reads_the_closed_form(name):
    """On a large batch of mild dependence every bound gives the MI, or its stated bias."""
    mi = 0.5
    options = {"target": 0.0} if name.startswith("re") else {}
    reading = make_loss(name, **options)(exact_table(mi, 3000, name)).mi.item()
    expected = mi - 1 / math.e if name in ("js", "rejs") else mi
    assert reading == pytest.approx(expected, abs=0.04)


def test_sampler_has_the_stated_moments():
    data = CorrelatedGaussian(4)
    rho = torch.full((200,), data.rho(2.0))
    x, y = data.sample(torch.Generator().manual_seed(0), rho, 64)
    assert (x * y).mean().item() == pytest.approx(rho[0].item(), abs=0.01)
    assert y.var().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_transforms_are_increasing(name):
    y = torch.linspace(-4, 4, 101)
    assert (CorrelatedGaussian(1, name).seen(y).diff() > 0).all()


def random_table(seed: int = 0) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return off_diagonal(2 * torch.randn(6, 6, generator=generator, dtype=torch.float64))


def test_smile_js_and_gan_dime_by_hand():
    table = random_table()
    t, eye = table.values, torch.eye(6, dtype=torch.bool)
    on, off = t[eye], t[~eye]
    softplus = torch.nn.functional.softplus
    js = -softplus(-on).mean() - softplus(off).mean()
    smile = make_loss("smile_js")(table)
    torch.testing.assert_close(smile.objective, js)
    clipped = off.clamp(-5, 5).exp().mean().log()
    torch.testing.assert_close(smile.mi, on.mean() - clipped)
    dime = make_loss("gan_dime")(table)
    torch.testing.assert_close(dime.objective, js)
    torch.testing.assert_close(dime.mi, on.mean())


def test_i_alpha_by_a_loop_and_at_its_ends():
    table, alpha = random_table(3), 0.3
    t = table.values.numpy()
    n = len(t)

    def baseline(i: int, j: int) -> float:
        return alpha * np.mean([np.exp(t[i, k]) for k in range(n) if k != j]) + 1 - alpha

    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    first = np.mean([t[i, i] - np.log(baseline(i, j)) for i, j in pairs])
    second = np.mean([np.exp(t[i, j]) / baseline(i, i) for i, j in pairs])
    assert i_alpha(table, alpha).mi.item() == pytest.approx(first - second + 1)
    assert i_alpha(table, 1e-12).mi.item() == pytest.approx(tuba(table).mi.item())
    certain = off_diagonal(100.0 * torch.eye(6).double())
    assert i_alpha(certain, alpha).mi.item() == pytest.approx(math.log(5 / alpha), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_i_alpha_is_bounded_and_has_a_gradient(scale):
    """Whatever the scores, no batch reads more than its bound, and what is learned is finite."""
    t = (scale * torch.randn(7, 8, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    terms = i_alpha(off_diagonal(t), 0.01)
    assert (terms.joint_term <= math.log(7 / 0.01)).all()
    (gradient,) = torch.autograd.grad(terms.joint_term.sum(), t)
    assert gradient.isfinite().all()


def test_flo_by_a_loop_and_at_the_best_head():
    table = random_table(4)
    t, u = table.values, torch.randn(6, 6, dtype=torch.float64)
    rows = [torch.cat([t[i, :i], t[i, i + 1 :]]) for i in range(6)]
    ratios = torch.stack([row.exp().mean().log() - t[i, i] for i, row in enumerate(rows)])
    by_hand = 1 - (u.diagonal() + (ratios - u.diagonal()).exp()).mean()
    torch.testing.assert_close(flo(with_head(table, u)).mi, by_hand)
    best = table.rows().unsqueeze(-1) - t
    torch.testing.assert_close(flo(with_head(table, best)).mi, -ratios.mean())
    with pytest.raises(ValueError, match="no second head"):
        flo(off_diagonal(torch.zeros(3, 3)))


def test_a_second_head_changes_nothing_for_other_bounds():
    table = random_table()
    headed = with_head(table, torch.randn(6, 6, dtype=torch.float64))
    for name in (*LOSSES, *NAMES, *(row.name for row in RIVALS if row.name != "flo")):
        for with_it, without in zip(make_loss(name)(headed), make_loss(name)(table), strict=True):
            torch.testing.assert_close(with_it, without)


def test_ema_mine_divides_by_the_average():
    bound, rate = EmaMine(rate=0.25), 0.25
    tables = [random_table(k) for k in range(3)]
    average = None
    for table in tables:
        values = table.values.clone().requires_grad_()
        terms = bound(table.map(values))
        mean = dv(table).product_term.exp()
        average = mean if average is None else (1 - rate) * average + rate * mean
        (gradient,) = torch.autograd.grad(terms.objective, values)
        off = ~torch.eye(6, dtype=torch.bool)
        expected = -(table.values.exp() / 30 / average)[off]
        torch.testing.assert_close(gradient[off], expected)
        torch.testing.assert_close(terms.mi, dv(table).mi)


def test_ema_instances_share_nothing():
    first, second = (make_loss("mine_ema") for _ in range(2))
    assert first.bound is not second.bound
    tables = [random_table(k) for k in range(2)]
    for table in tables:
        first(table)
    assert second.bound.log_average is None


@pytest.mark.parametrize("name", [r.name for r in RIVALS if r.name != "mine_ema"])
def test_gradients_of_the_rivals(name):
    table = random_table(9)
    head = torch.randn(6, 6, dtype=torch.float64)

    def objective(values: torch.Tensor) -> torch.Tensor:
        scores = table.map(values)
        return make_loss(name)(with_head(scores, head) if name == "flo" else scores).objective

    assert torch.autograd.gradcheck(objective, table.values.clone().requires_grad_())


def test_members_do_not_depend_on_their_company():
    names = ["infonce", "flo", "mine_ema", "renwj", "gan_dime"]
    members = grid(loss=names, seed=[0, 1], batch=8)
    together = train(SMALL, members, 12, 1e-3, "adam", device="cpu").history.terms
    for i in (1, 2, 4, 7):
        alone = train(SMALL, [members[i]], 12, 1e-3, "adam", device="cpu").history.terms
        ours = together[together["member"] == i]["mi"].to_numpy()
        np.testing.assert_allclose(ours, alone["mi"].to_numpy(), rtol=1e-3, atol=1e-5)


def test_second_head_leaves_the_first_as_it_was():
    one, two = (ConcatCritic([0], 2, 2, (4,), second_head=s) for s in (False, True))
    x = torch.randn(1, 3, 2)
    torch.testing.assert_close(one(x, x), two(x, x))


def test_infonce_alone_sees_all_pairs():
    critic = SMALL.critic(grid(loss=["infonce", "mine"]))
    batch = next(iter(SMALL.batches(grid(loss=["infonce", "mine"], batch=4), 1, "cpu")))[0]
    log_product = SMALL.scores(critic, batch, []).log_product
    assert (log_product[0] > -math.inf).all()
    assert (log_product[1].diagonal() == -math.inf).all()


def test_levels_climb():
    assert SMALL.steps == 12
    assert SMALL.true_mi([0, 5, 6, 11]).tolist() == [1, 1, 2, 2]
    batches = [b for block in SMALL.batches(grid(loss="mine"), 12, "cpu") for b in block]
    assert batches[0].rho.item() == pytest.approx(SMALL.data.rho(1.0))
    assert batches[-1].rho.item() == pytest.approx(SMALL.data.rho(2.0))


def test_oracle_reads_the_true_mi_at_low_levels():
    task = StaircaseTask((0.5,), each=60, dim=3)
    members = grid(loss=["mine", "nwj", "tuba", "infonce"], seed=[0], batch=256)
    table = gaussian_staircase.errors(staircase_oracle.oracle(task, members).terms, task, ["loss"])
    assert (table["bias"].abs() < 0.04).all()


def history(values: list[float]) -> pd.DataFrame:
    rows = pd.DataFrame({"step": range(len(values)), "mi": values})
    rows = rows.assign(member=0, loss="js", seed=0, penalty=0.0)
    return rows.assign(joint_term=-0.2, product_term=0.3, joint=2.0, log_partition=0.1)


def test_errors_are_of_the_last_half_of_each_level():
    table = gaussian_staircase.errors(
        history([9.0] * 3 + [1.5, 0.5, 1.0] + [9.0] * 3 + [2.0] * 3), SMALL, ["loss"]
    )
    assert table["bias"].tolist() == pytest.approx([0.0, 0.0])
    assert table["sd"].tolist() == pytest.approx([np.std([0.5, -0.5, 0.0]), 0])
    gone = gaussian_staircase.errors(history([1.0] * 10 + [np.nan] * 2), SMALL, ["loss"])
    assert gone["rmse"].tolist() == [0.0, np.inf]
    assert np.isnan(gone["bias"].iloc[1])


def test_js_readings():
    table = gaussian_staircase.js_readings(history([1.0])).set_index("reading")["mi"]
    assert table["raw JS"] == pytest.approx(-0.5)
    assert table["NWJ of T"] == pytest.approx(2 - math.exp(-0.9))
    assert table["NWJ of T + 1"] == pytest.approx(3 - math.exp(0.1))


def test_levels_are_summarised_over_seeds_under_printed_names():
    rows = crossed(name=("renwj", "NWJ, clipped"), seed=(0, 1), true_mi=(2.0, 10.0))
    rows = rows.assign(rmse=rows["true_mi"] + rows["seed"], bias=-rows["true_mi"])
    table = gaussian_staircase.level_summary(rows, "name", "rmse")
    assert list(table.index) == ["ReNWJ", "NWJ, clipped"]
    assert table.loc["ReNWJ"].to_dict() == {2.0: 2.5, 10.0: 10.5}
    bias = gaussian_staircase.level_summary(rows, "name", "bias")
    assert bias.loc["NWJ, clipped"].tolist() == [-2, -10]


def test_smoothing_is_the_papers_average_and_forgets_other_members():
    """Span 3 weighs a step half as much as the next one."""
    terms = pd.concat([history([0.0, 4.0, 4.0]), history([8.0, 8.0, 8.0]).assign(member=1)])
    ema = gaussian_staircase.smoothed(terms, 3)["ema"].tolist()
    assert ema == pytest.approx([0, 8 / 3, (4 + 4 / 2 + 0) / 1.75, 8, 8, 8])


def test_lost_names_the_step_and_the_term():
    gone = history([1.0] * 4).assign(member=1, loss="nwj", seed=3)
    gone.loc[2:, "product_term"] = np.inf
    back = history([1.0] * 4).assign(member=2, loss="tuba")
    back.loc[1, "product_term"] = np.inf  # recovers, so it is not lost
    found = gaussian_staircase.lost(pd.concat([history([1.0] * 4), gone, back], ignore_index=True))
    assert found.to_dict("records") == [
        {"loss": "nwj", "seed": 3, "step": 2.0, "first_term": "product_term"}
    ]


def test_remembered_oracle_is_the_oracle_seed_by_seed():
    task = StaircaseTask((0.5,), each=4, dim=2)
    members = grid(loss=["mine", "nwj"], seed=[0], batch=16)
    found = staircase_oracle.cached_oracle("o", task, members).terms
    pd.testing.assert_frame_equal(found, staircase_oracle.oracle(task, members).terms)
    pd.testing.assert_frame_equal(staircase_oracle.cached_oracle("o", task, members).terms, found)
    other = staircase_oracle.cached_oracle(
        "o", task, grid(loss=["mine", "nwj"], seed=[1], batch=16)
    )
    assert not np.allclose(other.terms["mi"], found["mi"])


def errors_table(**rmse: float) -> pd.DataFrame:
    """Errors of the twelve losses at 2 and 10 nats, two seeds that differ by 0.02.

    RMSE 1 and SD 0.5 unless told; the bias is its negative RMSE.
    """
    rows = [
        (loss, seed, mi, -rmse.get(loss, 1.0), 0.5, rmse.get(loss, 1.0) + 0.02 * seed)
        for loss in LOSSES
        for seed in (0, 1)
        for mi in (2.0, 10.0)
    ]
    return pd.DataFrame(rows, columns=["loss", "seed", "true_mi", "bias", "sd", "rmse"])


def test_gains_are_paired_by_seed_and_a_lost_original_is_infinitely_worse():
    table = errors_table(mine=3.0, remine=1.0, nwj=np.inf, tuba=np.inf, retuba=np.inf)
    table.loc[(table["loss"] == "mine") & (table["true_mi"] == 10), "rmse"] += 1
    gains = gaussian_staircase.differences(table, "rmse")
    assert list(gains) == list(FAMILIES)
    assert gains["mine"].to_dict() == pytest.approx({0: 2.5, 1: 2.5})  # mean over levels
    assert gains["nwj"].tolist() == [np.inf, np.inf]
    assert gains["tuba"].tolist() == [0, 0]  # both worthless


def judged(learned: pd.DataFrame) -> dict[str, dict]:
    """Notebook 6's ledger on made-up errors: what the other tables hold is the same every time."""
    readings = pd.concat(
        pd.DataFrame({"loss": loss, "seed": [0, 1], "true_mi": 10.0, "rmse": rmse, "reading": name})
        for loss, name, rmse in (
            ("js", "NWJ of T + 1", 1.5),
            ("rejs", "NWJ of T + 1", 1.0),
            ("js", "raw JS", 12.0),
        )
    ).assign(bias=[-1.0, -1.0, -1.0, -1.0, -10.5, -11.0])
    extra = pd.DataFrame({"name": "NWJ, clipped", "seed": [0, 1], "true_mi": 10.0, "rmse": 1.75})
    ledger = Ledger("06_gaussian_staircase", "cpu", ["staircase_small"])
    errors_of = {"learned": learned, "js": readings, "clipped": extra}
    judge(ledger, "staircase_small", {**errors_of, "bent": errors_table(smile=2.0)})
    assert set(ledger.due()) == set(ledger.entries)
    return {key.split("@")[0].removeprefix("fig7."): e for key, e in ledger.entries.items()}


def test_claims_of_notebook_6_by_hand():
    learned = errors_table(mine=6.0, remine=2.0, renwj=1.25)
    learned.loc[learned["loss"] == "smile", "sd"] = 0.5 * math.e
    found = judged(learned)
    value = {key: entry["value"] for key, entry in found.items()}
    mine = (math.log(6 / 2) + math.log(6.02 / 2.02)) / 2
    nwj = (math.log(1 / 1.25) + math.log(1.02 / 1.27)) / 2
    parts = {k: p["value"] for k, p in found["rmse"]["parts"].items()}
    assert parts["mine"] == pytest.approx(mine, abs=1e-6)
    assert parts["js"] == parts["infonce"] == 0
    assert value["rmse"] == pytest.approx((mine + nwj) / 5, abs=1e-6)
    assert value["sd"] == pytest.approx(1 / 5)  # SMILE's log ratio is 1, the others' 0
    cubic = (math.log(2) + math.log(2.02 / 1.02)) / 2
    assert value["cubic"] == pytest.approx(cubic / 4, abs=1e-6)
    assert value["js.raw-curve-is-negative"] == -0.5  # 10 - 10.5, the larger
    assert found["js.raw-curve-is-negative"]["verdict"] == "confirmed by calculation"
    assert value["js.same-reading"] == pytest.approx(math.log(1.5), abs=1e-6)


def test_the_exception_that_the_paper_names_is_no_evidence_against_it():
    """InfoNCE ten times worse under the penalty moves its part, not the claim."""
    plain = judged(errors_table(mine=2.0))["rmse"]
    worse = judged(errors_table(mine=2.0, reinfonce=10.0))["rmse"]
    assert worse["value"] == plain["value"]
    assert worse["parts"]["infonce"]["value"] < plain["parts"]["infonce"]["value"]


def test_a_diverged_original_is_evidence_for_its_twin_and_no_infinity():
    learned = errors_table(nwj=np.inf, tuba=np.inf, retuba=np.inf)
    learned.loc[learned["rmse"] == np.inf, ["bias", "sd"]] = np.nan
    for key in ("rmse", "sd"):
        parts = judged(learned)[key]["parts"]
        assert parts["nwj"]["value"] == pytest.approx(math.log(10), abs=1e-6)  # ten times worse
        assert parts["tuba"]["value"] == 0  # both are lost


test_bad_input_is_named = refuses(
    (lambda: StaircaseTask((2.0, 0.0)), r"levels: \[2.0, 0.0\] is not allowed"),
    (lambda: StaircaseTask((2.0, -1.0)), "every MI must be > 0"),
    (lambda: StaircaseTask(()), "levels"),
    (lambda: StaircaseTask(each=0), "each: 0 is not allowed"),
    (
        lambda: StaircaseTask(transform="square"),
        "transform: 'square' is not allowed; choose one of",
    ),
    (lambda: StaircaseTask(dim=0), "dim: 0"),
    (lambda: Member("mine", batch=1), "batch: 1"),
    (lambda: grid(loss=["mime"]), "no loss is called 'mime'; allowed: mine"),
)
