"""Table 2's cells: one configuration, one run, one result that every table is computed from.

A run is kept as the sufficient statistics of each batch of its last epoch and each held-out batch,
the course of its epochs, and a summary row.  Runs that share network, data and seed train
stacked; a run's result does not depend on its company.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from remi_lib.checks import at_least
from remi_lib.critics import ImageCritic
from remi_lib.devices import current, resolve_device, tensor_float
from remi_lib.evaluation import (
    BatchStatistics,
    all_pairs_statistics,
    batch_statistics,
    class_accuracy,
    neighbour_accuracy,
)
from remi_lib.images import ImageSet
from remi_lib.paths import cache_dir
from remi_lib.replication.store import config_key, locked, read_tables, write_tables
from remi_lib.scores import class_pairs
from remi_lib.stillness import frozen
from remi_lib.streams import generator
from remi_lib.tasks import Ensemble, ImageTask, Member, member_config, terms
from remi_lib.training import train

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Run:
    """One cell of the benchmark at one seed, trained with Adam for ``epochs``."""

    task: ImageTask
    member: Member
    epochs: int
    lr: float = 1e-3

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)

    @property
    def config(self) -> dict[str, Any]:
        """The run as plain data, what its result is filed under."""
        return {**asdict(self), "member": member_config(self.member)}

    @property
    def company(self) -> tuple:
        """Runs with equal company can train stacked: only their losses differ."""
        return self.task, self.member.seed, self.member.batch, self.epochs, self.lr

    def columns(self) -> dict[str, Any]:
        """The settings that tables are grouped by."""
        keys = ("loss", "seed", "batch", "weight", "target", "tau", "variant", "mi_shift")
        tasks = ("dataset", "benchmark", "width", "outputs", "scale")
        member, task = asdict(self.member), asdict(self.task)
        return {k: task[k] for k in tasks} | {k: member[k] for k in keys}


Look = Callable[[ImageCritic, ImageSet], None]


def execute(
    runs: Sequence[Run], device: str = "auto", label: str | None = None, look: Look | None = None
) -> list[Tables]:
    """Train and evaluate runs of one company; their tables in the order given.

    ``look`` sees the trained critic and its data before the evaluation.
    """
    if len({run.company for run in runs}) != 1:
        raise ValueError("runs: only runs that differ in nothing but their loss train together")
    with current(resolve_device(device)), tensor_float(runs[0].task.precision == "tf32"):
        return _execute(runs, device, label, look)


def _execute(
    runs: Sequence[Run], device: str, label: str | None, look: Look | None
) -> list[Tables]:
    task, epochs = runs[0].task, runs[0].epochs
    members = [run.member for run in runs]
    data = task.data(resolve_device(device))
    per_epoch = len(data.train_y) // members[0].batch
    started = time.perf_counter()
    options: dict[str, Any] = {"device": device, "label": label, "epoch": per_epoch}
    history, critic = train(task, members, epochs * per_epoch, runs[0].lr, "adam", **options)
    seconds = time.perf_counter() - started
    assert isinstance(critic, ImageCritic)
    if look:
        look(critic.eval(), data)
    found = evaluate(task, critic, data, members)
    lost = history.divergence()
    by_member = dict(list(history.terms.groupby("member")))
    results = []
    for i in range(len(runs)):
        own = by_member[i].drop(columns=["member", "loss", "seed"], errors="ignore")
        own = own[[c for c in own if c not in Member.__dataclass_fields__]]
        end = int(own["step"].max()) + 1  # before the last step where everybody froze
        last = own[own["step"] >= end - per_epoch].assign(split="train")
        epoch = own.groupby(own["step"] // per_epoch).mean().drop(columns="step")
        summary = {
            **found[i]["summary"],
            "diverged_step": lost["step"].iloc[i],
            "first_term": str(lost["first_term"].fillna("").iloc[i]),
            "frozen": bool(frozen(torch.tensor(last["mi"].to_numpy()))),
            "epochs_trained": end // per_epoch,
            "seconds": seconds / len(runs),
        }
        results.append(
            {
                "batches": pd.concat([last.drop(columns="step"), found[i]["batches"]]),
                "epochs": epoch.rename_axis("epoch").reset_index(),
                "summary": pd.DataFrame([summary]),
            }
        )
    return results


@torch.no_grad()
def evaluate(
    task: ImageTask, critic: ImageCritic, data: ImageSet, members: Sequence[Member]
) -> list[dict[str, Any]]:
    """Held-out batches, all-pairs statistics and accuracies of a stack, a dictionary a member.

    ``accuracy_batch_norm``: the authors' way, batch norm in training mode, batches as in training.
    """
    device = data.train_y.device
    ensemble = Ensemble.of(members, device)
    tau = ensemble.limits
    critic.eval()
    train_out, test_out = (outputs(task, critic, x, data) for x in (data.train_x, data.test_x))
    held_out = _held_out_batches(task, test_out, data, ensemble)
    whole = {
        split: _whole_split(task, out, labels, tau)
        for split, out, labels in (
            ("train", train_out, data.train_y),
            ("test", test_out, data.test_y),
        )
    }
    accuracy = _accuracy(task, train_out, test_out, data)
    critic.train()
    size = members[0].batch
    train_out, test_out = (
        outputs(task, critic, x, data, size) for x in (data.train_x, data.test_x)
    )
    accuracy_batch_norm = _accuracy(task, train_out, test_out, data)
    critic.eval()
    return [
        {
            "batches": held_out[i],
            "summary": {
                "accuracy": accuracy[i].item(),
                "accuracy_batch_norm": accuracy_batch_norm[i].item(),
                **{
                    f"{split}_{name}": value[i].item()
                    for split, statistics in whole.items()
                    for name, value in statistics._asdict().items()
                },
            },
        }
        for i in range(len(members))
    ]


def outputs(
    task: ImageTask, critic: ImageCritic, images: Tensor, data: ImageSet, chunk: int = 512
) -> Tensor:
    """Logits or embeddings (M, N, .) of all images of a split, ``chunk`` at a time."""
    parts = images.split(chunk)
    if critic.training and len(parts[-1]) == 1:  # batch norm has no variance to take there
        parts = (*parts[:-2], torch.cat(parts[-2:]))
    return torch.cat([task.outputs_of(critic, x, data) for x in parts], 1)


def _held_out_batches(
    task: ImageTask, out: Tensor, data: ImageSet, ensemble: Ensemble
) -> list[pd.DataFrame]:
    """As many random batches of the test split as an epoch has, read by each member's loss."""
    size, count = ensemble[0].batch, len(data.train_y) // ensemble[0].batch
    stream = generator(ensemble[0].seed, "held-out")
    n = len(data.test_y)
    passes = -(-count // (n // size))
    order = torch.cat(
        [torch.randperm(n, generator=stream)[: n // size * size] for _ in range(passes)]
    )
    rows = []
    for index in order.view(-1, size)[:count].to(out.device):
        scores = task.table(out[:, index], data.test_y[index])
        seen = {
            **terms(ensemble.loss(scores)),
            **batch_statistics(scores.clip(ensemble.limits))._asdict(),
        }
        rows.append(torch.stack([x.float() for x in seen.values()], -1))
    table = torch.stack(rows, 1).cpu().numpy()
    return [pd.DataFrame(x, columns=list(seen)).assign(split="test") for x in table]


def _whole_split(task: ImageTask, out: Tensor, labels: Tensor, tau: Tensor) -> BatchStatistics:
    if task.benchmark == "slb":
        return batch_statistics(class_pairs(out, labels).clip(tau))
    return all_pairs_statistics(out, labels, tau)


def _accuracy(task: ImageTask, train_out: Tensor, test_out: Tensor, data: ImageSet) -> Tensor:
    if task.benchmark == "slb":
        return class_accuracy(test_out, data.test_y)
    return neighbour_accuracy(test_out, data.test_y, train_out, data.train_y)


@dataclass(frozen=True)
class Results:
    """Finished runs as tidy tables: a row per run, per run and epoch, per run and batch."""

    summary: pd.DataFrame
    epochs: pd.DataFrame
    batches: pd.DataFrame


def folder_of(run: Run) -> Path:
    """Where a run's result is kept."""
    return cache_dir() / "runs" / config_key(run.config, __name__)


def is_done(run: Run) -> bool:
    """Whether a run's result is there and can be read."""
    return read_tables(folder_of(run)) is not None  # an unreadable result is none


def load(runs: Sequence[Run]) -> Results:
    """The results of finished runs; an unreadable one is computed again."""
    return results_of(runs, [read_tables(folder_of(run)) or finish([run])[0] for run in runs])


def results_of(runs: Sequence[Run], found: Sequence[Tables]) -> Results:
    """The tables of each run as tables of all."""
    tables: dict[str, list[pd.DataFrame]] = {"summary": [], "epochs": [], "batches": []}
    for number, (run, own) in enumerate(zip(runs, found, strict=True)):
        settings = {"run": number, **run.columns()}
        for key, table in own.items():
            columns = pd.DataFrame([settings] * len(table))
            tables[key].append(pd.concat([columns, table.reset_index(drop=True)], axis=1))
    return Results(**{key: pd.concat(parts, ignore_index=True) for key, parts in tables.items()})


def finish(runs: Sequence[Run], device: str = "auto", label: str | None = None) -> list[dict]:
    """Compute and keep what is missing of one chunk; another process may do the same meanwhile."""
    with locked(*(folder_of(run) for run in runs)):
        found = {run: read_tables(folder_of(run)) for run in runs}
        missing = [run for run, tables in found.items() if tables is None]
        if missing:
            for run, tables in zip(missing, execute(missing, device, label), strict=True):
                write_tables(folder_of(run), tables, run.config)
                found[run] = tables
    return [found[run] or {} for run in runs]


def file(runs: Sequence[Run], results: Sequence[Tables]) -> None:
    """Keep results that :func:`execute` gave, so that a sweep need not train these runs."""
    with locked(*(folder_of(run) for run in runs)):
        for run, tables in zip(runs, results, strict=True):
            if not is_done(run):
                write_tables(folder_of(run), tables, run.config)
