"""The overnight profile on a tiny subset: cells, tables, and what a later sitting keeps."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from remi_lib.experiments import (
    one_hot_controls,
    overnight,
    overnight_cells,
    small_images,
    tiny_images,
)
from remi_lib.experiments.rules import RULES
from remi_lib.paths import figures_dir, project_root
from remi_lib.replication import cells, store
from remi_lib.replication.parameters import check

TINY = {
    "dataset": "staircase", "levels": [1.0, 2.0], "each": 10, "dim": 4, "width": 8,
    "init_std": 0.1, "batch": 8, "lr": 0.002, "weight": 1.0, "tau": 10.0,
    "seeds": 2, "span": 5, "device": "auto",
}  # fmt: skip


@pytest.fixture(autouse=True)
def toy_parameters(monkeypatch):
    for module in (overnight, overnight_cells):
        monkeypatch.setattr(module, "parameters", lambda: TINY)
    monkeypatch.setattr(overnight, "THIN", 5)
    groups = one_hot_controls.groups(
        lrs=(0.1, 0.03, 0.01), batches=(32,), drift_batches=(100, 1000), seeds=6, steps=60
    )
    monkeypatch.setattr(one_hot_controls, "groups", lambda: groups)


def test_the_plan_is_every_cell_once_and_one_seed_before_the_next():
    plan = overnight_cells.plan()
    # SLB at all lambdas and with the z-loss; CLB's clip x penalty, others, Fig 6; Fig 8, Table 3;
    # two views; all of CIFAR-10; CLB with scaled scores; ReJS at the target 0
    images = (
        3 * (12 + 12 + 3)
        + 6 * 12
        + 3 * 4
        + 3 * 12
        + 5
        + 3 * (4 + 5)
        + 3 * 2
        + 3 * 7
        + 3 * 12
        + 3 * 6
        + 3 * (3 * 3 + 12 + 12 + 6 + 6)
        + 3 * (3 + 2)
    )
    assert len({(c.kind, c.name) for c in plan}) == len(plan) == 19 + 2 * 13 + images
    for kinds in (("fig7", "fig7-exact"), ("fig7-rivals",)):
        seeds = [c.name.split()[-1] for c in plan if c.kind in kinds]
        assert seeds == sorted(seeds)


def test_tables_of_a_half_done_profile_and_of_the_next_sitting():
    plan = [c for c in overnight_cells.plan() if c.kind.startswith("fig7")]
    cells.finish(plan[:2])
    overnight.tables()
    first = pd.read_csv(figures_dir("overnight") / "fig7.csv")
    assert set(first["loss"]) == {"mine", "remine", "nwj", "renwj"}
    overnight.tables()
    pd.testing.assert_frame_equal(pd.read_csv(figures_dir("overnight") / "fig7.csv"), first)
    ended = overnight.former("fig7_runs")
    assert set(ended["commit"]) == {cells.commit()}
    for cell in plan[:2]:  # the cache is lost, the committed table is not
        for path in cells.folder_of(cell).iterdir():
            path.unlink()
    cells.finish(plan[2:3])
    overnight.tables()
    both = pd.read_csv(figures_dir("overnight") / "fig7.csv")
    assert set(both["loss"]) == set(first["loss"]) | {"infonce", "reinfonce"}
    kept = both[both["loss"].isin(first["loss"])]
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), first)


def test_a_hash_that_looks_like_a_number_is_text():
    hashes = ["389459992198", "12e456789012"]
    store.write_csv(
        pd.DataFrame({"commit": hashes, "n": [1, 2]}), figures_dir("overnight") / "x.csv"
    )
    found = overnight.former("x")
    assert found["commit"].tolist() == hashes
    assert found["n"].sum() == 3


def test_rivals_have_names_of_their_own():
    todo = [c for c in overnight_cells.rival_cells(TINY) if c.name.endswith("seed 0")]
    cells.finish(todo)
    errors = overnight.staircase_tables(TINY)["fig7"]
    assert set(errors["kind"]) == {"rival"}
    assert {"nwj_clipped", "hd_dime", "jsd_bound", "infonce_anchor", "flo"} <= set(errors["loss"])
    assert len(errors) == 10 * 2


def test_controls_are_judged_when_all_their_cells_are_done():
    plan = list(overnight_cells.control_cells())
    cells.finish(plan[:-1])
    overnight.tables()
    verdicts = figures_dir("overnight") / "claims" / "one_hot_controls.json"
    assert not verdicts.exists()
    cells.finish(plan)
    overnight.tables()
    assert verdicts.exists()
    assert (figures_dir("overnight") / "controls_drift.png").exists()


def test_a_member_that_stands_still_or_is_lost_is_recorded_as_such():
    steps = np.arange(100)
    mi = {
        0: np.sin(steps),
        1: np.where(steps < 40, steps, 7.0),
        2: np.where(steps < 60, 1.0, np.nan),
    }
    terms = pd.concat(
        pd.DataFrame(
            {
                "member": member, "loss": f"l{member}", "seed": 0, "step": steps, "mi": values,
                "joint_term": values, "product_term": 0 * values, "penalty": 0.0,
            }
        )
        for member, values in mi.items()
    )  # fmt: skip
    found = overnight.outcome(terms, 100).set_index("loss")
    assert found["frozen_step"].isna().tolist() == [True, False, True]
    assert found.loc["l1", "frozen_step"] == 40
    assert found["diverged_step"].isna().tolist() == [True, True, False]
    assert found.loc["l2", "diverged_step"] == 60


def test_the_profile_has_the_papers_size():
    p = yaml.safe_load((project_root() / "params/overnight/06_gaussian_staircase.yaml").read_text())
    task = overnight_cells.task_of(p)
    assert (task.dim, task.width, task.steps, p["batch"]) == (20, 256, 20_000, 64)
    assert p["chunk"] == 2


def test_its_parameters_are_those_of_a_notebook():
    (path,) = (project_root() / "params/overnight").glob("*.yaml")
    values = check(project_root() / "notebooks" / f"{path.stem}.ipynb", path, RULES)
    assert values["profile"] == "overnight"


def test_the_staircase_is_judged_as_far_as_its_seeds_are_complete(monkeypatch):
    # Drawn in the tests of a half-done profile; here five times in vain.
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **options: Path(path).touch())
    verdicts = figures_dir("overnight") / "claims" / "06_gaussian_staircase.json"

    def judged() -> set[str]:
        overnight.tables()
        if not verdicts.exists():
            return set()
        return {entry["id"].split("@")[0] for entry in json.loads(verdicts.read_text())}

    learned = list(overnight_cells.staircase_cells(TINY))
    cells.finish([*learned[:6], next(overnight_cells.oracle_cells(TINY))])
    assert not judged()  # one seed has no interval
    cells.finish(learned[:-1])
    assert not judged()  # a pair of losses of the second seed is missing
    cells.finish(learned)
    assert {"fig7.rmse", "fig7.sd", "fig7.js.same-reading"} <= judged()
    assert "fig7.clip-alone" not in judged()
    cells.finish([c for c in overnight_cells.rival_cells(TINY) if c.name.startswith("nwj clipped")])
    assert "fig7.clip-alone" in judged()
    assert "fig7.cubic" not in judged()


def test_what_an_earlier_sitting_committed_is_not_computed_again(monkeypatch):
    plan = [c for c in overnight_cells.plan() if c.kind.startswith("fig7")]
    monkeypatch.setattr(overnight, "plan", lambda: plan[:3])
    cells.finish(plan[:2])
    overnight.tables()
    committed = pd.read_csv(figures_dir("overnight") / "cells.csv")
    assert list(committed["cell"]) == ["mine seed 0", "nwj seed 0"]
    monkeypatch.setenv("REMI_CACHE", str(figures_dir("overnight").parent / "another machine"))
    assert list(cells.status(plan[:3], committed)["state"]) == ["committed"] * 2 + ["missing"]
    assert cells.left(plan[:3], committed).startswith("2 of 3 cells done")
    overnight.main(["run"])
    assert [cells.folder_of(cell) is not None for cell in plan[:3]] == [False, False, True]
    overnight.tables()
    both = pd.read_csv(figures_dir("overnight") / "cells.csv")
    assert sorted(both["cell"]) == ["infonce seed 0", "mine seed 0", "nwj seed 0"]
    overnight.main(["run", "--rebuild"])
    assert all(cells.folder_of(cell) is not None for cell in plan[:3])


def test_a_committed_cell_of_another_configuration_is_missing():
    cell = next(overnight_cells.staircase_cells(TINY))
    cells.finish([cell])
    committed = cells.records([cell])
    other = next(overnight_cells.staircase_cells({**TINY, "lr": 0.001}))
    assert cells.state_of(other, committed) == "missing"


def test_every_committed_image_run_has_a_record():
    """Without one another machine would compute it again."""
    folder = project_root() / "figures" / "overnight"
    keys = ["benchmark", "loss", "weight", "tau", "seed"]
    recorded = set(pd.read_csv(folder / "cells.csv")["config"])
    for module, table in ((small_images, "table2_runs"), (tiny_images, "table3_runs")):
        if not (folder / f"{table}.csv").exists():
            continue
        rows = pd.read_csv(folder / f"{table}.csv")[keys].fillna(-1.0)
        done = set(rows.itertuples(index=False, name=None))
        for run, cell in zip(module.planned(), module.image_cells(), strict=True):
            at = [run.member.weight, run.member.tau]
            key = (run.task.benchmark, run.member.loss, *(-1.0 if x is None else x for x in at))
            assert (*key, run.member.seed) not in done or cell.digest in recorded, cell.name


def test_a_kind_that_there_is_not_is_an_error(capsys):
    with pytest.raises(SystemExit):
        overnight.main(["status", "--kind", "fig77"])
    assert "there is no fig77" in capsys.readouterr().err
