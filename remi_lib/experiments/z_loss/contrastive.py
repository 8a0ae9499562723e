"""Embeddings of digits: where the penalty is idle, and a learned logit scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from remi_lib.devices import denormals_flushed
from remi_lib.experiments.z_loss.members import StackedMLP, drawn
from remi_lib.images import load_images
from remi_lib.nn import ContrastiveLoss, PairLoss
from remi_lib.progress import progress
from remi_lib.replication.store import Tables, cached

PENALTY = "reinfonce_rows"
CLAMP = 100.0  # CLIP's largest logit scale
GUARDS = {"none": (False, False), "clamp": (True, False), "penalty": (False, True)}
GUARDS["both"] = (True, True)


def idle(
    settings: Sequence[tuple[bool, float]],
    weight: float,
    seeds: int,
    dataset: str,
    steps: int,
    batch: int,
    width: int = 16,
) -> pd.DataFrame:
    """SupCon-like training with and without the penalty, for each (normalised, temperature).

    The mean |log Z| (log-mean-exp of a row) and the penalty over the last quarter of the steps, and
    the test accuracy of the nearest class mean.
    """
    config = {
        "settings": [list(s) for s in settings],
        **{"weight": weight, "seeds": seeds, "dataset": dataset, "steps": steps},
        **{"batch": batch, "width": width},
    }

    def compute() -> Tables:
        parts = [
            _embedded(normalised, temperature, weight, seeds, dataset, steps, batch, width)
            for normalised, temperature in settings
        ]
        return {"final": pd.concat(parts, ignore_index=True)}

    return cached("z_loss_idle", config, __name__, compute)["final"]


@denormals_flushed()
def _embedded(
    normalised: bool,
    temperature: float,
    weight: float,
    seeds: int,
    dataset: str,
    steps: int,
    batch: int,
    width: int,
) -> pd.DataFrame:
    data = load_images(dataset)
    train_x, test_x = (data.normalized(x).flatten(1) for x in (data.train_x, data.test_x))
    own = list(range(seeds)) * 2
    weights = torch.tensor([0.0] * seeds + [weight] * seeds)
    net = StackedMLP(own, (train_x.shape[1], 128, width), "z_loss encoder")
    criterion = ContrastiveLoss(
        PENALTY, weights, temperature=temperature, normalize_embeddings=normalised, reduction="sum"
    )
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    log_z, seen = [], []
    with progress(steps, f"normalised {normalised}, temperature {temperature:g}") as bar:
        for index in drawn(own, len(train_x), steps, batch):
            adam.zero_grad()
            criterion(net(train_x[index]), data.train_y[index]).backward()
            adam.step()
            assert criterion.last is not None
            log_z.append(criterion.last.product_term.abs())
            seen.append(criterion.last.penalty)
            bar.update()
    late = slice(-max(steps // 4, 1), None)
    with torch.no_grad():
        bank, out = (normalize(net(x.unsqueeze(0)), dim=-1) for x in (train_x, test_x))
        hit = _nearest_mean(bank, data.train_y, out) == data.test_y
    return pd.DataFrame(
        {
            "normalised": normalised,
            "temperature": temperature,
            "weight": weights.numpy(),
            "seed": own,
            "log_z": torch.stack(log_z[late]).mean(0).numpy(),
            "penalty": torch.stack(seen[late]).mean(0).numpy(),
            "accuracy": hit.float().mean(-1).numpy(),
        }
    )


def _nearest_mean(bank: Tensor, labels: Tensor, out: Tensor) -> Tensor:
    """The class whose mean embedding (of ``bank`` (M, n, d)) is nearest to ``out`` (M, m, d)."""
    one_hot = nn.functional.one_hot(labels).to(bank.dtype)
    means = normalize(one_hot.T @ bank, dim=-1)
    return (out @ means.mT).argmax(-1)


def learned_scale(
    precisions: Sequence[str],
    weight: float,
    seeds: int,
    dataset: str,
    steps: int,
    batch: int,
    every: int,
    rate: float = 3e-3,
) -> Tables:
    """CLIP on the upper and lower halves of images, with a learned logit scale from 1 / 0.07.

    The guard is CLIP's clamp of the scale at 100, the penalty, both or none.  Tables ``course`` and
    ``final`` (recall@1 among the test images, both ways).
    """
    config = {
        **{"precisions": list(precisions), "weight": weight, "seeds": seeds, "dataset": dataset},
        **{"steps": steps, "batch": batch, "rate": rate, "every": every},
    }

    def compute() -> Tables:
        parts = [
            _guarded(precision, weight, seeds, dataset, steps, batch, rate, every)
            for precision in precisions
        ]
        return {
            name: pd.concat([p[name] for p in parts], ignore_index=True)
            for name in ("course", "final")
        }

    return cached("z_loss_scale", config, __name__, compute)


@denormals_flushed()
def _guarded(
    precision: str,
    weight: float,
    seeds: int,
    dataset: str,
    steps: int,
    batch: int,
    rate: float,
    every: int,
) -> Tables:
    data = load_images(dataset)
    halves = [_halves(data.normalized(x)) for x in (data.train_x, data.test_x)]
    own = list(range(seeds)) * len(GUARDS)
    guards = [name for name in GUARDS for _ in range(seeds)]
    clamped = torch.tensor([GUARDS[name][0] for name in guards])
    weights = torch.tensor([weight * GUARDS[name][1] for name in guards])
    sides = nn.ModuleList(
        StackedMLP(own, (x.shape[1], 128, 32), f"z_loss side {i}") for i, x in enumerate(halves[0])
    )
    log_scale = nn.Parameter(torch.full((len(own),), math.log(1 / 0.07)))
    criterion = PairLoss(PENALTY, weights, reduction="sum")
    adam = torch.optim.Adam([*sides.parameters(), log_scale], rate)
    settings = pd.DataFrame({"precision": precision, "guard": guards, "seed": own})
    course = []
    with progress(steps, f"learned scale, {precision}") as bar:
        for step, index in enumerate(drawn(own, len(halves[0][0]), steps, batch)):
            adam.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                first, second = (net(x[index]) for net, x in zip(sides, halves[0], strict=True))
                value = criterion(first, second, log_scale.exp())
            value.backward()
            adam.step()
            with torch.no_grad():
                ceiling = torch.where(clamped, math.log(CLAMP), math.inf)
                log_scale.copy_(torch.minimum(log_scale, ceiling))
            if (step + 1) % every == 0:
                assert criterion.last is not None
                seen = {
                    "step": step + 1,
                    "scale": log_scale.detach().exp().numpy(),
                    "log_z": criterion.last.product_term.float().numpy(),
                }
                course.append(settings.assign(**seen))
            bar.update()
    with torch.no_grad():
        out = [
            normalize(net(x.unsqueeze(0)), dim=-1) for net, x in zip(sides, halves[1], strict=True)
        ]
        t = out[0] @ out[1].mT
        right = torch.arange(t.shape[-1])
        recall = torch.stack([(x.argmax(-1) == right).float().mean(-1) for x in (t, t.mT)]).mean(0)
    final = settings.assign(
        recall=recall.numpy(), scale=log_scale.detach().exp().numpy(), finite=_finite(sides)
    )
    return {"course": pd.concat(course, ignore_index=True), "final": final}


def _halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """The upper and the lower half of each image, flat."""
    middle = images.shape[-2] // 2
    return images[:, :, :middle].flatten(1), images[:, :, middle:].flatten(1)


def _finite(sides: nn.Module) -> list[bool]:
    each = [p.detach().flatten(1).isfinite().all(-1) for p in sides.parameters()]
    return torch.stack(each).all(0).tolist()
