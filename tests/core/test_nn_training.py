"""The modules in training loops: processes, half precision, scaled, accumulated, compiled steps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from remi_lib.nn import ContrastiveLoss, PairLoss, ScoreLoss, TwoViewLoss

MODULES = {"labels": ContrastiveLoss, "views": TwoViewLoss, "pairs": PairLoss}
N = 12
LABELS = torch.tensor([0, 1, 2, 0, 3, 1, 2, 2, 0, 3, 1, 0])
# How near a precision comes: bfloat16 has 8 bits, 0.4 %, for each of the encoder's outputs and
# gradients, float16 has 11.
NEAR = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class Training(nn.Module):
    """An encoder, a module and its learned temperature, in one forward pass."""

    def __init__(self, kind: str, **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8))
        options = {"temperature": 0.2, "learn_temperature": True} | options
        self.criterion: ScoreLoss = MODULES[kind]("reinfonce", weight=0.1, **options)

    def forward(self, first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
        z = self.encoder(first)
        if isinstance(self.criterion, ContrastiveLoss):
            return self.criterion(z, labels)
        return self.criterion(z, self.encoder(second))


def batch() -> tuple[Tensor, Tensor, Tensor]:
    first, noise = torch.randn(2, N, 16, generator=torch.Generator().manual_seed(1))
    return first, first + 0.5 * noise, LABELS


def exact(kind: str) -> tuple[Tensor, Tensor]:
    """The known answer: value and gradient in float64 of one process on the whole batch."""
    model = Training(kind).double()
    first, second, labels = batch()
    value = model(first.double(), second.double(), labels)
    value.backward()
    return value.detach(), gradient_of(model)


def gradient_of(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def apart(ours: Tensor, right: Tensor) -> float:
    return ((ours.double() - right).norm() / right.norm()).item()


# --- two processes ------------------------------------------------------------------------------


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    share = [x.chunk(2)[rank] for x in batch()]
    found = {}
    for kind in MODULES:
        for gathered in (True, False):
            for dtype in NEAR:
                model = Training(kind, gather_distributed=gathered)
                shared = DistributedDataParallel(model)
                half = dtype != torch.float32
                with torch.autocast("cpu", dtype if half else None, enabled=half):
                    value = shared(*share)
                value.backward()
                found[kind, gathered, dtype] = value.detach(), gradient_of(model)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = str(tmp_path_factory.mktemp("gloo"))
    multiprocessing.spawn(worker, (folder,), nprocs=2)
    return [torch.load(f"{folder}/{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("dtype", NEAR)
def test_two_processes_are_one_on_the_whole_batch(ranks, kind, dtype):
    value, gradient = exact(kind)
    near = NEAR[dtype]
    for found in ranks:
        own_value, own_gradient = found[kind, True, dtype]
        assert own_value.dtype == torch.float32
        assert apart(own_value, value) < near
        assert apart(own_gradient, gradient) < near
        # The control: without the gather each process has another loss.
        assert apart(found[kind, False, dtype][1], gradient) > 2 * near


# --- one process --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODULES)
def test_a_scaled_step_is_the_step_and_an_overflow_is_none(kind):
    """float16 holds gradients up to 65504: 2^30 times the loss overflows in the encoder."""
    start = Training(kind)
    plain = copy.deepcopy(start)
    plain(*batch()).backward()
    for scale, skipped in ((2.0**8, False), (2.0**30, True)):
        model = copy.deepcopy(start)
        update = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with torch.autocast("cpu", torch.float16):
            value = model(*batch())
        assert value.isfinite()
        scaler.scale(value).backward()
        scaler.step(update)
        scaler.update()
        pairs = list(zip(model.parameters(), start.parameters(), strict=True))
        step = torch.cat([(a - b).detach().flatten() for a, b in pairs])
        assert scaler.get_scale() == (scale / 2 if skipped else scale)
        if skipped:
            assert not step.any()
        else:
            assert apart(step, -0.1 * gradient_of(plain)) < 1e-2


@pytest.mark.parametrize("kind", MODULES)
def test_accumulated_gradients_are_the_mean_and_last_is_the_last(kind):
    parts = list(zip(*(x.chunk(2) for x in batch()), strict=True))
    single = []
    for part in parts:
        model = Training(kind)
        model(*part).backward()
        single.append((gradient_of(model), model.criterion.last))
    model = Training(kind)
    for part in parts:
        (model(*part) / 2).backward()
    torch.testing.assert_close(gradient_of(model), (single[0][0] + single[1][0]) / 2)
    assert not torch.equal(single[0][1].mi, single[1][1].mi)
    torch.testing.assert_close(model.criterion.last, single[1][1])


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_compiles_into_one_graph(kind):
    torch.compiler.reset()
    found = []
    for compiled in (False, True):
        model = Training(kind)
        run = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        value = run(*batch())
        value.backward()
        found.append([value.detach(), gradient_of(model), model.criterion.last])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
