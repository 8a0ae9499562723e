"""The modules against formulas of ten lines, at the corners, and in the surroundings they meet."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from remi_lib import LOSSES, make_loss
from remi_lib.nn import ContrastiveLoss, PairLoss, TwoViewLoss
from remi_lib.scores import all_pairs, keep, off_diagonal
from tests.conftest import refuses

TAU = 0.2


def leaf(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def value_and_gradients(loss, *inputs: Tensor) -> list[Tensor]:
    value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def as_cross_entropy(module: nn.Module, *inputs: Tensor, **options) -> Tensor:
    """The module's value on the scale of the libraries that report cross-entropies."""
    value = module(*inputs, **options)
    return value + module.last.log_candidates


# --- known answers: the peers' formulas ---------------------------------------------------------


def simclr(out0: Tensor, out1: Tensor) -> Tensor:
    both = normalize(torch.cat([out0, out1]), dim=-1)
    n = len(out0)
    logits = (both @ both.T / TAU).masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
    return cross_entropy(logits, torch.arange(2 * n).roll(n))


def clip(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    logits = scale * normalize(image, dim=-1) @ normalize(text, dim=-1).T
    own = torch.arange(len(image))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def supcon(embeddings: Tensor, labels: Tensor) -> Tensor:
    z = normalize(embeddings, dim=-1)
    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        total = torch.logsumexp(torch.stack([z[i] @ z[k] / TAU for k in others]), 0)
        own = [z[i] @ z[k] / TAU - total for k in others if labels[k] == labels[i]]
        if own:
            losses.append(-torch.stack(own).mean())
    return torch.stack(losses).mean()


def ntxent(embeddings: Tensor, labels: Tensor) -> Tensor:
    z = normalize(embeddings, dim=-1)
    losses = []
    for i in range(len(z)):
        negatives = [z[i] @ z[k] / TAU for k in range(len(z)) if labels[k] != labels[i]]
        for j in range(len(z)):
            if i != j and labels[i] == labels[j]:
                t = z[i] @ z[j] / TAU
                losses.append(torch.logsumexp(torch.stack([t, *negatives]), 0) - t)
    return torch.stack(losses).mean()


LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])


@pytest.mark.parametrize(("name", "weight"), [("infonce", None), ("reinfonce", 0.0)])
def test_two_views_are_simclr(name, weight):
    module = TwoViewLoss(name, weight, temperature=TAU)
    ours = value_and_gradients(lambda *x: as_cross_entropy(module, *x), leaf(5, 3), leaf(5, 3))
    torch.testing.assert_close(ours, value_and_gradients(simclr, leaf(5, 3), leaf(5, 3)))
    assert module.last.log_candidates == pytest.approx(math.log(9))


def test_pairs_are_clip_with_its_logit_scale():
    image, text, scale = leaf(6, 3), leaf(6, 3, seed=1), torch.tensor(5.0).double()
    module = PairLoss("infonce")
    ours = value_and_gradients(
        lambda *x: as_cross_entropy(module, *x), image, text, scale.requires_grad_()
    )
    torch.testing.assert_close(ours, value_and_gradients(clip, image, text, scale))


def test_one_direction_is_infonce_of_queries_and_keys():
    query, key = leaf(6, 3), leaf(6, 3, seed=1)
    module = PairLoss("infonce", temperature=TAU, symmetric=False)
    logits = normalize(query, dim=-1) @ normalize(key, dim=-1).T / TAU
    expected = cross_entropy(logits, torch.arange(6))
    torch.testing.assert_close(as_cross_entropy(module, query, key), expected)


@pytest.mark.parametrize(("positives", "formula"), [("anchors", supcon), ("alone", ntxent)])
def test_labels_are_supcon_or_ntxent(positives, formula):
    module = ContrastiveLoss("infonce", temperature=TAU, positives=positives)
    ours = value_and_gradients(lambda x: as_cross_entropy(module, x, LABELS), leaf(7, 3))
    theirs = value_and_gradients(lambda x: formula(x, LABELS), leaf(7, 3))
    torch.testing.assert_close(ours, theirs)


def test_one_positive_each_makes_them_all_one():
    labels, z = torch.arange(4).repeat(2), leaf(8, 3)
    values = [
        ContrastiveLoss("reinfonce", temperature=TAU, positives=positives)(z, labels)
        for positives in ("pairs", "anchors", "alone")
    ]
    values.append(TwoViewLoss("reinfonce", temperature=TAU)(*z.chunk(2)))
    torch.testing.assert_close(torch.stack(values), values[0].expand(4))


def test_the_paper_counts_every_pair_the_same():
    z = leaf(7, 3)
    module = ContrastiveLoss("mine", temperature=1, normalize_embeddings=False)
    t = z @ z.T
    joint = [t[i, j] for i in range(7) for j in range(7) if i != j and LABELS[i] == LABELS[j]]
    product = [t[i, j] for i in range(7) for j in range(7) if i != j]
    second = torch.logsumexp(torch.stack(product), 0) - math.log(len(product))
    torch.testing.assert_close(module(z, LABELS), second - torch.stack(joint).mean())


def test_the_penalty_is_subtracted_and_reported():
    z = leaf(7, 3)
    module = ContrastiveLoss("reinfonce", weight=0.5, target=0.25)
    value = module(z, LABELS)
    last = module.last
    torch.testing.assert_close(last.penalty, 0.5 * (last.product_term - 0.25).square())
    torch.testing.assert_close(value.detach(), last.penalty - last.mi)
    assert not any(x.requires_grad for x in last)


def test_reference_embeddings_and_a_miner():
    z, ref = leaf(7, 3), leaf(4, 3, seed=2)
    theirs = torch.tensor([0, 1, 2, 9])
    module = ContrastiveLoss("infonce", temperature=TAU)
    whole = module(z, LABELS, ref_emb=ref, ref_labels=theirs)
    match = LABELS[:, None] == theirs
    chosen = (*match.nonzero(as_tuple=True), *(~match).nonzero(as_tuple=True))
    torch.testing.assert_close(module(z, indices_tuple=chosen, ref_emb=ref), whole)
    a, p = match.nonzero(as_tuple=True)
    triplets = [(i, j, n) for i, j in zip(a, p, strict=True) for n in range(4) if not match[i, n]]
    mined = tuple(torch.tensor(x) for x in zip(*triplets, strict=True))
    # Anchors without a positive have no triplet, and no weight in InfoNCE's rows either.
    torch.testing.assert_close(module(z, indices_tuple=mined, ref_emb=ref), whole)


def test_members_side_by_side_and_their_reduction():
    z = leaf(3, 7, 4)
    single = [ContrastiveLoss("remine")(x, LABELS) for x in z]
    each = ContrastiveLoss("remine", reduction="none")(z, LABELS.expand(3, 7))
    torch.testing.assert_close(each, torch.stack(single))
    for reduction in ("mean", "sum"):
        value = ContrastiveLoss("remine", reduction=reduction)(z, LABELS.expand(3, 7))
        torch.testing.assert_close(value, getattr(torch, reduction)(each))


# --- corners ------------------------------------------------------------------------------------

CORNERS = {
    "no positives": torch.arange(6),
    "one positive": torch.tensor([0, 0, 1, 2, 3, 4]),
    "one label": torch.zeros(6, dtype=torch.long),
    "B = 2, a pair": torch.zeros(2, dtype=torch.long),
    "B = 2, no pair": torch.arange(2),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("positives", ["pairs", "anchors", "alone"])
def test_corners_are_finite(name, corner, positives):
    labels = CORNERS[corner]
    z = leaf(len(labels), 3)
    module = ContrastiveLoss(name, positives=positives)
    value, gradient = value_and_gradients(lambda x: module(x, labels), z)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert module.last.joint_mass == pytest.approx(0.0 if "no p" in corner else 1.0)


def test_one_label_carries_no_information():
    """All pairs joint: P is Q, and DV reads at most 0."""
    module = ContrastiveLoss("mine")
    module(leaf(6, 3), CORNERS["one label"])
    assert module.last.mi <= 0


@pytest.mark.parametrize("name", LOSSES)
def test_two_samples_of_two_views_or_modalities(name):
    for module in (TwoViewLoss(name), PairLoss(name)):
        found = value_and_gradients(module, leaf(2, 3), leaf(2, 3, seed=1))
        assert all(x.isfinite().all() for x in found)


# --- temperature, precision, surroundings -------------------------------------------------------


def test_a_learned_temperature_is_a_parameter_with_a_gradient():
    module = ContrastiveLoss("reinfonce", temperature=TAU, learn_temperature=True).double()
    assert [name for name, _ in module.named_parameters()] == ["log_scale"]
    assert list(ContrastiveLoss().parameters()) == []
    z = leaf(7, 3)

    def at(log_scale: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"log_scale": log_scale}, (z, LABELS))

    start = module.log_scale.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(at, (start,))
    assert module.last.temperature == pytest.approx(TAU)


@pytest.mark.parametrize("autocast", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("module", [ContrastiveLoss, TwoViewLoss, PairLoss])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_scored_in_float32(name, module, dtype, autocast):
    """What is right: the value, and to the digits of the type the gradient, of the same numbers."""
    given = [leaf(32, 16, seed=i).detach().to(dtype).requires_grad_() for i in (0, 1)]
    labels = torch.arange(32) % 4

    def loss(first: Tensor, second: Tensor) -> Tensor:
        criterion = module(name)
        if isinstance(criterion, ContrastiveLoss):
            return criterion(first, labels) + 0 * second.sum()
        return criterion(first, second)

    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        found = value_and_gradients(loss, *given)
    exact = value_and_gradients(loss, *(x.detach().double().requires_grad_() for x in given))
    torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(found[1:], exact[1:], strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() <= 1e-2 * theirs.norm()


@pytest.mark.parametrize("cast", [nn.Module.bfloat16, nn.Module.half, nn.Module.double])
def test_a_fixed_temperature_survives_a_cast_of_the_module(cast):
    z, labels = leaf(32, 16).detach(), torch.arange(32) % 4
    value = cast(ContrastiveLoss("reinfonce", temperature=0.1))(z, labels)
    torch.testing.assert_close(value, ContrastiveLoss("reinfonce", temperature=0.1)(z, labels))


def test_padded_candidates_are_masked_not_filled():
    t = leaf(4, 6, 6)
    mask = torch.arange(6) < 4
    mask = mask & mask[:, None]
    for name in LOSSES:
        loss = make_loss(name)
        padded, alone = (loss(x) for x in (keep(all_pairs(t), mask), all_pairs(t[:, :4, :4])))
        torch.testing.assert_close(padded, alone)
    scale = torch.tensor(2.0, requires_grad=True, dtype=torch.float64)
    make_loss("reinfonce")(keep(off_diagonal(t[0] * scale), mask)).objective.backward()
    assert scale.grad.isfinite()


def test_it_says_what_it_is():
    text = repr(ContrastiveLoss("reinfonce", weight=0.1, temperature=0.1))
    assert text == (
        "ContrastiveLoss('reinfonce', weight=0.1, temperature=0.1, normalize_embeddings=True, "
        "reduction='mean', positives='pairs')"
    )
    assert "(learned)" in repr(PairLoss(learn_temperature=True))


test_errors_begin_with_what_is_at_fault = refuses(
    (lambda: ContrastiveLoss("flo"), "^loss: "),
    (lambda: TwoViewLoss(temperature=0.0), "^temperature: "),
    (lambda: PairLoss(reduction="batchmean"), "^reduction: "),
    (lambda: ContrastiveLoss("infonce", weight=0.1), "^weight: "),
    (lambda: ContrastiveLoss(positives="some"), "^positives: "),
    (lambda: ContrastiveLoss()(torch.randn(4)), "^embeddings: "),
    (lambda: ContrastiveLoss()(torch.randn(4, 2)), "^labels: "),
    (lambda: ContrastiveLoss()(torch.randn(4, 2), torch.zeros(3)), "^labels: "),
    # One-hot labels of as many classes as rows would be read as four members.
    (lambda: ContrastiveLoss()(torch.randn(4, 2), torch.eye(4)), r"^labels: .*argmax\(-1\)"),
    (lambda: ContrastiveLoss()(torch.randn(4, 2), torch.rand(4, 3)), r"^labels: .*argmax\(-1\)"),
    (lambda: ContrastiveLoss()(torch.randn(3, 4, 2), torch.eye(4)), "^labels: "),
    (lambda: ContrastiveLoss()(torch.randn(4, 2), torch.full((4,), math.nan)), "^labels: .*NaN"),
    (lambda: ContrastiveLoss()(torch.randn(0, 2), torch.zeros(0)), "^embeddings: "),
    (lambda: PairLoss()(torch.randn(1, 2), torch.randn(1, 2)), "^image, text: "),
    (
        lambda: ContrastiveLoss()(torch.randn(4, 2), torch.zeros(4), ref_emb=torch.ones(3, 2)),
        "^ref_emb, ref_labels: ",
    ),
    (lambda: PairLoss()(torch.randn(4, 2), torch.randn(3, 2)), "^image, text: "),
    (lambda: TwoViewLoss()(torch.randn(4, 2), torch.randn(3, 2)), "^out0, out1: "),
)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_any_pair_says_and_moves_nothing(loss):
    """The last batch of an epoch with one sample in it, or a miner that chose nothing."""
    module = ContrastiveLoss(loss)
    single = torch.randn(1, 4, requires_grad=True)
    few = torch.randn(3, 4, requires_grad=True)
    nothing = (torch.empty(0, dtype=torch.long),) * 4
    found = [
        (module(single, torch.tensor([0])), single),
        (module(few, indices_tuple=nothing), few),
    ]
    for value, given in found:
        assert value.isfinite()
        (gradient,) = torch.autograd.grad(value, given)
        assert gradient.eq(0).all()


@pytest.mark.parametrize("loss", ["infonce_anchor@remi_lib.rivals", "i_alpha", "flo"])
@pytest.mark.parametrize("module", [ContrastiveLoss, TwoViewLoss, PairLoss])
def test_a_loss_that_needs_a_table_of_its_own_is_refused(module, loss):
    with pytest.raises(ValueError, match=f"loss: '{loss}' needs a"):
        module(loss)


def test_what_does_not_fit_is_named():
    x = leaf(6, 3)
    labels = [0, 0, 1, 1, 2, 2]  # a list will do
    loss = ContrastiveLoss()
    assert loss(x, labels) == loss(x, torch.tensor(labels))
    with pytest.raises(ValueError, match=r"^ref_emb: rows of 4, embeddings have 3"):
        loss(x, labels, ref_emb=leaf(6, 4), ref_labels=labels)
    with pytest.raises(ValueError, match=r"^ref_emb: need"):
        loss(x, labels, ref_emb=leaf(0, 3), ref_labels=[])
    with pytest.raises(ValueError, match=r"^logit_scale: "):
        PairLoss()(x, x, logit_scale=torch.ones(6))


def test_one_view_of_all_members_pairs_with_views_of_each():
    x, views = leaf(4, 3), leaf(2, 4, 3, seed=1)
    each = torch.stack([TwoViewLoss()(view, x) for view in views])
    torch.testing.assert_close(TwoViewLoss(reduction="none")(views, x), each)
