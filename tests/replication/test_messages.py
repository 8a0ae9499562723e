"""A message's status is computed from claims: flip the numbers and it flips."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from remi_lib.paths import figures_dir
from remi_lib.replication import messages as messages_module
from remi_lib.replication.claims import Ledger, collect, registry
from remi_lib.replication.evidence import Evidence
from remi_lib.replication.messages import (
    TERMS,
    Limit,
    Message,
    Status,
    decide,
    in_setting,
    messages,
    table,
    terms,
)

PARTS = {"a": "it moves", "b": "it rests"}
LIMIT = Limit("c", "holds", "only on Sundays")
MESSAGE = Message(1, "m", "both", '"both"', "Fig 1", PARTS, (LIMIT,))


def ledger(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Judged claims: id, setting, verdict."""
    found = pd.DataFrame(rows, columns=["id", "setting", "verdict"])
    names = [name.partition("@")[2] or "one-hot" for name in found["id"]]
    return found.assign(dataset=names, n=range(9, 9 + len(found)), provenance="with")


@pytest.mark.parametrize(
    ("verdicts", "status", "condition", "shown"),
    [
        (("holds", "holds"), Status.REPRODUCED, "", "2 of 2 hold, n = 9–10"),
        (("holds", "confirmed by calculation"), Status.REPRODUCED, "", "2 of 2 hold, n = 9–10"),
        (
            ("holds", "does not hold"),
            Status.NOT_REPRODUCED,
            'fails: "it rests"',
            "1 of 2 holds, 1 fails, n = 9–10",
        ),
        (
            ("not resolved", "does not hold"),
            Status.NOT_REPRODUCED,
            'fails: "it rests"',
            "0 of 2 hold, 1 fails, 1 unresolved, n = 9–10",
        ),
        (
            ("no power", "not resolved"),
            Status.NO_POWER,
            'not shown: "it moves", "it rests"',
            "0 of 2 hold, 2 unresolved, n = 9–10",
        ),
        (("holds", "not run"), Status.NOT_TESTED, "", "1 of 2 holds, 1 not run, n = 9"),
        (("not run", "not run"), Status.NOT_TESTED, "", ""),
    ],
)
def test_the_status_follows_the_deciding_claims(verdicts, status, condition, shown):
    rows = ledger(("a", "paper", verdicts[0]), ("b", "paper", verdicts[1]))
    finding = decide(MESSAGE, rows)[1]
    assert (finding.status, finding.condition) == (status, condition)
    assert table(rows, [MESSAGE]).iloc[0]["paper"] == shown


def test_many_parts_that_share_one_fate_are_not_listed():
    parts = {"a": "it moves", "b": "it rests", "d": "it stops"}
    three = replace(MESSAGE, decided_by=parts)
    for verdict, shown in (
        ("no power", "none of its parts is shown"),
        ("does not hold", "all of its parts fail"),
    ):
        rows = ledger(*((claim, "paper", verdict) for claim in parts))
        assert decide(three, rows)[1].condition == shown
    rows = ledger(
        *((f"{claim}@x", "reduced", "no power") for claim in parts), ("a@y", "reduced", "holds")
    )
    assert decide(three, rows)[1].condition == "none of its parts is shown on every data set"


def test_of_many_parts_the_few_that_are_shown_are_named():
    five = replace(MESSAGE, decided_by={x: f"part {x}" for x in "abcde"})
    verdicts = ["holds", *["not resolved"] * 4]
    rows = ledger(*((x, "paper", verdict) for x, verdict in zip("abcde", verdicts, strict=True)))
    assert decide(five, rows)[1].condition == 'shown only: "part a"'


def test_evidence_says_what_was_calculated_and_on_how_many_data_sets():
    for setting, shown in (
        ("paper", "3 of 3 hold, 2 data sets, n = 5, 1 calculated"),
        ("reduced", "3 of 3 hold, n = 5, 1 calculated; on x and y"),  # which are named
    ):
        rows = ledger(*((id_, setting, "holds") for id_ in ("a@x", "b@x", "a@y")))
        found = table(rows.assign(n=[5, None, 5]), [MESSAGE]).iloc[0]
        assert found[setting] == shown


def test_the_terms_say_what_setting_claims_aside_changes(monkeypatch):
    message = replace(MESSAGE, presumes={"far": ["b"]}, limits=())
    monkeypatch.setattr("remi_lib.replication.messages.messages", lambda: (message,))
    for far, own, said in (
        ("does not hold", "does not hold", " Without it 1 would be not reproduced."),
        ("does not hold", "holds", " Without it 1 would be reproduced."),
        ("holds", "does not hold", ""),
    ):
        verdicts = {"a@x": "holds", "b@x": own, "far@x": far}
        rows = ledger(*((name, "reduced", verdict) for name, verdict in verdicts.items()))
        rows = rows.assign(dataset="X", message=1)
        assert terms(rows)["Set aside:"] == TERMS["Set aside:"] + said


def test_the_terms_count_when_the_thresholds_were_set(monkeypatch):
    monkeypatch.setattr("remi_lib.replication.messages.messages", lambda: (MESSAGE,))
    rows = ledger(("a", "paper", "holds"), ("b", "paper", "does not hold"), ("c", "paper", "holds"))
    rows = rows.assign(message=1, provenance=["fixed before", "after a pilot", "with"])
    counted = " Thresholds of the 2 that decide here: 1 fixed before the run, 1 set after a pilot."
    assert terms(rows)["A claim"] == TERMS["A claim"] + counted
    rows["verdict"] = "confirmed by calculation"
    assert terms(rows)["A claim"] == TERMS["A claim"]


def test_reduced_data_have_a_short_name_that_the_words_below_explain(monkeypatch):
    monkeypatch.setattr(messages_module, "known_datasets", lambda: {"x": {"short": "a few x"}})
    rows = ledger(*((id_, "reduced", "holds") for id_ in ("a@x", "b@x", "a@y")))
    rows = rows.assign(n=5, dataset=["X at 32 pixels", "X at 32 pixels", "Y"], message=1)
    assert table(rows, [MESSAGE]).iloc[0]["reduced"].endswith("; on a few x and Y")
    assert terms(rows) == TERMS | {"Reduced data:": '"a few x": X at 32 pixels.'}
    assert terms(rows.assign(verdict="not run")) == TERMS


def test_a_limit_that_shows_is_a_condition():
    both = [("a", "paper", "holds"), ("b", "paper", "holds")]
    _, found = decide(MESSAGE, ledger(*both, ("c", "paper", "holds")))
    assert (found.status, found.condition) == (Status.CONDITION, "only on Sundays")
    for verdict in ("does not hold", "not resolved"):
        assert decide(MESSAGE, ledger(*both, ("c", "paper", verdict)))[1].status == "reproduced"
    # It is said of what is undecided or fails, too; a failure stays one.
    for verdict, shown in (
        ("not resolved", 'not shown: "it rests"; only on Sundays'),
        ("does not hold", 'fails: "it rests"; only on Sundays'),
    ):
        rows = ledger(both[0], ("b", "paper", verdict), ("c", "paper", "holds"))
        found = decide(MESSAGE, rows)[1]
        assert found.condition == shown
        assert found.status in (Status.NO_POWER, Status.NOT_REPRODUCED)
    # A limit seen only on a stand-in limits nothing at the paper's setting.
    assert decide(MESSAGE, ledger(*both, ("c", "stand-in", "holds")))[1].status == "reproduced"


def test_a_limit_whose_opposite_is_shown_says_so():
    limit = Limit("c", "does not hold", "it is not shown to run", "it stands")
    message = replace(MESSAGE, limits=(limit,))
    both = [("a", "paper", "holds"), ("b", "paper", "holds")]
    for verdict, shown in (("not resolved", limit.condition), ("does not hold", "it stands")):
        found = decide(message, ledger(*both, ("c", "paper", verdict)))[1]
        assert (found.status, found.condition) == (Status.CONDITION, shown)


def test_a_data_set_with_some_of_the_claims_counts_where_they_do_not_all_hold():
    small = [("a@x", "reduced", "holds"), ("b@x", "reduced", "holds")]
    for verdict, status in (
        ("holds", Status.REPRODUCED),
        ("not resolved", Status.NO_POWER),
        ("does not hold", Status.NOT_REPRODUCED),
    ):
        assert decide(MESSAGE, ledger(*small, ("a@y", "reduced", verdict)))[1].status is status
    # Alone it decides nothing.
    assert decide(MESSAGE, ledger(("a@y", "reduced", "does not hold")))[0] is None


def test_a_claim_that_presumes_what_does_not_hold_is_set_aside():
    """Whatever it says itself, on that data set alone; what was not run presumes nothing."""
    message = replace(MESSAGE, presumes={"far": ["b"]}, limits=())
    for far, own, status in (
        ("holds", "does not hold", Status.NOT_REPRODUCED),
        ("holds", "holds", Status.REPRODUCED),
        ("does not hold", "does not hold", Status.NO_POWER),
        ("not resolved", "holds", Status.NO_POWER),
        ("not run", "holds", Status.REPRODUCED),
    ):
        names = ("a@x", "b@x", "far@x", "far@y")
        verdicts = ("holds", own, far, "does not hold")
        rows = ledger(*((n, "reduced", v) for n, v in zip(names, verdicts, strict=True)))
        finding = decide(message, rows)[1]
        assert finding.status is status
        aside = status is Status.NO_POWER
        if aside:
            assert finding.condition == 'set aside: "it rests"'
        assert ("1 set aside" in table(rows, [message]).iloc[0]["reduced"]) == aside


def test_the_largest_complete_setting_decides():
    small = [("a@x", "reduced", "holds"), ("b@x", "reduced", "holds")]
    assert decide(MESSAGE, ledger(*small))[0] == "reduced"
    # One of two claims at the paper's setting does not decide.
    setting, found = decide(MESSAGE, ledger(*small, ("a@y", "paper", "does not hold")))
    assert (setting, found.status) == ("reduced", Status.REPRODUCED)
    rows = ledger(*small, ("a@y", "paper", "does not hold"), ("b@y", "paper", "holds"))
    assert decide(MESSAGE, rows)[1].status is Status.NOT_REPRODUCED


def test_a_stand_in_decides_nothing():
    rows = ledger(("a@x", "stand-in", "holds"), ("b@x", "stand-in", "holds"))
    setting, found = decide(MESSAGE, rows)
    assert (setting, found.status) == (None, Status.NOT_TESTED)
    assert in_setting(MESSAGE, rows, "stand-in").status is Status.REPRODUCED
    row = table(rows, [MESSAGE]).iloc[0]
    # It is said, but not in the words of evidence.
    assert (row["status"], row["stand-in"]) == ("not tested", "2 of 2 hold, n = 9–10")
    limited = ledger(*((i, "stand-in", "holds") for i in ("a@x", "b@x", "c@x")))
    assert table(limited, [MESSAGE]).iloc[0]["stand-in"].endswith("; but only on Sundays")


def test_of_data_sets_that_disagree_the_worst_counts_and_each_is_named():
    rows = ledger(
        ("a@x", "reduced", "holds"),
        ("b@x", "reduced", "holds"),
        ("a@y", "reduced", "does not hold"),
        ("b@y", "reduced", "holds"),
    )
    found = decide(MESSAGE, rows)[1]
    assert found.status is Status.NOT_REPRODUCED
    assert found.condition == 'on x: reproduced, on y: not reproduced; fails: "it moves"'
    rows.loc[rows["id"] == "a@y", "verdict"] = "not resolved"
    assert decide(MESSAGE, rows)[1].status is Status.NO_POWER
    # Claims of two data sets do not add up to one that was judged.
    apart = ledger(("a@x", "reduced", "holds"), ("b@y", "reduced", "holds"))
    assert decide(MESSAGE, apart)[1].status is Status.NOT_TESTED


def test_the_messages_name_claims_that_exist():
    found = registry()
    rows = messages()
    assert [row.id for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert {found[key].message for key in row.decided_by} == {row.id}
        assert {limit.claim for limit in row.limits} <= set(found)  # another message's at times
        assert {found[key].kind for key in row.decided_by} <= {"paper", "identity"}
        assert {limit.if_it for limit in row.limits} <= {"holds", "does not hold"}
        assert set(row.presumes) <= set(found)
        assert {key for keys in row.presumes.values() for key in keys} <= set(row.decided_by)
        assert row.message
        assert row.source
        assert row.rule


def judge(notebook: str, values: dict[str, float]) -> None:
    book = Ledger(notebook, "cpu")
    for key in book.due():
        low, high = registry()[key].holds_if
        inside = low + 1e-3 if high is None else high - 1e-3
        value = values.get(key, inside)
        book.judge(key, Evidence(registry()[key].estimand, value, value, value, 10))
    book.save()


@pytest.mark.parametrize("message", messages(), ids=lambda row: row.name)
def test_every_message_stands_and_falls_with_each_of_its_claims(message):
    """Numbers on the good side of every threshold, then one on the other side, or across it."""
    found = registry()
    good = {key: found[key].verdict(beside(key, -1)) for key in message.decided_by}

    def status(verdicts: dict[str, str]) -> Status:
        return decide(message, ledger(*((k, "paper", v) for k, v in verdicts.items())))[1].status

    assert status(good) is Status.REPRODUCED
    for key in message.decided_by:
        bad, unclear = (found[key].verdict(beside(key, side)) for side in (1, 0))
        assert status(good | {key: bad}) is Status.NOT_REPRODUCED, key
        assert status(good | {key: unclear}) is Status.NO_POWER, key


def beside(key: str, side: int) -> Evidence:
    """Evidence for a claim: -1 on the good side of a threshold, 1 beyond it, 0 across it."""
    low, high = registry()[key].holds_if
    threshold, outward = (low, -1) if high is None else (high, 1)
    width = 1e-3 if side else 1e-4
    value = threshold + outward * side * 2 * width
    return Evidence(registry()[key].estimand, value, value - width, value + width, 10)


def test_flipping_a_number_flips_claim_and_message():
    """Message 1 in the real files: MINE's drift of -2.5 nats, and then one of -0.1."""
    judge("01_drift", {"fig1.mine-drifts": -2.5})
    status = table(collect("cpu")).set_index("id")["status"]
    assert status[1] == "reproduced"
    assert status[2] == "not tested"
    judge("01_drift", {"fig1.mine-drifts": -0.1})
    assert collect("cpu").set_index("id").loc["fig1.mine-drifts", "verdict"] == "does not hold"
    assert table(collect("cpu")).set_index("id")["status"][1] == "not reproduced"
    # "After its estimate has converged" is a part of the sentence, not a condition of it.
    judge("01_drift", {"fig1.mine-estimate-settles": 1.0})
    row = table(collect("cpu")).set_index("id").loc[1]
    assert row["status"] == "not reproduced"
    assert row["condition"] == 'fails: "MINE\'s estimate has settled"'
    assert figures_dir("cpu").is_dir()
