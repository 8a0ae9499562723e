"""What the paper printed: its numbers, as package data, and which losses it names for what."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from remi_lib.images import load_images

FAILING = ("smile", "nwj", "tuba")  # the families that "fail to converge in CLB", Section 5.2
TRAINING = ("mine", "infonce", "js")  # the others, which train in CLB without the penalty
RESCUED = tuple("re" + family for family in FAILING)
AHEAD = ("mine", "smile", "nwj", "tuba")  # of InfoNCE in Table 2, SLB, CIFAR-10
PRINTED = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}  # the data sets of Table 2


def counterpart(dataset: str) -> str:
    """The data set of Table 2 that a set is shown beside: the one it is or stands in for."""
    stands_for = {printed: name for name, printed in PRINTED.items()}
    return stands_for.get(load_images(dataset).stand_in_for or "", dataset)


def table2() -> pd.DataFrame:
    """Table 2 (CIFAR-10/100; +- is the paper's 95% interval over 5 seeds)."""
    return _read("table2.csv")


def table3() -> pd.DataFrame:
    """Table 3 (ImageNet, a few epochs, one run)."""
    return _read("table3.csv")


def table2_long() -> pd.DataFrame:
    """Table 2, a row per loss of the twelve: benchmark, dataset, loss, mi, accuracy, their _ci."""
    return _long(table2())


def table3_long() -> pd.DataFrame:
    """Table 3, a row per loss: benchmark, dataset, loss, mi, accuracy; CE is called infonce."""
    return _long(table3().replace({"loss": {"ce": "infonce"}}))


def _long(wide: pd.DataFrame) -> pd.DataFrame:
    """A row per loss of a table that has a pair of losses in a row."""
    wide, parts = wide.rename(columns={"task": "benchmark"}), []
    for kind, prefix in (("_original", ""), ("_regularized", "re")):
        own = wide.filter(like=kind)
        own.columns = own.columns.str.replace(kind, "").str.replace("ci95", "ci")
        keys = wide[["benchmark", "dataset"]].assign(loss=prefix + wide["loss"])
        parts.append(keys.join(own))
    return pd.concat(parts, ignore_index=True)


def _read(name: str) -> pd.DataFrame:
    with (files("remi_lib") / "data" / name).open(encoding="utf-8") as handle:
        return pd.read_csv(handle)
