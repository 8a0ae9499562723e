"""Two processes on halves of a batch are one process on the whole: loss, gradients, pairs."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from remi_lib import make_loss
from remi_lib.critics import ImageCritic, ResNet18, StackedConvNet
from remi_lib.distributed import World, gather, joined, parallel, share, world
from remi_lib.experiments.imagenet.longrun import Resources, _checkpoint, finish, write_job
from remi_lib.experiments.imagenet.textures import Textures, write_tree
from remi_lib.experiments.imagenet.trees import open_tree
from remi_lib.replication.store import read_tables
from remi_lib.tasks import ImageTask
from tests.experiments.test_longrun import run_of

LOSSES = ("infonce", "mine", "nwj", "remine", "renwj")
CASES = [
    (net, b, loss) for net in ("convnet", "resnet18") for b in ("slb", "clb") for loss in LOSSES
]
CPU = torch.device("cpu")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 3, 32, 32, generator=generator) * 2 - 1
    return images, torch.tensor([0, 1, 2, 0, 3, 1, 2, 2, 0, 3, 1, 0])


def loss_and_gradients(case, images, labels, wrap) -> tuple[float, list[torch.Tensor]]:
    """One step without the step.  Batch norm by its running statistics: on CPUs it is per process.

    Scores of CLB are scaled down so that NWJ has a finite gradient to compare.
    """
    net, benchmark, loss = case
    encoder = ResNet18([0]) if net == "resnet18" else StackedConvNet([0], 32, 3, 64)
    width = 512 if net == "resnet18" else 64
    scale = "plain" if benchmark == "slb" else "cosine"
    critic = ImageCritic(encoder, [0], width, 4 if benchmark == "slb" else None, scale)
    critic.eval()
    shared = wrap(critic)  # lives through the backward pass, which it listens to
    outputs = gather(shared(images), dim=1)
    labels = gather(labels)
    table = ImageTask(benchmark=benchmark).table(outputs, labels.expand(outputs.shape[:2]))
    weight = 0.1 if loss.startswith("re") else None
    objective = make_loss(loss, weight)(table).objective.sum()
    (-objective).backward()
    return objective.item(), [p.grad for p in critic.parameters() if p.grad is not None]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    images, labels = batch()
    half = slice(6 * rank, 6 * rank + 6)
    found = {
        case: loss_and_gradients(case, images[half], labels[half], lambda m: parallel(m, CPU))
        for case in CASES
    }
    found["share"] = share({"rank": rank, "text": "x" * rank})
    found["labels"] = gather(labels[half])
    found["world"] = world()
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> list[dict]:
    folder = str(tmp_path_factory.mktemp("gloo"))
    multiprocessing.spawn(worker, (folder,), nprocs=2)
    return [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_loss_and_gradients_are_those_of_the_whole_batch(halves, case):
    value, gradients = loss_and_gradients(case, *batch(), lambda critic: critic)
    assert len(gradients) >= 8
    assert sum(g.abs().sum().item() for g in gradients) > 0
    for half in halves:
        own_value, own_gradients = half[case]
        assert own_value == pytest.approx(value, rel=1e-5)
        for ours, whole in zip(own_gradients, gradients, strict=True):
            assert (ours - whole).norm() <= 1e-4 * whole.norm() + 1e-7


def test_half_a_batch_is_another_table():
    """The control: a pair table per process would give another loss."""
    images, labels = batch()
    for loss in LOSSES:
        case = ("convnet", "clb", loss)
        whole, _ = loss_and_gradients(case, images, labels, lambda critic: critic)
        parts = [
            loss_and_gradients(case, images[h], labels[h], lambda critic: critic)[0]
            for h in (slice(0, 6), slice(6, 12))
        ]
        assert abs(np.mean(parts) - whole) > 1e-3


def test_sharing_and_order(halves):
    for rank, half in enumerate(halves):
        assert half["share"] == [{"rank": 0, "text": ""}, {"rank": 1, "text": "x"}]
        assert half["labels"].equal(batch()[1])
        assert half["world"] == World(rank, 2)


def test_a_world_of_one_changes_nothing():
    x = torch.randn(2, 3)
    module = torch.nn.Linear(3, 3)
    assert world() == World(0, 1)
    assert gather(x, 1) is x
    assert parallel(module, CPU) is module
    assert share("a") == ["a"]
    with joined(CPU) as device:
        assert device == CPU


def test_batch_norm_spans_the_batch_on_cuda(monkeypatch):
    """What can be checked without CUDA: every batch norm of ResNet-18 is exchanged."""
    from remi_lib import distributed as own

    monkeypatch.setattr(own, "world", lambda: World(0, 2))
    monkeypatch.setattr(own, "DistributedDataParallel", lambda module, _: module)
    net = parallel(ResNet18([0]), torch.device("cuda"))
    kinds = {type(m) for m in net.modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    write_tree(Textures(classes=6, train=10, val=4, side=32), root)
    path = root / "train" / "fire_dots" / "0004.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return open_tree("folder", root)


def test_torchrun_carries_a_run_through_a_kill(tree, tmp_path, monkeypatch):
    """Both processes die by SIGKILL half-way; started again, no step is missing or twice, and
    the pair table was the whole batch's all along."""
    monkeypatch.setenv("REMI_CACHE", str(tmp_path / "two"))
    run = run_of("clb", ("mine", "nwj"), epochs=60)
    resources = Resources("cpu", processes=2, minutes=0)
    checkpoint = _checkpoint(run.folder(tree))
    job = Path(tmp_path / "job.json")
    write_job(job, run, tree, resources)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "remi_lib.experiments.imagenet.longrun", str(job)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while not checkpoint.exists() and time.time() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < torch.load(checkpoint, weights_only=True)["state"]["step"] < 300
    assert read_tables(run.folder(tree)) is None
    two = finish([run], tree, resources)
    monkeypatch.setenv("REMI_CACHE", str(tmp_path / "one"))
    one = finish([run], tree, Resources("cpu"))
    for table in (one.batches, two.batches):
        for _, member in table.groupby("member"):
            assert member["step"].tolist() == list(range(300))
    # Batch norm is per process here, so the scores differ a little; the pairs may not.
    assert one.batches["pairs"].tolist() == two.batches["pairs"].tolist()
    first = [found.batches.query("step == 0 and loss == 'mine'") for found in (one, two)]
    assert first[0]["mi"].item() == pytest.approx(first[1]["mi"].item(), rel=0.5)
    assert two.unreadable["file"].tolist() == ["fire_dots/0004.jpg"]
    assert not math.isnan(two.summary["accuracy"][0])
