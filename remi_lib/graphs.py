"""A training step recorded once as a CUDA graph and replayed, where there is CUDA.

Small ensembles are launch-bound on a GPU: a step is a few hundred kernels of microseconds.  The
step has static shapes and never waits for the host, so it can be captured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from remi_lib.progress import say

WARM_UP = 3  # eager steps before the capture; they train like any other


class Replayed:
    """``step(batch) -> Tensor`` with the same meaning, captured at its fourth call.

    ``batch`` is a tuple (or named tuple) of tensors of fixed shapes; the returned tensor is
    overwritten by the next call.  If the capture fails, which is said, the step goes on eagerly.
    """

    def __init__(self, step: Callable[[Any], Tensor]) -> None:
        self.step = step
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Any = None
        self.output: Tensor | None = None
        self.stream = torch.cuda.Stream()

    def __call__(self, batch: Any) -> Tensor:
        self.calls += 1
        if self.calls <= WARM_UP or (self.graph is None and self.calls > WARM_UP + 1):
            return self._eager(batch)
        if self.graph is None:
            self.batch = _like(batch, [x.clone() for x in batch])
            try:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self.output = self.step(self.batch)
            except RuntimeError as error:
                say(f"no CUDA graph ({str(error).splitlines()[0]}); training goes on eagerly")
                self.graph = None
                return self._eager(batch)
        for static, new in zip(self.batch, batch, strict=True):
            static.copy_(new)
        self.graph.replay()
        assert self.output is not None
        return self.output

    def _eager(self, batch: Any) -> Tensor:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            output = self.step(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return output


def _like(batch: Any, tensors: list[Tensor]) -> Any:
    """The tensors as the same kind of tuple."""
    return type(batch)(*tensors) if hasattr(batch, "_fields") else tuple(tensors)
