"""The overnight profile's long runs, and the tables that are committed of them.

python -m remi_lib.experiments.overnight COMMAND, where the command is

status    what is done, running and missing, by which commit, and how long the rest takes
run       compute what is missing, the most informative first; stop it and start it at will;
          what an earlier sitting has committed is not missing, unless --rebuild asks for it
tables    what is done -> figures/overnight; rows of earlier sittings stay

``run`` is one process on one thread; two of them share the work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from remi_lib.experiments import (
    benchmark,
    control_figures,
    full_cifar10,
    gaussian_staircase,
    js_targets,
    lambda_sweep,
    out_of_distribution,
    scaled_images,
    small_images,
    small_outputs,
    tiny_images,
    two_views,
)
from remi_lib.experiments.imagenet import figures, table3
from remi_lib.experiments.overnight_cells import (
    PROFILE,
    control_cells,
    oracle_cells,
    parameters,
    plan,
    rival_cells,
    staircase_cells,
    task_of,
)
from remi_lib.experiments.plots import use_style
from remi_lib.experiments.runs import joined
from remi_lib.experiments.verdicts import gaussian_staircase as fig7
from remi_lib.experiments.verdicts.common import complete_seeds
from remi_lib.experiments.verdicts.one_hot import judge_controls
from remi_lib.experiments.z_loss import report
from remi_lib.losses import LOSSES
from remi_lib.paths import figures_dir, project_root
from remi_lib.replication import cells
from remi_lib.replication.cells import Cell
from remi_lib.replication.claims import Ledger
from remi_lib.replication.store import publish, read_json
from remi_lib.stillness import STILL
from remi_lib.tasks import Member
from remi_lib.training import divergence, settings_of

THIN = 50  # every so many steps of a curve are committed
# The staircase's artifacts, and what tells a row of each from the others.
FIG7 = {
    "fig7": ["kind", "loss", "seed", "true_mi"],
    "fig7_js": ["loss", "reading", "seed", "true_mi"],
    "fig7_curves": ["loss", "seed", "step"],
    "fig7_runs": ["loss", "seed"],
}


def history(cell: Cell) -> pd.DataFrame | None:
    """The terms of a staircase cell with the loss and seed of each row; None if it is not done."""
    tables = cells.tables_of(cell)
    if tables is None:
        return None
    terms = tables["terms"]
    if "loss" in terms:
        return terms
    fields = Member.__dataclass_fields__
    members = [
        Member(**{key: m[key] for key in fields if key in m}) for m in cell.config["members"]
    ]
    return joined([terms], settings_of(members).assign(loss=[_label(m) for m in members]))


def _label(member: Member) -> str:
    """The loss as the tables name it: without its module, and "nwj_clipped" for clip-only NWJ."""
    name = member.loss.partition("@")[0]
    return f"{name}_clipped" if member.tau is not None and name == "nwj" else name


def outcome(terms: pd.DataFrame, steps: int) -> pd.DataFrame:
    """A row per member: the step at which it diverged, and the one from which it stood still.

    Still: its estimate moves by less than :data:`STILL` over the last tenth of the run at least.
    """
    found = divergence(terms)[["member", "loss", "seed", "step"]]
    found = found.rename(columns={"step": "diverged_step"})
    still = {}
    for member, own in terms.groupby("member"):
        mi = own["mi"].to_numpy()[::-1]
        spread = np.fmax.accumulate(mi) - np.fmin.accumulate(mi)
        length = int((spread < STILL).sum()) if np.isfinite(mi[0]) else 0
        still[member] = len(mi) - length if length >= steps // 10 else np.nan
    found["frozen_step"] = found["member"].map(still)
    return found.drop(columns="member").assign(steps=steps)


def former(name: str) -> pd.DataFrame | None:
    """The committed table of this name, to which new rows are added; None without one."""
    path = figures_dir(PROFILE) / f"{name}.csv"
    return _read(path) if path.exists() else None


def _read(path: Path) -> pd.DataFrame:
    """A table; hashes and bits stay text, though those of digits, or with an e, look a number."""
    try:
        return pd.read_csv(path, dtype={"commit": str, "config": str, "right": str})
    except ValueError as error:
        raise ValueError(f"{path}: is no table: {error}") from error


def committed(name: str) -> pd.DataFrame:
    """A committed table of this profile, for a notebook to show beside its own smaller run."""
    return _read(project_root() / "figures" / PROFILE / f"{name}.csv")


def judged(notebook: str) -> pd.DataFrame:
    """The committed entries of a notebook's claims in this profile, a row per claim, by id."""
    folder = project_root() / "figures" / PROFILE / "claims"
    return pd.DataFrame(read_json(folder / f"{notebook}.json")).set_index("id")


def control_tables() -> pd.DataFrame | None:
    """Every finished member of the controls; None if there is none."""
    done = [t["members"] for cell in control_cells() if (t := cells.tables_of(cell))]
    if not done:
        return former("controls")
    keys = ["study", "loss", "batch", "seed", "lr", "clipped", "exact"]
    return cells.merged(former("controls"), pd.concat(done), keys).sort_values(keys)


def staircase_tables(p: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The rows of each of :data:`FIG7`, of the finished cells and of earlier sittings."""
    task = task_of(p)
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in FIG7}
    for kind, todo in (
        ("learned", staircase_cells(p)),
        ("rival", rival_cells(p)),
        ("oracle", oracle_cells(p)),
    ):
        for cell in todo:
            terms = history(cell)
            if terms is None:
                continue
            by_level = gaussian_staircase.errors(terms, task, ["loss"])
            parts["fig7"].append(by_level.assign(kind=kind))
            if kind == "learned" and "js" in set(terms["loss"]):
                readings = gaussian_staircase.js_readings(terms)
                own = gaussian_staircase.errors(readings, task, ["loss", "reading"])
                parts["fig7_js"].append(own)
            if kind != "oracle":
                drawn = gaussian_staircase.smoothed(terms, p["span"])
                thin = drawn.loc[drawn["step"] % THIN == 0, ["loss", "seed", "step", "mi", "ema"]]
                parts["fig7_curves"].append(thin)
                by = {k: cells.record_of(cell).get(k, "") for k in ("commit", "torch", "cpu")}
                parts["fig7_runs"].append(outcome(terms, task.steps).assign(**by))
    found = {}
    for name, fresh in parts.items():
        before, own = former(name), FIG7[name]
        rows = cells.merged(before, pd.concat(fresh), own) if fresh else before
        if rows is not None:
            found[name] = rows.sort_values(own)
    return found


def publish_records() -> None:
    """What computed each cell, so that the next machine neither repeats nor mistakes it."""
    found = cells.merged(former("cells"), cells.records(plan()), ["kind", "config"])
    if len(found):
        publish("cells", PROFILE, found.sort_values(["kind", "cell"]))


def publish_controls(rows: pd.DataFrame) -> None:
    """Write the one-hot controls' tables and pictures."""
    studies = set(rows["study"])
    figure = control_figures.draw_grid(rows) if "grid" in studies else None
    publish("controls", PROFILE, rows, figure)
    if "drift" in studies:
        table = control_figures.drift_table(rows)
        publish("controls_drift", PROFILE, table, control_figures.draw_drift(rows))


def publish_staircase(found: dict[str, pd.DataFrame], p: dict[str, Any]) -> None:
    """Write Figure 7 at the paper's size: tables and pictures."""
    task, curves, errors = task_of(p), found["fig7_curves"], found["fig7"]
    steps = np.arange(0, task.steps, THIN)
    truth = pd.Series(task.true_mi(steps), steps)
    caps = {
        name: truth.map(gaussian_staircase.clipped_cap(task, name, p["tau"]))
        for name in ("nwj", "tuba")
    }
    first, log_batch = curves[curves["seed"] == 0], float(np.log(p["batch"]))
    climb = gaussian_staircase.staircase(first, truth, caps, log_batch)
    publish("fig7", PROFILE, errors, climb)
    exact = errors[errors["kind"] == "oracle"]
    if len(exact):
        publish("fig7_oracle", PROFILE, exact, gaussian_staircase.level_errors(errors))
    for name in ("fig7_js", "fig7_curves", "fig7_runs"):
        if name in found:
            publish(name, PROFILE, found[name])


def judge_staircase(p: dict[str, Any]) -> None:
    """Judge what two or more seeds have said, from the tables as they are published."""
    ledger = Ledger("06_gaussian_staircase", PROFILE, [p["dataset"]])
    rows = former("fig7")
    assert rows is not None
    complete = complete_seeds(rows[rows["kind"] == "learned"], LOSSES)
    rows = rows[rows["seed"].isin(complete) | (rows["kind"] == "rival")]
    learned, rival = (rows[rows["kind"] == k] for k in ("learned", "rival"))
    if len(complete) > 1:
        fig7.judge_twelve(ledger, p["dataset"], learned)
        readings = former("fig7_js")
        if readings is not None and complete <= set(readings["seed"]):
            fig7.judge_js(ledger, p["dataset"], readings)
    clipped = rival[(rival["loss"] == "nwj_clipped") & rival["seed"].isin(complete)]
    if clipped["seed"].nunique() > 1:
        fig7.judge_clip_alone(ledger, p["dataset"], learned, clipped)
    ledger.save(complete=False)


def gathered(name: str, module: ModuleType) -> pd.DataFrame | None:
    """The table of a module's runs: those in the cache, and the rows of earlier sittings.

    None where no run is in the cache: where one is, the images, which a verdict counts, are too.
    """
    found = small_images.done(module)
    if not found:
        return None
    rows = cells.merged(former(name), module.rows_of(found), module.KEYS)
    return rows.sort_values(module.KEYS)


def publish_images() -> None:
    """Table 2's runs on real images, and the claims whose runs are complete."""
    rows = gathered("table2_runs", small_images)
    if rows is None:
        return
    publish("table2_runs", PROFILE, rows)
    gains = benchmark.penalty_gains(small_images.reported(rows))
    if len(gains):
        publish("table2_gains", PROFILE, gains.reset_index())
    protocols = small_images.by_protocol(rows)
    if len(protocols):
        publish("table2_by_protocol", PROFILE, protocols)
    swept = small_images.swept(rows)
    if swept["seed"].nunique() > 1:
        fig6 = lambda_sweep.lambda_table(swept)
        truth = lambda_sweep.entropies([small_images.DATASET])
        publish("fig6", PROFILE, fig6, lambda_sweep.trade_off(fig6, truth))
    for judged in (small_images.judge, small_images.judge_sweep, small_images.judge_z_loss):
        judged(former("table2_runs"), PROFILE).save(complete=False)


def publish_runs(name: str, module: ModuleType, *beside: str) -> None:
    """The table of a module's runs and its claims.

    ``beside``: the committed tables that its claims compare the runs with.
    """
    rows = gathered(name, module)
    if rows is not None:
        publish(name, PROFILE, rows)
        # From the tables as they are published, so that anyone can judge them again.
        published = [former(table) for table in (name, *beside)]
        if all(table is not None for table in published):
            module.judge(*published, profile=PROFILE).save(complete=False)


def publish_outputs() -> None:
    """Fig 8's tables and figure, of the networks that are in the cache and of earlier sittings."""
    done = small_outputs.outputs()
    if not done:
        return
    scores = pd.concat([out_of_distribution.scores_of(own) for own in done])
    fresh = {
        "fig8_sets": (out_of_distribution.summary(scores, small_outputs.ideal()), ["set"]),
        "fig8_auroc": (out_of_distribution.auroc(scores), ["foreign", "score"]),
    }
    for name, (rows, own) in fresh.items():
        keys = ["loss", "seed", *own]
        publish(name, PROFILE, cells.merged(former(name), rows, keys).sort_values(keys))
    for own in done:
        if own["seed"].iloc[0] == 0:  # which the picture shows, whatever this machine has
            counts = out_of_distribution.pair_counts(out_of_distribution.pairs_of(own))
            figure = out_of_distribution.ratio_histograms(counts, small_outputs.ideal())
            publish("fig8", PROFILE, counts, figure)
    sets, areas, runs = (former(name) for name in (*fresh, "table2_runs"))
    small_outputs.judge(sets, areas, runs, PROFILE).save(complete=False)


def publish_tiny() -> None:
    """Table 3 of Tiny ImageNet, Fig 9's course, and the claims that complete seeds decide."""
    rows = gathered("table3_runs", tiny_images)
    if rows is None:
        return
    publish("table3_runs", PROFILE, rows)
    publish("table3", PROFILE, table3.table3(rows, tiny_images.ENTROPY))
    fresh, steps = tiny_images.course(small_images.done(tiny_images)), [*tiny_images.KEYS, "step"]
    course = cells.merged(former("fig9"), fresh, steps).sort_values(steps)
    shown = course[course["seed"] == 0].sort_values("benchmark", ascending=False, kind="stable")
    figure = None
    if len(shown):
        figure = figures.fig9(shown, table3.LOSSES3[1:], smooth=1)
        figure.suptitle("Tiny ImageNet, seed 0, means over passes", fontsize="small")
    publish("fig9", PROFILE, course, figure)
    tiny_images.judge(former("table3_runs"), PROFILE).save(complete=False)


def publish_views() -> None:
    """The runs on two views of an image, and what complete seeds decide."""
    rows = gathered("views", two_views)
    if rows is None:
        return
    order = two_views.LOSSES.index
    rows = rows.sort_values(two_views.KEYS, key=lambda x: x.map(order) if x.name == "loss" else x)
    publish("views", PROFILE, rows, report.views_figure(rows))
    two_views.judge(former("views"), PROFILE).save(complete=False)


def tables() -> None:
    """Publish what is done; the controls' verdicts once all their cells are."""
    use_style()
    p, rows = parameters(), control_tables()
    publish_records()
    if rows is not None:
        publish_controls(rows)
        states = {cells.state_of(c, former("cells"), running=False) for c in control_cells()}
        if "missing" not in states:
            # From the table as it is published, so that anyone can judge it again.
            judge_controls(pd.read_csv(figures_dir(PROFILE) / "controls.csv"), PROFILE).save()
    found = staircase_tables(p)
    if "fig7_curves" in found:
        publish_staircase(found, p)
        judge_staircase(p)
    publish_images()
    publish_runs("table2_full", full_cifar10)
    publish_runs("fig6_scaled", scaled_images)
    publish_runs("table2_targets", js_targets, "table2_runs", "table2_full")
    publish_outputs()
    publish_tiny()
    publish_views()
    plt.close("all")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["status", "run", "tables"])
    parser.add_argument("--again", action="store_true", help="also what other code computed")
    parser.add_argument("--rebuild", action="store_true", help="also what is committed")
    parser.add_argument("--kind", nargs="+", help="only cells of these kinds, as status shows them")
    options = parser.parse_args(arguments)
    cells.one_thread()
    known = None if options.rebuild else former("cells")
    planned = plan()
    unknown = set(options.kind or ()) - {c.kind for c in planned}
    if unknown:
        parser.error(f"--kind: there is no {', '.join(sorted(unknown))}; status shows the kinds")
    chosen = [c for c in planned if not options.kind or c.kind in options.kind]
    if options.command == "status":
        print(cells.status(chosen, known).to_string(index=False))
        print(cells.left(chosen, known))
    elif options.command == "run":
        return int(not cells.finish(chosen, options.again, known))
    else:
        tables()
    return 0


if __name__ == "__main__":
    sys.exit(main())
