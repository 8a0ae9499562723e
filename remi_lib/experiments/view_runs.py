"""Runs on two augmented views of an image: a small network under SimCLR's head, and its probe.

All losses of a seed share first weights, batches and views.  A trained network is read from fresh
views of training and test images, and by a linear probe: logistic regression on the standardised
features of the images as they are, which is SimCLR's measure (Chen et al. 2020, arXiv 2002.05709).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from remi_lib._torchvision import v2
from remi_lib.devices import denormals_flushed
from remi_lib.images import ImageSet, load_images
from remi_lib.losses import split_name
from remi_lib.nn import Last, TwoViewLoss
from remi_lib.progress import progress
from remi_lib.replication.store import Tables, cached
from remi_lib.streams import as_global_stream
from remi_lib.tasks import ImageTask, Member

VICREG = "vicreg"  # the one loss that is no estimate of mutual information
OUTPUTS = 128  # of the projection head, as SimCLR's
AREA, STRENGTH = (0.3, 1.0), 0.4  # of the image that a crop keeps; of the jitter at the most
JITTERED, GREY = 0.8, 0.2  # shares of the images
PROBE_STEPS = 200  # of L-BFGS at the most: it stops there for every loss, converged or not
READINGS = [f"{split}_{name}" for split in ("train", "test") for name in ("mi", "log_partition")]

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """One run, on the first weights, batches and views of its seed."""

    loss: str
    seed: int
    batch: int
    epochs: int
    dataset: str
    net: str
    weight: float  # of the penalty, whose target is 0; an original has none
    temperature: float
    lr: float  # Adam's

    def module(self, loss: str) -> TwoViewLoss:
        """A loss at the run's temperature, with its penalty if it is a regularised one."""
        weight = self.weight if split_name(loss)[1] else None
        return TwoViewLoss(loss, weight, temperature=self.temperature)


class Projected(nn.Module):
    """An encoder under SimCLR's head of two layers, here with batch norm between them."""

    def __init__(self, encoder: nn.Module, width: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with as_global_stream(seed, "projection"):
            hidden = (nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
            self.head = nn.Sequential(*hidden, nn.Linear(width, OUTPUTS))

    def features(self, images: Tensor) -> Tensor:
        """What the probe sees (B, width), of images (B, C, H, W) in [-1, 1]."""
        return self.encoder(images)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, OUTPUTS)."""
        return self.head(self.features(images))


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """VICReg of two views (N, d), to be minimised (Bardes et al. 2022, arXiv 2105.04906).

    As in the authors' code: 25 times the mean squared difference, 25 times the mean hinge on each
    feature's deviation, once the squares of the covariances off the diagonal, divided by d.
    """
    value = 25 * mse_loss(first, second)
    for z in (first - first.mean(0), second - second.mean(0)):
        covariance = z.T @ z / (len(z) - 1)
        variance = covariance.diagonal()
        value = value + 25 * (1 - (variance + 1e-4).sqrt()).relu().mean() / 2
        value = value + (covariance.square().sum() - variance.square().sum()) / len(variance)
    return value


def run(view: View, label: str | None = None) -> Tables:
    """Train and evaluate, remembered: ``summary``, a row; ``steps``, the minimised values."""
    return cached("views", asdict(view), __name__, lambda: computed(view, label))


@denormals_flushed()
def computed(view: View, label: str | None = None) -> Tables:
    """:func:`run` without the cache."""
    data, task = load_images(view.dataset), ImageTask(view.dataset, net=view.net)
    channels, side = data.train_x.shape[1], data.train_x.shape[-1]
    net = Projected(task.encoder([view.seed], channels, side), task.width, view.seed)
    values = trained(net, view, task, data, label)
    lost = lost_at(net, values)
    found = {} if lost is not None else evaluated(net.eval(), view, data)
    row = {name: found.get(name, math.nan) for name in ("accuracy", *READINGS)}
    row |= {"diverged_step": math.nan if lost is None else lost, "steps": len(values)}
    return {"summary": pd.DataFrame([row]), "steps": pd.DataFrame({"value": values})}


def lost_at(net: nn.Module, values: Sequence[float]) -> int | None:
    """The first step, from 0, whose objective is not finite; None if there is none.

    Training ends there.  The last step's own may be finite where its update was not.
    """
    if not math.isfinite(values[-1]):
        return len(values) - 1
    whole = all(x.isfinite().all() for x in net.state_dict().values())
    return None if whole else len(values)


def evaluated(net: Projected, view: View, data: ImageSet) -> dict[str, float]:
    """The probe's accuracy, and :data:`READINGS` in nats."""
    read = [x for images in (data.train_x, data.test_x) for x in readings(net, view, images, data)]
    return {"accuracy": probed(net, data), **dict(zip(READINGS, read, strict=True))}


def trained(
    net: Projected, view: View, task: ImageTask, data: ImageSet, label: str | None
) -> list[float]:
    """Train in place; the minimised value of every step, the last one where it was not finite."""
    loss: Loss = vicreg if view.loss == VICREG else view.module(view.loss)
    adam = torch.optim.Adam(net.parameters(), view.lr)
    steps = view.epochs * (len(data.train_y) // view.batch)
    blocks = task.batches([Member("infonce", view.seed, view.batch)], steps, torch.device("cpu"))
    values: list[float] = []
    with as_global_stream(view.seed, "views"), progress(steps, label) as bar:
        for images, _ in (batch for block in blocks for batch in block):
            value = loss(*embedded(net, images, data))
            values.append(value.item())
            if not math.isfinite(values[-1]):
                break
            adam.zero_grad()
            value.backward()
            adam.step()
            bar.update()
    return values


def augmented(images: Tensor) -> Tensor:
    """One view of each uint8 image (B, 3, H, W), drawn from torch's global stream.

    SimCLR's augmentations of CIFAR-10 (Appendix B.9 of the paper, without blur), less hue and
    saturation.
    """
    jitter = v2.RandomApply([v2.ColorJitter(STRENGTH, STRENGTH)], JITTERED)
    crop = v2.RandomResizedCrop(list(images.shape[-2:]), scale=AREA, antialias=True)
    change = v2.Compose([crop, v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(GREY)])
    return torch.stack([change(image) for image in images])  # a batch would share its draws


def embedded(net: Projected, images: Tensor, data: ImageSet) -> tuple[Tensor, ...]:
    """Embeddings (B, OUTPUTS) of two views of uint8 images; one pass, so that they share a norm."""
    views = torch.cat([augmented(images) for _ in range(2)])
    return net(data.normalized(views)).chunk(2)


@torch.no_grad()
def readings(net: Projected, view: View, images: Tensor, data: ImageSet) -> tuple[float, float]:
    """The loss's MI reading and log E_Q[e^T] of fresh views, means over random batches (nats).

    VICReg has no scores: InfoNCE reads its embeddings.  Every run of a seed is read from the same
    views, each split in as many batches as it fills.
    """
    own = view.module("infonce" if view.loss == VICREG else view.loss)
    partition = view.module("mine")
    seen = []
    with as_global_stream(view.seed, "read views"):
        order = torch.randperm(len(images))
        for index in order[: len(order) // view.batch * view.batch].split(view.batch):
            pair = embedded(net, images[index], data)
            seen.append([_last(own, pair).mi, _last(partition, pair).product_term])
    mi, log_partition = torch.tensor(seen).mean(0).tolist()
    return mi, log_partition


def _last(module: TwoViewLoss, pair: tuple[Tensor, ...]) -> Last:
    module(*pair)
    assert module.last is not None
    return module.last


@torch.no_grad()
def probed(net: Projected, data: ImageSet) -> float:
    """Accuracy on test images of a linear probe that was fitted to the training images."""
    train, test = (
        torch.cat([net.features(data.normalized(x)) for x in images.split(512)]).numpy()
        for images in (data.train_x, data.test_x)
    )
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_STEPS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train, data.train_y.numpy())
    return float(probe.score(test, data.test_y.numpy()))
