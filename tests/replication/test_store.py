"""Results appear whole or not at all; the cache knows configuration and code."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from remi_lib.replication import store


def test_publish(tmp_path):
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    store.publish("fig", "cpu", pd.DataFrame({"a": [1 / 3]}), figure)
    folder = store.figures_dir("cpu")
    assert sorted(p.name for p in folder.iterdir()) == ["fig.csv", "fig.pdf", "fig.png"]
    assert (folder / "fig.csv").read_text() == "a\n0.333333\n"
    first = (folder / "fig.pdf").read_bytes()
    store.publish("fig", "cpu", pd.DataFrame({"a": [1 / 3]}), figure)
    assert (folder / "fig.pdf").read_bytes() == first


def test_nothing_empty_is_published():
    with pytest.raises(ValueError, match="fig: the table has no row"):
        store.publish("fig", "cpu", pd.DataFrame({"a": []}))
    figure, (left, _) = plt.subplots(1, 2)
    left.plot([1, 2])
    with pytest.raises(ValueError, match="fig: panel 1 of the figure is empty"):
        store.publish("fig", "cpu", pd.DataFrame({"a": [1]}), figure)
    assert not store.figures_dir("cpu").exists()
    figure.axes[1].set_axis_off()  # a place left free
    store.publish("fig", "cpu", pd.DataFrame({"a": [1]}), figure)


def test_cached_computes_once_and_survives_corruption(capsys):
    calls = []

    def compute():
        calls.append(1)
        return {"t": pd.DataFrame({"x": [len(calls)]})}

    for _ in range(2):
        assert store.cached("n", {"k": 1}, "remi_lib.losses", compute)["t"]["x"].tolist() == [1]
    folder = next(p for p in store.cache_dir().iterdir() if p.is_dir())
    (folder / "t.parquet").write_bytes(b"garbage")
    assert store.cached("n", {"k": 1}, "remi_lib.losses", compute)["t"]["x"].tolist() == [2]
    assert "unreadable" in capsys.readouterr().out
    assert store.cached("n", {"k": 2}, "remi_lib.losses", compute)["t"]["x"].tolist() == [3]


def test_failed_computation_leaves_nothing():
    def compute():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.cached("n", {}, "remi_lib.losses", compute)
    assert not [p for p in store.cache_dir().iterdir() if p.is_dir()]


def test_config_is_kept_beside_the_result():
    store.cached("n", {"k": 1}, "remi_lib.losses", lambda: {"t": pd.DataFrame({"x": [1]})})
    folder = next(p for p in store.cache_dir().iterdir() if p.is_dir())
    assert json.loads((folder / "config.json").read_text())["config"] == {"k": 1}


def test_an_error_in_a_file_names_it(tmp_path):
    (tmp_path / "half.json").write_text("[1,")
    with pytest.raises(ValueError, match=r"half\.json: is not JSON: "):
        store.read_json(tmp_path / "half.json")
