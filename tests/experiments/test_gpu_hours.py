"""The projection: FLOP by hand, images by hand, and that a run is counted once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remi_lib.experiments import gpu_hours, planned
from remi_lib.experiments.gpu_hours import Cost, Network, Rates
from remi_lib.experiments.image_runs import Run
from remi_lib.paths import project_root
from remi_lib.tasks import ImageTask, Member

RUN = Run(ImageTask("cifar10", "slb", "resnet18", 224, precision="tf32"), Member("mine", 0, 10), 40)


def test_flop_of_resnet18_is_the_published_one():
    """1.82 G multiply-adds forward at 224 pixels; backward twice that, less the first layer's."""
    flop = gpu_hours.training_flop(Network("resnet18", 224, 3, 512, 1000))
    first_layer = 2 * 112 * 112 * 64 * 3 * 49
    assert flop == pytest.approx(3 * 2 * 1.814e9 - first_layer, rel=0.01)


def test_flop_of_the_small_network_by_hand():
    """8 x 8 pixels: 16 places of 9 to 16, 4 places of 144 to 32 and of 32 to 64."""
    forward = 2 * (16 * 9 * 16 + 4 * 144 * 32 + 4 * 32 * 64)
    first_layer = 2 * 16 * 9 * 16
    found = gpu_hours.training_flop(Network("convnet", 8, 1, 64, 0))
    assert found == pytest.approx(3 * forward - first_layer)
    head = gpu_hours.training_flop(Network("convnet", 8, 1, 64, 10)) - found
    assert head == 3 * 2 * 64 * 10


def test_an_unknown_network_is_an_error():
    with pytest.raises(ValueError, match="net: 'vit'"):
        gpu_hours.training_flop(Network("vit", 8, 1, 64, 0))


def test_cost_of_a_run():
    cost = gpu_hours.cost_of(RUN, Rates(tf32=1e13, step=1e-9))
    assert (cost.runs, cost.images, cost.steps) == (1, 40 * 50_000, 40 * 5000)
    assert cost.seconds == pytest.approx(cost.flop / 1e13)
    launch_bound = gpu_hours.cost_of(RUN, Rates(tf32=1e20, step=2e-3))
    assert launch_bound.seconds == pytest.approx(2e-3 * 40 * 5000)


def test_costs_add_up():
    assert Cost(1, 2, 3, 4, 5) + Cost(10, 20, 30, 40, 50) == Cost(11, 22, 33, 44, 55)


@pytest.mark.parametrize("profile", gpu_hours.PROFILES)
def test_a_run_is_counted_once(profile):
    artifacts = gpu_hours.image_runs(gpu_hours.parameters(profile))
    every = planned.together(artifacts)
    assert len(every) == len(set(every))
    assert artifacts["Fig 6"] == []  # Table 2 has all of its lambdas
    assert artifacts["Fig 8"] == []  # and all of its networks


def test_the_theorems_that_train_are_counted():
    cost = gpu_hours.costs("gpu")["Theorems 2 and 6"]
    assert (cost.runs, cost.steps) == (2, 1500 + 3000)


def test_images_of_table2_by_hand():
    """24 trainings a seed (6 originals, 6 regularised at 3 lambdas), 390 epochs of 50,000."""
    artifacts = gpu_hours.costs("gpu")
    assert artifacts["Table 2"].runs == 24 * 2 * 2 * 5
    assert artifacts["Table 2"].images == 24 * 5 * 390 * 50_000
    assert artifacts["Fig 9, Table 3"].images == pytest.approx(5 * 2 * 3 * 5 * 1_281_167, rel=1e-3)


def test_the_first_slice_is_about_a_day():
    table = gpu_hours.table(gpu_hours.costs("gpu32")).set_index("artifact")
    assert 12 < table.loc["all", "hours"] < 36
    assert table.loc["all", "hours"] == pytest.approx(table["hours"][:-1].sum())


def test_a_profile_without_files_is_an_error():
    with pytest.raises(ValueError, match="profile: params/none"):
        gpu_hours.parameters("none")


def test_the_control_is_one_column_in_float32():
    runs = [RUN, replace(RUN, task=replace(RUN.task, benchmark="clb"))]
    runs += [replace(runs[1], member=Member("nwj", seed, 10)) for seed in (0, 1)]
    weights = (0.1, 0.01)
    runs += [replace(runs[1], member=Member("renwj", 0, 10, weight)) for weight in weights]
    control = planned.precision_control(runs, "float32", 0.01)
    assert [(r.member.loss, r.member.seed, r.member.weight) for r in control] == [
        ("nwj", 0, None),
        ("renwj", 0, 0.01),
    ]
    assert {r.task.precision for r in control} == {"float32"}
    assert planned.precision_control(runs, "", 0.01) == []
    assert planned.precision_control(runs, "tf32", 0.01) == []


def test_the_document_shows_what_the_parameter_files_say():
    """`make gpu-hours` writes it."""
    text = (project_root() / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert f"-->\n{gpu_hours.block()}\n<!-- /gpu-hours -->" in text
