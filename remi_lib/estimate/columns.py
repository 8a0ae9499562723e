"""Columns of any kind, made into what a critic can learn from."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

Margins = Literal["both", "ranks", "standard", "raw"]
MARGINS: dict[str, str] = {
    "both": "standardised by median and quartiles, beside the normal scores of its ranks",
    "ranks": "replaced by the normal scores of its ranks",
    "standard": "standardised",
    "raw": "as it is",
}
LOOK_EVERY, EARLY = 50, (10, 25)  # steps between two looks at the held-out pairs; first looks
EDGE = 4.0  # of a column standardised by its quartiles


def encode(
    name: str, values: Any, margins: Margins = "both", categories: int = 32
) -> tuple[NDArray, str]:
    """Columns a critic can learn from (n, d), and in words what was done to them.

    Ranks, means and deviations are taken over all samples of one variable; the pairing, which is
    what is estimated, plays no part in them.
    """
    frame = _frame(name, values)
    parts, kinds = [], {"numeric": 0, "one-hot": 0}
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        few = pd.api.types.is_integer_dtype(column) and column.nunique() <= categories
        if numeric and not few:
            parts.append(_numeric(name, column, margins))
            kinds["numeric"] += 1
        else:
            parts.append(_one_hot(name, column))
            kinds["one-hot"] += 1
    done = []
    if kinds["numeric"]:
        done.append(f"{_columns(kinds['numeric'], 'numeric')}, each {MARGINS[margins]}")
    if kinds["one-hot"]:
        done.append(f"{_columns(kinds['one-hot'], 'discrete')}, one-hot")
    return np.concatenate(parts, axis=1), "; ".join(done)


def _columns(count: int, kind: str) -> str:
    return f"{count} {kind} column" + ("s" if count > 1 else "")


def _frame(name: str, values: Any) -> pd.DataFrame:
    if isinstance(values, pd.DataFrame | pd.Series):
        frame = pd.DataFrame(values)
    else:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.double() if values.dtype.is_floating_point else values).numpy()
        array = np.asarray(values)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name}: has shape {array.shape}; must be (n,) or (n, d)")
        frame = pd.DataFrame(array)
        if array.dtype == object:
            frame = frame.infer_objects()
    if frame.shape[1] == 0:
        raise ValueError(f"{name}: has no column")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{name}: has two columns called {twice!r}; rename one")
    for column in frame:
        kind = np.dtype(frame[column].dtype).kind if _is_numpy(frame[column]) else "O"
        if kind in "cmM":
            raise ValueError(f"{name}: {frame[column].dtype} is neither real nor discrete")
    return frame


def _is_numpy(column: pd.Series) -> bool:
    return isinstance(column.dtype, np.dtype)


def _numeric(name: str, column: pd.Series, margins: Margins) -> NDArray:
    v = column.to_numpy(dtype=float, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(v))
    if len(bad):
        raise ValueError(
            f"{name}: {len(bad)} values are NaN or infinite, the first in row {bad[0]}"
        )
    if margins == "raw":
        return v[:, None]
    scores = ndtri((pd.Series(v).rank().to_numpy() - 0.5) / len(v))
    # A critic that has seen one outlier says anything of the next: they end at the edge, and ranks,
    # beside it, still see where they lie.
    plain = _robust(v)
    views = {
        "both": (plain.clip(-EDGE, EDGE), _standardized(scores)),
        "ranks": (_standardized(scores),),
        "standard": (_standardized(v),),
    }
    return np.stack(views[margins], axis=1)


def _robust(v: NDArray) -> NDArray:
    """Median 0 and the quartiles of a standard normal; the SD where the quartiles coincide."""
    low, middle, high = np.quantile(v, [0.25, 0.5, 0.75])
    return (v - middle) / ((high - low) / (2 * ndtri(0.75))) if high > low else _standardized(v)


def _standardized(v: NDArray) -> NDArray:
    deviation = v.std()
    return (v - v.mean()) / (deviation if deviation > 0 else 1.0)


def _one_hot(name: str, column: pd.Series) -> NDArray:
    codes, names = pd.factorize(column, sort=False)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise ValueError(
            f"{name}: {len(missing)} values are missing, the first in row {missing[0]}"
        )
    if len(names) > len(codes) / 2:
        raise ValueError(
            f"{name}: a discrete column has {len(names)} values in {len(codes)} samples, too many"
        )
    # Scaled so that a column of K equally likely values has about the length of a standard one.
    return np.eye(len(names))[codes] * math.sqrt(len(names))
