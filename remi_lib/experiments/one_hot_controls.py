"""Controls of Figs 1, 3 and 5: step size, batch, gradient clipping, and why MINE drifts.

The paper's learning rate is 0.1 throughout.  Here it changes, the penalty meets its rivals (a
moving average, clipping), and each sampled measure is replaced by the exact one in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
from torch import nn

from remi_lib.checks import one_of
from remi_lib.replication.store import Tables, cached
from remi_lib.scores import Scores, support_counts
from remi_lib.tasks import Member, OneHotTask, grid, member_config
from remi_lib.training import History, train

EXACT = ("none", "joint", "product", "both")
NAME = "one_hot_controls"


@dataclass(frozen=True)
class MeasuredTask(OneHotTask):
    """The one-hot problem with the exact P ("joint"), Q ("product") or "both" in place of counts.

    The batches are drawn all the same, so a sampled measure is sampled as in the plain problem.
    """

    known: str = "none"

    def __post_init__(self) -> None:
        one_of("known", self.known, EXACT)

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores:
        joint, product = batch
        exact_joint, exact_product = (m.to(joint.device) for m in self.data.measures())
        if self.known in ("joint", "both"):
            joint = exact_joint
        if self.known in ("product", "both"):
            product = exact_product
        return support_counts(self.table(critic), joint, product)


@dataclass(frozen=True)
class Group:
    """Members that train as one model: what differs between groups cannot differ within one."""

    study: str  # "grid", "long" or "drift"
    losses: tuple[str, ...]
    batches: tuple[int, ...]
    lr: float
    optimizer: str = "sgd"
    exact: str = "none"
    seeds: int = 20
    steps: int = 3000
    weight: float = 1.0  # the paper's in Fig 5

    @property
    def name(self) -> str:
        clipped = ", clipped" if self.optimizer == "sgd_clipped" else ""
        return f"{self.study}: lr {self.lr:g}, exact {self.exact}{clipped}"

    def members(self) -> list[Member]:
        return grid(
            loss=self.losses, batch=self.batches, seed=range(self.seeds), weight=self.weight
        )


LOSSES = ("mine", "nwj", "remine", "renwj", "mine_ema")
CLIPPED = ("mine", "nwj")
TWINS = ("mine", "nwj", "remine", "renwj")
FIGURE1 = 100  # its batch
LONGER = 7  # times as long as Figure 1 its setting runs, to see whether the drift ends


def groups(
    lrs: Sequence[float] = (0.1, 0.03, 0.01),
    batches: Sequence[int] = (16, 32, 100, 400),
    drift_batches: Sequence[int] = (100, 400, 1000),
    seeds: int = 20,
    steps: int = 3000,
) -> list[Group]:
    """The whole study: learning rate x batch or exact gradients x loss, then the drift's parts.

    "long": the smaller rates for as many steps as make rate x steps what it is at the largest one,
    so that a run that only moves more slowly is not taken for a stable one; and Figure 1, longer.
    """
    found = []
    for lr in lrs:
        for optimizer, losses in (("sgd", LOSSES), ("sgd_clipped", CLIPPED)):
            sampled = Group("grid", losses, tuple(batches), lr, optimizer, "none", seeds, steps)
            found += [sampled, replace(sampled, batches=(2,), exact="both")]
    for exact in EXACT:
        chosen = (2,) if exact == "both" else tuple(drift_batches)
        found.append(Group("drift", ("mine",), chosen, 0.1, "sgd", exact, seeds, steps))
    for lr in lrs[1:]:
        slower = round(steps * lrs[0] / lr)
        found.append(Group("long", TWINS, (32,), lr, seeds=seeds, steps=slower))
    found.append(Group("long", ("mine",), (FIGURE1,), lrs[0], seeds=seeds, steps=LONGER * steps))
    return found


def run(group: Group) -> pd.DataFrame:
    """A row per member of a group (:func:`summary`), remembered."""
    members = group.members()
    config = asdict(group) | {"members": [member_config(m) for m in members]}

    def compute() -> Tables:
        task = MeasuredTask(known=group.exact)
        history = train(
            task, members, group.steps, group.lr, group.optimizer, device="cpu", label=group.name
        ).history
        return {"members": summary(history, members, group)}

    return cached(NAME, config, __name__, compute)["members"]


def summary(history: History, members: Sequence[Member], group: Group) -> pd.DataFrame:
    """What each member came to, nats; a lost member has no numbers but the step of its loss.

    ``*_drift``: mean over the last window (a sixth of the run) minus mean over the second one, as
    in notebook 1.  ``variance_ratio``: Var(second term) / Var(joint term) over batches there.
    """
    window = group.steps // 6
    found = pd.DataFrame([{k: asdict(m)[k] for k in ("loss", "batch", "seed")} for m in members])
    found.insert(0, "study", group.study)
    found = found.assign(lr=group.lr, clipped=group.optimizer == "sgd_clipped", exact=group.exact)
    if group.exact == "both":
        found["batch"] = 0  # no batch at all
    found["diverged_step"] = history.divergence()["step"].to_numpy()
    probes, terms = history.probes, history.terms
    quantities = ["log_partition", "on_mean", "off_mean", "exact_mi"]
    early = probes[probes["step"].between(window, 2 * window)].groupby("member")[quantities].mean()
    late = probes[probes["step"] >= group.steps - window].groupby("member")[quantities].mean()
    found[[f"{q}_drift" for q in quantities]] = (late - early).to_numpy()
    last = probes[probes["step"] == probes["step"].max()].set_index("member")
    for name in ("exact_mi", "log_partition", "on_min", "on_max", "off_min", "off_max"):
        found[name] = last[name].to_numpy()
    end = terms[terms["step"] >= group.steps - window].groupby("member")
    found["mi"] = end["mi"].mean().to_numpy()
    found["sd"] = end["mi"].std().to_numpy()
    variance = end[["product_term", "joint_term"]].var()
    found["variance_ratio"] = (variance["product_term"] / variance["joint_term"]).to_numpy()
    lost = found["diverged_step"].notna()
    numbers = found.columns[list(found.columns).index("diverged_step") + 1 :]
    found[numbers] = found[numbers].astype(float).mask(lost)
    return found
