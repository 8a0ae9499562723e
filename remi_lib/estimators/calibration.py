"""Do the p-value, the lower bound and the interval of estimate_mi keep what they say?

python -m remi_lib.estimators.calibration [size | power | coverage | rivals ...] [--minutes M]

``size``: how often the p-value is at most 0.05 on independent pairs, n = 200.  ``power``: the same
on 16 forms of dependence, beside the permutation test of distance correlation.  ``coverage``: how
often bound and interval hold the true MI, n = 500.  ``rivals``: what nearest neighbours say of the
same samples.  Results are CSV files under
figures/cpu/estimators and a page's paragraphs; finished parts come from the cache.  After
``--minutes`` a study stops, and the tables say what they hold.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from numpy.typing import ArrayLike

from remi_lib.estimators import dependence, trials
from remi_lib.estimators.comparison import FOLDER, LATER, standing
from remi_lib.estimators.dependence import DEPENDENT, NULLS
from remi_lib.estimators.distributions import COMPARED, Distribution
from remi_lib.intervals import fraction_interval, mean_interval
from remi_lib.progress import progress
from remi_lib.replication.scoreboard import markdown_table, write_block
from remi_lib.replication.store import cached, publish

LEVEL = 0.05
FEW = 5  # columns a side of the distributions that are compared at few samples, at most
PATHS = ("all, one column against one", "all, critics")
APART = 1000  # between the seeds of one case and of the next: no two cases share a sample


@dataclass(frozen=True)
class Study:
    """Cases, how often each is drawn, and what becomes of the rows.

    ``row(case, n, seed)`` is computed by ``module``, ``repetitions`` for one column against one
    and for critics; ``block`` rows are stored at a time.
    """

    cases: tuple[Distribution, ...]
    n: int
    repetitions: tuple[int, int]
    block: int
    row: Callable[[Distribution, int, int], dict[str, Any]]
    module: str
    table: Callable[[pd.DataFrame], pd.DataFrame]

    def blocks(self) -> list[tuple[int, range]]:
        """(case, its seeds) of every block: one column against one first, cases taking turns."""
        found = []
        for i, case in enumerate(self.cases):
            last = APART * i + self.repetitions[critics(case)]
            starts = range(APART * i, last, self.block)
            turns = enumerate(range(s, min(s + self.block, last)) for s in starts)
            found += [(critics(case), turn, i, seeds) for turn, seeds in turns]
        return [(i, seeds) for *_, i, seeds in sorted(found, key=lambda one: one[:3])]


def critics(case: Distribution) -> bool:
    """Whether critics read it: several columns on a side."""
    return max(case.dims) > 1


def _shares(name: str, successes: ArrayLike) -> dict[str, float]:
    found = fraction_interval(successes)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _groups(runs: pd.DataFrame, cases: Sequence[Distribution]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each distribution, and then of each path together."""
    path = runs["distribution"].map({case.name: PATHS[critics(case)] for case in cases})
    return [
        (str(name), own)
        for by in (runs["distribution"], path)
        for name, own in runs.groupby(by, sort=False)
    ]


def size(runs: pd.DataFrame) -> pd.DataFrame:
    """Per kind of independent pairs, and of each path together: the share that is rejected."""
    rows = [
        {
            "kind": name,
            "nulls": len(own),
            **_shares("rejected", own["p_value"] <= LEVEL),
            "median": own["p_value"].median(),
        }
        for name, own in _groups(runs, NULLS)
    ]
    return pd.DataFrame(rows)


def power(runs: pd.DataFrame) -> pd.DataFrame:
    """Per form of dependence: the shares that either test rejects, and their paired difference.

    ``verdict``: "ahead" or "behind" if the difference's 95% interval excludes 0, else "level".
    """
    rows = []
    for name, own in runs.groupby("distribution", sort=False):
        mine, theirs = (own[column] <= LEVEL for column in ("p_value", "distance_p"))
        apart = mean_interval(mine.astype(float) - theirs.astype(float))
        verdict = "ahead" if apart.low > 0 else "behind" if apart.high < 0 else "level"
        rows.append(
            {
                "distribution": name,
                "samples": len(own),
                **_shares("ours", mine),
                **_shares("distance", theirs),
                **dict(zip(("difference", "low", "high"), apart, strict=True)),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def coverage(runs: pd.DataFrame) -> pd.DataFrame:
    """Per task, and over each path: how often the lower bound and the interval hold, the errors.

    No two tasks share a sample, so that the interval over all runs is that of independent ones.
    """
    rows = []
    for name, own in _groups(runs, COMPARED):
        error = own["value"] - own["mi"]
        rows.append(
            {
                "distribution": name,
                "mi": own["mi"].mean(),
                "samples": len(own),
                **_shares("bound", own["lower"] <= own["mi"]),
                **_shares("interval", own["mi"].between(own["low"], own["high"])),
                "above": float((own["mi"] > own["high"]).mean()),
                "width": (own["high"] - own["low"]).mean(),
                "error": error.mean(),
                "absolute": error.abs().mean(),
            }
        )
    return pd.DataFrame(rows)


OTHERS = [m for m in trials.METHODS if m != "estimate_mi" and m not in LATER]


def beside(case: Distribution, n: int, seed: int) -> dict[str, Any]:
    """What the others that take seconds say of a sample (nats), a column each."""
    said = {method: trials.trial(case, method, n, seed)["value"] for method in OTHERS}
    return {"distribution": case.name, "samples": n, "seed": seed, "mi": case.mi, **said}


def rivals(runs: pd.DataFrame) -> pd.DataFrame:
    """Per distribution the mean absolute error of each of the others (nats)."""
    values = runs.set_index(["distribution", "samples", "seed", "mi"])
    errors = values.sub(values.index.get_level_values("mi"), axis=0).abs()
    return errors.groupby("distribution", sort=False).mean().reset_index()


def few_samples(coverage: pd.DataFrame, rivals: pd.DataFrame) -> pd.DataFrame:
    """:func:`~remi_lib.estimators.comparison.standing` on the samples of both, at most
    :data:`FEW` columns a side."""
    others = rivals.drop(columns="samples").melt(["distribution", "seed", "mi"], var_name="method")
    ours = coverage[coverage[["dim_x", "dim_y"]].max(axis=1) <= FEW]
    both = others["distribution"].isin(ours["distribution"]) & others["seed"].isin(ours["seed"])
    return standing(pd.concat([ours[others.columns], others[both]], ignore_index=True))


STUDIES: dict[str, Study] = {
    "size": Study(NULLS, 200, (400, 50), 10, dependence.ours, dependence.__name__, size),
    "power": Study(DEPENDENT, 200, (100, 50), 10, dependence.both, dependence.__name__, power),
    "coverage": Study(
        COMPARED,
        500,
        (10, 10),
        1,
        lambda case, n, seed: trials.trial(case, "estimate_mi", n, seed),
        trials.__name__,
        coverage,
    ),
    # What another package says does not depend on how this one estimates.
    "rivals": Study(COMPARED, 500, (10, 10), 10, beside, Distribution.__module__, rivals),
}


def run(name: str, minutes: float = math.inf) -> pd.DataFrame:
    """The rows of a study; once the minutes are over no further block is begun or read."""
    study, parts = STUDIES[name], list[pd.DataFrame]()
    blocks, until = study.blocks(), time.monotonic() + 60 * minutes
    with progress(len(blocks), name, unit="block") as bar:
        for i, seeds in blocks:
            if parts and time.monotonic() > until:
                break
            parts.append(_block(name, study, study.cases[i], seeds))
            bar.update()
    return pd.concat(parts, ignore_index=True)


def _block(name: str, study: Study, case: Distribution, seeds: range) -> pd.DataFrame:
    config = {"study": name, "case": case.name, "n": study.n, "seeds": [*seeds]}
    config |= {"others": OTHERS} if study.row is beside else {}
    rows = partial(study.row, case, study.n)
    label = f"{name} {case.name} {seeds.start}".replace("/", " ")
    compute = lambda: {"runs": pd.DataFrame([rows(seed) for seed in seeds])}  # noqa: E731
    return cached(label, config, study.module, compute)["runs"]


def present(runs: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Publish the rows of each study and its table, and the page's paragraphs; the tables."""
    tables = {}
    for name, rows in runs.items():
        tables[name] = STUDIES[name].table(rows)
        publish(f"{FOLDER}/{name}_runs", "cpu", rows)
        publish(f"{FOLDER}/{name}", "cpu", tables[name])
    if set(tables) == set(STUDIES):
        stand = few_samples(runs["coverage"], runs["rivals"])
        publish(f"{FOLDER}/standing_{STUDIES['rivals'].n}", "cpu", stand)
        write_block("calibration", page(tables, stand))
    return tables


def page(tables: dict[str, pd.DataFrame], stand: pd.DataFrame) -> str:
    """The block of the page: what the tables show, and :func:`few_samples`."""
    own = {name: table for name, table in tables.items() if name != "rivals"}
    return "\n\n".join([*said(**own), *said_beside(stand)])


def said_beside(stand: pd.DataFrame) -> Iterator[str]:
    """How estimate_mi stands at few samples, and a table of where it is not level."""
    counts = stand["verdict"].value_counts()
    by = ", ".join(f"{word} on {counts.get(word, 0)}" for word in ("ahead", "level", "behind"))
    yield (
        f"**Beside nearest neighbours, n = {STUDIES['rivals'].n}.** On the same samples of the "
        f"{len(stand)} distributions with at most {FEW} columns a side `estimate_mi` is {by}, by "
        "the 95% interval of the paired difference of absolute errors. The other is whichever of "
        "scikit-learn's, ennemi's and infomeasure's estimators errs less there. Mean absolute "
        f"error: {stand['ours'].mean():.3f} nats, of the other {stand['theirs'].mean():.3f}. Where "
        "it is not level:"
    )
    cells = {"distribution": "{distribution}", "MI": "{mi:.3f}", "samples": "{samples}"}
    cells |= {"estimate_mi": "{ours:.3f}", "the other": "{theirs:.3f}", "which": "{rival}"}
    cells |= {"difference": "{difference:+.3f} [{low:+.3f}, {high:+.3f}]", "is": "{verdict}"}
    yield _markdown(stand[stand["verdict"] != "level"], cells)


def said(size: pd.DataFrame, power: pd.DataFrame, coverage: pd.DataFrame) -> Iterator[str]:
    """What the tables show, a paragraph or table each."""
    yield (
        f"**p-value, independent pairs, n = {STUDIES['size'].n}.** Share of samples with p ≤ "
        f"{LEVEL}, with its exact 95% interval:"
    )
    cells = {"pairs": "{kind}", "samples": "{nulls}", "rejected": _cell("rejected", 1)}
    cells |= {"median p": "{median:.2f}"}
    yield _markdown(size, cells)
    kinds = power["verdict"].value_counts()
    counted = ", ".join(f"{word} on {kinds.get(word, 0)}" for word in ("ahead", "level", "behind"))
    even = power.loc[power["verdict"] == "level", ["ours", "distance"]]
    yield (
        f"**Power, n = {STUDIES['power'].n}.** Beside the permutation test of distance correlation "
        f"(Székely, Rizzo and Bakirov 2007; {dependence.PERMUTATIONS} permutations) on the same "
        f"samples the p-value is {counted} of {len(power)} forms of dependence, by the 95% "
        f"interval of the paired difference. Of the level ones {(even.min(axis=1) >= 0.95).sum()} "
        "are rejected by both in 95% of the samples or more, and on "
        f"{(even.max(axis=1) <= 0.15).sum()} both reject at most 15%."
    )
    cells = {"dependence": "{distribution}", "samples": "{samples}", "estimate_mi": "{ours:.0%}"}
    cells |= {"distance correlation": "{distance:.0%}"}
    cells |= {"difference": "{difference:+.2f} [{low:+.2f}, {high:+.2f}]", "is": "{verdict}"}
    yield _markdown(power, cells)
    pooled = coverage["distribution"].isin(PATHS)
    tasks = coverage[~pooled]
    wide = tasks["distribution"].isin({case.name for case in COMPARED if critics(case)})
    counts = [tasks["samples"][kind] for kind in (~wide, wide)]
    drawn = [" to ".join(dict.fromkeys((str(c.min()), str(c.max())))) for c in counts]
    yield (
        f"**Lower bound and interval, n = {STUDIES['coverage'].n}.** {len(tasks)} distributions, "
        f"{drawn[0]} samples of each with one column against one, {drawn[1]} of each that critics "
        f"read ({max(STUDIES['coverage'].repetitions)} are planned). The bound claims to hold in "
        "97.5%:"
    )
    cells = {"distributions": "{distribution}", "samples": "{samples}"}
    cells |= {"bound holds": _cell("bound", 1), "interval holds": _cell("interval", 1)}
    cells |= {"MI above it": "{above:.1%}", "mean width": "{width:.2f}"}
    cells |= {"mean absolute error": "{absolute:.3f}"}
    yield _markdown(coverage[pooled], cells)
    yield "Distributions where the bound failed once, or the interval in more than 10%:"
    cells = {"distribution": "{distribution}", "MI": "{mi:.3f}", "samples": "{samples}"}
    cells |= {"bound holds": "{bound:.0%}", "interval holds": _cell("interval")}
    cells |= {"mean width": "{width:.2f}", "mean error": "{error:+.3f}"}
    yield _markdown(tasks[(tasks["bound"] < 1) | (tasks["interval"] < 0.9)], cells)


def _cell(name: str, digits: int = 0) -> str:
    """The format of a share and its interval."""
    value, low, high = (f"{{{name}{end}:.{digits}%}}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def _markdown(table: pd.DataFrame, cells: dict[str, str]) -> str:
    """A column per cell: its heading, and the format of a row's values."""
    rows = [[cell.format(**row) for cell in cells.values()] for _, row in table.iterrows()]
    return markdown_table(list(cells), rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("study", nargs="*", default=list(STUDIES), help="all if none is named")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each study")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pd.set_option("display.width", 160)
    for name, table in present({n: run(n, options.minutes) for n in options.study}).items():
        print(name, table.round(4).to_string(), sep="\n")


if __name__ == "__main__":
    main()
