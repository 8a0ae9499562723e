"""Two variables of few values as a table of counts.

Two things are read from it: the MI of two categories, corrected for its bias, and a cross-fitted
lower bound, whose critic is the smoothed table of the other folds.  A test of independence sees
numbers through quantile bins of several widths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import xlogy

from remi_lib.estimate.columns import Column

BINS = (2, 4, 8, 16, 32)
PERMUTATIONS = 199
CELLS, REACH = 64, 3.2  # of a number's normal scores: cells, and where the outermost end
SMOOTH = (0.5, 1.0, 2.0, 4.0, 8.0)  # widths of the kernel, cells
PRIOR = 1.0  # counts of independence that are added to a cell of a critic's table

Codes = tuple[NDArray, int]
Table = tuple[NDArray, NDArray, tuple[int, int]]


def counts_of(x: NDArray, y: NDArray, shape: tuple[int, int]) -> NDArray:
    """How often each pair of codes occurs (K_x, K_y)."""
    return np.bincount(x * shape[1] + y, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def entropy(counts: NDArray) -> float:
    """H of the frequencies (nats), as they are."""
    total = counts.sum()
    return float(math.log(total) - xlogy(counts, counts).sum() / total)


def category_pair(
    x: NDArray, y: NDArray, generator: np.random.Generator
) -> tuple[float, float, float]:
    """I of two categories (nats), its standard error, and the p-value against independence.

    The plug-in value has two corrections, and the smaller result is taken.  The jackknife (Zahl
    1977) removes the bias of order 1/n, which is all of it unless most cells are empty.  The
    chance adjustment (I - E) / (H - E), E the mean over permuted pairings and H the smaller plug-in
    entropy (Vinh et al. 2010), times the smaller jackknifed entropy, is right for independent
    variables however empty the table, and for equal ones.  No MI leaves [0, H].
    """
    n = len(x)
    h_x, h_y = (jackknifed_entropy(_occupied(c)) for c in (x, y))
    ceiling = min(h_x, h_y)
    pairs = x.astype(np.int64) * (int(y.max()) + 1)
    joint = [_occupied(pairs[generator.permutation(n)] + y) for _ in range(PERMUTATIONS)]
    own = _occupied(pairs + y)
    both = entropy(_occupied(x)) + entropy(_occupied(y))
    chance = both - np.array([entropy(c) for c in joint])
    seen, mean = both - entropy(own), chance.mean()
    smaller = min(entropy(_occupied(x)), entropy(_occupied(y)))
    adjusted = (seen - mean) / (smaller - mean) * ceiling if smaller > mean else 0.0
    jackknife = h_x + h_y - jackknifed_entropy(own)
    value = float(np.clip(min(jackknife, adjusted), 0.0, max(ceiling, 0.0)))
    p = (1 + int((chance >= seen - 1e-12).sum())) / (1 + PERMUTATIONS)
    return value, _error(x, y), p


def jackknifed_entropy(counts: NDArray) -> float:
    """n H - (n - 1) mean of H without one sample, of positive counts: no bias of order 1/n."""
    n = counts.sum()
    whole = xlogy(counts, counts).sum()
    without = whole - xlogy(counts, counts) + xlogy(counts - 1, counts - 1)
    mean = math.log(n - 1) - (counts @ without) / n / (n - 1)
    return float(n * (math.log(n) - whole / n) - (n - 1) * mean)


def _error(x: NDArray, y: NDArray) -> float:
    """Standard error of I: the spread of log p(x, y) / p(x) p(y) over the samples, / sqrt(n)."""
    (a, b), cell = np.unique(np.stack([x, y]), axis=1, return_counts=True)
    local = np.log(cell * len(x) / (np.bincount(x)[a] * np.bincount(y)[b]))
    mean = cell @ local / len(x)
    return math.sqrt(float(cell @ (local - mean) ** 2)) / len(x)


def _occupied(codes: NDArray) -> NDArray:
    return np.unique(codes, return_counts=True)[1].astype(float)


# --- codes of a column, at several widths


def coded(column: Column) -> list[Codes]:
    """Codes (n,) and how many there are: of a category as they are, of a number by its bins."""
    if column.codes is not None:
        return [(column.codes, column.values)]
    assert column.numbers is not None
    ladder = (_binned(column.numbers, bins) for bins in BINS if 5 * bins <= len(column.numbers))
    return list(ladder)


def _binned(v: NDArray, bins: int) -> tuple[NDArray, int]:
    """Bins of about equal counts; equal values share one."""
    edges = np.unique(np.quantile(v, np.arange(1, bins) / bins))
    return np.searchsorted(edges, v, side="right"), len(edges) + 1


def pairs_of(of_x: list[Codes], of_y: list[Codes]) -> Iterator[Table]:
    """Codes of both and the shape of their table, from coarse to fine; none too large to fill.

    Of what :func:`coded` gives of two columns.
    """
    for step in range(max(len(of_x), len(of_y))):
        (a, k), (b, m) = of_x[min(step, len(of_x) - 1)], of_y[min(step, len(of_y) - 1)]
        if step == 0 or k * m <= len(a):
            yield a, b, (k, m)


def frequent(column: Column, least: int = 5) -> Column:
    """A category whose rare values are one; a number as it is."""
    if column.codes is None:
        return column
    rare = np.bincount(column.codes, minlength=column.values) < least
    if rare.sum() < 2:
        return column
    place = np.where(rare, 0, np.cumsum(~rare))
    return Column(column.label, place[column.codes], int((~rare).sum()) + 1)


# --- a bound from below


def lower_bound(x: Column, y: Column, folds: int, generator: np.random.Generator) -> NDArray:
    """Donsker-Varadhan of tables fitted to the other folds: what each sample adds (n,), nats.

    The mean is the bound, the spread over sqrt(n) its standard error.  T of a cell is the log of
    its smoothed frequency over that of independence; how wide the kernel is, is chosen for each
    fold by the samples of the next one, which then join those that T is fitted to.
    """
    (a, k, smooth_x), (b, m, smooth_y) = (_grid(frequent(c)) for c in (x, y))
    kernels = SMOOTH if smooth_x or smooth_y else SMOOTH[:1]
    n = len(a)
    fold = generator.permutation(np.arange(n) % folds)
    out = np.zeros(n)

    def of(kernel: float, train: NDArray, test: NDArray) -> NDArray:
        counts = counts_of(a[train], b[train], (k, m))
        widths = (kernel * smooth_x, kernel * smooth_y)
        return _read(_log_ratio(counts, widths), a[test], b[test])

    for own in range(folds):
        test, watch = fold == own, fold == (own + 1) % folds
        seen = [of(kernel, ~test & ~watch, watch).mean() for kernel in kernels]
        out[test] = of(kernels[int(np.argmax(seen))], ~test, test)
    return out


def _grid(column: Column) -> tuple[NDArray, int, bool]:
    """Codes, how many there are, and whether neighbouring ones are alike."""
    if column.codes is not None:
        return column.codes, column.values, False
    place = np.floor((column.scores() / REACH + 1) / 2 * CELLS).astype(int)
    return place.clip(0, CELLS - 1), CELLS, True


def _log_ratio(counts: NDArray, widths: tuple[float, float]) -> NDArray:
    """T (K_x, K_y): log of the smoothed frequencies over those of independence.

    A Gaussian kernel of ``widths`` cells pools 2 sqrt(pi) width of them; what is pooled is
    compared with :data:`PRIOR` counts of independence, which pull a cell without samples to 0.
    """
    even = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    pooled = math.prod(max(2 * math.sqrt(math.pi) * width, 1.0) for width in widths)
    kept, expected = (pooled * gaussian_filter(t, widths, mode="nearest") for t in (counts, even))
    return np.log((kept + PRIOR) / (expected + PRIOR))


def _read(t: NDArray, a: NDArray, b: NDArray) -> NDArray:
    """What each sample (a_i, b_i) adds to the bound of T: its value plus its influence (n,)."""
    p_x, p_y = (np.bincount(c, minlength=k) / len(c) for c, k in zip((a, b), t.shape, strict=True))
    ratio = np.exp(t)
    of_x, of_y = ratio @ p_y, p_x @ ratio
    mean = p_x @ of_x
    return t[a, b] - math.log(mean) - (of_x[a] + of_y[b]) / mean + 2


def categories_of(columns: Sequence[Column]) -> Column:
    """Several discrete columns as one whose values are their combinations."""
    if len(columns) == 1:
        return columns[0]
    codes = np.stack([c.codes for c in columns if c.codes is not None], axis=1)
    names, joint = np.unique(codes, axis=0, return_inverse=True)
    return Column("its columns", joint.ravel(), len(names))
