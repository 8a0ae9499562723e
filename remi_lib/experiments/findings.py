"""What the replication taught: for each finding the paper's value, the predicted, the measured.

Measurements are read back from the artifacts of the other notebooks, never typed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import stats

from remi_lib.critics import ConcatCritic, ResNet18, StackedConvNet
from remi_lib.experiments import published, theorems
from remi_lib.experiments.image_results import consistent_target
from remi_lib.experiments.lambda_sweep import family_of, outcome_grid
from remi_lib.experiments.plots import colour, name_of, panels, reference_x
from remi_lib.experiments.runs import run
from remi_lib.images import load_images
from remi_lib.intervals import interval
from remi_lib.losses import FAMILIES, Variant, make_loss, title
from remi_lib.optimum import contrastive_law, one_hot_law, optimum, supervised_law
from remi_lib.paths import figures_dir
from remi_lib.replication.claims import DATASETS
from remi_lib.replication.store import cached
from remi_lib.streams import generator
from remi_lib.tasks import Member, OneHotTask, StaircaseTask, grid
from remi_lib.training import train

CLASSES = {"cifar10": 10, "cifar100": 100}
BATCHES = {"cifar10": 10, "cifar100": 100}
IMAGES = 50_000  # in the training set of each CIFAR


def measured(
    profile: str, artifact: str, needs: str, read: Callable[..., object], *arguments: object
) -> str:
    """``read(artifact's CSV, *arguments)`` as text; what it needs if the CSV is not there."""
    path = figures_dir(profile) / f"{artifact}.csv"
    if not path.exists():
        return f"not run (needs notebook {needs})"
    value = read(pd.read_csv(path), *arguments)
    return value if isinstance(value, str) else f"{value:.3f}"


def _cell(frame: pd.DataFrame, benchmark: str, loss: str, column: str = "mi") -> str:
    """A quantity of one cell of Table 2 with its interval over seeds."""
    own = frame[(frame["benchmark"] == benchmark) & (frame["loss"] == loss)]
    values = own[column].replace([np.inf, -np.inf], np.nan).dropna()
    return str(interval(values)) if len(values) > 1 else "diverged or frozen"


def _paper(benchmark: str, dataset: str, loss: str, column: str = "mi") -> float:
    table = published.table2_long().set_index(["dataset", "benchmark", "loss"])
    return float(table.loc[(dataset, benchmark, loss), column])


def js_low_by_one_over_e(profile: str) -> pd.DataFrame:
    """JS read by NWJ is low by exactly 1/e at its optimum."""
    rows = {}
    for name, classes in CLASSES.items():
        found = optimum(make_loss("js"), supervised_law(classes))
        rows[f"SLB JS, {name}"] = (
            f"{_paper('slb', name, 'js'):.3f}",
            f"{found.mi:.3f} (log {classes} - 1/e = {math.log(classes) - 1 / math.e:.3f})",
            "not run at the paper's size (needs a GPU)",
        )
    ours = measured(profile, "table2_runs", "04", _cell, "slb", "js")
    rows["SLB JS, digits"] = ("-", f"{optimum(make_loss('js'), supervised_law(10)).mi:.3f}", ours)
    return _table(rows)


def rejs_targets(profile: str) -> pd.DataFrame:
    """Where ReJS's reading goes for each target of its penalty, lambda as in notebook 4."""
    rows = {}
    for name, target in (("0", 0.0), ("1 (authors' benchmarks)", 1.0), ("self-consistent", None)):
        value = consistent_target("digits", "slb", 10) if target is None else target

        loss = make_loss("rejs", 0.01, value)
        predicted = optimum(loss, supervised_law(10))
        strong = optimum(make_loss("rejs", 0.1, value), supervised_law(10))
        rows[f"target {name}"] = (
            f"{_paper('slb', 'cifar10', 'rejs'):.3f} (λ and target not said)",
            f"{predicted.mi:.3f} at λ = 0.01, {strong.mi:.3f} at λ = 0.1",
            measured(profile, "table2_rejs", "04", _at_target, value),
        )
    return _table(rows)


def _at_target(frame: pd.DataFrame, target: float) -> str:
    own = frame[(frame["benchmark"] == "slb") & np.isclose(frame["target"], target)]
    return str(interval(own["mi"]))


def renwj_runs(seeds: int, steps: int, batch: int, lr: float, weight: float) -> pd.DataFrame:
    """One-hot ReNWJ with the paper's anchor and the authors': means of the last 500 steps."""
    common = {"loss": "renwj", "seed": range(seeds), "batch": batch, "weight": weight}
    members = [m for variant in ("paper", "official") for m in grid(**common, variant=variant)]
    probes = run("findings-renwj", OneHotTask(), members, steps, lr=lr).probes
    late = probes[probes["step"] >= steps - 500]
    return late.groupby(["variant", "seed"])[["exact_mi", "log_partition"]].mean()


def renwj_anchor(late: pd.DataFrame, weight: float) -> pd.DataFrame:
    """:func:`renwj_runs` beside the optimum of each objective."""
    rows = {}
    variants: dict[Variant, str] = {"paper": "log E_Q[e^(T-1)]", "official": "log E_Q[e^T]"}
    for variant, equation in variants.items():
        found = optimum(make_loss("renwj", weight, variant=variant), one_hot_law(16))
        mi, second = late.loc[variant]["exact_mi"], np.exp(late.loc[variant]["log_partition"] - 1)
        rows[f"penalty on {equation}: MI"] = ("-", f"{found.mi:.3f}", str(interval(mi)))
        own = ("-", f"{found.product_term:.3f}", str(interval(second)))
        rows[f"penalty on {equation}: E_Q[e^(T-1)]"] = own
    return _table(rows)


def plotting_slip(profile: str) -> pd.DataFrame:
    """What the authors' script draws under the label E_Q[e^(T-1)] in Figs 1, 3 and 5."""

    def late(frame: pd.DataFrame, drawn: bool) -> str:
        own = frame[(frame["loss"] == "nwj") & (frame["step"] >= frame["step"].max() - 500)]
        second = np.exp(own["log_second"])
        values = second * math.e - 1 if drawn else second
        return str(interval(values.groupby(own["seed"]).mean()))

    labelled, drawn = (measured(profile, "fig1_seeds", "01", late, x) for x in (False, True))
    return _table(
        {
            "labelled: E_Q[e^(T-1)]": ("-", "1.000", labelled),
            "drawn: E_Q[e^T] - 1": ("-", f"{math.e - 1:.3f}", drawn),
        }
    )


def js_panel(profile: str) -> pd.DataFrame:
    """The JS panel of Fig 7 compares a raw JS value with an NWJ estimate."""

    def top(frame: pd.DataFrame, loss: str, reading: str) -> str:
        own = frame[(frame["loss"] == loss) & (frame["reading"] == reading)]
        own = own[own["true_mi"] == own["true_mi"].max()]
        return str(interval(own["bias"] + own["true_mi"]))

    rows = {}
    for name, loss, reading in (
        ("as drawn, original: raw JS", "js", "raw JS"),
        ("as drawn, regularised: NWJ of T", "rejs", "NWJ of T"),
        ("alike: JS, NWJ of T + 1", "js", "NWJ of T + 1"),
        ("alike: ReJS, NWJ of T + 1", "rejs", "NWJ of T + 1"),
    ):
        predicted = "below 0" if reading == "raw JS" else "at most 10"
        read = measured(profile, "fig7_js", "06", top, loss, reading)
        rows[f"{name}, at 10 nats"] = ("-", predicted, read)
    return _table(rows)


@torch.no_grad()
def initial_scores(widths: Sequence[int], seeds: int) -> pd.DataFrame:
    """CLB scores of untrained networks on a batch: what e^T would have to hold.

    ResNet-18 sees random images: CIFAR is not at hand.  float32 overflows above log(3.4e38) = 88.7.
    """
    digits = load_images("digits")
    batch = digits.normalized(digits.train_x[:10])
    rows = []
    for width in widths:
        g = StackedConvNet(range(seeds), 8, 1, width)(batch)
        rows.append((f"digits network, width {width}", g))
    noise = torch.rand(10, 3, 224, 224, generator=generator(0, "random images")) * 2 - 1
    rows.append(("ResNet-18, random images", ResNet18([0])(noise)))
    table = []
    for name, g in rows:
        t = (g @ g.mT)[:, ~torch.eye(g.shape[1], dtype=torch.bool)]
        over = (t > math.log(torch.finfo(torch.float32).max)).float().mean().item()
        clipped = (t > 10).float().mean().item()
        table.append((name, t.mean().item(), t.max().item(), over, clipped))
    columns = ["network", "mean T", "largest T", "share with e^T = inf", "share above tau = 10"]
    return pd.DataFrame(table, columns=columns).set_index("network")


def non_negative_optima(profile: str) -> pd.DataFrame:
    """Table 2's CLB column, twins where originals fail, against a non-negative critic's optimum."""
    settings = {name: ([IMAGES // k] * k, BATCHES[name]) for name, k in CLASSES.items()}

    def compute() -> dict[str, pd.DataFrame]:
        laws = {name: contrastive_law(*setting) for name, setting in settings.items()}
        found = [
            (name, family, optimum(make_loss(family), law, nonnegative=True).mi)
            for name, law in laws.items()
            for family in FAMILIES
        ]
        return {"optima": pd.DataFrame(found, columns=["dataset", "loss", "mi"])}

    optima = cached("findings-optima", settings, "remi_lib.optimum", compute)["optima"]
    rows = []
    for name, family, predicted in optima.itertuples(index=False):
        loss = "re" + family if family in ("smile", "nwj", "tuba") else family
        ours = "not run (needs CIFAR-100)"
        if name == "cifar10":
            ours = measured(profile, "table2_runs", "04", _cell, "clb", loss)
        rows.append((name, loss, _paper("clb", name, loss), predicted, ours))
    columns = ["dataset", "loss", "paper", "predicted", "measured (digits)"]
    return pd.DataFrame(rows, columns=columns)


def slb_is_a_training_fit(profile: str) -> pd.DataFrame:
    """SLB's MI is log K minus a training loss; the same reading of held-out images."""
    rows = {}
    for family in FAMILIES:
        train_mi, test_mi = (
            measured(profile, "table2_runs", "04", _cell, "slb", family, column)
            for column in ("mi", "test_mi")
        )
        rows[title(family)] = (f"{_paper('slb', 'cifar10', family):.3f}", train_mi, test_mi)
    headings = ["paper, training (CIFAR-10)", "ours, training", "ours, held out"]
    return _table(rows).set_axis(headings, axis=1)


def batch_law(profile: str) -> pd.DataFrame:
    """The spread of a perfect critic's per-batch DV in CLB, log(B(B-1)/J), and Table 2's "±"."""
    rows = {}
    for name, k in CLASSES.items():
        batch = BATCHES[name]
        law = theorems.batch_reading(theorems.batch_law([IMAGES // k] * k, batch))
        column = f"{_paper('clb', name, 'mine', 'mi_ci'):.3f}"
        scatter, half = (_spread(profile, name, what) for what in ("mi_sd", "seeds"))
        rows[f"SD over batches, {name}"] = (column, f"{law.sd:.3f}", scatter)
        rows[f"95% half width over 5 seeds, {name}"] = (column, "-", half)
        rows[f"batches without a joint pair, {name}"] = ("-", f"{law.empty:.5f}", "-")
    return _table(rows).rename(
        columns={"paper": "paper's ±", "measured": "measured (digits, MINE)"}
    )


def _spread(profile: str, name: str, what: str) -> str:
    if name != "cifar10":
        return "not run (needs CIFAR-100)"

    def read(frame: pd.DataFrame) -> float:
        own = frame[(frame["benchmark"] == "clb") & (frame["loss"] == "mine")]
        if what == "mi_sd":
            return float(own["mi_sd"].mean())
        # What that spread makes of the paper's five seeds, however many ran here.
        return float(stats.t.ppf(0.975, 4) * own["mi"].std() / math.sqrt(5))

    return measured(profile, "table2_runs", "04", read)


def batch_norm(profile: str) -> pd.DataFrame:
    """Accuracy with batch norm in evaluation mode, and in training mode as the authors have it."""
    rows = {}
    for benchmark in ("slb", "clb"):
        rows[benchmark.upper()] = [
            measured(profile, "table2_runs", "04", _mean, benchmark, column)
            for column in ("accuracy", "accuracy_batch_norm")
        ]
    headings = ["running statistics (ours)", "batch statistics (as coded)"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=headings)


def _mean(frame: pd.DataFrame, benchmark: str, column: str) -> str:
    own = frame[(frame["benchmark"] == benchmark) & frame["diverged_step"].isna()]
    own = own[~own["frozen"]]
    return str(interval(own.groupby("seed")[column].mean()))


def rounding_runs(steps: int, seeds: int, width: int, batch: int) -> pd.DataFrame:
    """MINE alone and beside another member, whose sums are in another order; gaps in nats."""
    task = StaircaseTask((1.0,), steps, 5, width, 0.1)
    rows = []
    for optimizer, lr in (("adam", 2e-3), ("sgd", 2e-2)):
        for seed in range(seeds):
            members = [Member("mine", seed, batch), Member("nwj", seed, batch)]
            both = [
                train(task, own, steps, lr, optimizer, device="cpu")
                for own in (members[:1], members)
            ]
            first = [t.history.terms[t.history.terms["member"] == 0] for t in both]
            last = [h[["joint_term", "mi"]].tail(50).mean() for h in first]
            biases = [_output_bias(t.critic) for t in both]
            gap = (last[0] - last[1]).abs()
            rows.append(
                {
                    "optimizer": optimizer,
                    "seed": seed,
                    "output bias": abs(biases[0]),
                    "gap of the bias": abs(biases[0] - biases[1]),
                    "gap of E_P[T]": gap["joint_term"],
                    "gap of the MI estimate": gap["mi"],
                }
            )
    return pd.DataFrame(rows)


def rounding_becomes_drift(runs: pd.DataFrame) -> pd.DataFrame:
    """Means of :func:`rounding_runs` over seeds.

    A constant in T has no gradient but rounding error; Adam divides that by its own size and takes
    full steps.
    """
    return runs.drop(columns="seed").groupby("optimizer", sort=False).mean()


def _output_bias(critic: torch.nn.Module) -> float:
    assert isinstance(critic, ConcatCritic)
    return critic.biases[-1][0].item()


def clipped_caps() -> pd.DataFrame:
    """What NWJ and TUBA clipped to [-10, 10] can read at Fig 7's levels, at the paper's size."""
    from remi_lib.experiments.gaussian_staircase import clipped_cap

    task = StaircaseTask()
    columns = {f"Re{name.upper()}": clipped_cap(task, name, 10.0) for name in ("nwj", "tuba")}
    return pd.DataFrame(columns).T.rename_axis("true MI (nats)", axis=1)


def no_joint_pair(batches: Sequence[int]) -> pd.DataFrame:
    """One-hot: the probability of a product batch without a joint pair, (1 - 1/16)^B."""
    stream = generator(0, "no joint pair")
    rows = {}
    for batch in batches:
        drawn = torch.randint(16, (2, 20_000, batch), generator=stream)
        seen = (drawn[0] != drawn[1]).all(1).double().mean().item()
        rows[f"batch {batch}"] = ("-", f"{(1 - 1 / 16) ** batch:.4f}", f"{seen:.4f}")
    return _table(rows)


def _table(rows: Mapping[str, tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=["paper", "predicted", "measured"]).T


def ablation_grid(profile: str, name: str) -> pd.DataFrame:
    """One of notebook 5's two controls, as it prints it."""
    path = figures_dir(profile) / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame({"": ["not run (needs notebook 05)"]})
    table = pd.read_csv(path)
    if name == "fig6_ablation":  # a column per family; the setting says what is penalised
        table["loss"] = family_of(table)
    return outcome_grid(table)


def stop_figure(table: pd.DataFrame, entropies: Mapping[str, float]) -> Figure:
    """Published MI (diamonds, with its ±) beside each loss's optimum, a panel per data set."""
    figure, axes = panels(len(entropies), height=2.4, sharey=True)
    for ax, (name, truth) in zip(axes, entropies.items(), strict=True):
        block = table[table["dataset"] == name].reset_index(drop=True)
        for i, row in block.iterrows():
            ax.plot([row["predicted"], row["paper"]], [i, i], color="0.75", lw=1, zorder=1)
        ax.scatter(
            block["predicted"], block.index, marker="|", s=140, color="black", label="optimum"
        )
        hues = [colour(loss) for loss in block["loss"]]
        around = [_paper("clb", str(name), loss, "mi_ci") for loss in block["loss"]]
        ax.errorbar(block["paper"], block.index, xerr=around, ls="none", ecolor="0.4", zorder=1)
        ax.scatter(block["paper"], block.index, marker="D", s=30, color=hues, label="published")
        reference_x(ax, truth, "H(Y)")
        ax.set(xlabel="MI (nats)", title=DATASETS[name], ylim=(len(block) - 0.5, -0.5))
        ax.set_yticks(block.index, name_of(block["loss"]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
