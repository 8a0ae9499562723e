"""A message's status is computed from claims: flip the numbers and it flips."""

from __future__ import annotations

import pandas as pd
import pytest

from remi_lib.paths import figures_dir
from remi_lib.replication.claims import Ledger, collect, registry
from remi_lib.replication.evidence import Evidence
from remi_lib.replication.messages import (
    Limit,
    Message,
    Status,
    decide,
    in_setting,
    messages,
    table,
)

MESSAGE = Message(
    1, "m", "it moves", "Fig 1", "both", ("a", "b"), (Limit("c", "holds", "only on Sundays"),)
)


def ledger(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Judged claims: id, setting, verdict."""
    found = pd.DataFrame(rows, columns=["id", "setting", "verdict"])
    return found.assign(dataset=[name.partition("@")[2] or "one-hot" for name in found["id"]])


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (("holds", "holds"), Status.REPRODUCED),
        (("holds", "confirmed by calculation"), Status.REPRODUCED),
        (("holds", "does not hold"), Status.NOT_REPRODUCED),
        (("not resolved", "does not hold"), Status.NOT_REPRODUCED),
        (("holds", "not resolved"), Status.NO_POWER),
        (("holds", "no power"), Status.NO_POWER),
        (("holds", "not run"), Status.NOT_TESTED),
    ],
)
def test_the_status_follows_the_deciding_claims(verdicts, status):
    rows = ledger(("a", "paper", verdicts[0]), ("b", "paper", verdicts[1]))
    assert decide(MESSAGE, rows)[1].status is status


def test_a_limit_that_shows_is_a_condition():
    both = [("a", "paper", "holds"), ("b", "paper", "holds")]
    _, found = decide(MESSAGE, ledger(*both, ("c", "paper", "holds")))
    assert (found.status, found.condition) == (Status.CONDITION, "only on Sundays")
    for verdict in ("does not hold", "not resolved"):
        assert decide(MESSAGE, ledger(*both, ("c", "paper", verdict)))[1].status == "reproduced"
    # A limit seen only on a stand-in limits nothing at the paper's setting.
    assert decide(MESSAGE, ledger(*both, ("c", "stand-in", "holds")))[1].status == "reproduced"


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
    assert (row["status"], row["stand-in"]) == ("not tested", "shows there")


def test_data_sets_that_disagree_are_a_condition():
    rows = ledger(
        ("a@x", "reduced", "holds"),
        ("b@x", "reduced", "holds"),
        ("a@y", "reduced", "does not hold"),
        ("b@y", "reduced", "holds"),
    )
    found = decide(MESSAGE, rows)[1]
    assert found.status is Status.CONDITION
    assert found.condition == "x: reproduced, y: not reproduced"
    # Claims of two data sets do not add up to one that was judged.
    apart = ledger(("a@x", "reduced", "holds"), ("b@y", "reduced", "holds"))
    assert decide(MESSAGE, apart)[1].status is Status.NOT_TESTED


def test_the_twelve_messages_name_claims_that_exist():
    found = registry()
    rows = messages()
    assert [row.id for row in rows] == list(range(1, 13))
    for row in rows:
        for key in (*row.decided_by, *(limit.claim for limit in row.limits)):
            assert found[key].message == row.id, key
        assert {found[key].kind for key in row.decided_by} <= {"paper", "identity"}
        assert {limit.if_it for limit in row.limits} <= {"holds", "does not hold"}
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


def test_flipping_a_number_flips_claim_and_message():
    """Message 1 in the real files: MINE's drift of -2.5 nats, and then one of -0.1."""
    judge("01_drift", {"fig1.mine-drifts": -2.5})
    status = table(collect("cpu")).set_index("id")["status"]
    assert status[1] == "reproduced"
    assert status[2] == "not tested"
    judge("01_drift", {"fig1.mine-drifts": -0.1})
    assert collect("cpu").set_index("id").loc["fig1.mine-drifts", "verdict"] == "does not hold"
    assert table(collect("cpu")).set_index("id")["status"][1] == "not reproduced"
    # An estimate that goes on rising is a condition, not a refutation.
    judge("01_drift", {"fig1.mine-estimate-settles": 1.0})
    row = table(collect("cpu")).set_index("id").loc[1]
    assert row["status"] == "reproduced with a condition"
    assert row["condition"] == "the estimate itself is not shown to have settled"
    assert figures_dir("cpu").is_dir()
