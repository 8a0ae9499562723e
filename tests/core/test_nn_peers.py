"""The modules beside the libraries they replace: equal at weight 0, in value and in gradient.

Runs where the extra ``metric`` is installed; the formulas stand in test_nn.py without them.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from remi_lib import _torchvision  # noqa: F401  (lightly and open_clip import torchvision)
from remi_lib.nn import ContrastiveLoss, PairLoss, TwoViewLoss

WITHIN = 1e-6
TAU = 0.2
N, DIM = 16, 8
LABELS = torch.arange(2 * N) % 5
TWO_EACH = torch.arange(N).repeat(2)


def peer(name: str):
    return pytest.importorskip(name, reason="pip install '.[metric]'", exc_type=ImportError)


def cases():
    both, one = (2 * N, DIM), (N, DIM)
    return {
        "pytorch-metric-learning NTXentLoss, two views": (
            ContrastiveLoss("reinfonce", 0.0, temperature=TAU),
            lambda z, m: m(z, TWO_EACH),
            lambda: peer("pytorch_metric_learning.losses").NTXentLoss(TAU),
            lambda z, m: m(z, TWO_EACH),
            [both],
        ),
        "pytorch-metric-learning NTXentLoss, labels": (
            ContrastiveLoss("reinfonce", 0.0, temperature=TAU, positives="alone"),
            lambda z, m: m(z, LABELS),
            lambda: peer("pytorch_metric_learning.losses").NTXentLoss(TAU),
            lambda z, m: m(z, LABELS),
            [both],
        ),
        "pytorch-metric-learning SupConLoss": (
            ContrastiveLoss("reinfonce", 0.0, temperature=TAU, positives="anchors"),
            lambda z, m: m(z, LABELS),
            lambda: peer("pytorch_metric_learning.losses").SupConLoss(TAU),
            lambda z, m: m(z, LABELS),
            [both],
        ),
        "lightly NTXentLoss": (
            TwoViewLoss("reinfonce", 0.0, temperature=TAU),
            lambda a, b, m: m(a, b),
            lambda: peer("lightly.loss").NTXentLoss(TAU),
            lambda a, b, m: m(a, b),
            [one, one],
        ),
        "open_clip ClipLoss": (
            PairLoss("reinfonce", 0.0, normalize_embeddings=False),
            lambda a, b, m: m(a, b, 1 / TAU),
            lambda: peer("open_clip.loss").ClipLoss(),
            lambda a, b, m: m(a, b, 1 / TAU),
            [one, one],
        ),
        "info-nce-pytorch InfoNCE": (
            PairLoss("reinfonce", 0.0, temperature=TAU, symmetric=False),
            lambda a, b, m: m(a, b),
            lambda: peer("info_nce").InfoNCE(TAU),
            lambda a, b, m: m(a, b),
            [one, one],
        ),
    }


@pytest.mark.parametrize("name", cases())
def test_equal_at_weight_0(name):
    module, ours, make, theirs, shapes = cases()[name]
    other = make()
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes
    ]
    first = ours(*inputs, module)
    first = first + module.last.log_candidates
    second = theirs(*inputs, other)
    gradients = [torch.autograd.grad(x, inputs) for x in (first, second)]
    value = abs(first.item() - second.item())
    gradient = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    print(f"{name}: value {value:.1e}, gradient {gradient:.1e}")
    assert value <= WITHIN
    assert gradient <= WITHIN


def test_it_runs_in_the_metric_learning_trainer_with_a_miner():
    trainers = peer("pytorch_metric_learning.trainers")
    miners = peer("pytorch_metric_learning.miners")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 4
    centres = torch.randn(4, DIM, generator=generator)
    x = centres[labels] + 0.1 * torch.randn(64, DIM, generator=generator)
    data = [(a, int(b)) for a, b in zip(x, labels, strict=True)]
    torch.manual_seed(0)
    trunk, loss = nn.Linear(DIM, 4), ContrastiveLoss("reinfonce", 0.1)
    readings: list[float] = []
    trainer = trainers.MetricLossOnly(
        {"trunk": trunk},
        {"trunk_optimizer": torch.optim.Adam(trunk.parameters(), 0.01)},
        32,
        {"metric_loss": loss},
        data,
        mining_funcs={"tuple_miner": miners.MultiSimilarityMiner(epsilon=1.0)},
        iterations_per_epoch=10,
        dataloader_num_workers=0,
        end_of_iteration_hook=lambda t: readings.append(loss.last.mi.item()),
    )
    trainer.train(num_epochs=2)
    assert len(readings) == 20
    assert all(map(math.isfinite, readings))
    assert sum(readings[-5:]) > sum(readings[:5])
