"""Digits by InfoNCE, which is cross-entropy: learning rates, remedies, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from remi_lib.devices import denormals_flushed
from remi_lib.experiments.z_loss.members import MemberAdam, StackedMLP, drawn
from remi_lib.images import load_images
from remi_lib.losses import Loss, make_loss
from remi_lib.optimizers import clip_by_member
from remi_lib.progress import progress
from remi_lib.replication.store import cached
from remi_lib.scores import class_pairs
from remi_lib.stacking import stack

BINS = 15  # of the calibration error, as Guo et al. 2017


@dataclass(frozen=True)
class Remedy:
    """What a member does against drifting or exploding scores.

    ``z`` draws the penalty to C = -log K, the z-loss's, and not to the paper's 0.  ``centred``
    subtracts the mean over classes from the output weights and biases (mu-centering); ``clipped``
    scales gradients to norm 1; ``decay`` is decoupled.
    """

    loss: str = "infonce"
    weight: float = 0.0
    z: bool = False
    centred: bool = False
    clipped: bool = False
    decay: float = 0.0

    def make_loss(self, classes: int) -> Loss:
        if self.loss == "infonce":
            return make_loss("infonce")
        return make_loss(self.loss, self.weight, -math.log(classes) if self.z else 0.0)


REMEDIES = {
    "none": Remedy(),
    "z-loss": Remedy("reinfonce_rows", 0.1, z=True),
    "z-loss 1e-4": Remedy("reinfonce_rows", 1e-4, z=True),
    "ReInfoNCE": Remedy("reinfonce", 0.1),
    "mu-centering": Remedy(centred=True),
    "clipping": Remedy(clipped=True),
    "weight decay": Remedy(decay=0.1),
}


@dataclass(frozen=True)
class Trial:
    """One member: the name of its remedy, the remedy, its learning rate and seed."""

    name: str
    remedy: Remedy
    rate: float
    seed: int


def rate_trials(rates: Sequence[float], seeds: int) -> list[Trial]:
    """Every remedy at every rate and seed."""
    return [
        Trial(name, remedy, rate, seed)
        for name, remedy in REMEDIES.items()
        for rate in rates
        for seed in range(seeds)
    ]


def weight_trials(weights: Sequence[float], seeds: int, rate: float = 3e-3) -> list[Trial]:
    """The z-loss at every weight, 0 included, at one learning rate."""
    remedy = REMEDIES["z-loss"]
    return [
        Trial("z-loss", replace(remedy, weight=weight), rate, seed)
        for weight in weights
        for seed in range(seeds)
    ]


def run(
    name: str, trials: Sequence[Trial], dataset: str, steps: int, batch: int, hidden: int
) -> pd.DataFrame:
    """:func:`train`, remembered: a row per trial with what it reads on the test images."""
    config = {
        "trials": [asdict(t) for t in trials],
        "dataset": dataset,
        "steps": steps,
        "batch": batch,
        "hidden": hidden,
    }

    def compute() -> dict[str, pd.DataFrame]:
        return {"final": train(name, trials, dataset, steps, batch, hidden)}

    return cached(f"z_loss_{name}", config, __name__, compute)["final"]


@denormals_flushed()
def train(
    label: str, trials: Sequence[Trial], dataset: str, steps: int, batch: int, hidden: int
) -> pd.DataFrame:
    """Train all trials together; a row per trial, see :func:`readings`."""
    data = load_images(dataset)
    train_x, test_x = (data.normalized(x).flatten(1) for x in (data.train_x, data.test_x))
    seeds = [t.seed for t in trials]
    net = StackedMLP(seeds, (train_x.shape[1], hidden, data.classes), "z_loss classifier")
    loss = stack([t.remedy.make_loss(data.classes) for t in trials])
    adam = MemberAdam(
        net.parameters(),
        torch.tensor([t.rate for t in trials]),
        torch.tensor([t.remedy.decay for t in trials]),
    )
    centred = torch.tensor([float(t.remedy.centred) for t in trials])[:, None, None]
    clipped = torch.tensor([i for i, t in enumerate(trials) if t.remedy.clipped], dtype=torch.long)

    def logits(x: Tensor) -> Tensor:
        t = net(x)
        return t - centred * t.mean(-1, keepdim=True)

    with progress(steps, label) as bar:
        for index in drawn(seeds, len(train_x), steps, batch):
            bound = loss(class_pairs(logits(train_x[index]), data.train_y[index]))
            (-bound.objective).sum().backward()
            _clip(adam.parameters, clipped)
            adam.step()
            bar.update()
    with torch.no_grad():
        read = readings(logits(test_x.unsqueeze(0)), data.test_y)
    settings = pd.DataFrame(
        [
            {"remedy": t.name, "weight": t.remedy.weight, "rate": t.rate, "seed": t.seed}
            for t in trials
        ]
    )
    return pd.concat([settings, pd.DataFrame({k: v.numpy() for k, v in read.items()})], axis=1)


def _clip(parameters: Sequence[torch.nn.Parameter], members: Tensor) -> None:
    if len(members):
        own = [p.grad[members] for p in parameters if p.grad is not None]
        clip_by_member(own)
        for p, gradient in zip(parameters, own, strict=True):
            assert p.grad is not None
            p.grad[members] = gradient


def readings(t: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What logits (M, n, K) and labels (n,) say, each (M,); NaN where a member went non-finite.

    ``nll_bare``: with log Z taken to be 0; ``log_z``: mean log sum e^T of a sample, ``log_z_95``:
    95th percentile of its size; ``ece``: calibration error over :data:`BINS` bins.
    """
    finite = t.isfinite().all(-1).all(-1)
    log_z = t.logsumexp(-1)
    own = t.gather(-1, labels.expand(t.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    confidence, guess = (t - log_z.unsqueeze(-1)).exp().max(-1)
    hit = (guess == labels).to(t.dtype)
    read = {
        "nll": (log_z - own).mean(-1),
        "nll_bare": -own.mean(-1),
        "accuracy": hit.mean(-1),
        "log_z": log_z.mean(-1),
        "log_z_95": log_z.abs().nan_to_num(nan=math.inf).quantile(0.95, -1),
        "ece": calibration_error(confidence, hit),
    }
    return {name: torch.where(finite, value, math.nan) for name, value in read.items()}


def calibration_error(confidence: Tensor, hit: Tensor) -> Tensor:
    """Expected calibration error of confidences and hits (M, n): (M,), in [0, 1]."""
    place = (confidence.nan_to_num() * BINS).long().clamp(0, BINS - 1)
    gap = torch.zeros(*confidence.shape[:-1], BINS)
    gap.scatter_add_(-1, place, (confidence - hit).nan_to_num())
    return gap.abs().sum(-1) / confidence.shape[-1]


def sensitivity(final: pd.DataFrame, ceiling: float) -> pd.DataFrame:
    """Learning-rate sensitivity (Wortsman et al. 2023) of each remedy and seed, in nats.

    The mean over rates of the loss above the best rate's, none worse than ``ceiling``, log K.
    """
    loss = final["nll"].fillna(math.inf).clip(upper=ceiling)
    by = loss.groupby([final["remedy"], final["seed"]], sort=False)
    table = by.agg(lambda x: x.mean() - x.min()).rename("sensitivity").reset_index()
    best = by.min().rename("best").reset_index(drop=True)
    return table.assign(best=best)
