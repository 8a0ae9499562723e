"""GPU-hours of every artifact of a profile, projected from its parameter files.

Arithmetic, not a measurement: images x FLOP an image over a stated rate, and never less than a
stated time a step.  `make gpu-check` puts the rates that it measured in the place of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from remi_lib.experiments import (
    full_cifar10,
    js_targets,
    planned,
    scaled_images,
    small_images,
    tiny_images,
)
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.imagenet import table3
from remi_lib.experiments.imagenet.trees import IMAGENET_IMAGES
from remi_lib.losses import RIVALS
from remi_lib.paths import project_root
from remi_lib.replication.scoreboard import markdown_table, write_block
from remi_lib.replication.store import read_yaml
from remi_lib.tasks import ImageTask

PROFILES = ("gpu32", "gpu")
HEADINGS = ("artifact", "trainings", "images", "steps", "FLOP", "GPU-hours")
# Of each data set: channels, side, training images, classes.
SHAPES = {
    "digits": (1, 8, 1437, 10),
    "mnist": (1, 28, 60_000, 10),
    "cifar10": (3, 32, 50_000, 10),
    "cifar10_10k": (3, 32, 10_000, 10),
    "cifar100": (3, 32, 50_000, 100),
    "tinyimagenet": (3, 64, 30_000, 200),
}
OVERNIGHT = {
    small_images.DATASET: "10,000 images of CIFAR-10",
    full_cifar10.DATASET: "all of CIFAR-10",
    tiny_images.DATASET: "Tiny ImageNet",
}


@dataclass(frozen=True)
class Rates:
    """What one GPU does.  The defaults are stated for an H100 and have not been measured.

    ``bfloat16``, ``tf32``, ``float32``: operations a second of training in each precision.  7% of
    the dense bfloat16 peak (989 TFLOP/s), as small batches of a small network do not fill the
    device; half of that in TF32, as its peak is half; and 20 of the 67 TFLOP/s of plain float32.
    ``step``: seconds that a step takes at the least, some 300 kernels of a replayed graph at 3
    microseconds.  ``pictures``: JPEG files a second that 16 workers decode.
    """

    bfloat16: float = 7e13
    tf32: float = 3.5e13
    float32: float = 2e13
    step: float = 1e-3
    pictures: float = 2000.0


class Network(NamedTuple):
    """What an image costs: the network, its input and its outputs."""

    net: str
    size: int
    channels: int
    width: int
    outputs: int


@dataclass(frozen=True)
class Cost:
    """Trainings, the images they see, their steps, their operations, and seconds on one GPU."""

    runs: int = 0
    images: float = 0.0
    steps: float = 0.0
    flop: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        names = ("runs", "images", "steps", "flop", "seconds")
        return Cost(*(getattr(self, name) + getattr(other, name) for name in names))


@cache
def training_flop(network: Network) -> float:
    """Operations of a forward and a backward pass on one image, as torch counts them."""
    task = ImageTask(net=network.net, width=network.width)
    encoder = task.encoder([0], network.channels, network.size)
    images = torch.zeros(2, network.channels, network.size, network.size)
    with FlopCounterMode(display=False) as counter:
        encoder(images).sum().backward()
    return counter.get_total_flops() / len(images) + 3 * 2 * network.width * network.outputs


def network_of(run: Run) -> Network:
    """The network that a run trains, with its input and outputs."""
    task = run.task
    channels, side, _, classes = SHAPES[task.dataset]
    outputs = classes if task.benchmark == "slb" else task.outputs or 0
    return Network(task.net, task.size or side, channels, task.width, outputs)


def cost_of(run: Run, rates: Rates) -> Cost:
    """One image run, counted in full, also where it will fail and stop early."""
    steps = run.epochs * (SHAPES[run.task.dataset][2] // run.member.batch)
    images = steps * run.member.batch
    flop = images * training_flop(network_of(run))
    return _cost(1, images, steps, flop, run.task.precision, rates)


def _cost(
    runs: int, images: float, steps: float, flop: float, precision: str, rates: Rates
) -> Cost:
    seconds = max(flop / getattr(rates, precision), steps * rates.step)
    return Cost(runs, images, steps, flop, seconds)


def staircase_flop(dim: int, width: int, batch: int) -> float:
    """Operations of a forward and backward pass over all pairs of a batch, per member."""
    pairs = batch**2
    return 3 * 2 * (pairs * (width**2 + width) + 2 * batch * dim * width)


def parameters(profile: str, root: Path | None = None) -> dict[str, dict[str, Any]]:
    """The parameter files of a profile by notebook ("04_benchmark"); ValueError if none."""
    files = sorted(((root or project_root()) / "params" / profile).glob("*.yaml"))
    if not files:
        raise ValueError(f"profile: params/{profile} has no parameter files")
    return {file.stem: read_yaml(file) for file in files}


def image_runs(given: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Run]]:
    """The image runs of each artifact; what an earlier artifact has trained is left out."""
    wanted = {**_table2(given["04_benchmark"]), **_lambda_sweep(given["05_lambda_sweep"])}
    given7 = given["07_out_of_distribution"]
    names = "dataset batch epochs seeds lr weight"
    wanted["Fig 8"] = planned.fig8_runs(**_pick(given7, names), **_task(given7))
    seen: set[Run] = set()
    new = {}
    for artifact, runs in wanted.items():
        new[artifact] = [run for run in dict.fromkeys(runs) if run not in seen]
        seen.update(runs)
    return new


def costs(profile: str, rates: Rates = Rates(), root: Path | None = None) -> dict[str, Cost]:
    """What each artifact of a profile costs, in the order of the notebooks."""
    given = parameters(profile, root)
    found = {"Figs 1 to 5": _one_hot(given, rates)}
    for artifact, runs in image_runs(given).items():
        found[artifact] = sum((cost_of(run, rates) for run in runs), Cost())
    found["Fig 7"] = _staircase(given["06_gaussian_staircase"], rates)
    found["Theorems 2 and 6"] = _theorems(given, rates)
    if given["08_imagenet"]["dataset"] == "imagenet":
        found["Fig 9, Table 3"] = _imagenet(given["08_imagenet"], rates)
    return found


def table(found: Mapping[str, Cost]) -> pd.DataFrame:
    """:func:`costs` with their sum: artifact, trainings, images, steps, FLOP, hours."""
    rows = [
        (name, c.runs, c.images, c.steps, c.flop, c.seconds / 3600)
        for name, c in {**found, "all": sum(found.values(), Cost())}.items()
    ]
    return pd.DataFrame(rows, columns=["artifact", "runs", "images", "steps", "flop", "hours"])


def markdown(found: Mapping[str, Cost]) -> str:
    """The table as Markdown."""
    rows = []
    for row in table(found).itertuples():
        images = f"{row.images:.2g}" if row.images else "–"
        cells = [f"{row.artifact}", f"{row.runs}", images, f"{row.steps:.2g}", f"{row.flop:.1e}"]
        rows.append([*cells, f"{row.hours:.1f}" if row.hours >= 0.1 else "< 0.1"])
    return markdown_table(HEADINGS, rows)


def overnight_images(rates: Rates = Rates()) -> dict[str, Cost]:
    """SLB and CLB of `make overnight`: a small network, by data set and benchmark."""
    found: dict[str, Cost] = {}
    images = (small_images, scaled_images, full_cifar10, js_targets, tiny_images)
    for run in (run for module in images for run in module.planned()):
        name = f"{OVERNIGHT[run.task.dataset]}, {run.task.benchmark.upper()}"
        found[name] = found.get(name, Cost()) + cost_of(run, rates)
    return found


def block(root: Path | None = None) -> str:
    """The tables of all profiles, as docs/gpu.md holds them."""
    tables = {f"`PROFILE={name}`": costs(name, root=root) for name in PROFILES}
    tables["`make overnight`, SLB and CLB"] = overnight_images()
    return "\n\n".join(f"{title}\n\n{markdown(found)}" for title, found in tables.items())


def _table2(given: Mapping[str, Any]) -> dict[str, list[Run]]:
    runs = planned.table2_runs(
        **_pick(given, "datasets batches slb_epochs clb_epochs weights seeds lr rejs_target"),
        **_task(given),
        other_targets=(0.0, -1.0),  # -1 counts for the self-consistent one, which needs the data
    )
    return {
        "Table 2": runs["main"],
        "Table 2, other targets of ReJS": runs["variants"],
        "Table 2, control of the precision": planned.precision_control(
            runs["main"], given["control"], given["weight"]
        ),
    }


def _lambda_sweep(given: Mapping[str, Any]) -> dict[str, list[Run]]:
    common = _pick(given, "datasets batches lr rejs_target") | _task(given)
    controls = common | {"weight": given["weight"], "seeds": given["control_seeds"]}
    shapes = planned.score_shapes(given["widths"], given["outputs"])
    square = planned.square_runs(**controls, **_pick(given, "square_epochs tau"))
    short = _pick(given, "clb_epochs short_epochs")
    scaled = planned.scaled_runs(**controls, **short, shapes=shapes)
    return {
        "Fig 6": planned.fig6_runs(**common, **_pick(given, "clb_epochs weights seeds")),
        "Clip x penalty": planned.together(square),
        "Scale of the scores": planned.together(scaled),
    }


def _staircase(given: Mapping[str, Any], rates: Rates) -> Cost:
    """The twelve losses twice (straight and bent), five codings of the authors', the rivals."""
    extra = given["extra_seeds"]
    ensembles = (12 * given["seeds"], 5 * extra, len(RIVALS) * extra, 12 * extra)
    steps = given["each"] * len(given["levels"])
    flop = staircase_flop(given["dim"], given["width"], given["batch"]) * steps
    total = Cost()
    for members in ensembles:
        total += _cost(members, 0, steps, members * flop, "float32", rates)
    return total


def _one_hot(given: Mapping[str, Mapping[str, Any]], rates: Rates) -> Cost:
    """Five ensembles, each as long as its steps take to start: a member-step is 0.1 MFLOP.

    Notebook 2 trains three of them: at one batch, over batches, and NWJ at further seeds.
    """
    steps = [given[name]["steps"] for name in ("01_drift", "02_explosion", "03_target_constant")]
    total = sum(steps) + 2 * given["02_explosion"]["steps"]
    return Cost(5, 0, total, 0, total * rates.step)


def _theorems(given: Mapping[str, Mapping[str, Any]], rates: Rates) -> Cost:
    """Notebook 9's network on fixed samples and notebook 13's one-hot runs, an ensemble each."""
    steps = given["09_theorems"]["steps"] + given["13_samples_and_averages"]["steps"]
    return Cost(2, 0, steps, 0, steps * rates.step)


def _imagenet(given: Mapping[str, Any], rates: Rates) -> Cost:
    """Every picture is decoded anew in every epoch, so the loader bounds it from below."""
    runs = table3.runs_of(
        table3.LOSSES3,
        weights=dict(zip(("slb", "clb"), given["weights"], strict=True)),
        dataset="imagenet",
        **_pick(given, "net size precision batch epochs lr augment seeds"),
    )
    total = Cost()
    for run in runs:
        steps = run.epochs * (IMAGENET_IMAGES // run.batch)
        images = steps * run.batch
        outputs = table3.PAPER_CLASSES if run.task.benchmark == "slb" else 0
        network = Network(run.task.net, run.size, 3, run.task.width, outputs)
        flop = images * training_flop(network) * len(run.members)
        cost = _cost(len(run.members), images, steps, flop, run.task.precision, rates)
        total += replace(cost, seconds=max(cost.seconds, images / rates.pictures))
    return total


def _pick(given: Mapping[str, Any], names: str) -> dict[str, Any]:
    return {name: given[name] for name in names.split()}


def _task(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**_pick(given, "net precision"), "size": given["size"] or None}


if __name__ == "__main__":
    write_block("gpu-hours", block())
