"""Fig 7 beyond the picture: readings, errors per level, the exact critic on the same batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from remi_lib.intervals import Estimate, difference, interval, median_interval
from remi_lib.losses import FAMILIES, optimal_shift, split_name, stack, title
from remi_lib.replication.claims import Ledger
from remi_lib.replication.store import cached
from remi_lib.replication.workers import unordered
from remi_lib.streams import generator
from remi_lib.tasks import Member, StaircaseTask, member_config
from remi_lib.training import History, divergence, tidy

READINGS = {"raw": "raw JS", "nwj": "NWJ of T", "shifted": "NWJ of T + 1"}


def js_readings(terms: pd.DataFrame) -> pd.DataFrame:
    """JS and ReJS rows of a history three times, ``reading`` saying how ``mi`` was read.

    "raw" is the value of the JS bound, E_P[-softplus(-T)] - E_Q[softplus(T)], never above 0 and
    no estimate of MI; "nwj" is NWJ of the same critic, as Table 1 has it, low by 1/e; "shifted"
    is NWJ of T + 1, unbiased at the optimum.
    """
    js = terms[terms["loss"].isin(["js", "rejs"])]
    joint, log_partition = js["joint"], js["log_partition"]
    values = {
        "raw": js["joint_term"] - js["product_term"],
        "nwj": joint - np.exp(log_partition - 1),
        "shifted": joint + 1 - np.exp(log_partition),
    }
    parts = [js.assign(mi=mi, reading=READINGS[key]) for key, mi in values.items()]
    return pd.concat(parts, ignore_index=True)


def oracle(task: StaircaseTask, members: Sequence[Member], device: str = "cpu") -> History:
    """What each member's loss says of the *exact* critic, on the batches it would train on.

    The density ratio is known in closed form; each bound is fed its own optimum (log dP/dQ, or
    that + 1 for NWJ).  What is left is the bound's own bias and variance at this batch size.
    """
    where = torch.device(device)
    loss = stack([m.make_loss() for m in members], where)
    record = task.recorder(members, where)
    rows = []
    with torch.no_grad():
        for block in task.batches(members, task.steps, where):
            for batch in block:
                scores = task.exact(batch, members)
                seen = record(scores, loss(scores))
                rows.append(torch.stack(list(seen.values()), -1).cpu())
    values = torch.stack(rows).numpy()
    return History(tidy(members, np.arange(task.steps), values, list(seen)), pd.DataFrame())


def cached_oracle(name: str, task: StaircaseTask, members: Sequence[Member]) -> History:
    """:func:`oracle`, remembered, in one process per core; the members' order is theirs."""
    seeds = sorted({m.seed for m in members})
    parts = [[m for m in members if m.seed == seed] for seed in seeds]
    found = dict(unordered(_remembered, [(i, name, task, p) for i, p in enumerate(parts)]))
    return History(pd.concat([found[i] for i in range(len(parts))]), pd.DataFrame())


def _remembered(
    number: int, name: str, task: StaircaseTask, members: Sequence[Member]
) -> tuple[int, pd.DataFrame]:
    config = {"task": vars(task), "members": [member_config(m) for m in members]}

    def compute() -> dict[str, pd.DataFrame]:
        return {"terms": oracle(task, members).terms}

    return number, cached(name, config, __name__, compute)["terms"]


def errors(terms: pd.DataFrame, task: StaircaseTask, by: Sequence[str]) -> pd.DataFrame:
    """Bias, SD and RMSE of the estimate on each level, per run: rows (*by, seed, true_mi), nats.

    Taken over the steps of the last half of a level.  A run that diverged has RMSE inf and no
    bias or SD on the levels it did not live through.
    """
    late = terms[terms["step"] % task.each >= task.each // 2]
    late = late.assign(true_mi=task.true_mi(late["step"]))
    late["error"] = late["mi"] - late["true_mi"]
    grouped = late.groupby([*by, "seed", "true_mi"], sort=False)["error"]
    table = pd.DataFrame({"bias": grouped.mean(), "sd": grouped.std(ddof=0)})
    whole = grouped.count() == grouped.size()
    table = table.where(whole)
    table["rmse"] = np.hypot(table["bias"], table["sd"]).where(whole, np.inf)
    return table.reset_index()


def lost(terms: pd.DataFrame) -> pd.DataFrame:
    """The members that diverged, with the step and the term."""
    found = divergence(terms)
    return found[found["step"].notna()].drop(columns="member")


def smoothed(terms: pd.DataFrame, span: int) -> pd.DataFrame:
    """One run's estimate with its exponential moving average (the paper's curve, span 200)."""
    return terms.assign(
        ema=terms.groupby("member")["mi"].transform(lambda x: x.ewm(span=span).mean())
    )


def level_summary(table: pd.DataFrame, by: str, quantity: str) -> pd.DataFrame:
    """Mean over seeds of bias, SD or RMSE: a row per ``by``, a column per true MI."""
    wide = table.pivot_table(index=by, columns="true_mi", values=quantity, sort=False)
    return wide.rename(index=lambda name: _printed(name)).rename_axis(columns="true MI (nats)")


def _printed(name: str) -> str:
    try:
        split_name(name)
    except ValueError:
        return name
    return title(name)


def clipped_cap(task: StaircaseTask, name: str, tau: float, samples: int = 100_000) -> pd.Series:
    """The most that NWJ or TUBA with T clipped to [-tau, tau] can read at each level, nats.

    The objective is concave in every cell, so the best clipped critic is the clipped optimum;
    E_Q[f(r)] = E_P[f(r) / r], so both terms are means over joint pairs.
    """
    stream = generator(0, "clipped cap")
    shift = optimal_shift(name)
    caps = {}
    for mi in task.levels:
        rho = torch.tensor([task.data.rho(mi)])
        x, y = task.data.sample(stream, rho, samples)
        ratio = task.data.log_ratio_of_pairs(x[0], y[0], rho).double()
        t = (ratio + shift).clamp(-tau, tau)
        caps[mi] = (t.mean() - (t - shift - ratio).exp().mean() + 1 - shift).item()
    return pd.Series(caps)


def differences(table: pd.DataFrame, quantity: str) -> dict[str, pd.Series]:
    """Original minus regularised of a quantity, by family: a value per seed, mean over levels."""
    by_seed = table.groupby(["loss", "seed"])[quantity].mean()
    return {
        family: pd.Series(
            difference(by_seed[family], by_seed["re" + family]), by_seed[family].index
        )
        for family in FAMILIES
    }


def judge(
    ledger: Ledger,
    dataset: str,
    errors_of: Mapping[str, pd.DataFrame],
    terms: pd.DataFrame,
    batch: int,
) -> None:
    """Judge every claim of notebook 6 from its tables of errors and the history of the twelve.

    ``errors_of``: "learned" and "oracle" (the twelve), "js" (with ``reading``), "extra" (with
    ``name``) and "bent" (the transformed task), each as :func:`errors` gives it.
    """
    learned, exact, bent = (errors_of[key] for key in ("learned", "oracle", "bent"))
    top = learned["true_mi"].max()
    at_top = learned[learned["true_mi"] == top].set_index(["loss", "seed"])
    exact_top = exact[exact["true_mi"] == top].set_index(["loss", "seed"])

    def say(key: str, estimate: Estimate) -> None:
        ledger.judge(f"fig7.{key}@{dataset}", estimate)

    gains, bent_gains = differences(learned, "rmse"), differences(bent, "rmse")
    for family in FAMILIES:
        say(f"{family}.rmse", interval(gains[family]))
        if family != "infonce":
            ratio = np.log(at_top.loc[family]["sd"] / at_top.loc["re" + family]["sd"])
            say(f"{family}.sd-at-the-top", interval(ratio.fillna(np.inf)))
        if family not in ("infonce", "js"):
            say(f"cubic.{family}", interval(bent_gains[family]))
    say("mine.rmse-at-the-top", median_interval(at_top.loc["mine"]["rmse"]))
    reached = (at_top.loc["infonce"]["bias"] + top) / math.log(batch)
    say("infonce.saturates", interval(reached))
    readings = errors_of["js"]
    raw = js_readings(terms[terms["loss"] == "js"]).query("reading == @READINGS['raw']")
    say("js.raw-curve-is-negative", interval(raw.groupby("seed")["mi"].max()))
    shifted = readings[readings["reading"] == READINGS["shifted"]]
    mean = shifted.groupby(["loss", "seed"])["rmse"].mean()
    say("js.same-reading", interval(difference(mean["js"], mean["rejs"])))
    say("nwj.failure-is-the-bounds", median_interval(exact_top.loc["nwj"]["rmse"]))
    gap = at_top.loc["remine"]["bias"] - exact_top.loc["remine"]["bias"]
    say("remine.gap-is-the-trainings", interval(gap))
    extra = errors_of["extra"].groupby(["name", "seed"])["rmse"].mean()["NWJ, clipped"]
    twin = learned.groupby(["loss", "seed"])["rmse"].mean()["renwj"]
    say("clip-alone.nwj", interval((extra - twin).dropna()))
