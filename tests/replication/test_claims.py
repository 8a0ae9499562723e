"""The ledger: verdicts follow the numbers, both ways, and nothing is judged twice or never."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from remi_lib.intervals import Estimate
from remi_lib.paths import figures_dir
from remi_lib.replication import claims, scoreboard
from remi_lib.replication.claims import Claim, Ledger, Verdict, collect, compatible, registry
from remi_lib.replication.evidence import Evidence, exact
from remi_lib.replication.messages import messages
from remi_lib.replication.store import read_json


def claim(low, high, **options) -> Claim:
    return Claim("x", "nb", "s", "t", "d", "m", (low, high), "r", **options)


def evidence(value, low, high) -> Evidence:
    return Evidence("mean", value, low, high, 5)


@pytest.mark.parametrize(
    ("interval", "estimate", "verdict"),
    [
        ((0, None), (1, 0.5, 2), "holds"),
        ((0, None), (1, -0.5, 2), "not resolved"),
        ((0, None), (-1, -2, -0.5), "does not hold"),
        ((None, 0), (-1, -2, -0.5), "holds"),
        ((-1, 1), (0, -0.5, 0.5), "holds"),
        ((-1, 1), (3, 2, 4), "does not hold"),
        ((-1, 1), (1, 0, 2), "not resolved"),
    ],
)
def test_verdict_follows_the_interval(interval, estimate, verdict):
    assert claim(*interval).verdict(evidence(*estimate)) == verdict


def test_a_sign_that_could_not_be_seen_is_without_power():
    """The paper's effect is 0.1; half of [-0.3, 0.7] is 0.5, and of [-0.05, 0.1] less."""
    sign = claim(0, None, effect=0.1)
    assert sign.verdict(evidence(0.2, -0.3, 0.7)) == "no power"
    assert sign.verdict(evidence(0.025, -0.05, 0.1)) == "not resolved"
    # What was seen all the same is seen.
    assert sign.verdict(evidence(2, 0.5, 3.5)) == "holds"
    assert sign.verdict(evidence(-2, -3.5, -0.5)) == "does not hold"
    with pytest.raises(ValueError, match="effect is for a claim about a sign"):
        claim(0, 1, effect=0.1)


def test_an_identity_is_confirmed_and_can_fail():
    same = claim(None, 1e-6, kind="identity")
    assert same.verdict(exact(0)) == "confirmed by calculation"
    assert same.verdict(exact(1)) == "does not hold"


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("at_zero", [-0.1, 0.1])
def test_a_qualifier_needs_its_reason(order, at_zero):
    """ReJS gains at target 1 and loses at target 0: what holds carries the reason."""
    js = "quirk2.js-gain-at-target-0@digits"
    given = {"table2.slb.closer@digits": [0.1, 0.11], js: [at_zero, 1.1 * at_zero]}
    ledger = Ledger("04_benchmark", "cpu", ["digits"])
    for key, value in list(given.items())[::order]:
        ledger.judge(key, value)
    entry = ledger.entries["table2.slb.closer@digits"]
    assert entry["verdict"] == "holds"  # a word of its own
    assert (entry["qualifier"] is None) == (at_zero > 0)


def test_a_reason_of_another_sitting_qualifies_too():
    js = "quirk2.js-gain-at-target-0@cifar10"
    for key, value in {"table2.slb.closer@cifar10": [0.1, 0.11], js: [-0.1, -0.11]}.items():
        ledger = Ledger("04_benchmark", "overnight", ["cifar10"])
        ledger.judge(key, value)
        ledger.save(complete=False)
    kept = read_json(figures_dir("overnight") / "claims" / "04_benchmark.json")
    assert [entry["qualifier"] is None for entry in kept] == [False, True]


def test_the_estimand_is_the_claims():
    """A median where a mean is claimed, or an interval of 75%, is refused."""
    ledger, mean = Ledger("13_samples_and_averages", "cpu"), "thm6.micro-drift"
    with pytest.raises(ValueError, match="the estimand is the mean, the evidence median"):
        ledger.judge(mean, Evidence("median", 1, 1, 1))
    with pytest.raises(ValueError, match="a verdict needs 95%"):
        ledger.judge(mean, Estimate(1, 1, 1, "mean", 0.75))
    with pytest.raises(ValueError, match=rf"claim {mean}: .* finite"):
        ledger.judge(mean, [2.7, math.inf])


def test_a_profile_that_tests_the_path_may_be_too_small_to_say_anything():
    """Two seeds make no median; where runs are evidence that is an error."""
    ledger = Ledger("03_target_constant", "tiny")
    assert ledger.judge("fig4.second-term-at-target", [0.1, 0.2]) == "not run"
    entry = ledger.entries["fig4.second-term-at-target"]
    assert (entry["value"], entry["qualifier"]) == (
        None,
        "refused: samples: a median needs 6 or more, got 2",
    )
    assert ledger.table()["measured"].tolist() == [""]
    with pytest.raises(ValueError, match="a median needs 6"):
        Ledger("03_target_constant", "cpu").judge("fig4.second-term-at-target", [0.1, 0.2])


def test_registry_is_well_formed():
    found = registry()
    for entry in found.values():
        low, high = entry.holds_if
        assert low is not None or high is not None
        assert "{" not in entry.id + entry.statement + entry.statistic
        assert entry.reason
        assert entry.source
        assert entry.estimand or entry.kind == "own", f"{entry.id} does not say what it estimates"
        assert set(entry.datasets) <= set(claims.DATASETS)
        if entry.kind == "paper":
            assert entry.message in {row.id for row in messages()}, entry.id
        if entry.unless:
            assert found[entry.unless].notebook == entry.notebook
            assert entry.qualifier
    kinds = pd.Series([entry.kind for entry in found.values()]).value_counts()
    assert set(kinds.index) == {"paper", "control", "identity", "own"}
    assert kinds["paper"] <= 42, "one fact is one claim"
    assert kinds["control"] <= 41
    assert found["finding.published-clb"].holds_if[0] is None  # a ceiling is one-sided


def test_what_is_not_the_papers_is_not_counted_as_its_claim():
    """estimate_mi's and the z-loss's claims are "own"; what the paper does not say is gone."""
    found = registry()
    assert {c.kind for c in found.values() if c.notebook in ("00_quickstart", "12_z_loss")} == {
        "own"
    }
    for withdrawn in ("thm3.tight", "thm4.tight", "thm6.sidesteps-training", "thm7.unbalanced"):
        assert withdrawn not in found


def test_cifar100_has_its_own_sentence_with_its_own_sign():
    """The paper: a trade-off on CIFAR-10, "align well" on CIFAR-100."""
    found = registry()
    assert "cifar100" not in found["fig6.trade-off"].datasets
    assert found["fig6.trade-off"].holds_if == (None, 0)
    assert found["fig6.aligned"].datasets == ("cifar100",)
    assert found["fig6.aligned"].holds_if == (0, None)


def test_a_data_set_is_a_stand_in_a_reduced_problem_or_the_papers():
    entry = registry()["table2.clb.rescued"]
    assert entry.on("digits", "cpu").setting == "stand-in"
    assert entry.on("cifar10", "overnight").setting == "reduced"
    assert entry.on("cifar10", "gpu").setting == "paper"
    assert "32 pixels" in entry.on("cifar10", "overnight").dataset
    with pytest.raises(KeyError, match="is not about 'textures'"):
        entry.on("textures", "cpu")


def test_flipping_the_numbers_flips_the_verdict():
    """No claim has a hard-coded verdict: evidence on either side of its threshold decides."""
    for entry in registry().values():
        low, high = entry.holds_if
        inside = (
            (low + high) / 2 if None not in (low, high) else low + 1 if high is None else high - 1
        )
        outside = high + 1 if high is not None else low - 1
        good = "confirmed by calculation" if entry.kind == "identity" else "holds"
        assert entry.verdict(exact(inside)) == good
        assert entry.verdict(exact(outside)) == "does not hold"


def judge_all(ledger: Ledger) -> None:
    for key in ledger.due():
        estimand = registry()[key.partition("@")[0]].estimand
        ledger.judge(key, Evidence(estimand, 0.1, 0.0, 0.2, 10))


def test_ledger_saves_only_when_everything_due_is_judged():
    ledger = Ledger("03_target_constant", "cpu")
    with pytest.raises(ValueError, match="unjudged"):
        ledger.save()
    judge_all(ledger)
    ledger.save()
    assert (
        len(json.loads((figures_dir("cpu") / "claims" / "03_target_constant.json").read_text()))
        == 3
    )


def test_judges_of_one_notebook_keep_each_others_verdicts():
    """Only long runs are judged so, and only while the claim is what it was."""
    path = figures_dir("overnight") / "claims" / "12_z_loss.json"
    Ledger("12_z_loss", "overnight", ["cifar10_10k"]).save(complete=False)
    assert not path.exists()  # nothing was judged

    def saved(claim: str, value: float) -> dict[str, float]:
        ledger = Ledger("12_z_loss", "overnight", ["cifar10_10k"])
        ledger.judge(f"{claim}@cifar10_10k", Evidence("mean", value, value, value, 3))
        ledger.save(complete=False)
        return {e["id"].partition("@")[0]: e["value"] for e in json.loads(path.read_text())}

    saved("z.real.pins", 2.0)
    assert saved("views.nwj", 0.1) == {"z.real.pins": 2.0, "views.nwj": 0.1}
    # Its own former verdict is replaced where it stood.
    assert list(saved("z.real.pins", 3.0).items()) == [("z.real.pins", 3.0), ("views.nwj", 0.1)]
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([entries[0] | {"threshold": "> 7"}, entries[1]]))
    assert saved("views.nwj", 0.2) == {"views.nwj": 0.2}


def test_ledger_of_another_notebook():
    with pytest.raises(ValueError, match="belongs to 03"):
        Ledger("01_drift", "cpu").judge("fig4.second-term-at-target", [1] * 6)
    with pytest.raises(KeyError):
        Ledger("01_drift", "cpu").judge("fig99", [1, 1])


def test_a_family_is_one_claim_with_parts():
    ledger = Ledger("05_lambda_sweep", "cpu", ["digits"])
    parts = {"mine": [0.1, 0.2, 0.15], "js": [-0.1, 0.2, 0.0], "infonce": [0.3, 0.31, 0.29]}
    ledger.judge("table2.clb.closer@digits", np.mean(list(parts.values()), axis=0), parts)
    entry = ledger.entries["table2.clb.closer@digits"]
    assert entry["n"] == 3
    assert entry["few"]
    assert list(entry["parts"]) == list(parts)
    # Holm: the smallest of three p-values is tripled.
    smallest = min(stats.ttest_1samp(x, 0).pvalue for x in parts.values())
    assert entry["parts"]["infonce"]["p_holm"] == pytest.approx(3 * smallest, abs=1e-6)
    assert "(n = 3)" in claims.measured(entry)


def test_collect_says_what_was_not_run():
    ledger = Ledger("04_benchmark", "cpu", ["digits"])
    judge_all(ledger)
    ledger.save()
    whole = collect("cpu").set_index("id")
    assert whole.loc["table2.slb.harmless@digits", "profile"] == "cpu"
    assert whole.loc["fig6.aligned", "verdict"] == "not run"
    assert whole.loc["fig6.aligned", "qualifier"] == "needs CIFAR-100 and a GPU"
    rows = whole.reset_index()
    assert set(rows["verdict"]) <= set(Verdict)
    assert "fig6.aligned: not run (needs CIFAR-100 and a GPU)" in scoreboard.verdict_lines(rows)
    assert "digits" in scoreboard.styled_ledger(rows[rows["profile"] == "cpu"]).to_html()


def test_the_largest_profile_gives_the_entry():
    for profile, value in (("cpu", 0.1), ("overnight", 0.3)):
        ledger = Ledger("03_target_constant", profile)
        judge_all(ledger)
        ledger.judge("fig4.second-term-at-target", Evidence("median", value, value, value, 10))
        ledger.save()
    row = collect("cpu").set_index("id").loc["fig4.second-term-at-target"]
    assert (row["value"], row["profile"]) == (0.3, "overnight")


def entry(value, low, high):
    return {"value": value, "interval": [low, high]}


def test_compatible_is_about_the_seeds_spread():
    assert compatible(entry(1.0, 0.8, 1.2), entry(1.3, 1.1, 1.5))
    assert not compatible(entry(1.0, 0.9, 1.1), entry(1.3, 1.2, 1.4))
    assert compatible(entry("inf", "inf", "inf"), entry("inf", "inf", "inf"))
    assert not compatible(entry("inf", "inf", "inf"), entry(1.0, 0.0, 2.0))
    # An infinite end is no room for everything.
    assert not compatible(entry(1.0, 0.5, "inf"), entry(1e6, 1e5, "inf"))
    assert not compatible(entry(1.0, 0.5, "inf"), entry(1.0 + 1e-3, 0.5, 1.5))
    assert compatible(entry(1.0, 0.5, "inf"), entry(1.4, 0.9, "inf"))


@pytest.mark.parametrize(("value", "same"), [(0.45, True), (3.0, False)])
def test_a_check_overlooks_noise_and_nothing_else(value, same, monkeypatch, tmp_path):
    """fig4.second-term-at-target holds below 0.5."""
    committed = Ledger("03_target_constant", "cpu")
    judge_all(committed)
    committed.judge("fig4.second-term-at-target", Evidence("median", 0.4, 0.3, 0.48, 10))
    committed.save()
    monkeypatch.setenv("REMI_REFERENCE", str(figures_dir("cpu").parent))
    now = Ledger("03_target_constant", "cpu")
    now.judge("fig4.second-term-at-target", Evidence("median", value, value - 0.1, value + 0.1, 10))
    line = now.verdicts()
    assert line.startswith("fig4.second-term-at-target: holds (here: ") is same
