"""The one-hot problem as Theorems 2, 5 and 6 train on it: all that is computed of them here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from remi_lib.experiments.theorems.finite import noisy_channel, sample
from remi_lib.losses import Bound
from remi_lib.scores import Scores, logsumexp, support_counts
from remi_lib.tasks import BLOCK, Member, OneHotTask, Recorder, terms


@dataclass(frozen=True)
class FixedSampleTask(OneHotTask):
    """A noisy channel seen through one sample of ``Member.batch`` pairs: Theorem 2 by a network."""

    symbols: int = 8
    noise: float = 0.2

    def batches(self, members: Sequence[Member], steps: int, device: torch.device) -> Any:
        problem = noisy_channel(self.symbols, self.noise)
        drawn = [sample(problem, m.batch, 1, seed=m.seed) for m in members]
        whole = tuple(torch.cat(laws).float().to(device) for laws in zip(*drawn, strict=True))
        for start in range(0, steps, BLOCK):
            yield [whole] * min(BLOCK, steps - start)

    def exact(self, critic: torch.nn.Module) -> Scores:
        table = self.table(critic)
        problem = noisy_channel(self.symbols, self.noise)
        return support_counts(table, *(x.float().to(table.device) for x in problem))


@dataclass(frozen=True)
class DriftTask(OneHotTask):
    """The one-hot problem that records at every step, beside the batch's terms, the exact ones.

    ``batch_partition`` is log E_Qn[e^T]; ``exact_joint`` and ``log_partition`` are E_P[T] and
    log E_Q[e^T] of the same critic; ``gap`` is its log-mean-exp on the support less that off it.
    """

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        off = ~torch.eye(self.symbols, dtype=torch.bool, device=device)

        def record(scores: Scores, bound: Bound) -> Mapping[str, Tensor]:
            t = scores.values
            on = t.diagonal(dim1=-2, dim2=-1)
            return {
                **terms(bound),
                "batch_partition": scores.log_mean_exp(),
                "exact_joint": on.mean(-1),
                "log_partition": logsumexp(t, (-2, -1)) - 2 * math.log(self.symbols),
                "gap": logsumexp(on, -1) - logsumexp(t[..., off], -1) + math.log(self.symbols - 1),
            }

        return record

    def probe(self, critic: torch.nn.Module, loss: Any) -> Mapping[str, Tensor]:
        return {}
