"""The comparison's arithmetic on made-up runs, its rows, and that it is committed whole."""

from __future__ import annotations

import inspect
import io
import json
import sys
from functools import cache
from importlib.metadata import version

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from remi_lib.estimate import estimate_mi
from remi_lib.estimate.options import Options
from remi_lib.estimators import comparison, trials
from remi_lib.estimators.distributions import COMPARED, bivariate, overlapping_intervals, sparse
from remi_lib.losses import FAMILIES, make_loss
from remi_lib.paths import figures_dir
from tests.conftest import ROOT

FOLDER = ROOT / "figures" / "cpu" / "estimators"


def made_up(errors: dict[str, list[float]], name: str = "d", mi: float = 1.0) -> pd.DataFrame:
    rows = [
        {"distribution": name, "dim_x": 1, "dim_y": 1, "mi": mi, "method": method, "seed": seed}
        | {"value": mi + error, "low": mi + error - 0.15, "high": mi + error + 0.15}
        | {"lower": mi + error - 0.15}
        | {"cpu_seconds": 2.0, "note": ""}
        for method, list_ in errors.items()
        for seed, error in enumerate(list_)
    ]
    return pd.DataFrame(rows)


def test_standing_is_paired_and_says_where_we_lose(monkeypatch):
    monkeypatch.setitem(comparison.COMPARISON, "seeds", 3)
    runs = pd.concat(
        [
            made_up({"estimate_mi": [0.01, 0.02, 0.03], "a": [0.2, 0.21, 0.22]}, "won"),
            made_up({"estimate_mi": [-0.3, -0.31, -0.32], "a": [0.9] * 3, "b": [0.1] * 3}, "lost"),
            made_up({"estimate_mi": [0.1, -0.1, 0.0], "a": [0.0, 0.1, 0.1]}, "even"),
        ]
    )
    table = comparison.standing(runs).set_index("distribution")
    assert list(table["verdict"]) == ["ahead", "behind", "level"]
    assert table.loc["lost", "rival"] == "b"
    assert table.loc["won", "difference"] == pytest.approx(-0.19)
    text = comparison.markdown(comparison.summarize(runs), comparison.standing(runs))
    assert "ahead of the best of the others on 1 distributions, level on 1 and behind on 1" in text
    assert "run so far: estimate_mi 3, a 3, b 3." in text
    assert "more than 0.02 on lost (b, by 0.21)." in text
    assert "is 0.132 over 3 distributions, and larger than 0.06 on 2" in text
    assert "Its lower bound holds in 100%" in text
    assert "in 67% of the runs, with a mean width of 0.30, and never on: lost." in text
    assert "| won | 1.000 | +0.020 ± 0.025 | +0.210 ± 0.025 | – | ahead |" in text


def test_one_sample_has_no_interval_and_no_verdict():
    runs = made_up({"estimate_mi": [0.1], "a": [0.3]})
    table = comparison.standing(runs)
    assert table["verdict"].item() == "–"
    text = comparison.markdown(comparison.summarize(runs), table)
    assert "run so far: estimate_mi 1, a 1." in text
    assert "On 1 that one has a single sample." in text
    assert "| d | 1.000 | +0.100 | +0.300 | – |" in text


def test_a_method_without_a_number_is_a_dash():
    runs = made_up({"estimate_mi": [0.1, 0.2], "a": [np.nan, 0.0], "b": [0.5, 0.4]})
    stand = comparison.standing(runs)
    assert (stand["rival"].item(), stand["samples"].item()) == ("b", 2)  # a has but one number
    alone = comparison.standing(runs[runs["method"] != "b"])
    assert alone["rival"].item() == "a"
    assert (alone["samples"].item(), alone["verdict"].item()) == (1, "–")
    summary = comparison.summarize(runs).set_index("method")
    assert np.isnan(summary.loc["a", "error"])
    assert summary.loc["b", "covered"] == 0
    assert comparison.picture(comparison.summarize(runs)).axes


def test_an_infinite_estimate_is_named_and_the_others_are_compared():
    runs = made_up({"estimate_mi": [0.2, 0.1, 0.3], "a": [-np.inf, 0.1, 0.3], "b": [0.5, 0.4, 0.5]})
    stand = comparison.standing(runs).iloc[0]
    assert (stand["rival"], stand["samples"], stand["verdict"]) == ("a", 2, "level")
    runs = pd.concat([runs, made_up({"estimate_mi": [0.1] * 3, "a": [0.1] * 3}, "finite")])
    text = comparison.markdown(comparison.summarize(runs), comparison.standing(runs))
    assert "| infinite on 1 of 3 |" in text


def test_a_distribution_that_no_other_reads_has_no_standing():
    read = made_up({"estimate_mi": [0.1, 0.2], "a": [0.3, 0.4]}, "read")
    alone = made_up({"estimate_mi": [0.1, 0.2], "a": [np.nan] * 2}, "alone")
    assert comparison.standing(pd.concat([read, alone]))["distribution"].tolist() == ["read"]


def test_rank_counts_failures_and_pairs_by_distribution():
    def runs(name: str, errors: list[float]) -> pd.DataFrame:
        parts = [made_up({"estimate_mi": [e, e]}, f"d{i}") for i, e in enumerate(errors)]
        return pd.concat(parts).assign(candidate=name)

    table = comparison.rank(
        pd.concat(
            [runs("dead", [0.0, np.nan]), runs("worse", [0.2, 0.4]), runs("good", [0.1, -0.3])]
        ),
        "good",
    ).set_index("candidate")
    assert list(table.index) == ["good", "worse", "dead"]
    assert table.loc["worse", "difference"] == pytest.approx(0.1)
    assert table.loc["worse", "difference_low"] == pytest.approx(0.1)
    assert table.loc["worse", "worst"] == "d1"
    assert table.loc["dead", "failed"] == 2
    assert np.isnan(table.loc["dead", "error"])


def test_candidates_are_the_twelve_losses_and_more():
    candidates = dict(comparison.candidates())
    losses = {options["loss"] for options in candidates.values()}
    assert losses == {prefix + family for family in FAMILIES for prefix in ("", "re")}
    assert {"ReMINE", "ReMINE, λ=1", "ReNWJ, no clip"} <= set(candidates)


def test_rows():
    small = {"seeds": 1, "folds": 3, "steps": 25}
    row = trials.trial(bivariate(0.5), "estimate_mi", 100, 0, **small)
    assert row["low"] < row["value"] < row["high"]
    assert row["note"] == ""
    row = trials.trial(bivariate(0.9), "scikit-learn kNN", 1000, 0)
    assert row["value"] == pytest.approx(row["mi"], abs=0.1)
    row = trials.trial(overlapping_intervals(3), "scikit-learn kNN", 1000, 0)
    assert row["value"] == pytest.approx(row["mi"], abs=0.1)
    row = trials.trial(sparse(2, 0.5), "scikit-learn kNN", 100, 0)
    assert np.isnan(row["value"])
    assert row["note"] == "takes one column of x and of y"


def test_an_estimator_that_raises_is_a_row():
    row = trials.trial(bivariate(0.5), "estimate_mi", 10, 0)
    assert np.isnan(row["value"])
    assert row["note"].startswith("ValueError: x: has 10 samples")


def test_infomeasure_row():
    pytest.importorskip("infomeasure")
    row = trials.trial(sparse(2, 0.8), "infomeasure KSG", 1000, 0)
    assert row["value"] == pytest.approx(row["mi"], abs=0.2)


def test_ennemi_row():
    pytest.importorskip("ennemi")
    row = trials.trial(bivariate(0.8), "ennemi kNN", 2000, 0)
    assert row["value"] == pytest.approx(row["mi"], abs=0.1)
    row = trials.trial(overlapping_intervals(3), "ennemi kNN", 2000, 0)
    assert row["value"] == pytest.approx(row["mi"], abs=0.1)
    row = trials.trial(sparse(2, 0.5), "ennemi kNN", 100, 0)
    assert row["note"] == "takes one column of x and of y"


def test_absent_packages_are_said_to_be_absent(monkeypatch):
    monkeypatch.delenv("REMI_BMI_PYTHON", raising=False)
    trials._bmi_process.cache_clear()
    row = trials.trial(bivariate(0.5), "bmi MINE", 100, 0)
    assert row["note"] == "not installed (REMI_BMI_PYTHON)"


class Elsewhere:
    """benchmark-mi's process: notes what it was asked and answers with its lines."""

    def __init__(self, *answers: str) -> None:
        self.stdin, self.stdout = io.StringIO(), io.StringIO("".join(answers))


def test_a_row_of_another_process_counts_its_time(monkeypatch):
    answer = json.dumps({"value": 0.25, "seconds": 1000.0}) + "\n"
    process = Elsewhere(answer, answer)
    monkeypatch.setattr(trials, "_bmi_process", cache(lambda: process))
    row = trials.trial(bivariate(0.5), "bmi InfoNCE", 50, 0)
    assert (row["value"], row["note"]) == (0.25, "")
    assert 1000 <= row["cpu_seconds"] < 1010
    trials.trial(bivariate(0.5), "bmi MINE", 50, 0)
    asked = [json.loads(line)["method"] for line in process.stdin.getvalue().splitlines()]
    assert asked == ["bmi InfoNCE", "bmi MINE"]
    row = trials.trial(bivariate(0.5), "bmi MINE", 50, 0)
    assert "bmi MINE: the process of REMI_BMI_PYTHON died" in row["note"]
    assert np.isnan(row["value"])
    assert trials._bmi_process.cache_info().currsize == 0  # the next request starts a new one


def test_an_error_over_there_is_a_note_and_no_end(monkeypatch):
    process = Elsewhere(json.dumps({"error": "ValueError: too few"}) + "\n")
    monkeypatch.setattr(trials, "_bmi_process", cache(lambda: process))
    assert trials.trial(bivariate(0.5), "bmi MINE", 50, 0)["note"] == "ValueError: too few"


def test_versions_are_of_what_a_method_rests_on(monkeypatch):
    monkeypatch.delenv("REMI_BMI_PYTHON", raising=False)
    assert trials.versions("estimate_mi") == {"torch": version("torch")}
    assert trials.versions("bmi MINE") == {"benchmark-mi": "not installed"}
    monkeypatch.setenv("REMI_BMI_PYTHON", sys.executable)
    assert trials.versions("bmi MINE") == {"benchmark-mi": trials.BMI}
    monkeypatch.setitem(trials.PACKAGES, "infomeasure KSG", ("no-such-package",))
    assert trials.versions("infomeasure KSG") == {"no-such-package": "not installed"}


ERRORS = {"estimate_mi": 0.1, "scikit-learn kNN": 0.3, "ReMINE": 0.1, "MINE": 0.4}


def made_up_trial(distribution, method, n, seed, loss="remine", weight=None, **_) -> dict:
    """What an estimator would say: the truth plus its error, a little more for MINE's losses."""
    error = ERRORS[method] + 0.3 * (loss == "mine") - 0.05 * (weight == 1.0)
    runs = made_up({method: [error] * (seed + 1)}, distribution.name, distribution.mi)
    return {**runs.iloc[-1].to_dict(), "samples": n}


@pytest.fixture
def quick(monkeypatch, tmp_path) -> None:
    """Two methods, two distributions, no training; a README of its own."""
    few = [bivariate(0.5), bivariate(0.9)]
    monkeypatch.setitem(comparison.COMPARISON, "seeds", 2)
    monkeypatch.setattr(trials, "trial", made_up_trial)
    monkeypatch.setattr(trials, "METHODS", dict.fromkeys(["estimate_mi", "scikit-learn kNN"]))
    for name in ("DEVELOPMENT", "COMPARED"):
        monkeypatch.setattr(comparison, name, few)
    monkeypatch.setattr("remi_lib.replication.scoreboard.project_root", lambda: tmp_path)
    (tmp_path / "README.md").write_text("<!-- estimators: x -->\n<!-- /estimators -->\n")


def test_compare_publishes_runs_tables_figure_and_readme(quick, tmp_path, capsys):
    comparison.main(["compare"])
    printed = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[-1] for line in printed] == ["ahead", "ahead"]
    folder = figures_dir("cpu") / "estimators"
    runs = pd.read_csv(folder / "comparison_runs.csv")
    assert len(runs) == 2 * 2 * comparison.COMPARISON["seeds"]
    assert set(runs["samples"]) == {5000}
    standing = pd.read_csv(folder / "standing.csv")
    assert standing["verdict"].tolist() == ["ahead", "ahead"]
    assert standing["difference"].tolist() == pytest.approx([-0.2, -0.2], abs=1e-5)
    readme = (tmp_path / "README.md").read_text()
    assert "others on 2 distributions, level on 0 and behind on 0" in readme
    assert "| +0.100 ± 0.000 | +0.300 ± 0.000 | ahead |" in readme
    assert (folder / "comparison.png").stat().st_size > 10_000
    again = comparison.compare()
    assert capsys.readouterr().out.count("from the cache") == 8
    assert again["verdict"].tolist() == ["ahead", "ahead"]


def test_compare_stops_between_samples(quick):
    """Out of time after the first sample, every method has that one of every distribution."""
    comparison.compare(minutes=0)
    runs = pd.read_csv(figures_dir("cpu") / "estimators" / "comparison_runs.csv")
    assert set(runs["seed"]) == {0}
    assert len(runs.groupby(["method", "distribution"])) == len(runs) == 4


def test_choose_ranks_every_candidate(quick, monkeypatch):
    names = ["ReMINE", "MINE", "ReMINE, λ=1"]
    chosen = [c for c in comparison.candidates() if c[0] in names]
    monkeypatch.setattr(comparison, "candidates", lambda: iter(chosen))
    table = comparison.choose(workers=1)
    assert table["candidate"].tolist() == ["ReMINE, λ=1", "ReMINE", "MINE"]
    assert table["error"].tolist() == pytest.approx([0.05, 0.1, 0.4])
    assert table["difference"].tolist() == pytest.approx([-0.05, 0, 0.3])
    runs = pd.read_csv(figures_dir("cpu") / "estimators" / "choice_runs.csv")
    assert runs.groupby("candidate").size().to_dict() == dict.fromkeys(names, 4)


def test_picture_shows_the_errors_of_its_summary():
    runs = pd.concat(
        [
            made_up({"estimate_mi": [0.1, 0.3], "a": [1.0, 1.0], "b": [np.nan] * 2}, "x"),
            made_up({"estimate_mi": [-0.2, -0.2], "a": [0.5, 0.5], "b": [np.nan] * 2}, "y"),
        ]
    )
    figure = comparison.picture(comparison.summarize(runs))
    left, right = figure.axes
    dots = {line.get_label(): line for line in left.lines if line.get_label()[0] != "_"}
    assert list(dots) == ["estimate_mi", "a"]  # b has no number to show
    assert dots["estimate_mi"].get_xdata() == pytest.approx([0.2, -0.2])
    assert dots["a"].get_xdata() == pytest.approx([1.0, 0.5])
    assert [t.get_text() for t in left.get_yticklabels()] == ["x (1.00)", "y (1.00)"]
    assert right.lines[0].get_xdata() == pytest.approx([2.0, 2.0])
    assert (left.get_xscale(), right.get_xscale()) == ("symlog", "log")
    plt.close(figure)


def test_the_committed_comparison_is_whole():
    runs = pd.read_csv(FOLDER / "comparison_runs.csv")
    assert set(runs["distribution"]) <= {d.name for d in COMPARED}
    truth = {d.name: d.mi for d in COMPARED}
    assert np.allclose(runs["mi"], runs["distribution"].map(truth), atol=1e-5)
    assert {"estimate_mi", "scikit-learn kNN", "infomeasure KSG"} <= set(runs["method"])
    summary, standing = (pd.read_csv(FOLDER / f"{n}.csv") for n in ("comparison", "standing"))
    again = comparison.standing(runs)
    assert list(again["verdict"]) == list(standing["verdict"])
    readme = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")
    assert comparison.markdown(comparison.summarize(runs), again) in readme
    assert len(summary) == runs.groupby(["distribution", "method"]).ngroups


def test_the_default_is_what_the_evidence_allows():
    """No regularised candidate is better than the default beyond its interval, and the committed
    ranking is that of the committed runs."""
    table = pd.read_csv(FOLDER / "choice.csv").set_index("candidate")
    again = comparison.rank(pd.read_csv(FOLDER / "choice_runs.csv"), "ReMINE")
    assert np.allclose(again.set_index("candidate").loc[table.index, "error"], table["error"], 1e-4)
    regularised = [name for name in table.index if name.startswith("Re")]
    assert (table.loc[regularised, "difference_high"] >= 0).all()
    defaults = inspect.signature(estimate_mi).parameters
    assert (defaults["loss"].default, defaults["margins"].default) == (None, "both")
    assert (Options().name, Options().margins) == ("remine", "both")
    assert make_loss("remine").weight == 0.1
