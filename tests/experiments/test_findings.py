"""What the findings print: closed forms, numbers worked out by hand, and what was not run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from remi_lib.experiments import findings, published
from remi_lib.experiments.lambda_sweep import outcome_grid
from remi_lib.experiments.verdicts.findings import judge, pairs_that_train
from remi_lib.losses import LOSSES
from remi_lib.paths import figures_dir
from remi_lib.replication.claims import Ledger, registry
from remi_lib.tasks import Member
from remi_lib.training import History
from tests.conftest import crossed


def artifact(name: str, frame: pd.DataFrame) -> None:
    figures_dir("cpu").mkdir(parents=True, exist_ok=True)
    frame.to_csv(figures_dir("cpu") / f"{name}.csv", index=False)


def numbers(text: str) -> list[float]:
    """ "1.000 [0.500, 1.500]" -> its three numbers."""
    return [float(x) for x in text.replace("[", "").replace("]", "").replace(",", "").split()]


def table2_runs() -> pd.DataFrame:
    """Two seeds of every loss in both benchmarks; MI 1 and 2, held out half of that."""
    rows = crossed(benchmark=("slb", "clb"), loss=LOSSES, seed=(0, 1))
    half = rows["seed"] / 2
    rows = rows.assign(mi=1 + 2 * half, test_mi=0.5 + half, mi_sd=0.4 + 0.4 * half)
    rows = rows.assign(accuracy=0.8 + 0.2 * half, accuracy_batch_norm=0.7)
    return rows.assign(diverged_step=np.nan, frozen=False)


def test_js_is_low_by_one_over_e():
    artifact("table2_runs", table2_runs())
    table = findings.js_low_by_one_over_e("cpu")
    for name, classes, printed in (("cifar10", 10, "1.944"), ("cifar100", 100, "4.088")):
        row = table.loc[f"SLB JS, {name}"]
        assert numbers(row["predicted"].split()[0])[0] == pytest.approx(
            math.log(classes) - 1 / math.e, abs=6e-4
        )
        assert row["paper"] == printed
        assert row["measured"] == "not run at the paper's size (needs a GPU)"
    ours = numbers(table.loc["SLB JS, digits", "measured"])
    # t(1, 97.5%) = 12.706 and the standard error of {1, 2} is 1/2.
    assert ours == pytest.approx([1.5, 1.5 - 6.353, 1.5 + 6.353], abs=1e-3)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([np.inf, np.nan], "diverged or frozen"),
        ([1.0, np.inf], "diverged or frozen"),  # one seed has no interval
        ([1.0, np.inf, 1.0], "1.000 [1.000, 1.000]"),
    ],
)
def test_a_cell_of_runs_that_failed(values, text):
    frame = pd.DataFrame({"benchmark": "clb", "loss": "nwj", "mi": values})
    assert findings._cell(frame, "clb", "nwj") == text


def test_rejs_reads_higher_the_lower_its_target():
    """The optimum of JS is at E_Q[softplus T] = log(11)/10 = 0.24: only there is it undisturbed."""
    consistent = round(math.log(11) / 10, 6)
    runs = pd.DataFrame({"benchmark": "slb", "target": [0, 0, 1, 1, consistent, consistent]})
    runs["mi"] = [2.1, 2.1, 1.9, 1.9, 1.934, 1.934]
    artifact("table2_rejs", runs)
    table = findings.rejs_targets("cpu")
    assert [numbers(x)[0] for x in table["measured"]] == [2.1, 1.9, 1.934]
    mild, strong = ([float(text.split()[at]) for text in table["predicted"]] for at in (0, 5))
    fixed = math.log(10) - 1 / math.e
    assert (mild[2], strong[2]) == pytest.approx((fixed, fixed), abs=1e-3)
    assert abs(strong[0] - fixed) > abs(mild[0] - fixed) > 1e-3
    assert table["paper"].str.startswith("2.000 ").all()


def test_renwj_runs_average_the_last_500_steps(monkeypatch):
    asked: dict[str, object] = {}

    def run(name: str, task: object, members: Sequence[Member], steps: int, **options) -> History:
        asked.update(members=members, steps=steps, **options)
        rows = [
            # Before the window everything is wrong.
            (m.variant, m.seed, step, (m.seed + 1.0 if step >= 500 else 99.0), 0.25)
            for m in members
            for step in range(0, 1000, 10)
        ]
        columns = ["variant", "seed", "step", "exact_mi", "log_partition"]
        return History(pd.DataFrame(), pd.DataFrame(rows, columns=columns))

    monkeypatch.setattr(findings, "run", run)
    late = findings.renwj_runs(seeds=2, steps=1000, batch=100, lr=0.1, weight=1.0)
    assert late["exact_mi"].to_dict() == {
        (variant, seed): seed + 1.0 for variant in ("official", "paper") for seed in (0, 1)
    }
    members = asked["members"]
    assert {(m.loss, m.batch, m.weight) for m in members} == {("renwj", 100, 1.0)}
    assert asked["lr"] == 0.1


def test_renwj_anchored_as_coded_has_its_optimum_elsewhere():
    index = pd.MultiIndex.from_product([["paper", "official"], [0, 1]], names=["variant", "seed"])
    late = pd.DataFrame(
        {"exact_mi": [2.7, 2.7, 2.5, 2.5], "log_partition": [1, 1, 0.5, 0.5]}, index
    )
    table = findings.renwj_anchor(late, 1.0)
    paper, coded = "penalty on log E_Q[e^(T-1)]", "penalty on log E_Q[e^T]"
    predicted = table["predicted"].astype(float)
    assert predicted[f"{paper}: MI"] == pytest.approx(math.log(16), abs=1e-3)
    assert predicted[f"{paper}: E_Q[e^(T-1)]"] == pytest.approx(1, abs=1e-3)
    # With s = E_Q[e^(T-1)] the coded objective is log 16 + log s - s + 1 - (log s + 1)^2, and the
    # reading all but the last term.
    s = min(np.linspace(0.3, 1, 70_001), key=lambda s: (1 / s - 1 - 2 * (np.log(s) + 1) / s) ** 2)
    assert predicted[f"{coded}: E_Q[e^(T-1)]"] == pytest.approx(s, abs=1e-3)
    mi = math.log(16) + math.log(s) - s + 1
    assert predicted[f"{coded}: MI"] == pytest.approx(mi, abs=1e-3)
    assert math.log(16) - mi == pytest.approx(0.217, abs=1e-3)  # as the claim's reason has it
    assert numbers(table.loc[f"{coded}: MI", "measured"])[0] == 2.5
    measured = numbers(table.loc[f"{coded}: E_Q[e^(T-1)]", "measured"])[0]
    assert measured == pytest.approx(math.exp(-0.5), abs=1e-3)


def test_plotting_slip():
    """At the optimum E_Q[e^(T-1)] = 1, and what was drawn under that name is e - 1."""
    steps = [0, 600, 1000]
    seeds = [pd.DataFrame({"loss": "nwj", "seed": s, "step": steps}) for s in (0, 1)]
    frame = pd.concat(seeds).assign(log_second=[5.0, 0.0, 0.0] * 2)
    other = frame.assign(loss="mine", log_second=9.0)
    artifact("fig1_seeds", pd.concat([frame, other]))
    table = findings.plotting_slip("cpu")
    assert numbers(table.loc["labelled: E_Q[e^(T-1)]", "measured"]) == [1.0] * 3
    drawn = table.loc["drawn: E_Q[e^T] - 1"]
    assert numbers(drawn["measured"])[0] == float(drawn["predicted"]) == 1.718


def test_js_panel_reads_the_top_level_only():
    rows = [
        (loss, reading, seed, mi, bias if mi == 10 else 99.0)
        for loss, reading, bias in (
            ("js", "raw JS", -10.5),
            ("js", "NWJ of T + 1", -1.0),
            ("rejs", "NWJ of T", -0.5),
            ("rejs", "NWJ of T + 1", -2.0),
        )
        for seed in (0, 1)
        for mi in (2, 10)
    ]
    artifact("fig7_js", pd.DataFrame(rows, columns=["loss", "reading", "seed", "true_mi", "bias"]))
    table = findings.js_panel("cpu")
    assert [numbers(x)[0] for x in table["measured"]] == [-0.5, 9.5, 9.0, 8.0]
    assert list(table["predicted"]) == ["below 0", "at most 10", "at most 10", "at most 10"]


@pytest.mark.parametrize(
    ("table", "notebook"),
    [
        (findings.plotting_slip, "01"),
        (findings.js_panel, "06"),
        (findings.rejs_targets, "04"),
        (findings.slb_is_a_training_fit, "04"),
        (findings.batch_norm, "04"),
    ],
)
def test_what_was_not_run_says_what_it_needs(table, notebook):
    shown = table("cpu")
    measured = shown["measured"] if "measured" in shown else shown.iloc[:, -1]
    assert set(measured) == {f"not run (needs notebook {notebook})"}


def test_held_out_images_stand_beside_the_training_fit():
    artifact("table2_runs", table2_runs())
    table = findings.slb_is_a_training_fit("cpu")
    assert list(table.columns) == ["paper, training (CIFAR-10)", "ours, training", "ours, held out"]
    assert table.loc["MINE", "paper, training (CIFAR-10)"] == "2.300"
    assert numbers(table.loc["JS", "ours, training"])[0] == 1.5
    assert numbers(table.loc["JS", "ours, held out"])[0] == 0.75


def test_batch_law_and_the_spread_of_our_runs():
    artifact("table2_runs", table2_runs())
    table = findings.batch_law("cpu")
    # Ten images of ten classes, 5000 each, are all of different classes with this probability.
    alone = math.prod(50_000 * (1 - k / 10) / (50_000 - k) for k in range(10))
    empty = float(table.loc["batches without a joint pair, cifar10", "predicted"])
    assert empty == pytest.approx(alone, abs=1e-5)
    ours = table["measured (digits, MINE)"]
    assert ours["SD over batches, cifar10"] == "0.500"
    assert ours["95% half width over 5 seeds, cifar10"] == "0.878"
    assert ours["SD over batches, cifar100"] == "not run (needs CIFAR-100)"


def test_batch_norm_leaves_out_runs_that_failed():
    runs = table2_runs()
    runs.loc[runs["loss"] == "nwj", ["diverged_step", "accuracy"]] = [0.0, -9.0]
    runs.loc[runs["loss"] == "smile", ["frozen", "accuracy"]] = [True, -9.0]
    artifact("table2_runs", runs)
    table = findings.batch_norm("cpu")
    assert list(table.index) == ["SLB", "CLB"]
    running, batch = table.loc["CLB"]
    assert numbers(running)[0] == pytest.approx(0.85)
    assert numbers(batch) == [0.7, 0.7, 0.7]


def test_caps_of_clipped_losses_at_ten_nats():
    """Log r beyond 9 (NWJ) or 10 (TUBA) is cut off: 8.54 and 8.98 nats are the most."""
    caps = findings.clipped_caps()
    assert caps.loc["ReNWJ", 10.0] == pytest.approx(8.54, abs=0.03)
    assert caps.loc["ReTUBA", 10.0] == pytest.approx(8.98, abs=0.03)
    assert caps.loc["ReNWJ", 10.0] < caps.loc["ReTUBA", 10.0]
    assert (caps[2.0] - 2).abs().max() < 0.03
    assert (caps.to_numpy() < np.array(caps.columns) + 0.03).all()


def test_batches_without_a_joint_pair():
    table = findings.no_joint_pair([1, 16, 64])
    predicted = table["predicted"].astype(float)
    assert predicted.tolist() == pytest.approx([0.9375, 0.3561, 0.0161], abs=1e-4)
    assert table["measured"].astype(float).tolist() == pytest.approx(predicted, abs=0.012)


def test_rounding_is_a_mean_over_seeds():
    runs = pd.DataFrame({"optimizer": ["sgd", "adam", "adam"], "seed": [0, 0, 1], "gap": [0, 1, 3]})
    table = findings.rounding_becomes_drift(runs)
    assert table["gap"].to_dict() == {"sgd": 0, "adam": 2}
    assert list(table.columns) == ["gap"]


def ablation(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"failed": 0.0, "mi": 1.5, "accuracy": 0.9, "seeds": 5, **columns})


def test_ablation_grids():
    missing = findings.ablation_grid("cpu", "fig6_scale")
    assert missing.iloc[0, 0] == "not run (needs notebook 05)"
    scale = ablation(setting="width 32", loss=["smile", "resmile"])
    artifact("fig6_scale", scale)
    pd.testing.assert_frame_equal(findings.ablation_grid("cpu", "fig6_scale"), outcome_grid(scale))
    # Without its clip SMILE is MINE, and with a penalty it is another loss of the same column.
    artifact(
        "fig6_ablation",
        ablation(setting=["neither", "both"], loss=["mine", "resmile"], failed=[1.0, 0.2]),
    )
    grid = findings.ablation_grid("cpu", "fig6_ablation")
    assert grid["SMILE"].to_dict() == {"neither": "fails 5/5", "both": "1.50 (0.90), fails 1/5"}


def test_judged_evidence_is_worked_out_from_the_published_numbers():
    """The optima are computed once and serve the table and the ledger."""
    artifact("table2_runs", table2_runs())
    table = findings.non_negative_optima("cpu").set_index(["dataset", "loss"])
    assert table.loc[("cifar10", "retuba"), "paper"] == 1.358
    assert numbers(table.loc[("cifar10", "mine"), "measured (digits)"])[0] == 1.5
    assert table.loc[("cifar100", "mine"), "measured (digits)"] == "not run (needs CIFAR-100)"
    # A perfect DV critic reads log(B(B-1)/J) of every batch with J > 0 joint pairs.
    rng = np.random.default_rng(1)
    counts = rng.multivariate_hypergeometric([5000] * 10, 10, size=20_000)
    pairs = (counts * (counts - 1)).sum(1)
    perfect = np.log(90 / pairs[pairs > 0]).mean()
    assert table.loc[("cifar10", "mine"), "predicted"] == pytest.approx(perfect, abs=0.015)

    ledger = Ledger("10_findings", "cpu")
    judge(ledger, "cpu")
    assert set(ledger.due()) == set(ledger.entries)
    value = {key.removeprefix("finding."): e["value"] for key, e in ledger.entries.items()}
    js = ledger.entries["finding.published-js"]
    assert js["value"] == pytest.approx(1.944 - math.log(10) + 1 / math.e, abs=1e-6)
    assert js["parts"]["cifar100"]["value"] == pytest.approx(
        4.088 - math.log(100) + 1 / math.e, abs=1e-6
    )
    assert js["interval"] == pytest.approx([js["value"] - 0.039, js["value"] + 0.039], abs=1e-6)
    above = (table["paper"] - table["predicted"]).max()
    assert value["published-clb"] == pytest.approx(above, abs=1e-6)
    assert set(ledger.entries) <= set(registry())


def test_the_papers_own_table_read_again():
    """By hand from the printed numbers: 18 pairs train, 15 are closer, 12 better, 2 equal."""
    pairs = pairs_that_train(published.table2())
    assert len(pairs) == 18
    assert (pairs["closer"] > 0).sum() == 15
    assert ((pairs["better"] > 0).sum(), (pairs["better"] == 0).sum()) == (12, 2)
    assert (pairs["mi_apart"].sum(), pairs["accuracy_apart"].sum()) == (0, 1)
    apart = pairs[pairs["accuracy_apart"]].iloc[0]
    assert (apart["task"], apart["dataset"], apart["loss"]) == ("slb", "cifar100", "tuba")


def test_effects_in_the_claims_are_the_printed_ones():
    """`effect` is the mean over the pairs that train, of CIFAR-10 ("") and of CIFAR-100."""
    pairs = pairs_that_train(published.table2())
    means = pairs.groupby(["task", "dataset"])[["closer", "better"]].mean()
    for task in ("slb", "clb"):
        for claim, column in (("closer", "closer"), ("accuracy", "better")):
            effect = registry()[f"table2.{task}.{claim}"].effect
            for dataset, key in (("cifar10", ""), ("cifar100", "cifar100")):
                printed = means.loc[(task, dataset), column]
                assert effect[key] == pytest.approx(printed, abs=6e-5)
    slb = published.table2().query("task == 'slb'").set_index(["dataset", "loss"])
    accuracy = slb["accuracy_original"]
    chosen = accuracy["cifar10"][["mine", "smile", "nwj", "tuba"]].mean()
    ahead = chosen - accuracy["cifar10", "infonce"]
    assert registry()["table2.slb.beats-ce"].effect == pytest.approx(ahead, abs=6e-5)
