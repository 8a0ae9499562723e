"""The controls: exact measures, the table's arithmetic, claims judged from it."""

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib.experiments import one_hot_controls as controls
from remi_lib.experiments.verdicts import one_hot as verdicts
from remi_lib.losses import make_loss
from remi_lib.replication.claims import registry
from remi_lib.tasks import OneHotTask, grid


def scored(known):
    members = grid(loss="mine", seed=range(2), batch=16)
    task = controls.MeasuredTask(known=known)
    batch = next(iter(task.batches(members, 1, torch.device("cpu"))))[0]
    return task, task.critic(members), batch, members


def test_with_both_measures_exact_a_batch_reads_the_exact_mi():
    task, critic, batch, members = scored("both")
    read = make_loss("mine")(task.scores(critic, batch, members)).mi
    exact = make_loss("mine")(OneHotTask().exact(critic)).mi
    torch.testing.assert_close(read, exact)


@pytest.mark.parametrize("known", ["none", "joint", "product"])
def test_a_sampled_measure_is_the_plain_problems(known):
    task, critic, batch, members = scored(known)
    mixed, sampled = (
        task.scores(critic, batch, members),
        OneHotTask().scores(critic, batch, members),
    )
    exact = OneHotTask().exact(critic)
    for name in ("joint", "product"):
        wanted = exact if known == name else sampled
        masses = (getattr(x, f"log_{name}").exp() for x in (mixed, wanted))
        torch.testing.assert_close(*(m.expand(2, 16, 16) for m in masses))


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="known: 'all' is not allowed"):
        controls.MeasuredTask(known="all")


def test_the_study_has_every_cell_once():
    cells = [
        (g.study, m.loss, m.batch, m.seed, g.lr, g.optimizer, g.exact)
        for g in controls.groups()
        for m in g.members()
    ]
    assert len(cells) == len(set(cells)) == 20 * (3 * 7 * 5 + 3 * 3 + 1 + 2 * 4 + 1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REMI_CACHE", str(tmp_path_factory.mktemp("cache")))
        small = controls.groups(batches=(32,), drift_batches=(100, 1000), seeds=2, steps=40)
        return pd.concat([controls.run(group) for group in small], ignore_index=True)


def test_every_control_claim_is_judged_and_no_other(rows):
    ledger = verdicts.judge_controls(rows, "tiny")
    own = {claim for claim in registry() if claim.startswith("control.")}
    assert set(ledger.entries) == own
    ledger.save()


def test_a_smaller_rate_runs_for_as_long_as_makes_up_for_it():
    far = {g.lr: g.steps * g.lr for g in controls.groups() if g.study == "long" and g.lr < 0.1}
    assert far == pytest.approx({0.03: 300, 0.01: 300})


def test_a_lost_run_counts_as_the_worst_not_as_nothing(rows):
    lost = rows.copy()
    lost.loc[(lost["loss"] == "mine") & (lost["lr"] == 0.01), "diverged_step"] = 7.0
    assert (verdicts.chosen(lost, "sd", loss="mine", lr=0.01) == np.inf).all()
    assert (verdicts.chosen(lost, "exact_mi", loss="mine", lr=0.01) == -np.inf).all()
    assert verdicts.chosen(lost, "sd", loss="mine", lr=0.03).notna().all()


def test_a_setting_without_runs_is_an_error(rows):
    with pytest.raises(ValueError, match="controls: no run of"):
        verdicts.chosen(rows, "sd", loss="mine", lr=0.5)


def test_drift_is_late_minus_early(rows):
    """Against the history itself, for one group."""
    group = next(g for g in controls.groups(seeds=2, steps=30) if g.exact == "both")
    task = controls.MeasuredTask(known="both")
    history = controls.train(task, group.members(), 30, group.lr, device="cpu", probe_every=10)
    probes = history.history.probes
    first = probes[(probes["member"] == 0)].set_index("step")["log_partition"]
    found = controls.summary(history.history, group.members(), group)
    # 30 steps: windows of 5; probes at 0, 10, 20: none in the last window, one in the second.
    assert np.isnan(found["log_partition_drift"][0])
    assert found["log_partition"][0] == pytest.approx(first[20])
