"""Half precision, extreme scores, autocast, skipped steps, compiled graphs: the same losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from remi_lib import (
    LOSSES,
    Scores,
    all_pairs,
    class_pairs,
    independent,
    make_loss,
    off_diagonal,
    same_label_pairs,
    support_counts,
)
from remi_lib.scores import marked_pairs, symmetric_pairs, two_view_pairs
from remi_lib.streams import generator
from tests.conftest import refuses

HALF = [torch.float16, torch.bfloat16]
B, K = 300, 10  # 300 * 299 pairs are more than float16 can count
LABELS = torch.arange(B) % K


def normal(*shape: int, scale: float = 1.0, purpose: str = "scores") -> Tensor:
    return scale * torch.randn(*shape, generator=generator(0, purpose))


def tables(dtype: torch.dtype, scale: float) -> dict[str, Scores]:
    """Every maker, on scores or embeddings of a type."""
    t, unit = normal(B, B, scale=scale).to(dtype), normal(B, 8, scale=scale**0.5).to(dtype)
    eye = torch.eye(B, dtype=torch.bool)
    return {
        "independent": independent(t[0], t[1]),
        "support_counts": support_counts(t, eye.float(), torch.ones(B, B)),
        "off_diagonal": off_diagonal(t),
        "all_pairs": all_pairs(t),
        "class_pairs": class_pairs(t[:, :K], LABELS),
        "same_label_pairs": same_label_pairs(unit, LABELS),
        "marked_pairs": marked_pairs(t, eye, ~eye),
        "two_view_pairs": two_view_pairs(unit, unit.flip(0)),
        "symmetric_pairs": symmetric_pairs(t),
    }


@pytest.mark.parametrize("dtype", [*HALF, torch.float64])
def test_every_table_is_float32_or_wider_and_has_its_mass(dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for name, table in tables(dtype, 1.0).items():
        assert {x.dtype for x in table} == {wide}, name
        for mass in (table.log_joint, table.log_product):
            assert mass.exp().sum().item() == pytest.approx(1, abs=1e-5), name


@pytest.mark.parametrize("maker", ["off_diagonal", "class_pairs", "same_label_pairs"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 2e3])
@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_reads_what_double_reads_of_the_same_scores(name, dtype, scale, maker):
    """|T| up to 1e4, and of the gradient as much as float32 knows of such a score.

    What float32 cannot hold is infinite: a divergence that is seen, never a wrong finite number.
    """
    rough = normal(B, B if maker == "off_diagonal" else K, scale=scale).to(dtype)
    if maker == "same_label_pairs":
        rough = normal(B, 8, scale=scale**0.5 / 2).to(dtype)
    rough.requires_grad_()

    def table(x: Tensor) -> Scores:
        return off_diagonal(x) if maker == "off_diagonal" else globals()[maker](x, LABELS)

    scores = table(rough)
    found = make_loss(name)(scores)
    double = table(rough.detach().double().requires_grad_())
    exact = make_loss(name)(double)
    for field in found._fields:
        ours, theirs = getattr(found, field).double(), getattr(exact, field)
        theirs = theirs.float().double()  # beyond float32 the right answer is infinite
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=f"{field}")
    if found.objective.isfinite():
        agree(
            *(
                torch.autograd.grad(b.objective, t.values)[0]
                for b, t in ((found, scores), (exact, double))
            )
        )


def agree(ours: Tensor, exact: Tensor) -> None:
    scale = min(exact.abs().max().item(), torch.finfo(torch.float32).max)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=1e-4 * scale)


def test_gradients_in_bf16_would_not_agree():
    """The control of the test above: it tells float32 from bfloat16."""
    gradients = []
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        scores = Scores(
            normal(B, K, scale=5.0).bfloat16().to(dtype), *class_pairs(normal(B, K), LABELS)[1:]
        )
        x = scores.values.requires_grad_()
        gradients += torch.autograd.grad(make_loss("mine")(scores.map(x)).objective, x)
    agree(gradients[1], gradients[0])
    with pytest.raises(AssertionError, match="not close"):
        agree(gradients[2], gradients[0])


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["remine", "reinfonce", "renwj"])
def test_autocast_trains_as_float32_does(name, dtype):
    x, gradients = normal(B, 16), []
    for enabled in (False, True):
        encoder = torch.nn.Linear(16, 8, bias=False)
        encoder.weight.data = normal(8, 16, scale=0.2, purpose="weights")
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            table = same_label_pairs(encoder(x), LABELS)
            objective = make_loss(name)(table).objective
        assert table.values.dtype == objective.dtype == torch.float32
        objective.backward()
        gradients.append(encoder.weight.grad)
    near = 1e-2 if dtype == torch.float16 else 5e-2  # the digits the encoder's output has
    assert (gradients[1] - gradients[0]).norm() < near * gradients[0].norm()


def test_a_scaler_skips_an_infinite_step_and_the_moving_average_recovers():
    weight = torch.nn.Parameter(torch.ones(()))
    update, scaler = torch.optim.SGD([weight], 0.1), torch.amp.GradScaler("cpu")
    loss, t = make_loss("mine_ema"), normal(32)
    seen = []
    for scale in (1.0, math.inf, 1.0):
        before = weight.item()
        update.zero_grad()
        objective = loss(independent(weight * t, weight * scale * t.flip(0))).objective
        scaler.scale(-objective).backward()
        scaler.step(update)
        scaler.update()
        seen.append(weight.item() != before)
        assert weight.isfinite()
        assert loss.bound.log_average.isfinite()
    assert seen == [True, False, True]


def test_a_first_batch_that_is_not_finite_is_forgotten():
    loss = make_loss("mine_ema")
    t = torch.ones(2, 4)
    t[1] = math.inf  # of two members, one
    loss(independent(t, t))
    loss(independent(t[:1].expand(2, 4), t[:1].expand(2, 4)))
    assert loss.bound.log_average.tolist() == [1.0, 1.0]


@pytest.fixture
def fresh_compiler():
    """A compiled function of one test is not one more variant of another's."""
    torch.compiler.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["reinfonce", "renwj", "rejs"])
def test_a_loss_compiles_into_one_graph(name, dtype, fresh_compiler):
    loss = make_loss(name)

    def objective(x: Tensor) -> Tensor:
        return loss(class_pairs(x.to(dtype), LABELS)).objective

    x = normal(B, K).requires_grad_()
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    results = [f(x) for f in (objective, compiled)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(r, x)[0] for r in results))


@pytest.mark.parametrize("name", [*LOSSES, "i_alpha"])
def test_no_loss_breaks_the_graph(name, fresh_compiler):
    """Traced only, which is the part that a branch on data would fail."""
    loss, t = make_loss(name), normal(9, 9)
    compiled = torch.compile(lambda x: loss(off_diagonal(x)).mi, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(t), loss(off_diagonal(t)).mi)


def test_a_compiled_graph_asserts_labels(fresh_compiler):
    compiled = torch.compile(class_pairs, fullgraph=True, backend="aot_eager")
    with pytest.raises((RuntimeError, ValueError), match="labels: class numbers"):
        compiled(normal(B, K), LABELS + 1)


test_bad_input_is_named = refuses(
    (lambda: independent(normal(9, 1), normal(9, 1)), r"^t_joint: .*t_joint.squeeze\(-1\)"),
    (lambda: independent(normal(9), normal(9, 1)), r"^t_product: .*t_product.squeeze\(-1\)"),
    (lambda: off_diagonal(normal(9, 9, 1)), r"squeeze\(-1\)"),
    (lambda: class_pairs(normal(B, K), LABELS + 1), "^labels: .* between 0 and 9"),
    (lambda: class_pairs(normal(B, K), LABELS - 1), "^labels: .* between 0 and 9"),
    (lambda: class_pairs(normal(B, K), LABELS + math.nan), "^labels: .* integers"),
    (lambda: class_pairs(normal(B, K), normal(B, K)), r"labels.argmax\(-1\)"),
    (lambda: class_pairs(normal(K, K), torch.eye(K).long()), r"labels.argmax\(-1\)"),
    (lambda: same_label_pairs(normal(K, 4), torch.eye(K)), r"labels.argmax\(-1\)"),
    (lambda: make_loss("i_alpha")(class_pairs(normal(B, K), LABELS)), "^scores: need a B x B"),
    (lambda: make_loss("i_alpha")(independent(normal(9), normal(9))), "^scores: need a B x B"),
    (lambda: make_loss("i_alpha")(same_label_pairs(normal(B, 4), LABELS)), "^scores: need a B x B"),
    (lambda: make_loss("i_alpha")(symmetric_pairs(normal(9, 9))), "^scores: need a B x B"),
    (lambda: make_loss("i_alpha")(all_pairs(normal(9, 9))), "^scores: need a B x B"),
)
