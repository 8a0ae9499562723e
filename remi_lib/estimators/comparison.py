"""What the defaults of estimate_mi rest on, and how it compares with other estimators.

python -m remi_lib.estimators.comparison choose    losses, weights, margins: the development set
python -m remi_lib.estimators.comparison compare [--minutes M]    estimate_mi and public packages

The two sets share families, and one distribution, the dense 3x3 normal.  Results are CSV files
(and a figure) under figures/cpu/estimators, and the page's table; finished parts come from the
cache.  After ``--minutes`` the comparison stops, and its tables say what they hold.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Mapping
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remi_lib import intervals
from remi_lib.estimators import trials
from remi_lib.estimators.distributions import COMPARED, DEVELOPMENT, Distribution
from remi_lib.losses import FAMILIES, title
from remi_lib.progress import progress
from remi_lib.replication.cells import one_thread
from remi_lib.replication.scoreboard import markdown_table, write_block
from remi_lib.replication.store import cached, publish
from remi_lib.replication.workers import unordered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = (0.01, 1.0)  # beside the default, 0.1
# The development runs are smaller than the defaults, so that a table of losses is a coffee break.
CHOICE = {"n": 1000, "seeds": 2}
# Networks alone: what is compared are losses, and the normal beside them would hide them.
SMALL = {"base": False, "folds": 3, "steps": 400}
COMPARISON = {"n": 5000, "seeds": 10}
# Of methods that take the longest: with which sample of the others their first one comes, less one.
LATER = {"bmi MINE": 6, "bmi InfoNCE": 9}
CLOSE = 0.02  # nats; one sample hardly shows so small a difference
FOLDER = "estimators"


def candidates() -> Iterator[tuple[str, dict[str, Any]]]:
    """The twelve losses at the default weight; clipped ones without clip; then ReMINE's options."""
    for family in FAMILIES:
        yield title("re" + family), {"loss": "re" + family}
        yield title(family), {"loss": family}
    for weight in WEIGHTS:
        yield f"ReMINE, λ={weight:g}", {"loss": "remine", "weight": weight}
    for margins in ("standard", "ranks", "raw"):
        yield f"ReMINE, margins {margins}", {"loss": "remine", "margins": margins}
    for family in ("nwj", "tuba"):
        yield f"{title('re' + family)}, no clip", {"loss": "re" + family, "tau": float("inf")}


def choose(workers: int = 2) -> pd.DataFrame:
    """A row per candidate, best first: its error over the development set."""
    everything = list(candidates())
    with progress(len(everything), "choose", unit="candidate") as bar:
        for _ in unordered(_candidate, everything, workers):
            bar.update()
    runs = pd.concat([_candidate(*one) for one in everything], ignore_index=True)
    publish(f"{FOLDER}/choice_runs", "cpu", runs)
    table = rank(runs, reference="ReMINE")
    publish(f"{FOLDER}/choice", "cpu", table)
    return table


def _candidate(name: str, options: Mapping[str, Any]) -> pd.DataFrame:
    one_thread()
    config = {"options": {k: str(v) for k, v in options.items()}, **CHOICE, "small": SMALL}

    def compute() -> dict[str, pd.DataFrame]:
        arguments = {**SMALL, **options}
        seeds = range(CHOICE["seeds"])
        rows = [
            trials.trial(d, "estimate_mi", CHOICE["n"], seed, **arguments)
            for d in DEVELOPMENT
            for seed in seeds
        ]
        return {"runs": pd.DataFrame(rows)}

    runs = cached(f"choice {name}", config, trials.__name__, compute)["runs"]
    return runs.assign(candidate=name)


def rank(runs: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Mean |error| in nats over distributions, with its 95% interval; ``difference``: paired."""
    runs = runs.assign(error=(runs["value"] - runs["mi"]).abs())
    own = runs[runs["candidate"] == reference].groupby("distribution")["error"].mean()
    rows = []
    for name, group in runs.groupby("candidate", sort=False):
        by_name = group.groupby("distribution")["error"].mean()
        lost = int(group["error"].isna().sum())
        finite = lost == 0
        mean = intervals.mean_interval(by_name) if finite else (np.nan,) * 3
        apart = intervals.mean_interval(by_name - own) if finite else (np.nan,) * 3
        rows.append(
            {
                "candidate": name,
                **dict(zip(("error", "low", "high"), mean, strict=True)),
                **dict(
                    zip(("difference", "difference_low", "difference_high"), apart, strict=True)
                ),
                "rmse": float(np.sqrt((group["error"] ** 2).mean())),
                "worst": by_name.idxmax(),
                "covered": float(group["mi"].between(group["low"], group["high"]).mean()),
                "failed": lost,
                "cpu_seconds": group["cpu_seconds"].median(),
            }
        )
    return pd.DataFrame(rows).sort_values("error", ignore_index=True)


def compare(minutes: float = math.inf) -> pd.DataFrame:
    """A row per distribution: how the estimators stand; one thread, one after the other.

    After ``minutes`` no further sample is begun: every distribution has as many of a method.
    """
    one_thread()
    until = time.monotonic() + 60 * minutes
    seeds = range(COMPARISON["seeds"])
    when = lambda turn: turn[0] + LATER.get(turn[1], 0)  # noqa: E731
    turns = sorted(product(seeds, trials.METHODS), key=when)
    parts: list[pd.DataFrame] = []
    with progress(len(turns) * len(COMPARED), "compare", unit="run") as bar:
        for _, together in groupby(turns, when):
            if parts and time.monotonic() > until:
                break
            for (seed, method), distribution in product(together, COMPARED):
                parts.append(_run(distribution, method, seed))
                bar.update()
    return present(pd.concat(parts, ignore_index=True))


def present(runs: pd.DataFrame) -> pd.DataFrame:
    """Publish the runs, their tables and figure, and the page's table; returns the standing."""
    publish(f"{FOLDER}/comparison_runs", "cpu", runs)
    summary = summarize(runs)
    publish(f"{FOLDER}/comparison", "cpu", summary, picture(summary))
    standings = standing(runs)
    publish(f"{FOLDER}/standing", "cpu", standings)
    write_block("estimators", markdown(summary, standings))
    return standings


def _run(distribution: Distribution, method: str, seed: int) -> pd.DataFrame:
    n = COMPARISON["n"]
    config = {"method": method, "n": n, "seed": seed, "versions": trials.versions(method)}
    config["distribution"] = distribution.name

    def compute() -> dict[str, pd.DataFrame]:
        return {"runs": pd.DataFrame([trials.trial(distribution, method, n, seed)])}

    # What another package says does not depend on how this one estimates.
    module = trials.__name__ if method == "estimate_mi" else Distribution.__module__
    return cached(f"comparison {method} {seed}", config, module, compute)["runs"]


KEYS = ["distribution", "method"]
INFINITE = "infinite on"  # so many of the samples


def _mean(samples: NDArray) -> intervals.Estimate:
    """The mean with its 95% interval, which one sample does not have."""
    if len(samples) < 2:
        return intervals.Estimate(float(samples[0]), np.nan, np.nan)
    return intervals.mean_interval(samples)


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """Per distribution and method: the mean error with its 95% interval over samples, and more.

    ``covered``: share of runs whose own interval holds the true MI; ``held``: whose lower bound
    does not exceed it; ``note``: why there is no number.
    """
    rows = []
    for (distribution, method), own in runs.groupby(KEYS, sort=False):
        error = (own["value"] - own["mi"]).to_numpy()
        fine, lost = bool(np.isfinite(error).all()), int(np.isinf(error).sum())
        mean = _mean(error) if fine else (np.nan,) * 3
        inside = own["mi"].between(own["low"], own["high"]).mean()
        held = (own["lower"] <= own["mi"]).mean()
        rows.append(
            {
                "distribution": distribution,
                "dims": f"{own['dim_x'].iloc[0]}x{own['dim_y'].iloc[0]}",
                "mi": own["mi"].iloc[0],
                "method": method,
                "samples": len(own),
                **dict(zip(("error", "low", "high"), mean, strict=True)),
                "absolute": float(np.abs(error).mean()) if fine else np.nan,
                "covered": inside if own["low"].notna().any() else np.nan,
                "width": (own["high"] - own["low"]).mean(),
                "held": held if own["lower"].notna().any() else np.nan,
                "cpu_seconds": own["cpu_seconds"].median() if fine else np.nan,
                "note": f"{INFINITE} {lost} of {len(own)}"
                if lost
                else own["note"].fillna("").iloc[0],
            }
        )
    return pd.DataFrame(rows)


def standing(runs: pd.DataFrame) -> pd.DataFrame:
    """Per distribution, estimate_mi against the best of the others, paired by sample.

    The best has the smallest mean |error| on the samples that it shares with estimate_mi, which
    favours the others, all the more as an infinite estimate counts as none; one sample is no
    comparison where another has more, and a distribution of which none has a number is left out.
    ``verdict``:
    "ahead" or "behind" if the difference's interval excludes 0, else "level"; none from one sample.
    """
    rows = []
    for distribution, group in runs.groupby("distribution", sort=False):
        error = group.assign(error=(group["value"] - group["mi"]).abs().replace(np.inf, np.nan))
        wide = error.pivot_table(index="seed", columns="method", values="error")
        others = wide.drop(columns="estimate_mi").dropna(axis=1, how="all")
        several = others.count() > 1
        others = others.loc[:, several] if several.any() else others
        if others.empty:
            continue
        rival = str(others.mean().idxmin())
        shared = wide.loc[others[rival].notna()]
        apart = _mean((shared["estimate_mi"] - shared[rival]).to_numpy())
        verdict = "ahead" if apart.high < 0 else "behind" if apart.low > 0 else "level"
        rows.append(
            {
                "distribution": distribution,
                "mi": group["mi"].iloc[0],
                "rival": rival,
                "samples": len(shared),
                "ours": shared["estimate_mi"].mean(),
                "theirs": shared[rival].mean(),
                **dict(zip(("difference", "low", "high"), apart, strict=True)),
                "verdict": verdict if len(shared) > 1 else "–",
            }
        )
    return pd.DataFrame(rows)


def markdown(summary: pd.DataFrame, standings: pd.DataFrame) -> str:
    """The page's table: mean error of each method that ran, and who is ahead; and what it says."""
    ran = summary.groupby("method", sort=False)["error"].apply(lambda e: e.notna().any())
    methods = list(ran.index[ran])
    verdict = standings.set_index("distribution")["verdict"]
    table = []
    for name, own in summary.groupby("distribution", sort=False):
        rows = own.set_index("method")
        cells = [_error_text(rows.loc[m]) if m in rows.index else "–" for m in methods]
        table.append([name, f"{rows['mi'].iloc[0]:.3f}", *cells, verdict[name]])
    time = summary.groupby("method")["cpu_seconds"].median()
    table.append(["*median CPU time*", "", *(f"{time[m]:.2g} s" for m in methods), ""])
    headings = ["distribution", "MI", *methods, "estimate_mi is"]
    return "\n\n".join([*_said(summary, standings), markdown_table(headings, table)])


def _said(summary: pd.DataFrame, standings: pd.DataFrame) -> Iterator[str]:
    """What the table shows, in paragraphs: errors, where it loses, its interval, its bound."""
    ours = summary[summary["method"] == "estimate_mi"].set_index("distribution")
    counts = standings["verdict"].value_counts()
    ran = summary.dropna(subset="error")
    samples = ran.groupby("method", sort=False)["samples"].max()
    planned = COMPARISON["seeds"]
    resolved = (
        f" Beyond the interval of the paired difference it is ahead of the best of the others on "
        f"{counts.get('ahead', 0)} distributions, level on {counts.get('level', 0)} and behind on "
        f"{counts.get('behind', 0)}. A sample on which another one is infinite is left out for it."
        + (f" On {counts['–']} that one has a single sample." if "–" in counts else "")
    )
    close = int((standings["ours"] <= standings["theirs"] + CLOSE).sum())
    absent = sorted(set(summary["method"]) - set(samples.index))
    waiting = [name for name in trials.METHODS if name not in set(summary["method"])]
    each = ", ".join(f"{name} {count}" for name, count in samples.items())
    yield (
        f"Estimate minus true MI in nats, the mean over samples of {COMPARISON['n']} with its 95% "
        f"interval where they are several. {planned} samples of every distribution are planned; "
        f"run so far: {each}."
        + (f" Not run yet: {', '.join(waiting)}." if waiting else "")
        + (f" Not installed, and so not in the table: {', '.join(absent)}." if absent else "")
    )
    yield (
        f"The mean absolute error of `estimate_mi` is {ours['absolute'].mean():.3f} over "
        f"{len(ours)} distributions, and larger than 0.06 on "
        f"{int((ours['absolute'] > 0.06).sum())}. It is at most {CLOSE} nats above "
        f"that of the best of the others on {close}.{resolved}"
    )
    worse = standings[standings["ours"] > standings["theirs"] + CLOSE]
    named = [
        f"{row.distribution} ({row.rival}, by {row.ours - row.theirs:.2f})"
        for row in worse.itertuples()
    ]
    yield (
        f"**Where it loses:** its mean absolute error is larger by more than {CLOSE} on "
        f"{'; '.join(named) or 'none'}."
    )
    never = "; ".join(ours.index[ours["covered"] == 0])
    yield (
        f"Its interval holds the true MI in {ours['covered'].mean():.0%} of the runs, with a mean "
        f"width of {ours['width'].mean():.2f}, and never on: {never or 'none'}. Its lower bound "
        f"holds in {ours['held'].mean():.0%}."
    )


def _error_text(row: pd.Series) -> str:
    if np.isnan(row["error"]):
        return row["note"] if str(row["note"]).startswith(INFINITE) else "–"
    half = (row["high"] - row["low"]) / 2
    return f"{row['error']:+.3f}" + ("" if np.isnan(half) else f" ± {half:.3f}")


def picture(summary: pd.DataFrame) -> Figure:
    """Errors with their intervals, a row per distribution; and the time each method takes."""
    from remi_lib.experiments import plots

    plots.use_style()
    names = list(summary["distribution"].unique())
    methods = [m for m, own in summary.groupby("method", sort=False) if own["error"].notna().any()]
    height = 0.27 * len(names) + 1.5
    figure, (left, right) = plots.panels(
        2, height=height, sharey=True, gridspec_kw={"width_ratios": [3, 1]}
    )
    hues = dict(zip(methods, plots.COLOURS.values(), strict=False))
    for k, method in enumerate(methods):
        own = summary[summary["method"] == method].set_index("distribution").reindex(names)
        y = np.arange(len(names)) + 0.13 * (k - (len(methods) - 1) / 2)
        style: dict[str, Any] = {"color": hues[method], "ms": 4, "marker": "oDs^vP"[k]}
        left.hlines(y, own["low"], own["high"], color=hues[method], lw=1.2)
        left.plot(own["error"], y, ls="", label=method, **style)
        right.plot(own["cpu_seconds"], y, ls="", **style)
    plots.reference_x(left, 0)
    left.set_xscale("symlog", linthresh=0.1)
    ticks = [-10, -1, -0.1, 0, 0.1, 1, 10]
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    for i in range(0, len(names), 2):
        for ax in (left, right):
            ax.axhspan(i - 0.5, i + 0.5, color="0.95", lw=0, zorder=-1)
    mi = summary.drop_duplicates("distribution").set_index("distribution")["mi"]
    left.set_yticks(range(len(names)), [f"{n} ({mi[n]:.2f})" for n in names])
    left.set(ylim=(len(names) - 0.5, -0.5), xlabel="estimate minus true MI (nats)")
    shown = "mean and 95% interval" if summary["low"].notna().any() else "of one sample"
    left.set_title(f"error, {shown} (true MI)", loc="right")
    right.set(xscale="log", xlabel="seconds", title="CPU time")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("command", choices=["choose", "compare"])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of choose")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of compare")
    options = parser.parse_args(arguments)
    pd.set_option("display.width", 160)
    table = choose(options.workers) if options.command == "choose" else compare(options.minutes)
    print(table.round(4).to_string())


if __name__ == "__main__":
    main()
