"""One estimator on one sample of a distribution whose MI is known: a row of a table.

The other packages are imported only when asked for, and used at their defaults; where one cannot
take the data the row says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from remi_lib.estimate import estimate_mi
from remi_lib.estimators.distributions import Distribution
from remi_lib.intervals import Estimate

NAN = float("nan")


class Found(NamedTuple):
    """An estimate, the CPU seconds it took in another process, and a lower confidence bound."""

    estimate: Estimate
    elsewhere: float = 0.0
    lower: float = NAN


class NotApplicable(Exception):
    """The estimator does not take such data, or is not installed."""


def ours(x: NDArray, y: NDArray, seed: int, **options: Any) -> Found:
    found = estimate_mi(x, y, seed, label=None, **options)
    return Found(found.estimate, lower=found.lower)


def sklearn_knn(x: NDArray, y: NDArray, seed: int) -> Found:
    """scikit-learn's kNN estimator (Kraskov et al. 2004; Ross 2014 for a discrete x)."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    if x.ndim == 1 and y.shape[1] > 1:
        raise NotApplicable("takes one column of x and of y")
    if x.ndim == 1:
        value = mutual_info_classif(y, x, discrete_features=False, random_state=seed)
    elif x.shape[1] == y.shape[1] == 1:
        value = mutual_info_regression(x, y.ravel(), random_state=seed)
    else:
        raise NotApplicable("takes one column of x and of y")
    return Found(Estimate(float(value[0]), NAN, NAN))


def ennemi_knn(x: NDArray, y: NDArray, seed: int) -> Found:
    """ennemi's kNN estimator (Kraskov et al. 2004; Ross 2014 for a discrete x)."""
    try:
        from ennemi import estimate_mi as ennemi_mi
    except ImportError as error:
        raise NotApplicable(f"not installed ({error.name})") from error
    if max(x.reshape(len(x), -1).shape[1], y.shape[1]) > 1:
        raise NotApplicable("takes one column of x and of y")
    value = ennemi_mi(y.ravel(), x.ravel(), discrete_x=x.ndim == 1, max_threads=1)
    return Found(Estimate(float(value[0, 0]), NAN, NAN))


def infomeasure_ksg(x: NDArray, y: NDArray, seed: int) -> Found:
    """infomeasure's KSG estimator; a class enters as its number, there is no mixed estimator."""
    try:
        import infomeasure
    except ImportError as error:
        raise NotApplicable(f"not installed ({error.name})") from error
    np.random.seed(seed)  # noqa: NPY002 - the noise that it breaks ties with
    columns = [a.astype(float).squeeze() for a in (x, y)]
    value = infomeasure.mutual_information(*columns, approach="ksg")
    return Found(Estimate(float(value), NAN, NAN))


# Those of benchmark-mi run in an environment of their own.
METHODS: dict[str, Callable[..., Found]] = {
    "estimate_mi": ours,
    "scikit-learn kNN": sklearn_knn,
    "ennemi kNN": ennemi_knn,
    "infomeasure KSG": infomeasure_ksg,
    "bmi MINE": lambda x, y, seed: _bmi("bmi MINE", x, y),
    "bmi InfoNCE": lambda x, y, seed: _bmi("bmi InfoNCE", x, y),
}


BMI = "0.1.3"  # the version in requirements-bmi.txt


def _bmi_python() -> str | None:
    python = os.environ.get("REMI_BMI_PYTHON")
    return python if python and Path(python).exists() else None


@cache
def _bmi_process() -> subprocess.Popen:
    """benchmark-mi's own interpreter, REMI_BMI_PYTHON, waiting for requests."""
    python = _bmi_python()
    if python is None:
        raise NotApplicable("not installed (REMI_BMI_PYTHON)")
    script = Path(__file__).with_name("_bmi.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["JAX_PLATFORMS"] = "cpu"
    return subprocess.Popen(
        [python, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def _bmi(method: str, x: NDArray, y: NDArray) -> Found:
    process = _bmi_process()
    assert process.stdin is not None
    assert process.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.npz"
        np.savez(path, x=x.reshape(len(x), -1).astype(float), y=y)
        process.stdin.write(json.dumps({"method": method, "path": str(path)}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    if not answer:
        _bmi_process.cache_clear()  # the next request gets a new one
        raise RuntimeError(
            f"{method}: the process of REMI_BMI_PYTHON died; run it by hand to see why"
        )
    row = json.loads(answer)
    if "error" in row:
        raise NotApplicable(row["error"])
    return Found(Estimate(row["value"], NAN, NAN), row["seconds"])


def trial(
    distribution: Distribution, method: str, n: int, seed: int, **options: Any
) -> dict[str, Any]:
    """One row: the estimate in nats, its interval, CPU seconds, and a note, such as its error.

    CPU seconds, because they are the same on a machine that is busy with something else.
    """
    x, y = distribution.sample(n, seed)
    started = time.process_time()
    try:
        found, note = METHODS[method](x, y, seed, **options), ""
    except NotApplicable as reason:
        found, note = Found(Estimate(NAN, NAN, NAN)), str(reason)
    except Exception as error:
        found, note = Found(Estimate(NAN, NAN, NAN)), f"{type(error).__name__}: {error}"[:80]
    return {
        "distribution": distribution.name,
        "dim_x": distribution.dims[0],
        "dim_y": distribution.dims[1],
        "mi": distribution.mi,
        "truth": distribution.truth,
        "samples": n,
        "method": method,
        "seed": seed,
        **found.estimate._asdict(),
        "lower": found.lower,
        "cpu_seconds": time.process_time() - started + found.elsewhere,
        "note": note,
    }


PACKAGES = {
    "estimate_mi": ("torch",),
    "scikit-learn kNN": ("scikit-learn",),
    "ennemi kNN": ("ennemi",),
    "infomeasure KSG": ("infomeasure",),
}


def versions(method: str) -> dict[str, str]:
    """The versions of the packages a method rests on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES.get(method, ()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if method not in PACKAGES:
        found["benchmark-mi"] = BMI if _bmi_python() else "not installed"
    return found
