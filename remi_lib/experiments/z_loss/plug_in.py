"""E_P[T] as a reading of MI: what pinning each row does to InfoNCE on correlated Gaussians.

``infonce_apart`` pins the rows without their joint pair.  With it, E_P[T] <= log Z_i + log K:
a row whose log-mean-exp is 0 caps its own joint score at log K, so pinned rows read no more than
InfoNCE does.  Without it, nothing caps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import torch
from torch import Tensor

from remi_lib.losses import Terms, infonce, register
from remi_lib.replication.store import cached
from remi_lib.scores import NEG_INF, Scores, all_pairs
from remi_lib.tasks import Member, StaircaseTask, grid, member_config
from remi_lib.training import train

PINS = {"infonce": "none", "reinfonce_rows": "rows", "reinfonce_apart": "rows without the pair"}


def infonce_apart(scores: Scores) -> Terms:
    """InfoNCE whose regularised twin pins the log-mean-exp of each row's other candidates to C."""
    unpaired = torch.where(scores.log_joint > NEG_INF, NEG_INF, scores.log_product)
    others = scores._replace(log_product=unpaired)
    return infonce(scores)._replace(anchor=others.row_log_mean_exp(), spread=others.row_variance())


register("infonce_apart", infonce_apart, title="InfoNCE (others)")


@dataclass(frozen=True)
class AllPairs(StaircaseTask):
    """The staircase with InfoNCE's table for every loss."""

    def table(self, t: Tensor, contrastive: Tensor, second: Tensor | None = None) -> Scores:
        return all_pairs(t)


def run(
    levels: Sequence[float],
    each: int,
    batch: int,
    width: int,
    weight: float,
    seeds: int,
    lr: float = 1e-3,
) -> pd.DataFrame:
    """A row per pin, level and seed: E_P[T] and the InfoNCE reading, means of a level's last half.

    Each level is trained from scratch, so that none inherits another's constant.
    """
    members = [
        m for loss in PINS for m in grid(loss=[loss], weight=weight, batch=batch, seed=range(seeds))
    ]
    tasks = [AllPairs(levels=(level,), each=each, width=width) for level in levels]
    config = {
        "tasks": [asdict(task) for task in tasks],
        "members": [member_config(m) for m in members],
        "lr": lr,
    }

    def compute() -> dict[str, pd.DataFrame]:
        parts = [_level(task, members, lr) for task in tasks]
        return {"final": pd.concat(parts, ignore_index=True)}

    return cached("z_loss_plug_in", config, __name__, compute)["final"]


def _level(task: AllPairs, members: Sequence[Member], lr: float) -> pd.DataFrame:
    label = f"plug-in at {task.levels[0]:g} nats"
    history = train(task, members, task.steps, lr, "adam", label=label, device="cpu").history
    late = history.terms[history.terms["step"] >= task.steps // 2]
    table = late.groupby(["loss", "seed"], sort=False)[["joint_term", "mi"]].mean().reset_index()
    return table.assign(level=task.levels[0], pin=table["loss"].map(PINS)).rename(
        columns={"joint_term": "plug_in", "mi": "infonce"}
    )
