"""The twelve losses: known optima, formulas by hand, gradients, variants, bad input."""

from __future__ import annotations

import math
import pickle
from itertools import product

import numpy as np
import pytest
import torch

from remi_lib import LOSSES, TABLE1, Scores, class_pairs, make_loss, support_counts
from remi_lib.losses import FAMILIES, RIVALS, regularized, split_name, title
from remi_lib.stacking import stack

K = 16
LOG_K = math.log(K)


def one_hot(on: float, off: float) -> Scores:
    """A two-valued critic on the one-hot problem under its exact measures."""
    eye = torch.eye(K, dtype=torch.float64)
    return support_counts(off + (on - off) * eye, eye, torch.ones_like(eye))


def random_table(seed: int = 0, scale: float = 2.0) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return class_pairs(logits, torch.tensor([0, 1, 2, 3, 0, 1]))


# T* of each family: log dP/dQ is log K on the diagonal and -inf off it.
OPTIMAL_SHIFT = {"mine": 0, "smile": 0, "infonce": 0, "nwj": 1, "tuba": 0, "js": 0}


@pytest.mark.parametrize("name", LOSSES)
def test_optimum_reads_log_k_with_penalty_zero(name):
    family, _ = split_name(name)
    shift = OPTIMAL_SHIFT[family]
    options = {"target": _js_second_term()} if name == "rejs" else {}
    bound = make_loss(name, **options)(one_hot(LOG_K + shift, -40.0))
    low = 1 / math.e if family == "js" else 0  # quirk 1
    # Clipping at 10 leaves e^-10 of mass in each of the K - 1 off cells of a row.
    assert bound.mi.item() == pytest.approx(LOG_K - low, abs=2e-3)
    assert bound.penalty.item() == pytest.approx(0, abs=1e-12)


def _js_second_term() -> float:
    return math.log1p(K) / K


def test_js_reading_is_low_by_one_over_e_and_shift_mends_it():
    optimum = one_hot(LOG_K, -40.0)
    assert make_loss("js")(optimum).mi.item() == pytest.approx(LOG_K - 1 / math.e, abs=1e-9)
    assert make_loss("js", mi_shift=1.0)(optimum).mi.item() == pytest.approx(LOG_K, abs=1e-9)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_rejs_penalty_does_not_vanish_at_the_optimum(target):
    """Quirk 2: E_Q[softplus T*] is log(1 + K) / K, neither 0 nor 1."""
    penalty = make_loss("rejs", weight=1.0, target=target)(one_hot(LOG_K, -40.0)).penalty
    assert penalty.item() == pytest.approx((_js_second_term() - target) ** 2, abs=1e-9)


def test_official_renwj_penalises_the_optimum_by_one():
    """Quirk 3: at T* = log r + 1, log E_Q[e^T] is 1."""
    optimum = one_hot(LOG_K + 1, -40.0)
    official = make_loss("renwj", weight=0.3, variant="official")(optimum)
    assert official.penalty.item() == pytest.approx(0.3, abs=1e-6)
    assert make_loss("renwj", weight=0.3)(optimum).penalty.item() == pytest.approx(0, abs=1e-9)


def test_infonce_is_log_k_minus_cross_entropy():
    """Quirk 8, and the bound by log K in any batch."""
    logits = torch.randn(32, 10, dtype=torch.float64)
    labels = torch.randint(10, (32,))
    bound = make_loss("infonce")(class_pairs(logits, labels))
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(bound.mi, math.log(10) - cross_entropy)
    certain = torch.nn.functional.one_hot(labels, 10).double() * 1000
    for name in ("mine", "infonce"):
        mi = make_loss(name)(class_pairs(certain, labels)).mi
        assert mi.item() <= math.log(10) + 1e-12


def by_hand(name: str, table: Scores, weight: float, target: float, official: bool) -> dict:
    """Every loss once more in NumPy, from the formulas of the paper and of the authors' code."""
    t = table.values.numpy()
    p, q = np.exp(table.log_joint.numpy()), np.exp(table.log_product.numpy())
    family, regularized = split_name(name)
    clipped = np.clip(t, -10, 10)
    used = clipped if family == "smile" or name in ("renwj", "retuba") else t
    joint = (p * used).sum()

    def mean_exp(x: np.ndarray) -> float:
        return float((q * np.exp(x)).sum())

    def softplus(x: np.ndarray) -> np.ndarray:
        return np.log1p(np.exp(x))

    if family in ("mine", "smile"):
        second, anchor = np.log(mean_exp(used)), np.log(mean_exp(t))
        mi = objective = joint - second
    elif family == "infonce":
        second = sum(
            p[i].sum() * np.log((q[i] * np.exp(t[i])).sum() / q[i].sum()) for i in range(len(t))
        )
        anchor = second
        mi = objective = joint - second
    elif family == "nwj":
        second = mean_exp(used - 1)
        anchor = np.log(mean_exp(t)) if official else np.log(mean_exp(t - 1))
        mi = objective = joint - second
    elif family == "tuba":
        second, anchor = mean_exp(used) - 1, np.log(mean_exp(t))
        mi = objective = joint - second
    else:
        second = anchor = (q * softplus(t)).sum()
        objective = (p * -softplus(-t)).sum() - second
        mi = joint - mean_exp(t - 1)
        if official:
            target = 1.0
    penalty = weight * (anchor - target) ** 2 if regularized else 0.0
    return {"mi": mi, "product_term": second, "penalty": penalty, "objective": objective - penalty}


@pytest.mark.parametrize(
    ("name", "variant", "scale"), list(product(LOSSES, ("paper", "official"), (1.0, 8.0)))
)
def test_against_formulas_by_hand(name, variant, scale):
    table = random_table(7, scale)
    _, regularized = split_name(name)
    options = {"weight": 0.3, "target": None} if regularized else {}
    bound = make_loss(name, **options, variant=variant)(table)
    expected = by_hand(name, table, 0.3, 0.0, variant == "official")
    for field, value in expected.items():
        assert getattr(bound, field).item() == pytest.approx(value, rel=1e-10), field


def test_smile_may_clip_the_product_term_only():
    table = random_table(2, 12.0)
    raw, clipped = (make_loss("mine")(t) for t in (table, table.clip(10.0)))
    both, product_only = make_loss("smile")(table), make_loss("smile", clip="product")(table)
    assert both.mi.item() == pytest.approx(clipped.mi.item())
    expected = raw.joint_term - clipped.product_term
    assert product_only.mi.item() == pytest.approx(expected.item())
    assert product_only.mi.item() != pytest.approx(both.mi.item())


@pytest.mark.parametrize("name", ["mine", "infonce"])
def test_invariant_under_a_shift(name):
    table = random_table()
    shifted = table.map(table.values + 37.0)
    torch.testing.assert_close(make_loss(name)(shifted).mi, make_loss(name)(table).mi)


@pytest.mark.parametrize("name", ["remine", "nwj", "tuba", "js", "renwj"])
def test_not_invariant_under_a_shift(name):
    table = random_table()
    at = make_loss(name)(table).objective
    assert make_loss(name)(table.map(table.values + 3.0)).objective < at - 0.01


@pytest.mark.parametrize("name", [*LOSSES, "reinfonce_rows"])
def test_gradients(name):
    table = random_table(11)
    values = table.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: make_loss(name)(table.map(v)).objective, values)


def test_extreme_scores_are_what_clipping_and_the_penalty_are_for():
    """NWJ overflows at 500; clipped alone it has no gradient; ReNWJ has one, and it points down."""
    values = torch.full((4, 3), 500.0).requires_grad_()
    table = class_pairs(values, torch.tensor([0, 1, 2, 0]))
    assert not make_loss("nwj")(table).objective.isfinite()
    for name, tau in (("nwj", 10.0), ("smile", None)):
        (frozen,) = torch.autograd.grad(make_loss(name, tau=tau)(table).objective, values)
        assert (frozen == 0).all()
    for name in ("renwj", "retuba", "resmile"):
        bound = make_loss(name)(table)
        (gradient,) = torch.autograd.grad(bound.objective, values)
        assert bound.objective.isfinite()
        assert (gradient < 0).all()


@pytest.mark.parametrize("name", ["renwj", "remine", "resmile"])
def test_weight_zero_switches_an_infinite_penalty_off(name):
    values = torch.full((2, 3), -math.inf).double()
    table = class_pairs(values, torch.tensor([0, 1]))
    assert make_loss(name, weight=0.0)(table).penalty.item() == 0


def test_the_penalty_lowers_the_objective():
    """Its sign: at the same scores a regularised objective is never above the bound's."""
    table = random_table(4, 5.0)
    for family in FAMILIES:
        twin = make_loss("re" + family, weight=0.5, target=0.7)(table)
        assert twin.penalty.item() > 0
        clip = make_loss("re" + family, weight=0.0)(table)
        assert twin.objective.item() == pytest.approx((clip.objective - twin.penalty).item())


def test_a_family_with_many_weights_is_one_call():
    table = random_table(3)
    weights, targets = torch.tensor([0.1, 1.0, 10.0]).double(), torch.tensor([0.0, 1.0, -2.0])
    many = Scores(table.values.expand(3, -1, -1), table.log_joint, table.log_product)
    together = make_loss("remine", weight=weights, target=targets.double())(many)
    for i in range(3):
        alone = make_loss("remine", weight=weights[i].item(), target=targets[i].item())(table)
        for field in alone._fields:
            torch.testing.assert_close(getattr(together, field)[i], getattr(alone, field))


def test_stacked_members_equal_their_own_loss():
    names = ["js", "renwj", "mine", "smile", "nwj", "rejs", "resmile", "remine", "tuba"]
    losses = [make_loss(name) for name in names] + [make_loss("renwj", variant="official")]
    tables = [random_table(k, 6.0) for k in range(len(losses))]
    stacked = Scores(*(torch.stack(field) for field in zip(*tables, strict=True)))
    together = stack(losses)(stacked)
    for i, (loss, table) in enumerate(zip(losses, tables, strict=True)):
        for field, value in loss(table)._asdict().items():
            torch.testing.assert_close(getattr(together, field)[i], value, msg=f"{names[i:]}")


def test_stacked_losses_are_as_precise_as_their_table():
    table = Scores(*(field.unsqueeze(0) for field in random_table(0)))  # float64
    loss = make_loss("remine", weight=0.1, target=0.3)  # neither is a float32
    for together, own in zip(stack([loss])(table), loss(table), strict=True):
        torch.testing.assert_close(together, own, rtol=1e-15, atol=0)


def test_vmap_over_leading_dimension():
    tables = [random_table(k) for k in range(3)]
    stacked = Scores(*(torch.stack(field) for field in zip(*tables, strict=True)))
    for name in LOSSES:
        loss = make_loss(name)
        mapped = torch.func.vmap(lambda *t: loss(Scores(*t)).objective)(*stacked)  # noqa: B023
        torch.testing.assert_close(mapped, loss(stacked).objective)


def test_names():
    assert LOSSES[:6] == tuple(row.name for row in TABLE1)
    assert [title(name) for name in ("remine", "infonce", "retuba")] == [
        "ReMINE",
        "InfoNCE",
        "ReTUBA",
    ]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("mien",), {}, "no loss is called 'mien'; allowed: mine"),
        (("remine", -0.1), {}, "weight: -0.1 is not allowed; must be >= 0"),
        (("mine", 0.1), {}, "use 'remine'"),
        (("nwj",), {"target": 0.0}, "use 'renwj'"),
        (("smile",), {"tau": 0.0}, "tau: 0.0"),
        (("remine",), {"target": math.nan}, "target"),
        (("renwj",), {"variant": "authors"}, "variant: 'authors'"),
        (("renwj",), {"clip": "product"}, "option of SMILE"),
        (("smile",), {"clip": "joint"}, "clip: 'joint'"),
        (("mine",), {"mi_shift": 1.0}, "only JS and ReJS"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make_loss(*arguments, **options)


def test_every_family_of_the_paper_has_a_regularised_loss_and_no_rival_has():
    assert [regularized(family) for family in FAMILIES] == list(LOSSES[6:])
    assert [row.twin for row in TABLE1] == list(LOSSES[6:])
    assert {row.twin for row in RIVALS} == {None}
    for name in ("renwj", "flo"):
        with pytest.raises(ValueError, match=f"^loss: '{name}' has no regularised loss"):
            regularized(name)


def test_a_default_of_float64_widens_no_float32_scores():
    torch.set_default_dtype(torch.float64)
    try:
        table = class_pairs(torch.randn(6, 4, dtype=torch.float32), torch.arange(6) % 4)
        for name in LOSSES:
            assert {x.dtype for x in make_loss(name)(table)} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "options",
    [{"name": "renwj", "variant": "official"}, {"name": "js", "mi_shift": 1.0}, {"name": "mine"}],
)
def test_losses_can_be_pickled(options):
    loss, table = make_loss(**options), random_table()
    again = pickle.loads(pickle.dumps(loss))  # our own bytes
    assert [x.item() for x in again(table)] == [x.item() for x in loss(table)]


@pytest.mark.parametrize("name", [None, 0.1, "mine@"])
def test_what_is_no_name_is_said_to_be_none(name):
    with pytest.raises(ValueError, match=r"^loss: "):
        make_loss(name)


def test_the_reading_of_js_is_shifted_by_a_number():
    with pytest.raises(ValueError, match=r"^mi_shift: "):
        make_loss("js", mi_shift=math.nan)
