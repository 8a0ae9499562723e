"""The ensemble loop: members are independent, divergence is recorded, histories are tidy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib import losses
from remi_lib.devices import resolve_device
from remi_lib.losses import Terms, nwj
from remi_lib.scores import Scores
from remi_lib.tasks import ImageTask, Member, OneHotTask, grid
from remi_lib.training import divergence, train
from tests.conftest import refuses

TASK = OneHotTask()
# Terms are nats around 1, and float32 holds 1e-7 of that: how a batched product rounds depends on
# the CPU, on how many members share it, and is carried along for some dozen steps.
ROUNDING = {"rtol": 2e-4, "atol": 2e-6}


def runaway(scores: Scores) -> Terms:
    """NWJ with its second term's sign flipped: ascent drives e^T up until it overflows."""
    terms = nwj(scores)
    return terms._replace(objective=terms.joint_term + terms.product_term)


@pytest.fixture
def registered_runaway(monkeypatch):
    """ "runaway" as a loss, for one test."""
    monkeypatch.setattr(losses, "_RECIPES", dict(losses._RECIPES))
    losses.register("runaway", runaway)


def alone(history: pd.DataFrame, member: int) -> np.ndarray:
    rows = history[history["member"] == member]
    return rows[["joint_term", "product_term", "penalty", "mi"]].to_numpy()


def test_a_member_alone_and_in_company_is_the_same():
    members = grid(loss=["js", "mine", "renwj"], seed=[0, 4], batch=[16, 100], weight=0.5)
    together = train(TASK, members, 30, device="cpu").history
    for i in (0, 5, 11):
        single = train(TASK, [members[i]], 30, device="cpu").history
        np.testing.assert_allclose(alone(together.terms, i), alone(single.terms, 0), **ROUNDING)
        ours = together.probes.query("member == @i")["exact_mi"].to_numpy()
        np.testing.assert_allclose(ours, single.probes["exact_mi"], **ROUNDING)


def test_image_members_do_not_depend_on_their_company():
    members = [Member(loss, 1, 10) for loss in ("remine", "nwj", "infonce")]
    task = ImageTask(benchmark="clb", width=64)
    together = train(task, members, 12, 1e-3, "adam", device="cpu").history
    single = train(task, members[2:], 12, 1e-3, "adam", device="cpu").history
    np.testing.assert_allclose(
        alone(together.terms, 2), alone(single.terms, 0), rtol=1e-3, atol=1e-5
    )


def test_same_seed_same_history():
    members = grid(loss=["mine", "nwj"], seed=[0, 1], batch=32)
    first, second = (train(TASK, members, 20, device="cpu").history.terms for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_training_estimates_log_k():
    members = grid(loss=["mine", "nwj", "infonce", "js", "remine", "renwj"], seed=[0], batch=400)
    probes = train(TASK, members, 800, lr=0.3, probe_every=799, device="cpu").history.probes
    last = probes[probes["step"] == 799].set_index("loss")["exact_mi"]
    for loss in ("mine", "remine", "nwj", "infonce"):
        assert 2.4 < last[loss] <= TASK.data.mi + 1e-3, loss
    assert 1.9 < last["js"] < TASK.data.mi - 0.3  # low by 1/e


def test_one_diverging_member_stops_and_touches_nobody(registered_runaway):
    members = [Member("mine", 0, 16), Member("runaway", 0, 16), Member("remine", 1, 16)]
    history = train(TASK, members, 50, lr=0.3, device="cpu").history
    lost = history.divergence().set_index("member")
    assert lost["step"].notna().tolist() == [False, True, False]
    step = int(lost.loc[1, "step"])
    assert lost.loc[1, "first_term"] in ("product_term", "parameters")
    terms = history.terms[history.terms["member"] == 1].set_index("step")["product_term"]
    assert step > 1
    assert np.isfinite(terms[: step - 1]).all()
    assert not np.isfinite(terms[step:]).any()
    single = train(TASK, members[2:], 50, lr=0.3, device="cpu").history.terms
    np.testing.assert_allclose(alone(history.terms, 2), alone(single, 0), **ROUNDING)


def history(**columns: list) -> pd.DataFrame:
    steps = len(next(iter(columns.values())))
    base = {"member": [0] * steps, "loss": ["nwj"] * steps, "seed": [0] * steps}
    terms = {"joint_term": [0.0] * steps, "product_term": [0.0] * steps, "penalty": [0.0] * steps}
    return pd.DataFrame({**base, **terms, "step": range(steps), **columns})


@pytest.mark.parametrize(
    ("values", "step", "term"),
    [
        ([0.0, 1.0, 2.0], np.nan, None),
        ([0.0, np.inf, 2.0], np.nan, None),  # it recovered
        ([0.0, np.inf, np.nan], 1, "product_term"),
        ([np.inf, 0.0, np.nan], 2, "product_term"),
    ],
)
def test_divergence_is_the_last_stretch(values, step, term):
    row = divergence(history(product_term=values)).iloc[0]
    np.testing.assert_equal(float(row["step"]), float(step))
    assert term is None or row["first_term"] == term


def test_divergence_of_everything_at_once_is_in_the_parameters():
    nan = [0.0, np.nan]
    row = divergence(history(joint_term=nan, product_term=nan, penalty=nan)).iloc[0]
    assert (row["step"], row["first_term"]) == (1, "parameters")


def test_everyone_gone_stops_early_with_a_full_history():
    members = [Member("nwj", s, 16) for s in range(2)]
    terms = train(TASK, members, 600, lr=1e6, device="cpu").history.terms
    assert len(terms) == 2 * 600
    assert terms.loc[terms["step"] == 599, "mi"].isna().all()


def test_history_carries_what_varies():
    members = grid(loss="remine", seed=[0, 1], target=[0.0, 2.0])
    terms = train(TASK, members, 2, device="cpu").history.terms
    assert {"loss", "seed", "target"} <= set(terms)
    assert "batch" not in terms


test_bad_input_is_named = refuses(
    (lambda: train(TASK, [Member("mine")], 1, optimizer="lion"), "optimizer: 'lion'"),
    (lambda: train(TASK, [Member("mine")], 0), "steps"),
    (lambda: train(TASK, [], 5), "members"),
    (lambda: train(TASK, [Member("mine")], 1, device="tpu"), "device: 'tpu' is not there"),
    (lambda: Member("mine", batch=1), "batch: 1 is not allowed"),
    (lambda: Member("mien"), "allowed: mine"),
    (lambda: Member("remine", weight=-1.0), "weight: -1.0"),
    (lambda: grid(loss="mine", lamda=1), "unknown member setting"),
    (lambda: ImageTask(benchmark="ssl"), "benchmark: 'ssl'"),
    (lambda: ImageTask(net="vgg"), "net: 'vgg'"),
)


def test_device():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="allowed here: auto, cpu"):
            resolve_device("cuda")
    for absent in ("cpu:1", "cpu:", "cpu:first", "cuda:99", "tpu"):
        with pytest.raises(ValueError, match=f"device: '{absent}' is not there"):
            resolve_device(absent)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_only_while_training(before):
    torch.set_flush_denormal(before)
    try:
        train(OneHotTask(), grid(loss="mine", seed=[0]), 2)
        assert bool((torch.tensor([1e-40]) * 1.0 == 0).all()) is before
    finally:
        torch.set_flush_denormal(False)
