"""Distance correlation against its definition, the tables on made-up rows, the committed ones."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from remi_lib.estimators import calibration, dependence
from remi_lib.estimators.calibration import STUDIES, Study
from remi_lib.estimators.dependence import DEPENDENT, NULLS, distance_correlation, distance_p
from remi_lib.estimators.distributions import COMPARED
from remi_lib.intervals import fraction_interval
from remi_lib.paths import figures_dir
from tests.conftest import ROOT

FOLDER = ROOT / "figures" / "cpu" / "estimators"


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Székely et al. 2007, a distance at a time."""
    n, tables = len(x), []
    for v in (x, y):
        d = [[float(np.linalg.norm(v[i] - v[j])) for j in range(n)] for i in range(n)]
        row = [sum(line) / n for line in d]
        mean = sum(row) / n
        tables.append([[d[i][j] - row[i] - row[j] + mean for j in range(n)] for i in range(n)])

    def product(a: list, b: list) -> float:
        return sum(a[i][j] * b[i][j] for i in range(n) for j in range(n)) / n**2

    a, b = tables
    return (product(a, b) / (product(a, a) * product(b, b)) ** 0.5) ** 0.5


def test_distance_correlation_is_its_definition():
    x, y = np.random.default_rng(0).normal(size=(2, 25, 3))
    assert distance_correlation(x, x + y) == pytest.approx(by_definition(x, x + y))
    assert distance_correlation(x[:, 0], y) == pytest.approx(by_definition(x[:, :1], y))
    labels = np.random.default_rng(1).integers(3, size=25)
    corners = np.eye(3)[labels] / 2**0.5  # any two labels 1 apart
    assert distance_correlation(labels, y) == pytest.approx(by_definition(corners, y))


def test_distance_correlation_of_known_pairs():
    x = np.random.default_rng(0).normal(size=(200, 2))
    assert distance_correlation(x, 3 - 2 * x) == pytest.approx(1)
    assert distance_correlation(x, np.ones(200)) == 0
    corners = np.array([[0.0], [0.0], [1.0], [1.0]])
    assert distance_correlation(corners, corners[[0, 2, 1, 3]]) == pytest.approx(0, abs=1e-7)
    # Two normals with correlation r (Székely et al. 2007, Theorem 7).
    r, z = 0.5, np.random.default_rng(2).normal(size=(2, 1500))
    top = r * np.arcsin(r) + np.sqrt(1 - r**2) - r * np.arcsin(r / 2) - np.sqrt(4 - r**2) + 1
    known = np.sqrt(top / (1 + np.pi / 3 - np.sqrt(3)))
    found = distance_correlation(z[0], r * z[0] + np.sqrt(1 - r**2) * z[1])
    assert found == pytest.approx(known, abs=0.04)


def test_the_permutation_test_rejects_dependence_and_is_level():
    g = np.random.default_rng(3)
    x = g.normal(size=100)
    assert distance_p(x, x**2, 0) == 1 / 200
    assert distance_p((x > 0).astype(int), x, 0) == 1 / 200
    p = np.array([distance_p(*g.normal(size=(2, 30)), seed) for seed in range(200)])
    found = fraction_interval(p <= 0.2)
    assert found.low <= 0.2 <= found.high


@pytest.mark.parametrize("case", NULLS + DEPENDENT, ids=lambda case: case.name)
def test_cases(case):
    x, y = case.sample(200, 3)
    assert (x.reshape(200, -1).shape[1], y.reshape(200, -1).shape[1]) == case.dims
    assert np.array_equal(case.sample(200, 3)[1], y)
    assert not np.array_equal(case.sample(200, 4)[1], y)
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()


def test_there_are_sixteen_forms_and_all_kinds():
    assert len({case.name for case in DEPENDENT}) == 16
    assert sum(calibration.critics(case) for case in NULLS) == 2
    assert {case.mi for case in NULLS} == {0.0}


def test_the_checkerboard_fills_its_squares():
    x, y = next(case for case in DEPENDENT if "checker" in case.name).sample(40_000, 0)
    counts = np.histogram2d(x, y, bins=[range(5), range(5)])[0]
    dark = (np.arange(4)[:, None] + np.arange(4)) % 2 == 0
    assert counts[dark].min() > 2 * counts[~dark].max()


def p_values(name: str, own: list[float], theirs: list[float] | None = None) -> pd.DataFrame:
    rows = pd.DataFrame({"distribution": name, "seed": range(len(own)), "p_value": own})
    return rows.assign(distance_p=theirs) if theirs else rows


def test_size_counts_by_kind_and_by_path():
    one, wide = NULLS[0].name, NULLS[-1].name
    runs = pd.concat([p_values(one, [0.05, 0.051, 0.9, 0.9]), p_values(wide, [0.01, 0.5])])
    table = calibration.size(runs).set_index("kind")
    assert table["rejected"].to_dict() == {
        one: 0.25,
        wide: 0.5,
        "all, one column against one": 0.25,
        "all, critics": 0.5,
    }
    assert table.loc[one, "rejected_low"] < 0.05 < table.loc[one, "rejected_high"]


def test_power_is_paired():
    runs = pd.concat(
        [
            p_values("won", [0.01] * 20, [0.01] * 8 + [0.5] * 12),
            p_values("lost", [0.5] * 12 + [0.01] * 8, [0.01] * 20),
            p_values("even", [0.01, 0.5] * 10, [0.5, 0.01] * 10),
            p_values("same", [0.01] * 20, [0.02] * 20),
        ]
    )
    table = calibration.power(runs).set_index("distribution")
    assert table["verdict"].tolist() == ["ahead", "behind", "level", "level"]
    assert table["difference"].tolist() == pytest.approx([0.6, -0.6, 0, 0])


def intervals_of(name: str, mi: float, low: list[float], lower: list[float]) -> pd.DataFrame:
    rows = pd.DataFrame({"distribution": name, "mi": mi, "low": low, "lower": lower})
    return rows.assign(value=rows["low"] + 0.1, high=rows["low"] + 0.2)


def test_coverage_is_of_tasks_and_of_all():
    a, b = (case.name for case in COMPARED[:2])
    runs = pd.concat(
        [
            intervals_of(a, 1.0, [0.7, 0.9], [0.6, 0.8]),  # the first interval ends at 0.9
            intervals_of(b, 0.5, [0.4, 0.6], [0.4, 0.55]),  # the second of both is above 0.5
        ]
    )
    table = calibration.coverage(runs).set_index("distribution")
    assert table["bound"].to_dict() == {a: 1, b: 0.5, calibration.PATHS[0]: 0.75}
    assert table["interval"].tolist() == [0.5, 0.5, 0.5]
    assert table["above"].tolist() == [0.5, 0, 0.25]
    assert table["width"].tolist() == pytest.approx([0.2] * 3)
    assert table["error"].tolist() == pytest.approx([-0.1, 0.1, 0])


def test_few_samples_are_compared_on_the_same_ones():
    names = [case.name for case in (COMPARED[0], COMPARED[13], COMPARED[20])]
    ours = pd.DataFrame({"distribution": names * 2, "seed": [0, 1, 2, 3, 4, 5], "mi": 1.0})
    ours = ours.assign(dim_x=[1, 25, 3] * 2, dim_y=1, method="estimate_mi", value=1.1)
    others = ours[["distribution", "seed", "mi"]].assign(samples=500, near=0.5, far=[3.0] * 6)
    table = calibration.few_samples(ours, others[others["seed"] != 3])
    assert table["distribution"].tolist() == [names[0], names[2]]  # 25 columns are too many
    assert table["samples"].tolist() == [1, 2]
    assert set(table["rival"]) == {"near"}
    assert table["difference"].tolist() == pytest.approx([-0.4, -0.4])
    errors = calibration.rivals(others).set_index("distribution")
    assert errors["near"].tolist() == pytest.approx([0.5] * 3)


def test_no_two_cases_share_a_sample_and_cases_take_turns():
    for study in STUDIES.values():
        blocks = study.blocks()
        seeds = [seed for _, block in blocks for seed in block]
        assert len(set(seeds)) == len(seeds)
        slow = [calibration.critics(study.cases[i]) for i, _ in blocks]
        assert slow == sorted(slow)
        first = [i for i, _ in blocks[: len(study.cases)]]
        narrow = [i for i, case in enumerate(study.cases) if not calibration.critics(case)]
        assert first[: len(narrow)] == narrow
        for i, case in enumerate(study.cases):
            drawn = sum(len(block) for j, block in blocks if i == j)
            assert drawn == study.repetitions[calibration.critics(case)]


@pytest.fixture
def quick(monkeypatch, tmp_path) -> None:
    """Few cases of few samples, and a page of its own."""
    for name, study in STUDIES.items():
        both = name in ("coverage", "rivals")  # of the same samples
        cases = (study.cases[0], study.cases[10]) if both else study.cases[:1]
        few = Study(cases, 60, (4, 1), 2, study.row, study.module, study.table)
        monkeypatch.setitem(STUDIES, name, few)
    monkeypatch.setattr("remi_lib.replication.scoreboard.project_root", lambda: tmp_path)
    (tmp_path / "README.md").write_text("<!-- calibration: x -->\n<!-- /calibration -->\n")


def test_a_run_is_stored_by_block_stops_in_time_and_goes_on(quick, tmp_path, capsys):
    calibration.main(["size", "--minutes", "0"])
    folder = figures_dir("cpu") / "estimators"
    assert len(pd.read_csv(folder / "size_runs.csv")) == 2
    assert "<!-- calibration: x -->\n<!-- /" in (tmp_path / "README.md").read_text()
    capsys.readouterr()
    calibration.main([])
    assert capsys.readouterr().out.count("from the cache") == 1
    runs = {name: pd.read_csv(folder / f"{name}_runs.csv") for name in STUDIES}
    assert [len(rows) for rows in runs.values()] == [4, 4, 5, 5]
    x, y = NULLS[0].sample(60, 1)
    assert runs["size"]["p_value"][1] == dependence.estimate_mi(x, y, 1, label=None).p_value
    page = (tmp_path / "README.md").read_text()
    assert f"| {NULLS[0].name} | 4 | " in page
    # Several columns are read by infomeasure alone, which need not be there.
    compared = 1 + (find_spec("infomeasure") is not None)
    assert f"On the same samples of the {compared} distributions with at most 5 columns" in page
    assert "2 distributions, 4 samples of each with one column against one, 1 of each that" in page


def test_the_committed_tables_are_those_of_the_committed_runs():
    tables, drawn_of = {}, {}
    for name, study in STUDIES.items():
        runs, table = (pd.read_csv(FOLDER / f"{stem}.csv") for stem in (f"{name}_runs", name))
        again = study.table(runs)
        pd.testing.assert_frame_equal(again, table, check_dtype=False, rtol=1e-4, atol=1e-5)
        names = {case.name: i for i, case in enumerate(study.cases)}
        assert set(runs["distribution"]) == set(names)
        assert set(runs["samples"]) == {study.n}
        planned = {(i, seed) for i, block in study.blocks() for seed in block}
        drawn = list(zip(runs["distribution"].map(names), runs["seed"], strict=True))
        assert sorted(drawn) == sorted(planned)
        tables[name], drawn_of[name] = table, runs
    stand = calibration.few_samples(drawn_of["coverage"], drawn_of["rivals"])
    page = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")
    assert calibration.page(tables, stand) in page
