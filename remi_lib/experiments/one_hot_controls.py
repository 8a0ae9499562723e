"""Controls of Figs 1, 3 and 5: step size, batch, gradient clipping, and why MINE drifts.

The paper fixes the learning rate of the one-hot problem at 0.1 and changes the batch.  Here both
change, the penalty meets its rivals (a moving average in MINE's gradient, gradient clipping), and
each of the two sampled measures is replaced by the exact one in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import nn

from remi_lib.experiments.plots import colour, panels, reference
from remi_lib.intervals import difference, fraction_interval, median_interval
from remi_lib.losses import title
from remi_lib.replication.claims import Ledger
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
        if self.known not in EXACT:
            raise ValueError(f"known: {self.known!r} is not allowed; one of {', '.join(EXACT)}")

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

    study: str  # "grid" or "drift"
    losses: tuple[str, ...]
    batches: tuple[int, ...]
    lr: float
    optimizer: str = "sgd"
    exact: str = "none"
    seeds: int = 10
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


def groups(
    lrs: Sequence[float] = (0.1, 0.03, 0.01),
    batches: Sequence[int] = (16, 32, 100, 400),
    drift_batches: Sequence[int] = (100, 400, 1000),
    seeds: int = 10,
    steps: int = 3000,
) -> list[Group]:
    """The whole study: learning rate x batch or exact gradients x loss, then the drift's parts."""
    found = []
    for lr in lrs:
        for optimizer, losses in (("sgd", LOSSES), ("sgd_clipped", CLIPPED)):
            sampled = Group("grid", losses, tuple(batches), lr, optimizer, "none", seeds, steps)
            found += [sampled, replace(sampled, batches=(2,), exact="both")]
    for exact in EXACT:
        chosen = (2,) if exact == "both" else tuple(drift_batches)
        found.append(Group("drift", ("mine",), chosen, 0.1, "sgd", exact, seeds, steps))
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
    in notebook 1; ``log_partition`` and ``on_mean`` are the exact log E_Q[e^T] and E_P[T].
    ``sd``, ``mi``: of the batch estimate over the last window.  ``variance_ratio``: Var(second
    term) / Var(joint term) over batches there.
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


def collapsed(rows: pd.DataFrame) -> pd.Series:
    """Whether a critic ended as a constant: all its outputs within 0.01 nats (notebook 2)."""
    highest = rows[["on_max", "off_max"]].max(axis=1)
    return highest - rows[["on_min", "off_min"]].min(axis=1) < 0.01


WORST = {"sd": math.inf, "exact_mi": -math.inf}  # what a lost member counts as


def chosen(rows: pd.DataFrame, column: str, **where: object) -> pd.Series:
    """A quantity by seed, of the sampled, unclipped grid at lr 0.1 and batch 32 if not ``where``.

    A lost member counts as :data:`WORST`, or as NaN where no number is the worst.
    """
    setting = {"study": "grid", "lr": 0.1, "batch": 32, "clipped": False, "exact": "none"} | where
    own = rows[(rows[list(setting)] == pd.Series(setting)).all(axis=1)].set_index("seed")
    if own.empty:
        raise ValueError(f"controls: no run of {setting}")
    if column == "diverged_step":
        return own[column]
    return own[column].mask(own["diverged_step"].notna(), WORST.get(column, math.nan))


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge the claims ``control.*`` from the table of all members."""
    ledger = Ledger(NAME, profile)

    def say(claim: str, values: ArrayLike) -> None:
        ledger.judge(f"control.{claim}", median_interval(values))

    def share_lost(claim: str, **where: object) -> None:
        lost = chosen(rows, "diverged_step", **where).notna()
        ledger.judge(f"control.{claim}", fraction_interval(lost))

    share_lost("step.nwj-finite", loss="nwj", lr=0.03)
    nwj, renwj = (chosen(rows, "exact_mi", loss=x, lr=0.03) for x in ("nwj", "renwj"))
    mine, remine = (chosen(rows, "exact_mi", loss=x, lr=0.01) for x in ("mine", "remine"))
    say("step.nwj-mi", nwj)
    say("step.mine-scatter", chosen(rows, "sd", loss="mine", lr=0.01))
    say("step.renwj-mi", renwj)
    say("step.remine-gain", difference(remine, mine))
    say("step.renwj-gain", difference(renwj, nwj))
    share_lost("clip.nwj-finite", loss="nwj", clipped=True)
    say("clip.nwj-mi", chosen(rows, "exact_mi", loss="nwj", clipped=True))
    say("clip.mine-scatter", chosen(rows, "sd", loss="mine", clipped=True))
    say("ema.mine-scatter", chosen(rows, "sd", loss="mine_ema"))
    drift = partial(chosen, rows, study="drift", loss="mine")
    say("drift.exact-gradient", drift("log_partition_drift", exact="both", batch=0))
    say("drift.product-noise", drift("log_partition_drift", exact="joint", batch=100))
    say("drift.joint-noise", drift("log_partition_drift", exact="product", batch=100))
    say("drift.large-batch", drift("log_partition_drift", batch=1000))
    gap = drift("on_mean_drift", batch=100) - drift("log_partition_drift", batch=100)
    say("drift.in-parallel", gap)
    say("variance.second-term", drift("variance_ratio", batch=100))
    return ledger


FLOOR = -0.5  # nats, where a lost run is drawn
MEASURES = {
    "none": "both sampled",
    "joint": "P exact, Q sampled",
    "product": "Q exact, P sampled",
    "both": "both exact",
}


def draw_grid(rows: pd.DataFrame) -> Figure:
    """Exact MI of the last critic and share of lost runs, a column per learning rate.

    Median over seeds with its 10-90% range; a lost run is drawn at the bottom.
    """
    grid_rows = rows[rows["study"] == "grid"].copy()
    clipped = grid_rows["clipped"].astype(bool)
    grid_rows["loss clipped"] = grid_rows["loss"].map(title) + clipped.map(
        {True: ", gradient clipped", False: ""}
    )
    grid_rows["batch size"] = grid_rows["batch"].astype(int).astype(str).replace("0", "exact")
    lost = grid_rows["diverged_step"].notna()
    grid_rows["reads"] = grid_rows["exact_mi"].mask(lost, FLOOR).clip(lower=FLOOR)
    grid_rows["lost"] = lost.astype(float)
    names = list(grid_rows["loss clipped"].unique())
    palette = {n: colour(x) for n, x in zip(names, _first(grid_rows, names), strict=True)}
    styles = {n: "--" if "Re" in n else ":" if "clipped" in n or "EMA" in n else "-" for n in names}
    order = [*map(str, sorted(set(grid_rows["batch"].astype(int)) - {0})), "exact"]
    lrs = sorted(grid_rows["lr"].unique(), reverse=True)
    figure, axes = panels(2 * len(lrs), columns=len(lrs), height=2.6, sharex=True, sharey="row")
    for ax, (lr, what) in zip(axes, [(x, y) for y in ("reads", "lost") for x in lrs], strict=True):
        sns.pointplot(
            grid_rows[grid_rows["lr"] == lr],
            x="batch size",
            y=what,
            hue="loss clipped",
            order=order,
            hue_order=names,
            palette=palette,
            linestyles=[styles[n] for n in names],
            estimator="median" if what == "reads" else "mean",
            errorbar=("pi", 80) if what == "reads" else None,
            dodge=0.5,
            markersize=3,
            linewidth=1,
            legend=False,
            ax=ax,
        )
    for ax, lr in zip(axes, lrs, strict=False):
        reference(ax, math.log(16))
        ax.set(title=f"learning rate {lr:g}", ylabel="exact MI (nats)")
    for ax in axes[len(lrs) :]:
        ax.set(ylim=(-0.05, 1.05), ylabel="share of seeds lost", xlabel="batch")
    handles = [
        mpl.lines.Line2D([], [], color=palette[n], ls=styles[n], marker="o", ms=3, label=n)
        for n in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="x-small")
    return figure


def _first(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The loss behind each printed name."""
    return [str(rows.loc[rows["loss clipped"] == name, "loss"].iloc[0]) for name in names]


def drift_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Drift of MINE's exact terms over seeds, by what is sampled and by batch: median, interval."""
    found = []
    for (exact, batch), own in rows[rows["study"] == "drift"].groupby(["exact", "batch"]):
        for quantity in ("log_partition_drift", "on_mean_drift", "exact_mi_drift"):
            value, low, high = median_interval(own[quantity])[:3]
            found.append([MEASURES[str(exact)], batch, quantity, len(own), value, low, high])
    columns = ["sampling", "batch", "quantity", "seeds", "median", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def draw_drift(rows: pd.DataFrame) -> Figure:
    """Drift of MINE's exact log E_Q[e^T] by batch, for each choice of what is sampled."""
    own = rows[rows["study"] == "drift"].copy()
    exact = own.loc[own["exact"] == "both", "log_partition_drift"]
    sampled = own[own["exact"] != "both"].assign(sampling=own["exact"].map(MEASURES))
    sampled["batch size"] = sampled["batch"].astype(int)
    figure, (ax,) = panels(1, height=2.8)
    sns.pointplot(
        sampled,
        x="batch size",
        y="log_partition_drift",
        hue="sampling",
        estimator="median",
        errorbar=("pi", 80),
        dodge=0.3,
        linestyle="none",
        markersize=5,
        ax=ax,
    )
    if len(exact):
        ax.axhspan(*exact.quantile([0.1, 0.9]), color="0.6", alpha=0.3, lw=0)
        reference(ax, exact.median(), MEASURES["both"], color="0.3", ls="-")
    reference(ax, 0.0)
    ax.set(xlabel="batch", ylabel="drift of $\\log E_Q[e^T]$ (nats)")
    ax.legend(title=None)
    return figure
