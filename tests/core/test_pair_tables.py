"""The modules' lean tables read what the tables of ``scores`` read, and keep less."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import normalize

from remi_lib import LOSSES, Scores, _pair_tables, losses, make_loss, scores
from remi_lib._pair_tables import PairTable, log_row_sums, marked, matched, row_sums
from remi_lib.bounds import Terms, dv
from remi_lib.nn import ContrastiveLoss, PairLoss, ScoreLoss, TwoViewLoss

N, DIM, TAU = 12, 5, 0.2
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 3, 0, 4, 1, 5])
NAMES = [*LOSSES, "mine_ema", "smile_js", "gan_dime", "infonce_rows", "reinfonce_rows"]
NEAR = {torch.float32: 1e-6, torch.float64: 1e-12}
ROOT = TAU**-0.5
OFF = ~torch.eye(N, dtype=torch.bool)


def embeddings(seed: int, *leading: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*leading, N, DIM, generator=generator, dtype=torch.float64).to(dtype)


def by_labels(first: Tensor, positives: str) -> Scores:
    t = scores.inner_products(first, first)
    joint = (LABELS[:, None] == LABELS) & OFF
    return scores.marked_pairs(t, joint, OFF, positives)


def pairs(first: Tensor, second: Tensor) -> Tensor:
    return scores.inner_products(first, second)


# Of normalised embeddings, divided by the root of the temperature: a table of every cell's mass.
TABLES: dict[str, tuple[Callable[..., ScoreLoss], Callable[[Tensor, Tensor], Scores]]] = {
    "labels": (ContrastiveLoss, lambda a, b: by_labels(a, "pairs")),
    "anchors": (
        lambda *x, **options: ContrastiveLoss(*x, positives="anchors", **options),
        lambda a, b: by_labels(a, "anchors"),
    ),
    "two views": (TwoViewLoss, scores.two_view_pairs),
    "both ways": (PairLoss, lambda a, b: scores.symmetric_pairs(pairs(a, b))),
    "one way": (
        lambda *x, **options: PairLoss(*x, symmetric=False, **options),
        lambda a, b: scores.all_pairs(pairs(a, b)),
    ),
}


def call(module: ScoreLoss, first: Tensor, second: Tensor) -> Tensor:
    if isinstance(module, ContrastiveLoss):
        return module(first, LABELS.expand(first.shape[:-1]))
    return module(first, second)


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("block", [1, 2**18], ids=["row by row", "at once"])
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", NAMES)
def test_every_loss_reads_what_it_reads_of_all_cells(name, kind, block, dtype, monkeypatch):
    monkeypatch.setattr(_pair_tables, "CPU_BLOCK", block)
    module, table = TABLES[kind]
    regularised = name.startswith("re")
    given = [embeddings(seed, 3, dtype=dtype).requires_grad_() for seed in (0, 1)]
    options = (0.3, 0.5) if regularised else ()
    ours = module(name, *options, temperature=TAU, reduction="sum")
    value = call(ours, *given)
    bound = make_loss(name, *options)(table(*(ROOT * normalize(x, dim=-1) for x in given)))
    near = {"rtol": NEAR[dtype], "atol": NEAR[dtype]}
    torch.testing.assert_close(value, -bound.objective.sum(), **near)
    for field in bound._fields:
        torch.testing.assert_close(getattr(ours.last, field), getattr(bound, field), **near)
    found = [
        torch.autograd.grad(x, given, allow_unused=True) for x in (value, -bound.objective.sum())
    ]
    torch.testing.assert_close(*found, **near)


def tables() -> dict[str, tuple[PairTable, Scores]]:
    """Kinds of tables, lean and with the mass of every cell."""
    t, n = embeddings(2, 3) @ embeddings(3, 3).mT, torch.arange(N)
    joint = (LABELS[:, None] == LABELS) & OFF
    some = torch.rand(N, N, generator=torch.Generator().manual_seed(0)) < 0.4
    some[3] = False  # a row without a candidate
    none = torch.zeros(N, N, dtype=torch.bool)
    return {
        "both ways": (matched(t, n, both_ways=True), scores.symmetric_pairs(t)),
        "one way": (matched(t, n), scores.all_pairs(t)),
        "off the diagonal": (matched(t, n, OFF), scores.off_diagonal(t)),
        "pairs": (marked(t, joint, OFF, False), scores.marked_pairs(t, joint, OFF)),
        "anchors": (marked(t, joint, OFF, True), scores.marked_pairs(t, joint, OFF, "anchors")),
        "mined": (marked(t, joint & some, some, False), scores.marked_pairs(t, joint & some, some)),
        "no joint": (marked(t, none, OFF, False), scores.marked_pairs(t, none, OFF)),
        "nothing": (marked(t, none, none, True), scores.marked_pairs(t, none, none, "anchors")),
    }


READINGS = ["joint_mean", "product_mean", "log_mean_exp", "rows"]
READINGS += ["row_log_mean_exp", "row_variance"]


@pytest.mark.parametrize("kind", tables())
def test_a_reading_is_that_of_all_cells(kind):
    lean, whole = tables()[kind]
    moved = lean.map(lean.values.cos()).clip(0.5), whole.map(whole.values.cos()).clip(0.5)
    for ours, theirs in ((lean, whole), moved):
        for reading in READINGS:
            first, second = getattr(ours, reading)(), getattr(theirs, reading)()
            torch.testing.assert_close(*torch.broadcast_tensors(first, second), msg=reading)
        for first, second in zip(ours.full(), theirs, strict=True):
            torch.testing.assert_close(*torch.broadcast_tensors(first, second))


SUMS = {
    "log, all": lambda x: log_row_sums(x, None, False),
    "log, some": lambda x: log_row_sums(x, OFF, False),
    "log, both ways": lambda x: log_row_sums(x, None, True),
    "log, some both ways": lambda x: log_row_sums(x, OFF, True),
    "plain": lambda x: row_sums(x, OFF),
}


@pytest.mark.parametrize("block", [3 * N, 2**18])
@pytest.mark.parametrize("kind", SUMS)
def test_the_sums_have_gradients_of_first_and_second_order(kind, block, monkeypatch):
    monkeypatch.setattr(_pair_tables, "CPU_BLOCK", block)
    t = (embeddings(2, 2) @ embeddings(3, 2).mT).requires_grad_()
    assert torch.autograd.gradcheck(SUMS[kind], (t,))
    assert torch.autograd.gradgradcheck(SUMS[kind], (t,))


def test_extreme_scores():
    """An overflowing cell that is no candidate, and a row of nothing, move nothing."""
    t = torch.tensor([[1e4, -1e4, 0.0], [1.0, 2.0, 3e38], [5.0, 6.0, 7.0]]).requires_grad_()
    seen = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    sums = log_row_sums(t, seen, False)
    assert sums.tolist() == pytest.approx([1e4, 2.3132617, -torch.inf])
    (gradient,) = torch.autograd.grad(sums[:2].sum(), t)
    assert gradient[1].tolist() == pytest.approx([0.26894143, 0.7310586, 0.0])
    assert gradient[2].eq(0).all()


def test_the_members_of_an_ensemble_through_vmap():
    first, second = embeddings(0, 3), embeddings(1, 3)
    module = PairLoss("reinfonce", reduction="none")

    def alone(a: Tensor, b: Tensor) -> Tensor:
        return torch.func.grad(lambda x: module(x, b))(a)

    together = torch.func.vmap(alone)(first, second)
    each = torch.stack([alone(a, b) for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(together, each)


def masses(table: Scores) -> Terms:
    """A bound that looks at the cells, as one of the user's own may."""
    seen = (table.log_product > scores.NEG_INF).sum((-2, -1))
    return dv(table)._replace(mi=seen.to(table.values.dtype))


def test_a_loss_of_ones_own_gets_the_mass_of_every_cell(monkeypatch):
    monkeypatch.setattr(losses, "_RECIPES", dict(losses._RECIPES))
    losses.register("masses", masses)
    first, second = embeddings(0), embeddings(1)
    counts = {"labels": N * (N - 1), "two views": 2 * N * (2 * N - 1), "both ways": 2 * N * N}
    for kind, count in counts.items():
        module = TABLES[kind][0]("masses")
        value = call(module, first, second)
        torch.testing.assert_close(value, call(TABLES[kind][0]("mine"), first, second))
        assert module.last.mi == count


class Saved:
    """What autograd holds in place of a tensor, for as long as it does."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


def kept(step: Callable[[], Tensor]) -> int:
    """The bytes kept for the backward pass once the forward pass is over, each storage once."""
    found: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(x: Tensor) -> Saved:
        saved = Saved(x)
        found.add(saved)
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved.x):
        value = step()
    assert value.requires_grad
    storages = [saved.x.untyped_storage() for saved in found]
    return sum({x.data_ptr(): x.nbytes() for x in storages}.values())


# Tables of scores kept for the backward pass: the scores, and booleans at a quarter of a table
# each.  A clipped loss keeps the clipped scores too, and JS what its softplus was taken of.
KEPT = {"labels": 1.5, "anchors": 1.5, "two views": 1.25, "both ways": 1.0, "one way": 1.0}
MORE = {"smile": 1.0, "resmile": 1.0, "renwj": 1.0, "retuba": 1.0, "js": 2.0, "rejs": 2.0}


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("name", LOSSES)
def test_the_backward_pass_keeps_one_table(name, kind):
    first, second = torch.randn(2, 512, 4, requires_grad=True)
    labels, module = torch.arange(512) % 10, TABLES[kind][0](name)

    def step() -> Tensor:
        if isinstance(module, ContrastiveLoss):
            return module(first, labels)
        half = slice(256 if kind == "two views" else 512)
        return module(first[half], second[half])

    table = 4 * 512 * 512
    most = KEPT[kind] + MORE.get(name, 0.0) + 0.1  # and the embeddings
    assert kept(step) <= most * table
