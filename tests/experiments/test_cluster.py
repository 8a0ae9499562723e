"""A real Ray cluster of two nodes on this machine: the same files, also after kills."""

from __future__ import annotations

import os
import signal
import time

import pandas as pd
import psutil
import pytest

from remi_lib.experiments import image_runs, sweep
from remi_lib.paths import cache_dir
from tests.experiments.test_benchmark import few

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


def two_nodes(attempts: int = 3):
    """A cluster of two nodes.

    A node waits 15 seconds, no setting changes that (ray issue 65983), for an agent whose first
    start takes longer on a busy machine.
    """
    cluster = cluster_utils.Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
    except Exception:
        cluster.shutdown()
        if attempts == 1:
            raise
        return two_nodes(attempts - 1)
    return cluster


@pytest.fixture(scope="module")
def address():
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    cluster = two_nodes()
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def on_the_cluster(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    yield
    ray.shutdown()


def workers(seconds: float = 60.0) -> list[psutil.Process]:
    """The processes that are executing a task; waits for the first, as nodes start in turn."""
    end = time.monotonic() + seconds
    found: list[psutil.Process] = []
    while not found and time.monotonic() < end:
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if line.startswith("ray::") and "remi" in line:
                found.append(process)
    return found


def test_same_files_as_the_local_engine(tmp_path, monkeypatch):
    runs = few(("mine", "renwj"), seeds=2, epochs={"slb": 1})
    far = sweep.sweep("r", runs, engine="ray", device="cpu")
    names = sorted(p.name for p in (cache_dir() / "runs").iterdir() if p.is_dir())
    monkeypatch.setenv("REMI_CACHE", str(tmp_path / "other"))
    near = sweep.sweep("l", runs, engine="local", device="cpu")
    assert names == sorted(p.name for p in (cache_dir() / "runs").iterdir() if p.is_dir())
    for key in ("batches", "epochs"):
        pd.testing.assert_frame_equal(getattr(far, key), getattr(near, key), rtol=1e-4)


def test_a_killed_worker_costs_nothing():
    runs = few(("mine",), seeds=3, epochs={"slb": 4})
    engine = sweep.ENGINES["ray"](sweep.chunks(runs, 1), "cpu", None)
    first = next(engine)
    victims = workers()
    assert victims
    victims[0].send_signal(signal.SIGKILL)
    assert first + sum(engine) == len(runs)
    assert all(map(image_runs.is_done, runs))
    kept = [p for p in (cache_dir() / "runs").iterdir() if p.is_dir()]
    assert len(kept) == len(runs)
