"""Recorded steps on a stand-in for the GPU: proved before they are trusted, on the run's device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import pandas as pd
import pytest
import torch

from remi_lib.devices import current
from remi_lib.experiments import sweep
from remi_lib.graphs import (
    WARM_UP,
    CudaGraphs,
    Recording,
    Replayed,
    output_gap,
    recorded_by,
    step_gap,
)
from remi_lib.images import load_images
from remi_lib.tasks import ImageTask, Member, OneHotTask, StaircaseTask, grid
from remi_lib.training import train


class StandIn:
    """Records by keeping the function; ``replay`` says what a replay does with it."""

    def __init__(self, replay: str = "works", record: str = "works") -> None:
        self.replay, self.record_as = replay, record
        self.replays = 0

    def eager(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        return step()

    def record(self, step: Callable[[], torch.Tensor]) -> Recording:
        if self.record_as == "raises at once":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        output = step().clone()  # computes, as a capture on the wrong device may
        if self.record_as == "raises half-way":
            raise RuntimeError("")

        def replay() -> None:
            self.replays += 1
            if self.replay == "nothing":
                return
            output.copy_(step())
            if self.replay == "twice":
                output.copy_(step())

        return Recording(replay, output)


class Counter:
    """A step one can follow by hand: x += batch, and what it returns is x."""

    def __init__(self) -> None:
        self.x = torch.zeros(2)

    def __call__(self, batch) -> torch.Tensor:
        self.x += batch[0]
        return self.x.clone()


def walk(backend: StandIn, steps: int = 8) -> tuple[Replayed, list[list[float]]]:
    counter = Counter()
    advance = Replayed(counter, lambda: [counter.x], backend)
    return advance, [advance((torch.tensor([1.0, i]),)).tolist() for i in range(steps)]


BY_HAND = [[float(n), float(sum(range(n)))] for n in range(1, 9)]


def test_a_recording_that_works_is_replayed(capsys):
    backend = StandIn()
    advance, seen = walk(backend)
    assert seen == BY_HAND
    assert advance.state == "recorded"
    assert backend.replays == 8 - WARM_UP  # one of them the proof's
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fault", ["nothing", "twice"])
def test_a_replay_that_does_not_do_the_step_is_caught(fault, capsys):
    backend = StandIn(replay=fault)
    advance, seen = walk(backend)
    assert seen == BY_HAND
    assert advance.state == "eager"
    assert backend.replays == 1
    assert "off by" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["raises at once", "raises half-way"])
def test_a_recording_that_raises_leaves_no_half_made_step(fault, capsys):
    advance, seen = walk(StandIn(record=fault))
    assert seen == BY_HAND
    assert advance.state == "eager"
    said = capsys.readouterr().out
    assert "training goes on eagerly" in said
    assert "more" not in said


def test_a_replay_that_does_nothing_is_caught_where_a_step_changes_nothing():
    advance = Replayed(lambda batch: batch[0] * 2, list, StandIn(replay="nothing"))
    for i in range(8):
        assert advance((torch.tensor([float(i)]),)).tolist() == [2.0 * i]
    assert advance.state == "eager"


def test_gaps_by_hand():
    start, one, other = (torch.tensor(x) for x in ([0.0, 0.0], [3.0, 4.0], [3.0, 3.0]))
    assert step_gap([start], [one], [one]) == 0
    assert step_gap([start], [start], [one]) == pytest.approx(1)
    assert step_gap([start], [other], [one]) == pytest.approx(0.2)
    assert step_gap([one], [one], [one]) == 0  # a step that changes nothing
    nan = torch.tensor([3.0, torch.nan])
    assert step_gap([start], [nan], [nan]) == 0
    assert step_gap([start], [nan], [one]) == torch.inf
    assert output_gap(nan, nan) == 0
    assert output_gap(nan, one) == torch.inf
    assert output_gap(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 9.0])) == pytest.approx(0.5)


TASKS = [
    (OneHotTask(), grid(loss=["mine", "renwj"], seed=[0, 1], batch=16), "sgd"),
    (StaircaseTask((2.0,), 20, 3, 8), [Member(x, 0, 8) for x in ("mine_ema", "flo")], "adam"),
    (ImageTask(width=32), [Member(x, 0, 10) for x in ("nwj", "reinfonce")], "adam"),
]


@pytest.mark.parametrize(("task", "members", "optimizer"), TASKS)
@pytest.mark.parametrize("replay", ["works", "nothing"])
def test_a_run_with_the_proof_is_a_run_without_it(task, members, optimizer, replay):
    """Weights, batch-norm and optimiser statistics, a loss's own average: all byte for byte."""
    plain = train(task, members, 12, 1e-3, optimizer, device="cpu")
    backend = StandIn(replay=replay)
    with recorded_by(lambda device: backend):
        proved = train(task, members, 12, 1e-3, optimizer, device="cpu")
    assert backend.replays == (1 if replay == "nothing" else 12 - WARM_UP)
    pd.testing.assert_frame_equal(plain.history.terms, proved.history.terms, check_exact=True)
    pairs = zip(plain.critic.state_dict().items(), proved.critic.state_dict().items(), strict=True)
    for (name, one), (_, other) in pairs:
        assert torch.equal(one, other), name


@pytest.fixture
def two_gpus(monkeypatch) -> list[str]:
    """A host that says it has two GPUs; the devices entered and not yet left."""
    entered = ["cuda:0"]

    @contextmanager
    def device(where):
        entered.append(str(where))
        try:
            yield
        finally:
            entered.pop()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", device)
    return entered


class Reached(Exception):
    """Training has begun, on the device that is its message."""


class Watched(OneHotTask):
    entered: list[str]

    def critic(self, members):
        raise Reached(self.entered[-1])


def test_the_device_of_a_run_is_current_before_anything_is_made(two_gpus, monkeypatch):
    monkeypatch.setattr(Watched, "entered", two_gpus, raising=False)
    with pytest.raises(Reached, match="cuda:1"):
        train(Watched(), [Member("mine")], 5, device="cuda:1")
    with current(torch.device("cpu")):
        assert two_gpus == ["cuda:0"]


def test_the_sweep_hands_devices_out_and_each_run_is_on_its_own(two_gpus, monkeypatch):
    """What failed: "cuda:1" was handed down, and the graph was made on the current cuda:0."""
    begun = []

    def inline(work, jobs, workers):
        for job in jobs:
            with pytest.raises(Reached) as reached:
                work(*job)
            begun.append(str(reached.value))
            yield 1

    def critic(self, members):
        raise Reached(two_gpus[-1])

    digits = load_images("digits")
    monkeypatch.setattr(sweep, "unordered", inline)
    monkeypatch.setattr(ImageTask, "data", lambda self, device="cpu": digits)
    monkeypatch.setattr(ImageTask, "critic", critic)
    runs = [sweep.Run(ImageTask(), Member("mine", seed), 1) for seed in range(2)]
    assert sum(sweep.ENGINES["local"]([[run] for run in runs], "cuda", None)) == 2
    assert begun == ["cuda:0", "cuda:1"]


def test_cuda_graphs_are_made_on_their_device_and_give_the_stream_back(two_gpus, monkeypatch):
    streams: list[object] = ["the default stream"]
    captured = []

    @contextmanager
    def stream(one):
        former = list(streams)
        streams.append(one)
        try:
            yield
        finally:
            streams[:] = former

    class Graph:
        """As torch's: entering selects the stream, and leaving raises before it is given back."""

        def __init__(self, graph, stream):
            captured.append((stream, two_gpus[-1]))
            self.stream = stream

        def __enter__(self):
            streams.append(self.stream)

        def __exit__(self, *error):
            raise RuntimeError("capture failed")

    made = []

    def make_stream(device):
        made.append(str(device))
        return f"a stream of {device}"

    monkeypatch.setattr(torch.cuda, "Stream", make_stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Graph)
    backend = CudaGraphs(torch.device("cuda:1"))
    with pytest.raises(RuntimeError, match="capture failed"):
        backend.record(lambda: torch.zeros(1))
    assert made == ["cuda:1"]
    assert captured == [("a stream of cuda:1", "cuda:1")]
    assert (streams, two_gpus) == (["the default stream"], ["cuda:0"])
