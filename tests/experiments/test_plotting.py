"""A figure shows the numbers of its table: line by line, not pixel by pixel."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from remi_lib.experiments import (
    benchmark,
    explosion,
    gaussian_staircase,
    lambda_sweep,
    out_of_distribution,
    plots,
)
from remi_lib.experiments.imagenet import figures
from remi_lib.intervals import Estimate
from remi_lib.losses import FAMILIES, LOSSES, title
from tests.conftest import crossed

ENTROPY = math.log(10)


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    """No test needs a display, none changes another's style or leaves a figure open."""
    plt.switch_backend("Agg")
    with mpl.rc_context(), pd.option_context("display.max_colwidth", 50):
        yield
    plt.close("all")


def labelled(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.lines if line.get_label()[0] != "_"}


def ys(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), dtype=float).tolist()


def xs(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), dtype=float).tolist()


def legend(owner: Axes | Figure) -> list[str]:
    found = owner.get_legend() if isinstance(owner, Axes) else owner.legends[0]
    return [text.get_text() for text in found.get_texts()]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def extent(ax: Axes, number: int = 0) -> tuple[float, float]:
    """The lowest and highest value of a filled band."""
    vertices = ax.collections[number].get_paths()[0].vertices
    return float(vertices[:, 1].min()), float(vertices[:, 1].max())


def test_a_loss_and_its_twin_share_a_hue_and_no_two_families_do():
    assert {plots.colour("re" + f) == plots.colour(f) for f in FAMILIES} == {True}
    assert len({plots.colour(f) for f in FAMILIES}) == len(FAMILIES)
    assert plots.colour("smile_js") not in plots.COLOURS.values()


def test_use_style_sets_what_a_print_needs():
    plots.use_style()
    assert mpl.rcParams["pdf.fonttype"] == 42  # letters stay letters
    assert mpl.rcParams["svg.hashsalt"] == "remi"  # and files the same from run to run
    assert not mpl.rcParams["axes.spines.top"]
    assert pd.get_option("display.max_colwidth") is None


@pytest.mark.parametrize(("count", "columns", "rows"), [(3, None, 1), (4, 2, 2), (5, 3, 2)])
def test_panels_fill_a_page_row_by_row(count, columns, rows):
    figure, axes = plots.panels(count, columns, height=2.0)
    assert isinstance(figure, Figure)
    assert axes == figure.axes
    assert len(axes) == count
    assert figure.get_size_inches().tolist() == pytest.approx([plots.WIDTH, 2.0 * rows])


def test_every_column_has_its_labels_below_also_where_the_last_row_is_not_full():
    _, axes = plots.panels(4, 3, sharex=True, sharey=True)
    for ax in axes:
        ax.set(xlabel="step", ylabel="nats")
    plots.outer_labels(axes, 3)
    assert [ax.get_xlabel() for ax in axes] == ["", "step", "step", "step"]
    assert [ax.get_ylabel() for ax in axes] == ["nats", "", "", "nats"]
    assert axes[1].xaxis.get_tick_params()["labelbottom"]


def test_lines_raw_and_with_a_running_median():
    frame = pd.DataFrame({"step": range(5), "mi": [0.0, 9.0, 1.0, 2.0, 3.0]})
    _, (raw, smooth) = plots.panels(2)
    plots.lines(raw, frame, {"mi": "MI"}, ylabel="nats")
    assert ys(labelled(raw)["MI"]) == frame["mi"].tolist()
    assert (raw.get_xlabel(), raw.get_ylabel()) == ("step", "nats")
    plots.lines(smooth, frame, {"mi": "MI"}, smooth=3)
    assert ys(smooth.lines[0]) == frame["mi"].tolist()
    # The outlier is gone from the middle; at the ends there are two values.
    assert ys(labelled(smooth)["MI"]) == [4.5, 1.0, 2.0, 2.0, 2.5]
    assert smooth.lines[0].get_alpha() < 1


def test_band_is_the_median_and_the_middle_80_percent():
    seeds = pd.DataFrame({"step": [0] * 11 + [5] * 11, "mi": [*range(11), *range(10, 21)]})
    _, (ax,) = plots.panels(1)
    plots.band(ax, seeds, "mi", "C2", "MINE", "--")
    line = labelled(ax)["MINE"]
    assert (xs(line), ys(line), line.get_linestyle()) == ([0, 5], [5, 15], "--")
    assert extent(ax) == (1, 19)


def test_reference_lines_are_where_they_are_said_to_be():
    _, (ax,) = plots.panels(1)
    plots.reference(ax, ENTROPY, "H(Y)", lw=3)
    plots.reference_x(ax, 10.0)
    across, up = ax.lines
    assert ys(across) == [ENTROPY, ENTROPY]
    assert (across.get_label(), across.get_linewidth()) == ("H(Y)", 3)
    assert xs(up) == [10.0, 10.0]


def test_terms_and_outputs():
    steps = [0, 1, 2]
    terms = pd.concat(
        pd.DataFrame(
            {"name": name, "step": steps, "joint_term": first, "product_term": 1.0, "mi": first - 1}
        )
        for name, first in (("MINE", 3.0), ("ReMINE", 4.0))
    )
    probes = pd.DataFrame({"name": ["MINE", "ReMINE"], "step": 0})
    for side, mean in (("on", [5.0, 2.0]), ("off", [-7.0, -1.0])):
        probes[f"{side}_mean"] = mean
        probes[f"{side}_min"], probes[f"{side}_max"] = (probes[f"{side}_mean"] + d for d in (-1, 1))
    figure = explosion.terms_and_outputs(terms, probes, 2.77, 2)
    above, _, below, last = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["MINE", "ReMINE", "", ""]
    assert ys(labelled(above)["MI estimate"]) == [2, 2, 2]
    assert ys(labelled(figure.axes[1])["$E_P[T]$"]) == [4, 4, 4]
    assert ys(labelled(above)["true MI"]) == [2.77, 2.77]
    assert ys(labelled(below)["on the support of $P$"]) == [5]
    assert ys(labelled(last)["off the support"]) == [-1]
    assert [extent(below, i) for i in (0, 1)] == [(4, 6), (-8, -6)]
    assert below.get_yscale() == "symlog"
    assert above.get_xlim() == (0, 2)
    assert legend(last) == ["on the support of $P$", "off the support"]
    assert "true MI" in legend(figure.axes[1])


def test_tables_of_text():
    index = pd.MultiIndex.from_product([["remine", "own"], range(11)])
    table = plots.summary({"MI": pd.Series([*range(11), *[2.0] * 11], index, dtype=float)})
    assert table.loc["ReMINE", "MI"] == "5.00 [1.00, 9.00]"
    assert table.loc["own", "MI"] == "2.00 [2.00, 2.00]"
    interval = pd.DataFrame({"a": [1.0, 0.5, 1.5]}, index=["value", "low", "high"])
    assert plots.table({"bias": interval}, "case").loc["a", "bias"] == "1.000 [0.500, 1.500]"
    shares = plots.shares({"diverged": {"NWJ": Estimate(0.5, 0.257, 0.744)}})
    assert shares.loc["NWJ", "diverged"] == "50% [26%, 74%]"
    assert plots.name_of(["mine", "reinfonce"]) == ["MINE", "ReInfoNCE"]


def test_a_printed_table_has_words_for_names_and_keeps_its_cells():
    index = pd.MultiIndex.from_tuples([("clb", "renwj"), ("slb", "own")], names=["benchmark", "x"])
    frame = pd.DataFrame({"mi": ["nwj", "a"], 0.1: [1, 2]}, index).rename_axis(columns="weight")
    table = plots.printed(frame, {"x": "which"})
    assert table.index.tolist() == [("CLB", "ReNWJ"), ("SLB", "own")]
    assert table.columns.tolist() == ["MI (nats)", 0.1]
    assert (list(table.index.names), table.columns.name) == (["benchmark", "which"], "λ")
    assert table["MI (nats)"].tolist() == ["nwj", "a"]
    assert plots.word("SLB JS, cifar10") == "SLB JS, CIFAR-10"
    assert plots.word("rival, none") == "rival, none"


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"loss": "renwj"}, "ReNWJ"),
        ({"loss": "renwj", "variant": "official"}, "ReNWJ, official"),
        ({"loss": "nwj", "clip": "product"}, "NWJ, product term clipped"),
        ({"loss": "nwj", "tau": 10.0}, "NWJ, clipped"),
        ({"loss": "nwj", "tau": np.nan}, "NWJ"),
        ({"loss": "renwj", "tau": 10.0}, "ReNWJ"),  # clipped by definition
        ({"loss": "renwj", "tau": np.inf}, "ReNWJ, no clip"),
    ],
)
def test_a_member_is_named_by_what_is_unusual_about_it(columns, name):
    assert plots.member_names(pd.DataFrame([columns])).tolist() == [name]


def test_survival_climbs_by_a_member_at_each_divergence():
    lost = pd.DataFrame({"name": "NWJ", "loss": "nwj", "step": [30.0, np.nan, 10.0, np.nan]})
    fine = pd.DataFrame({"name": "ReNWJ", "loss": "renwj", "step": [np.nan, np.nan]})
    clip = pd.DataFrame({"name": "NWJ, clipped", "loss": "nwj", "step": [np.nan]})
    _, (ax,) = plots.panels(1)
    explosion.survival(ax, pd.concat([lost, fine, clip]), 100)
    line = labelled(ax)["NWJ"]
    assert xs(line) == [0, 10, 10, 30, 30, 100]
    assert ys(line) == [0, 0, 0.25, 0.25, 0.5, 0.5]
    assert ys(labelled(ax)["ReNWJ"]) == [0, 0]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--", ":"]
    assert ax.get_ylabel() == "share of seeds diverged"
    assert legend(ax) == ["NWJ", "ReNWJ", "NWJ, clipped"]


def test_divergence_by_batch_size_stands_beside_the_closed_form():
    batches = [4, 16, 64]
    frame = pd.concat(
        pd.DataFrame({"batch": batches, "loss": loss, "diverged": gone, "sd": sd}).assign(
            no_joint_pair=[(15 / 16) ** b for b in batches]
        )
        for loss, gone, sd in (("nwj", True, 1.0), ("nwj", False, 3.0), ("renwj", False, 0.1))
    )
    _, (shares, scatter) = plots.panels(2)
    explosion.by_batch_size(shares, scatter, frame)
    assert ys(labelled(shares)["$(15/16)^B$"]) == pytest.approx([0.7725, 0.3561, 0.0161], abs=1e-4)
    assert ys(labelled(shares)["NWJ"]) == [0.5] * 3
    assert ys(labelled(scatter)["NWJ"]) == [2.0] * 3
    assert ys(labelled(scatter)["ReNWJ"]) == [0.1] * 3
    assert xs(labelled(scatter)["ReNWJ"]) == batches
    assert scatter.get_yscale() == "log"
    assert legend(shares) == ["NWJ", "ReNWJ", "$(15/16)^B$"]


def test_training_curves_say_which_loss_diverged():
    epochs = pd.DataFrame(
        {"loss": loss, "epoch": epoch, "seed": seed, "mi": value + seed}
        for loss, value in (("mine", 1.0), ("remine", 2.0), ("nwj", np.nan), ("renwj", 3.0))
        for epoch in (0, 1)
        for seed in (-0.5, 0.0, 0.25)
    )
    figure = benchmark.training_curves(epochs, ENTROPY, ["mine", "nwj", "nwj"])
    mine, nwj = figure.axes[:2]
    assert [ys(line) for line in mine.lines] == [[1, 1], [2, 2], [ENTROPY, ENTROPY]]
    assert [line.get_linestyle() for line in mine.lines[:2]] == ["-", "--"]
    assert extent(mine) == (0.5, 1.25)
    assert (texts(mine), texts(nwj)) == ([], ["NWJ diverged"])
    assert mine.get_ylim()[1] > ENTROPY
    assert mine.get_title() == "MINE"
    assert legend(figure) == ["original", "regularised", "true MI"]


def fig9_batches() -> pd.DataFrame:
    """MINE steady, NWJ lost at step 2 of 4; in CLB both steady."""
    rows = []
    for kind in ("slb", "clb"):
        for loss in ("mine", "nwj"):
            for step in range(4):
                gone = (kind, loss) == ("slb", "nwj") and step >= 2
                value = np.inf if gone else 2.0
                rows.append((kind, loss, step, value, 1.0, np.nan if gone else 1.0))
    columns = ["benchmark", "loss", "step", "joint_term", "product_term", "mi"]
    return pd.DataFrame(rows, columns=columns)


def test_fig9_leaves_out_what_is_not_finite_and_says_from_where():
    figure = figures.fig9(fig9_batches(), ["mine", "nwj"], smooth=0)
    slb_mine, slb_nwj, clb_mine, _ = figure.axes
    assert [ax.get_title() for ax in figure.axes] == [
        "MINE, SLB",
        "NWJ, SLB",
        "MINE, CLB",
        "NWJ, CLB",
    ]
    np.testing.assert_array_equal(ys(labelled(slb_nwj)["$E_P[T]$"]), [2, 2, np.nan, np.nan])
    assert texts(slb_nwj) == ["diverged at step 2"]
    assert texts(slb_mine) == []
    assert (slb_mine.get_yscale(), clb_mine.get_yscale()) == ("linear", "symlog")
    assert ys(slb_mine.lines[-1]) == [0, 0]
    assert legend(figure) == ["$E_P[T]$", "second term", "MI estimate"]


def test_fig9_of_a_run_that_never_had_a_number():
    batches = fig9_batches().query("benchmark == 'slb' and loss == 'nwj'").assign(mi=np.nan)
    assert texts(figures.fig9(batches, ["nwj"], 0).axes[0]) == ["diverged at step 0"]


def test_fig9_seeds():
    names = {"mine": "MINE", "remine": "ReMINE", "nwj": "NWJ"}
    curves = pd.DataFrame(
        {
            "benchmark": "clb",
            "loss": loss,
            "step": step,
            "mi": mi + seed if np.isfinite(mi) else mi,
            "log_partition": drift * step,
        }
        for loss, mi, drift in (("mine", 2.0, -3.0), ("remine", 2.2, 0.0), ("nwj", np.nan, 1.0))
        for step in (0, 1, 2)
        for seed in (-0.5, 0.0, 0.1)
    )
    figure = figures.fig9_seeds(curves, ENTROPY, names)
    left, right = figure.axes
    assert legend(left) == ["MINE", "ReMINE"]
    assert ys(labelled(left)["MINE"]) == [0, -3, -6]
    assert ys(left.lines[-1]) == [0, 0]
    assert ys(labelled(right)["ReMINE"]) == [2.2] * 3
    assert labelled(right)["ReMINE"].get_linestyle() == "--"
    assert extent(right) == (1.5, 2.1)
    assert ys(right.lines[-1]) == [ENTROPY, ENTROPY]
    assert texts(right) == ["diverged: NWJ"]
    assert legend(figure) == ["MINE", "ReMINE", "NWJ", "H(Y)"]
    assert left.get_title() == "CLB: drift"


def test_gallery_puts_each_picture_in_its_place():
    pictures = {
        row: [np.full((2, 2, 3), 0.1 * (3 * i + j)) for j in range(3)]
        for i, row in enumerate(("low", "high"))
    }
    axes = figures.gallery(pictures, ["a", "b", "c"]).axes
    shown = [float(ax.images[0].get_array()[0, 0, 0]) for ax in axes]
    assert shown == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert [ax.get_title() for ax in axes] == ["a", "b", "c", "", "", ""]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["low", "high"]


def table2(**lost: str) -> pd.DataFrame:
    """Table 2 of a benchmark; ``lost``: losses that failed at every seed, and how."""
    rows = [
        {
            "dataset": "digits",
            "benchmark": "clb",
            "loss": loss,
            "quantity": quantity,
            "value": np.nan if loss in lost else value,
            "low": value - 0.1,
            "high": value + 0.2,
            "failed": 5 * (loss in lost),
            "seeds": 5,
            "fate": lost.get(loss, ""),
            "theory": value + 0.5 if quantity == "mi" else None,
            "paper": value + 0.3,
        }
        for i, loss in enumerate(LOSSES)
        for quantity, value in (("mi", 1.0 + i), ("accuracy", 0.01 * i))
    ]
    return pd.DataFrame(rows)


def test_table2_dots_are_the_table():
    figure = benchmark.table2_dots(table2(nwj="diverged at step 0"), ENTROPY, "paper, CIFAR-10")
    mi, accuracy = figure.axes
    dots = {
        (line.get_marker(), y): x
        for line in mi.lines
        for x, y in zip(xs(line), ys(line), strict=True)
    }
    assert dots["o", -0.18] == 1.0  # MINE, the first row, a little above
    assert dots["o", 0.18] == 1.0 + LOSSES.index("remine")
    assert dots["|", -0.18] == 1.5
    assert dots["D", -0.18] == 1.3
    bar = next(line for line in mi.lines if line.get_marker() == "None" and ys(line)[0] == -0.18)
    assert xs(bar) == pytest.approx([0.9, 1.2])
    # A failed loss has its fate instead of a dot, the paper's number and the optimum stay.
    row = FAMILIES.index("nwj") - 0.18
    assert ("o", row) not in dots
    assert {("D", row), ("|", row)} <= set(dots)
    assert texts(mi) == ["diverged at step 0"]
    assert [t.get_text() for t in mi.get_yticklabels()] == [title(f) for f in FAMILIES]
    assert not [line for line in accuracy.lines if line.get_marker() == "|"]
    (truth,) = [line for line in mi.lines if line.get_label() == "H(Y)"]
    assert xs(truth) == [ENTROPY, ENTROPY]
    assert legend(figure)[-2:] == ["paper, CIFAR-10", "H(Y)"]
    fill = {
        y: to_hex(line.get_mfc()) for line in mi.lines if line.get_marker() == "o" for y in ys(line)
    }
    assert (fill[-0.18], fill[0.18]) == ("#ffffff", plots.colour("mine").lower())


def test_staircase_shows_estimates_truth_and_caps():
    steps = [0, 1, 2, 3]
    terms = pd.concat(
        pd.DataFrame({"loss": loss, "step": steps, "mi": float(i), "ema": i + 0.5})
        for i, loss in enumerate(LOSSES)
    )
    truth = pd.Series([2.0, 2.0, 10.0, 10.0])
    caps = {"nwj": pd.Series([2.0, 2.0, 8.54, 8.54]), "tuba": pd.Series([2.0, 2.0, 8.98, 8.98])}
    figure = gaussian_staircase.staircase(terms, truth, caps, math.log(32))
    panel = dict(zip(FAMILIES, figure.axes, strict=True))
    for family, ax in panel.items():
        lines = labelled(ax)
        for loss in (family, "re" + family):
            assert ys(lines[title(loss)]) == [LOSSES.index(loss) + 0.5] * 4
        assert [2, 2, 10, 10] in [ys(line) for line in ax.lines]
        assert ("log K" in lines) is (family == "infonce")
        assert (f"cap of clipped {title('re' + family)}" in lines) is (family in caps)
        assert ax.get_ylim() == (-2.5, 15)
    assert ys(labelled(panel["infonce"])["log K"]) == [math.log(32)] * 2
    assert max(ys(labelled(panel["nwj"])["cap of clipped ReNWJ"])) == 8.54
    assert max(ys(labelled(panel["tuba"])["cap of clipped ReTUBA"])) == 8.98


def test_level_errors_are_means_over_seeds():
    table = crossed(loss=LOSSES, kind=("learned", "oracle"), seed=(0, 1), true_mi=(2.0, 10.0))
    scale = table["kind"].map({"learned": 1.0, "oracle": 0.5})
    table["rmse"] = table["true_mi"] * scale + table["seed"]
    figure = gaussian_staircase.level_errors(table)
    ax = figure.axes[0]
    assert [ys(line) for line in ax.lines] == [[2.5, 10.5], [1.5, 5.5]] * 2
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-", "--", "--"]
    assert extent(ax) == (2, 11)
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "RMSE (nats)")
    assert figure.axes[3].get_xlabel() == "true MI (nats)"
    assert legend(figure) == ["original", "regularised", "exact critic"]


def test_trade_off_goes_through_lambda_in_order():
    table = pd.DataFrame(
        {
            "dataset": "digits",
            "loss": "remine",
            "weight": [1.0, 0.01, 0.1],
            "mi": [1.0, 2.0, 1.5],
            "accuracy": [0.9, 0.7, 0.8],
        }
    )
    for quantity in ("mi", "accuracy"):
        table[f"{quantity}_low"], table[f"{quantity}_high"] = (
            table[quantity] + d for d in (-0.1, 0.2)
        )
    figure = lambda_sweep.trade_off(table, {"digits": ENTROPY})
    (ax,) = figure.axes
    line, truth = ax.lines
    assert (xs(line), ys(line)) == ([2.0, 1.5, 1.0], [0.7, 0.8, 0.9])
    assert xs(truth) == [ENTROPY, ENTROPY]
    across, up, dots = ax.collections[:3]
    assert across.get_segments()[0].tolist() == [[1.9, 0.7], [2.2, 0.7]]
    assert up.get_segments()[0].tolist() == pytest.approx(np.array([[2.0, 0.6], [2.0, 0.9]]))
    sizes = dots.get_sizes()
    assert len(sizes) == 3
    assert (np.diff(sizes) > 0).all()
    assert legend(figure) == ["ReMINE", "λ = 0.01", "λ = 0.1", "λ = 1"]
    assert ax.get_title() == "digits (stand-in for CIFAR-10)"


def test_galleries_line_images_up():
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    images[1] = 16
    colour = torch.full((3, 3, 2, 2), 255, dtype=torch.uint8)
    figure = out_of_distribution.galleries({"digits": images, "colour": colour}, 3, 16)
    grey, _ = (ax.images[0].get_array() for ax in figure.axes)
    np.testing.assert_array_equal(np.asarray(grey), [[0, 0, 1, 1, 0, 0]] * 2)
    assert figure.axes[1].images[0].get_array().shape == (2, 6, 3)
    names = [[tick.get_text() for tick in ax.get_yticklabels()] for ax in figure.axes]
    assert names == [["digits"], ["colour"]]


def test_ratio_histograms_are_shares_of_pairs():
    ratio = [10, 0, 1, 1]
    known = pd.DataFrame({"set": "train", "pair": ["true"] + ["false"] * 3, "ratio": ratio})
    foreign = pd.DataFrame({"set": "photos", "pair": "any", "ratio": [1e9, 1.0]})
    counts = out_of_distribution.pair_counts(pd.concat([known, foreign]))
    figure = out_of_distribution.ratio_histograms(counts, 10.0)
    assert len(figure.axes) == 2
    train, photos = figure.axes
    kinds = ["false label", "true label", "foreign image"]
    assert legend(figure) == [*kinds, "K, a true pair's ideal"]
    heights = [patch.get_height() for patch in train.patches]
    assert sum(heights) == pytest.approx(1)  # none is lost below the first bin
    assert sorted(h for h in heights if h) == pytest.approx([0.25, 0.25, 0.5])
    assert sum(patch.get_height() for patch in photos.patches) == pytest.approx(1)
    assert xs(train.lines[0]) == [10.0, 10.0]
    assert photos.get_xlim()[1] > 1000  # the last bar has what lies beyond
    as_read = pd.read_csv(io.StringIO(counts.to_csv(index=False)))  # the table is enough
    again = out_of_distribution.ratio_histograms(as_read, 10.0)
    assert [p.get_height() for p in again.axes[0].patches] == pytest.approx(heights)
    assert (train.get_xscale(), train.get_yscale()) == ("log", "log")
