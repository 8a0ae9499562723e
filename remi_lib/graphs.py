"""A training step recorded once as a graph, proved against the step itself, and replayed.

Small ensembles are launch-bound on a GPU: a step is a few hundred kernels of microseconds.  The
step has static shapes and never waits for the host, so it can be recorded.  A recording is
trusted only after one replayed step and one eager step from the same state have agreed; a graph
that recorded nothing would otherwise look like a loss that stopped learning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from remi_lib.progress import say

WARM_UP = 3  # eager steps before the recording; they train like any other
TOLERANCE = 0.01  # of the length of the step itself; a replay that does nothing is off by 1
ROUNDING = 1e-6  # of a tensor's own length: where a step changes nothing, rounding may
UNWRITTEN = -1.25e30  # stands in the output until a replay has written it


class Recording(NamedTuple):
    """A recorded step: ``replay()`` runs it again and overwrites ``output``."""

    replay: Callable[[], None]
    output: Tensor


class Backend(Protocol):
    """What runs steps and records them."""

    def eager(self, step: Callable[[], Tensor]) -> Tensor:
        """Run a step now."""
        ...

    def record(self, step: Callable[[], Tensor]) -> Recording:
        """Record a step; RuntimeError if it cannot be."""
        ...


class CudaGraphs:
    """CUDA graphs of one device, on a stream of that device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the own stream; the former device and stream come back whatever happens inside."""
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            yield

    def eager(self, step: Callable[[], Tensor]) -> Tensor:
        outer = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outer)
        with self._aside():
            output = step()
        outer.wait_stream(self.stream)
        return output

    def record(self, step: Callable[[], Tensor]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        # Named, because torch's own stream for captures belongs to the device of its first use.
        with self._aside(), torch.cuda.graph(graph, stream=self.stream):
            output = step()
        return Recording(graph.replay, output)


BackendOf = Callable[[torch.device], Backend | None]


def _cuda_graphs(device: torch.device) -> Backend | None:
    return CudaGraphs(device) if device.type == "cuda" else None


_backend: ContextVar[BackendOf] = ContextVar("backend", default=_cuda_graphs)


def backend_of(device: torch.device) -> Backend | None:
    """What records steps on a device: CUDA graphs on a GPU, nothing (None) elsewhere."""
    return _backend.get()(device)


@contextmanager
def recorded_by(backend: BackendOf) -> Iterator[None]:
    """Another choice of what records, as long as the block lasts."""
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


class Replayed:
    """``step(batch) -> Tensor`` with the same meaning, recorded and proved at its fourth call.

    ``state`` says where the step stands: "warming" up, "recorded", or "eager" for good.  The
    proof leaves everything as the eager step does, so a run with it is a run without it.

    Args:
        step: changes tensors in place.  ``batch`` is a tuple (or named tuple) of tensors of
            fixed shapes; the returned tensor is overwritten by the next call.
        changed: all tensors that a step changes or depends on from step to step.
        backend: what records.
    """

    def __init__(
        self,
        step: Callable[[Any], Tensor],
        changed: Callable[[], Sequence[Tensor]],
        backend: Backend,
    ) -> None:
        self.step, self.changed, self.backend = step, changed, backend
        self.state: Literal["warming", "recorded", "eager"] = "warming"
        self.warm_up = WARM_UP
        self.batch: Any = None  # what the recording reads
        self.recording: Recording | None = None

    def __call__(self, batch: Any) -> Tensor:
        if self.state == "recorded":
            return self._replay(batch)
        if self.state == "warming" and not self.warm_up:
            return self._prove(batch)
        if self.state == "warming":
            self.warm_up -= 1
            self.batch = _like(batch, [x.clone() for x in batch])
        return self._eager(batch)

    def _eager(self, batch: Any) -> Tensor:
        return self.backend.eager(lambda: self.step(batch))

    def _replay(self, batch: Any) -> Tensor:
        assert self.recording is not None
        for static, new in zip(self.batch, batch, strict=True):
            static.copy_(new)
        self.recording.replay()
        return self.recording.output

    def _prove(self, batch: Any) -> Tensor:
        """Record over the batch before; replay this one; go back; the eager step has the word."""
        tensors = list(self.changed())
        before = _copies(tensors)
        try:
            self.recording = self.backend.record(lambda: self.step(self.batch))
            _restore(tensors, before)
            self.recording.output.fill_(UNWRITTEN)
            output = self._replay(batch).clone()
            after = _copies(tensors)
        except RuntimeError as error:
            _restore(tensors, before)
            return self._give_up(batch, str(error).splitlines()[0] if str(error) else "no reason")
        _restore(tensors, before)
        eager = self._eager(batch)
        gap = max(step_gap(before, after, tensors), output_gap(output, eager))
        if gap > TOLERANCE:
            self._stop(f"a replayed step is off by {gap:.2g} of the step")
        else:
            self.state = "recorded"
        return eager

    def _give_up(self, batch: Any, why: str) -> Tensor:
        self._stop(why)
        return self._eager(batch)

    def _stop(self, why: str) -> None:
        say(f"no graph of the step ({why}); training goes on eagerly")
        self.state, self.recording, self.batch = "eager", None, None


def step_gap(before: Sequence[Tensor], one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """How far apart two steps from one state end, as a part of the second step's own length.

    The largest over the tensors.  Infinite where an entry is finite after one step only.
    """
    gaps = [_gap(s, a, b) for s, a, b in zip(before, one, other, strict=True)]
    return max(gaps, default=0.0)


def _gap(before: Tensor, one: Tensor, other: Tensor) -> float:
    start, a, b = (x.detach().double() for x in (before, one, other))
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return math.inf
    apart, length = ((x - y)[finite].nan_to_num().norm() for x, y in ((a, b), (b, start)))
    room = length + ROUNDING * b[finite].norm()
    return 0.0 if apart == 0 else (apart / room).item()


def output_gap(one: Tensor, other: Tensor) -> float:
    """The largest difference of two outputs relative to 1 + their size; NaN agrees with NaN."""
    a, b = (x.detach().double() for x in (one, other))
    same = (a == b) | (a.isnan() & b.isnan())
    gaps = torch.where(same, 0.0, (a - b).abs() / (1 + b.abs()))
    return gaps.nan_to_num(math.inf, math.inf).max().item()


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


@torch.no_grad()
def _restore(tensors: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    for tensor, copy in zip(tensors, copies, strict=True):
        tensor.copy_(copy)


def _like(batch: Any, tensors: list[Tensor]) -> Any:
    """The tensors as the same kind of tuple."""
    return type(batch)(*tensors) if hasattr(batch, "_fields") else tuple(tensors)
