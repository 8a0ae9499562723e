"""What a finished training says: accuracy, statistics of all validation pairs, its tables."""

from __future__ import annotations

import math
from dataclasses import asdict

import pandas as pd
import torch
from torch import Tensor

from remi_lib.evaluation import (
    all_pairs_statistics,
    batch_statistics,
    class_accuracy,
    neighbour_accuracy,
)
from remi_lib.experiments.imagenet.training import Trainer
from remi_lib.experiments.imagenet.trees import InOrder, Pictures, Split, Unreadable, feed
from remi_lib.progress import progress
from remi_lib.replication.store import Tables
from remi_lib.stillness import frozen
from remi_lib.training import divergence


@torch.no_grad()
def evaluate(trainer: Trainer, workers: int = 0, label: str | None = None) -> pd.DataFrame:
    """A row per member: accuracy and the sufficient statistics of all validation pairs.

    CLB's accuracy is that of the nearest training picture, which takes all training embeddings.
    """
    run = trainer.run
    tau = trainer.ensemble.limits
    trainer.critic.eval()
    out, labels = _outputs(trainer, trainer.tree.val, workers, label and f"{label}, validation")
    if run.task.benchmark == "slb":
        accuracy = class_accuracy(out, labels)
        table = run.task.table(out, labels.expand(out.shape[:2]))
        statistics = batch_statistics(table.clip(tau))
    else:
        bank, bank_labels = _outputs(
            trainer, trainer.tree.train, workers, label and f"{label}, training set"
        )
        accuracy = neighbour_accuracy(out, labels, bank, bank_labels, block=256)
        statistics = all_pairs_statistics(out, labels, tau)
    finite = out.isfinite().all(-1).all(-1)
    values = {"accuracy": accuracy, **{f"val_{k}": v for k, v in statistics._asdict().items()}}
    return pd.DataFrame(
        {k: torch.where(finite, v.double(), math.nan).cpu().numpy() for k, v in values.items()}
    )


def _outputs(
    trainer: Trainer, split: Split, workers: int, label: str | None, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """Outputs (M, n, .) and labels (n,) of every readable picture of a split."""
    run = trainer.run
    pictures = Pictures(split, run.size, run.augment, False, run.seed)
    outputs, labels = [], []
    with progress(len(split), label, "img") as bar:
        for batch in feed(pictures, InOrder(len(split), chunk), workers, trainer.device):
            outputs.append(trainer.outputs(batch.images))
            labels.append(batch.labels)
            trainer.state.unreadable |= dict(batch.unreadable)
            bar.update(len(batch.labels))
    return torch.cat(outputs, 1), torch.cat(labels)


def result_tables(trainer: Trainer, evaluation: pd.DataFrame) -> Tables:
    """A finished run: ``batches`` (per member and step), ``summary`` (member), ``unreadable``."""
    state, run = trainer.state, trainer.run
    missing = torch.full((trainer.steps - state.step, *state.statistics[-1].shape[1:]), math.nan)
    batches = trainer.history([*state.statistics, missing])
    batches["epoch"] = batches["step"] // trainer.per_epoch
    lost = divergence(batches).set_index("member")
    last = batches[batches["epoch"] == run.epochs - 1]
    flat = frozen(torch.tensor(last.pivot(index="step", columns="member", values="mi").to_numpy()))
    summary = pd.DataFrame([asdict(m) for m in run.members]).assign(
        benchmark=run.task.benchmark,
        dataset=trainer.data.name,
        epochs=run.epochs,
        diverged_step=lost["step"].astype(float),
        first_term=lost["first_term"].fillna(""),
        frozen=flat.numpy(),
        images=state.step * run.batch,
        seconds=state.seconds,
        unreadable=len(state.unreadable),
    )
    files = pd.DataFrame(state.unreadable.items(), columns=list(Unreadable._fields)).astype(str)
    return {
        "batches": batches,
        "summary": pd.concat([summary, evaluation], axis=1),
        "unreadable": files,
    }
