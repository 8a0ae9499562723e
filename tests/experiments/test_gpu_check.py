"""What a GPU will measure, run on a CPU: every comparison, the report's form, the skip."""

from __future__ import annotations

import json
from math import inf, nan

import pytest
import torch

from remi_lib.experiments import gpu_check, gpu_hours
from remi_lib.experiments.gpu_check import Check, Rate
from remi_lib.paths import figures_dir
from remi_lib.tasks import ImageTask
from tests.core.test_graphs import StandIn

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["one-hot", "staircase"])
def test_graph_equality_with_a_stand_in(name):
    check = gpu_check.graph_equality(name, CPU, StandIn())
    assert check.value == 0
    assert "30 steps, 27 of them replayed" in check.note  # three warm up; one replay is the proof


@pytest.mark.parametrize("fault", [StandIn(replay="nothing"), StandIn(record="raises at once")])
def test_a_graph_that_was_not_trusted_does_not_pass(fault):
    check = gpu_check.graph_equality("one-hot", CPU, fault)
    assert check.value == inf
    assert not check.passed


def test_comparisons_hold_on_a_cpu():
    assert 0 < gpu_check.half_precision(CPU, 64).value < 0.03
    assert gpu_check.resize(CPU, 64).passed
    assert gpu_check.one_process_ddp(CPU, 32).value < 1e-6


def test_a_training_in_half_precision_comes_out_alike():
    assert gpu_check.half_precision_cell(CPU, 8, 90, "resnet8").passed


def test_a_half_precision_that_is_wrong_does_not_pass(monkeypatch):
    honest = ImageTask.outputs_of

    def zeroed(task, critic, images, data):
        out = honest(task, critic, images, data)
        return out * (task.precision != "bfloat16")

    monkeypatch.setattr(ImageTask, "outputs_of", zeroed)
    assert not gpu_check.half_precision_cell(CPU, 8, 90, "resnet8").passed


def test_a_difference_that_is_not_a_number_does_not_pass():
    assert Check("x", 0.1, 0.1, "").passed
    assert not Check("x", nan, 0.1, "").passed


def test_both_loops_run():
    rate = gpu_check.measure(32, 5, "tf32", CPU, images=5)
    assert rate.ours > 0
    assert rate.plain > 0


def test_processes_share_a_device():
    """Two finish what one does, each on its own, and the clock sees both."""
    shared = gpu_check.sharing(Rate(32, 5, "float32", 1e9, 1.0), CPU, images=5, counts=(2,))
    assert list(shared) == [1, 2]
    assert shared[1] == 1e9
    assert 0 < shared[2] < 1e5


MEASURED = [
    Rate(224, 10, "tf32", 2000.0, 400.0),
    Rate(224, 100, "tf32", 4000.0, 500.0),
    Rate(224, 10, "bfloat16", 3000.0, 400.0),
    Rate(32, 10, "tf32", 8000.0, 900.0),
]


def test_measured_rates_take_the_place_of_the_stated_ones():
    rates = gpu_check.rates_of(MEASURED)
    flop = gpu_hours.training_flop(gpu_hours.Network("resnet18", 224, 3, 512, 0))
    assert rates.tf32 == pytest.approx(2000 * flop)
    assert rates.bfloat16 == pytest.approx(3000 * flop)
    assert rates.float32 == gpu_hours.Rates().float32  # not measured, stays as stated
    assert rates.step == pytest.approx(10 / 8000)


def test_the_report_says_everything_and_fails_with_one_check():
    checks = [Check("a", 0.0, 1.0, "n"), Check("b", nan, 1.0, "n")]
    device = {"name": "a device", "driver": "1", "cuda": "1", "torch": "2", "date": "2026-01-01"}
    found = json.loads(
        json.dumps(gpu_check.report(checks, MEASURED, {1: 5.0, 2: 7.0, 4: 6.0}, device, 61.23))
    )
    assert found["device"] == device
    assert found["passed"] is False
    assert [check["passed"] for check in found["checks"]] == [True, False]
    assert found["images per second"][0]["ours"] == 2000
    assert found["REMI_PER_GPU, fastest"] == 2
    assert set(found["GPU-hours, projected"]) == set(gpu_hours.PROFILES)
    for hours in found["GPU-hours, projected"].values():
        assert hours["all"] == pytest.approx(sum(hours.values()) - hours["all"], abs=0.1)


def test_without_cuda_one_line_and_no_file(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main() == 0
    assert capsys.readouterr().out == "gpu-check: skipped, there is no CUDA device here\n"
    assert not (figures_dir("gpu") / "check.json").exists()
