"""The ledger: verdicts follow the numbers, both ways, and nothing is judged twice or never."""

from __future__ import annotations

import json
import math

import pytest

from remi_lib.intervals import Estimate
from remi_lib.paths import figures_dir
from remi_lib.replication import claims, scoreboard
from remi_lib.replication.claims import Claim, Ledger, collect, compatible, registry


def claim(low, high, **options) -> Claim:
    return Claim("x", "nb", "s", "t", "d", "m", (low, high), "r", **options)


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
        ((0, None), (math.inf, math.inf, math.inf), "holds"),
        ((None, 0), (math.inf, math.inf, math.inf), "does not hold"),
    ],
)
def test_verdict_follows_the_interval(interval, estimate, verdict):
    assert claim(*interval).verdict(Estimate(*estimate)) == verdict


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("drift", "said"), [(0.0, "with a caveat"), (0.5, "holds")])
def test_a_caveat_needs_its_reason(order, drift, said):
    """Theorem 6's macro-average: biased, and not by drift, if drift does nothing."""
    evidence = {"thm6.macro": 0.1, "thm6.macro-drift": drift}
    ledger = Ledger("13_samples_and_averages", "cpu")
    for claim, value in list(evidence.items())[::order]:
        ledger.judge(claim, Estimate(value, value, value))
    assert said in ledger.entries["thm6.macro"]["verdict"]
    assert ("caveat" in ledger.entries["thm6.macro"]["verdict"]) == (drift == 0)


def test_nan_is_no_evidence():
    with pytest.raises(ValueError, match="evidence is NaN"):
        claim(0, 1).verdict(Estimate(math.nan, 0, 1))


def test_registry_is_well_formed():
    found = registry()
    assert len(found) >= 40
    for entry in found.values():
        low, high = entry.holds_if
        assert low is not None or high is not None
        assert "{" not in entry.id + entry.statement + entry.statistic
        assert entry.reason
        assert entry.source
        if "@" in entry.id:
            assert entry.dataset == claims.DATASETS[entry.id.split("@")[1]]


def test_evidence_on_a_stand_in_is_none_on_cifar():
    ids = [c for c in registry() if c.startswith("table2.slb.mine.mi@")]
    assert len(ids) == 3
    assert registry()["table2.slb.mine.mi@cifar10"].needs
    assert not registry()["table2.slb.mine.mi@digits"].needs


def test_flipping_the_numbers_flips_the_verdict():
    """No claim has a hard-coded verdict: evidence on either side of its threshold decides."""
    for entry in registry().values():
        low, high = entry.holds_if
        inside = (
            (low + high) / 2 if None not in (low, high) else low + 1 if high is None else high - 1
        )
        outside = high + 1 if high is not None else low - 1
        assert entry.verdict(Estimate(inside, inside, inside)) not in (
            "does not hold",
            "not resolved",
        )
        assert entry.verdict(Estimate(outside, outside, outside)) == "does not hold"


def judge_all(ledger: Ledger) -> None:
    for key in ledger.due():
        ledger.judge(key, Estimate(0.1, 0.0, 0.2))


def test_ledger_saves_only_when_everything_due_is_judged():
    ledger = Ledger("03_target_constant", "cpu")
    with pytest.raises(ValueError, match="unjudged"):
        ledger.save()
    judge_all(ledger)
    ledger.save()
    assert (
        len(json.loads((figures_dir("cpu") / "claims" / "03_target_constant.json").read_text()))
        == 4
    )


def test_ledger_of_another_notebook():
    with pytest.raises(ValueError, match="belongs to 03"):
        Ledger("01_drift", "cpu").judge("fig4.estimate-right", Estimate(1, 1, 1))
    with pytest.raises(KeyError):
        Ledger("01_drift", "cpu").judge("fig99", Estimate(1, 1, 1))


def test_collect_says_what_was_not_run():
    ledger = Ledger("04_benchmark", "cpu", ["digits"])
    judge_all(ledger)
    ledger.save()
    whole = collect("cpu").set_index("id")
    assert len(whole) == len(registry())
    assert whole.loc["table2.harmless@digits", "profile"] == "cpu"
    assert whole.loc["table2.harmless@cifar10", "verdict"].startswith("not run (needs CIFAR-10")
    counted = scoreboard.counts(whole.reset_index())
    assert counted.loc["all"].sum() == len(registry())
    assert "table2.harmless@cifar10: not run" in scoreboard.verdict_lines(whole.reset_index())
    assert "digits" in scoreboard.styled_ledger(whole[whole["profile"] == "cpu"]).to_html()


def test_infinite_evidence_is_valid_json():
    ledger = Ledger("04_benchmark", "cpu", ["digits"])
    ledger.judge("table2.clb.nwj.mi@digits", Estimate(math.inf, math.inf, math.inf))
    assert ledger.entries["table2.clb.nwj.mi@digits"]["value"] == "inf"


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
    committed.judge("fig4.second-term-at-target", Estimate(0.4, 0.3, 0.48))
    committed.save()
    monkeypatch.setenv("REMI_REFERENCE", str(figures_dir("cpu").parent))
    now = Ledger("03_target_constant", "cpu")
    now.judge("fig4.second-term-at-target", Estimate(value, value - 0.1, value + 0.1))
    line = now.verdicts()
    assert line.startswith("fig4.second-term-at-target: holds (here: ") is same
