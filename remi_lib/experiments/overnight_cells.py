"""The overnight profile's plan: every long run as a cell, the most informative first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from remi_lib import rivals
from remi_lib.experiments import (
    full_cifar10,
    js_targets,
    one_hot_controls,
    runs,
    scaled_images,
    small_images,
    small_outputs,
    staircase_oracle,
    tiny_images,
    two_views,
)
from remi_lib.paths import project_root
from remi_lib.replication.cells import Cell
from remi_lib.replication.store import read_yaml
from remi_lib.tasks import Member, StaircaseTask, grid, member_config

PROFILE = "overnight"
PAIRS = ("mine", "nwj", "infonce", "smile", "js", "tuba")  # in the order in which they run
# Later estimators, two by two; FLO's critic has a second head and is alone.
RIVALS = (
    ("mine_ema", "smile_js"),
    rivals.NAMES[:2],
    rivals.NAMES[2:],
    ("i_alpha", "gan_dime"),
    ("flo",),
)


def parameters(name: str = "06_gaussian_staircase") -> dict[str, Any]:
    """The values of a notebook's parameter file in this profile."""
    path = project_root() / "params" / PROFILE / f"{name}.yaml"
    return read_yaml(path)


def task_of(p: dict[str, Any]) -> StaircaseTask:
    """The staircase of a profile's parameters."""
    return StaircaseTask(tuple(p["levels"]), p["each"], p["dim"], p["width"], p["init_std"])


def pair(p: dict[str, Any], family: str, seed: int) -> list[Member]:
    """An original beside its regularised form: the chunk of notebook 6."""
    return grid(seed=seed, loss=[family, "re" + family], batch=p["batch"], weight=p["weight"])


def control_cells() -> Iterator[Cell]:
    """The groups of the one-hot controls."""
    for group in one_hot_controls.groups():
        yield Cell(
            "controls",
            group.name,
            one_hot_controls.NAME,
            asdict(group),
            one_hot_controls.__name__,
            len(group.members()) * group.steps,
            partial(one_hot_controls.run, group),
        )


def staircase_cell(p: dict[str, Any], folders: str, name: str, members: list[Member]) -> Cell:
    """One training on the staircase, by the call that notebook 6 makes at its own size."""
    task = task_of(p)
    options = {"lr": p["lr"], "optimizer": "adam", "device": p["device"], "probe_every": task.steps}
    config = {
        "task": {"StaircaseTask": asdict(task)},
        "members": [member_config(m) for m in members],
        "steps": task.steps,
        **options,
    }
    train = partial(runs.run, folders, task, members, task.steps, **options)
    kind = "fig7" if folders == "staircase" else "fig7-rivals"
    return Cell(kind, name, folders, config, "remi_lib.training", len(members) * task.steps, train)


def staircase_cells(p: dict[str, Any]) -> Iterator[Cell]:
    """Fig 7 at the paper's size: an original and its regularised form at one seed, seed by seed."""
    for seed in range(p["seeds"]):
        for family in PAIRS:
            yield staircase_cell(p, "staircase", f"{family} seed {seed}", pair(p, family, seed))


def rival_cells(p: dict[str, Any]) -> Iterator[Cell]:
    """Clip-only NWJ and later estimators on the same batches, seed by seed."""
    for seed in range(p["seeds"]):
        clipped = grid(loss="nwj", seed=seed, batch=p["batch"], tau=p["tau"])
        yield staircase_cell(p, "staircase-rivals", f"nwj clipped seed {seed}", clipped)
        for names in RIVALS:
            members = grid(loss=names, seed=seed, batch=p["batch"])
            label = "+".join(name.partition("@")[0] for name in names)
            yield staircase_cell(p, "staircase-rivals", f"{label} seed {seed}", members)


def oracle_cells(p: dict[str, Any]) -> Iterator[Cell]:
    """The exact critic on the batches of each seed."""
    task = task_of(p)
    for seed in range(p["seeds"]):
        members = [m for family in PAIRS for m in pair(p, family, seed)]
        config = {"task": vars(task), "members": [member_config(m) for m in members]}
        read = partial(staircase_oracle.cached_oracle, "staircase-oracle", task, members)
        cost = len(members) * task.steps
        module = staircase_oracle.__name__
        yield Cell("fig7-exact", f"seed {seed}", "staircase-oracle", config, module, cost, read)


def plan() -> list[Cell]:
    """Every cell of the profile, the most informative first: one seed of all before the next."""
    p = parameters()
    decisive = [*staircase_cells(p), *oracle_cells(p)]
    by_seed = [
        sorted(some, key=lambda cell: int(cell.name.split()[-1]))  # stable
        for some in (decisive, rival_cells(p))
    ]
    images = [*small_images.image_cells(), *small_outputs.output_cells()]
    last = [*tiny_images.image_cells(), *two_views.image_cells(), *full_cifar10.image_cells()]
    last += [*scaled_images.image_cells(), *js_targets.image_cells()]
    return [*control_cells(), *by_seed[0], *by_seed[1], *images, *last]
