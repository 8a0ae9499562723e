"""The six neural MI losses, their regularised twins, and how they compose.

A *bound* turns a score table into two terms.  A *penalty* anchors the second term.  A
:class:`Loss` is one bound, optionally clipped, minus lambda times one penalty.  Each formula
stands here once; :data:`TABLE1` says which parts make which of the paper's twelve losses.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from remi_lib.scores import NEG_INF, Scores, split_head

Number = float | Tensor
Variant = Literal["paper", "official"]
Clip = Literal["both", "product"]


class Terms(NamedTuple):
    """What a bound says of a table: its two terms, its MI reading and its training objective.

    ``anchor`` is the second term on the scale on which Table 1 measures the penalty's distance
    (the logarithm for the log-Euclidean losses), so that it stays finite where e^T overflows.
    ``spread`` is the variance of what the anchor is the mean of, for a penalty on every part of
    it (:func:`infonce_rows`).  All (...), in nats.
    """

    joint_term: Tensor
    product_term: Tensor
    anchor: Tensor
    mi: Tensor
    objective: Tensor
    spread: Number = 0.0


class Bound(NamedTuple):
    """One evaluation of a loss; every field (...), in nats.

    ``mi`` carries no penalty; ``penalty`` is already weighted by lambda; ``objective`` (to be
    maximised) is the bound's own objective minus ``penalty``.
    """

    mi: Tensor
    joint_term: Tensor
    product_term: Tensor
    penalty: Tensor
    objective: Tensor


def _terms(joint_term: Tensor, product_term: Tensor, anchor: Tensor | None = None) -> Terms:
    mi = joint_term - product_term
    return Terms(joint_term, product_term, product_term if anchor is None else anchor, mi, mi)


def dv(scores: Scores) -> Terms:
    """Donsker-Varadhan, Eq. 2 and 4 (MINE): E_P[T] - log E_Q[e^T]; T* = log dP/dQ + constant."""
    return _terms(scores.joint_mean(), scores.log_mean_exp())


def infonce(scores: Scores) -> Terms:
    """Eq. 5: mean over joint pairs of T - log mean over the pair's row of e^T; at most log K."""
    return _terms(scores.joint_mean(), scores.row_log_mean_exp())


def infonce_rows(scores: Scores) -> Terms:
    """InfoNCE whose regularised twin penalises every row: lambda mean_i (log Z_i - C)^2.

    log Z_i is the log-mean-exp of row i and the mean one over joint pairs; :func:`infonce` has
    lambda (mean_i log Z_i - C)^2, so the two differ by lambda Var_i(log Z_i).  With K candidates
    in each row and C = -log K it is the z-loss of language models, lambda mean_i
    (log sum_k e^(T_ik))^2 (ST-MoE, PaLM).
    """
    return infonce(scores)._replace(spread=scores.row_variance())


def nwj(scores: Scores) -> Terms:
    """Eq. 3: E_P[T] - E_Q[e^(T-1)]; T* = log dP/dQ + 1, where the second term is 1."""
    log_second = scores.log_mean_exp() - 1
    return _terms(scores.joint_mean(), log_second.exp(), log_second)


def tuba(scores: Scores) -> Terms:
    """Eq. 6 with a(y) = 1: E_P[T] - (E_Q[e^T] - 1); T* = log dP/dQ, where E_Q[e^T] is 1."""
    log_second = scores.log_mean_exp()
    return _terms(scores.joint_mean(), torch.expm1(log_second), log_second)


def js(scores: Scores, mi_shift: float = 0.0) -> Terms:
    """Eq. 8: E_P[-softplus(-T)] - E_Q[softplus(T)]; T* = log dP/dQ.

    Its value is no MI, so MI is read as NWJ of T + ``mi_shift``.  As printed (shift 0) the
    reading is low by exactly 1/e at the optimum; at shift 1 it is unbiased.
    """
    joint = -scores.map(softplus(-scores.values)).joint_mean()
    product = scores.map(softplus(scores.values)).product_mean()
    mi = nwj(scores.map(scores.values + mi_shift)).mi
    return Terms(joint, product, product, mi, joint - product)


# Later rivals, each on the same table.  Not of the paper; optional rows of Fig 7.


def smile_js(scores: Scores, tau: float = 5.0) -> Terms:
    """Song & Ermon 2020: trained by JS, read by DV with the product term clipped to tau."""
    read = dv(scores)
    clipped = scores.clip(tau).log_mean_exp()
    terms = _terms(read.joint_term, clipped)
    return terms._replace(objective=js(scores).objective)


def gan_dime(scores: Scores) -> Terms:
    """Letizia et al. 2024, GAN-DIME: trained by JS, whose T* is log dP/dQ, and read as E_P[T]."""
    return js(scores)._replace(mi=scores.joint_mean())


def i_alpha(scores: Scores, alpha: float = 0.01) -> Terms:
    """Poole et al. 2019, I_alpha: TUBA with baseline a = alpha m + 1 - alpha, of a B x B table.

    m(i, j) is the mean of e^T over row i without cell j, the diagonal being joint.  A joint pair
    i is measured against a(i, j), whose mean contains the pair, on average over j; a product
    pair of row i against a(i, i), whose mean does not.  Between TUBA (alpha 0, high variance)
    and InfoNCE (alpha 1, high bias); at most log((B - 1) / alpha).
    """
    size = scores.values.shape[-1]
    scores = Scores(*(x[..., :size, :] for x in scores))  # without another bound's second head
    values = scores.values
    none = torch.full_like(values[..., :1], NEG_INF)
    before = torch.cat([none, values.logcumsumexp(-1)[..., :-1]], -1)
    after = torch.cat([values.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:], none], -1)
    log_m = torch.logaddexp(before, after) - math.log(size - 1)
    floor = torch.full_like(log_m, math.log1p(-alpha))
    log_a = torch.logaddexp(log_m + math.log(alpha), floor)
    joint_values, row_a = (x.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) for x in (values, log_a))
    joint = scores.map(joint_values - log_a).product_mean()
    second = tuba(scores.map(values - row_a))
    return _terms(joint, second.product_term, second.anchor)


def flo(scores: Scores) -> Terms:
    """Guo et al. 2022, FLO: 1 - E_P[u + e^(log E_{Q(.|x)}[e^T] - T - u)], u a second head.

    At u* = log E_{Q(.|x)}[e^T] - T it is the leave-one-out contrastive bound.  Needs a table made
    by :func:`~remi_lib.scores.with_head`.
    """
    table, u = split_head(scores)
    log_ratio = table.rows().unsqueeze(-1) - table.values
    bound = table.map(1 - u - (log_ratio - u).exp()).joint_mean()
    return _terms(bound, torch.zeros_like(bound))


class EmaMine:
    """Belghazi et al. 2018: MINE whose gradient divides by a moving average of E_Q[e^T].

    The reading is DV; of the objective only the gradient has a meaning.  The average (in
    logarithms, one per member) is the only state, so each training needs its own instance.
    """

    def __init__(self, rate: float = 0.01) -> None:
        self.rate = rate
        self.log_average: Tensor | None = None

    def __call__(self, scores: Scores) -> Terms:
        terms = dv(scores)
        now = terms.product_term.detach()
        if not torch.is_grad_enabled():  # a look is no step
            return terms
        if self.log_average is None:
            self.log_average = now.clone()
        else:
            mixed = torch.logaddexp(
                self.log_average + math.log1p(-self.rate), now + math.log(self.rate)
            )
            self.log_average.copy_(mixed)
        corrected = (terms.product_term - self.log_average).exp()
        return terms._replace(objective=terms.joint_term - corrected)


BoundFunction = Callable[[Scores], Terms]
BoundOf = Callable[[Scores], Bound]


def _own_anchor(terms: Terms) -> Tensor:
    return terms.anchor


@dataclass(frozen=True)
class Loss:
    """A bound, clipped or not, minus ``weight`` times the squared distance of its anchor.

    ``objective = bound(clip(T)) - weight * ((anchor(T) - target)^2 + spread(T))``, where a bound
    of the paper has no spread: the penalty always sees the unclipped critic (Section 4).
    ``weight``, ``target`` and ``tau`` may be tensors (...) that give each member of an ensemble
    its own value; weight 0 and tau inf switch a part off.
    """

    name: str
    bound: BoundFunction
    weight: Number | None = None
    target: Number = 0.0
    tau: Number | None = None
    clip: Clip = "both"
    anchor: Callable[[Terms], Tensor] = _own_anchor

    def __call__(self, scores: Scores) -> Bound:
        raw = self.bound(scores)
        terms = raw if self.tau is None else self._clipped(scores, raw, self.tau)
        penalty = self._penalty(self.anchor(raw), raw.spread)
        return Bound(
            terms.mi, terms.joint_term, terms.product_term, penalty, terms.objective - penalty
        )

    def _clipped(self, scores: Scores, raw: Terms, tau: Number) -> Terms:
        clipped = self.bound(scores.clip(tau))
        if self.clip == "both":
            return clipped
        return _terms(raw.joint_term, clipped.product_term, clipped.anchor)

    def _penalty(self, anchor: Tensor, spread: Number) -> Tensor:
        if self.weight is None:
            return torch.zeros_like(anchor)
        weight = torch.as_tensor(self.weight, dtype=anchor.dtype, device=anchor.device)
        # A weight of 0 must switch off an infinite anchor too: 0 * inf would be NaN.
        squared = torch.where(weight > 0, anchor - self.target, 0.0).square()
        return weight * (squared + torch.where(weight > 0, spread, 0.0))


@dataclass(frozen=True)
class Recipe:
    """One row of Table 1: the bound, how the paper's text describes its settings, and the parts.

    A class in place of a bound has state: every loss made from it gets an instance of its own.
    """

    name: str
    title: str
    bound: BoundFunction | type[EmaMine]
    loss_settings: str
    penalty_settings: str
    clip_original: bool = False
    clip_regularized: bool = False
    optimal_shift: float = 0.0  # the optimal critic is log dP/dQ plus this
    source: str = ""  # the code of a registered loss


TABLE1: tuple[Recipe, ...] = (
    Recipe("mine", "MINE", dv, "no gradient moving average", "Euclidean distance"),
    Recipe("smile", "SMILE", dv, "clipping", "Euclidean distance", True, True),
    Recipe("infonce", "InfoNCE", infonce, "-", "Euclidean distance"),
    Recipe("nwj", "NWJ", nwj, "-", "log-Euclidean distance, clipping", False, True, 1.0),
    Recipe("tuba", "TUBA", tuba, "a(y) = 1", "log-Euclidean distance, clipping", False, True),
    Recipe("js", "JS", js, "MI estimated with NWJ", "Euclidean distance"),
)

# Estimators that came before or after the paper, with their source; they have no twin.
RIVALS: tuple[Recipe, ...] = (
    Recipe("mine_ema", "MINE (EMA)", EmaMine, "Belghazi et al. 2018", "-"),
    Recipe("smile_js", "SMILE (JS gradient)", smile_js, "Song & Ermon 2020", "-"),
    Recipe("i_alpha", "I_alpha", i_alpha, "Poole et al. 2019", "-"),
    Recipe("flo", "FLO", flo, "Guo et al. 2022", "-"),
    Recipe("gan_dime", "GAN-DIME", gan_dime, "Letizia et al. 2024", "-"),
)

# Not of the paper, with a twin: "infonce_rows" is InfoNCE, "reinfonce_rows" has a penalty per row.
VARIANTS: tuple[Recipe, ...] = (
    Recipe("infonce_rows", "InfoNCE (rows)", infonce_rows, "as InfoNCE", "Euclidean, per row"),
)

FAMILIES: tuple[str, ...] = tuple(row.name for row in TABLE1)
LOSSES: tuple[str, ...] = FAMILIES + tuple("re" + name for name in FAMILIES)

_TWINLESS = tuple(row.name for row in RIVALS)
_RECIPES = {row.name: row for row in TABLE1 + RIVALS + VARIANTS}
# Where the authors' code anchors another quantity than the text: Eq. 15 has log E_Q[e^(T-1)],
# the code log E_Q[e^T], whose zero is not the optimum of NWJ.
_OFFICIAL_ANCHORS: dict[str, Callable[[Terms], Tensor]] = {"nwj": lambda terms: terms.anchor + 1}
# The code's target for the second term of JS in the benchmarks; the text names none.
_OFFICIAL_TARGETS: dict[str, float] = {"js": 1.0}


def register(
    name: str, bound: BoundFunction, title: str | None = None, *, clip: bool = False
) -> None:
    """Add a loss of one's own, and with it "re" + ``name``, its regularised twin.

    Args:
        name: letters, digits and underscores; not that of another loss.
        bound: from :class:`~remi_lib.scores.Scores` to :class:`Terms`, each field (...), in nats.
        title: the printed name; ``name`` if None.
        clip: both losses clip their scores to [-tau, tau], 10 if not given, as SMILE does.

    The loss is known to this process.  Where others have to find it, as the workers of a sweep
    do, put the call into a module and name the loss ``name@module``: whoever meets that name
    imports the module.  Registering the same function again changes nothing, so a module may be
    imported twice.

    Raises:
        ValueError: a name that is not allowed, or is taken.
    """
    if not name.isidentifier():
        raise ValueError(f"name: {name!r} is not allowed; letters, digits and underscores only")
    for taken in (name, name.removeprefix("re"), "re" + name):
        known = _RECIPES.get(taken)
        # An interactive cell that is run again, or a module loaded afresh, makes a new object.
        again = known and taken == name and _origin(known.bound) == _origin(bound)
        if known and not again:
            raise ValueError(f"name: {name!r} is taken by another loss, {known.title}")
    _RECIPES[name] = Recipe(
        name, title or name, bound, "own", "own", clip, clip, source=_source(bound)
    )


def _origin(bound: BoundFunction | type) -> tuple[str, str]:
    return bound.__module__, bound.__qualname__


def _source(bound: BoundFunction) -> str:
    """The text of the module that a bound comes from; of the function alone if it has no file."""
    module = sys.modules.get(bound.__module__)
    try:
        return inspect.getsource(module if getattr(module, "__file__", None) else bound)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return repr(getattr(bound, "__code__", bound))


def own_source(name: str) -> str | None:
    """The code of a registered loss, for the key that its results are kept under; else None."""
    return _recipe_of(split_name(name)[0]).source or None


def _recipe(family: str) -> Recipe | None:
    """The recipe of a family; of ``name@module`` after importing the module."""
    name, at, module = family.partition("@")
    if at:
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(f"loss: {family!r}: cannot import {module!r} ({error})") from error
    return _RECIPES.get(name)


def split_name(name: str) -> tuple[str, bool]:
    """("renwj") -> ("nwj", True): the family and whether the loss is regularised.

    Raises ValueError for a name that is none of :data:`LOSSES` or :data:`RIVALS` and was not
    registered.
    """
    if _recipe(name):
        return name, False
    family = name.removeprefix("re")
    if family != name and family not in _TWINLESS and _recipe(family):
        return family, True
    own = [family for family in _RECIPES if family not in (*FAMILIES, *_TWINLESS)]
    allowed = [*LOSSES, *_TWINLESS, *own, *("re" + family for family in own)]
    raise ValueError(
        f"loss: no loss is called {name!r}; allowed: {', '.join(allowed)}, "
        "or name@module of one that the module registers"
    )


def families_of(names: Iterable[str]) -> list[str]:
    """The families of some losses, each once, in the order they come."""
    return list(dict.fromkeys(split_name(name)[0] for name in names))


def optimal_shift(name: str) -> float:
    """The optimal critic of a loss is log dP/dQ plus this constant (0 among MINE's many)."""
    return _recipe_of(split_name(name)[0]).optimal_shift


def title(name: str) -> str:
    """The name as the paper prints it: "remine" -> "ReMINE"."""
    family, regularized = split_name(name)
    return ("Re" if regularized else "") + _recipe_of(family).title


def _recipe_of(family: str) -> Recipe:
    recipe = _recipe(family)
    assert recipe is not None, family  # split_name has looked it up
    return recipe


def make_loss(
    name: str,
    weight: Number | None = None,
    target: Number | None = None,
    tau: Number | None = None,
    *,
    variant: Variant = "paper",
    clip: Clip = "both",
    mi_shift: float = 0.0,
) -> Loss:
    """One of the twelve losses of Table 1, as a function from :class:`Scores` to :class:`Bound`.

    Args:
        name: one of :data:`LOSSES` or :data:`RIVALS`, or one that was registered
            (:func:`register`).
        weight: lambda >= 0 of the penalty; 0.1 if not given.  Only for the regularised losses.
        target: C, what the anchored second term is drawn to, on the penalty's scale; 0 if not
            given (1 for ReJS in the authors' benchmark code, ``variant="official"``).
        tau: clipping threshold > 0; 10 if not given, where Table 1 clips (SMILE, ReSMILE, ReNWJ,
            ReTUBA).  ``math.inf`` switches clipping off; a value given to another loss clips it.
        variant: ``"paper"`` as the text writes it, ``"official"`` as the authors coded it.
        clip: SMILE's clipping of ``"both"`` terms (Section 4) or of the ``"product"`` term only
            (Song & Ermon 2020; the authors' Gaussian code).
        mi_shift: the reading of JS, see :func:`js`.

    ``weight``, ``target`` and ``tau`` may be tensors that broadcast over the leading dimensions
    of the scores.

    Raises:
        ValueError: an unknown name or option, or a value outside its range.
    """
    family, regularized = split_name(name)
    recipe = _recipe_of(family)
    _one_of("variant", variant, ("paper", "official"))
    _one_of("clip", clip, ("both", "product"))
    official = variant == "official"

    if not regularized and weight is not None:
        raise ValueError(f"weight: {name} has no penalty; use 're{name}' (or drop weight)")
    if not regularized and target is not None:
        raise ValueError(f"target: {name} has no penalty; use 're{name}' (or drop target)")
    if regularized:
        weight = 0.1 if weight is None else weight
        _in_range("weight", weight, lambda w: (w >= 0) & w.isfinite(), ">= 0 and finite")
    if target is None:
        target = _OFFICIAL_TARGETS.get(family, 0.0) if official else 0.0
    _in_range("target", target, torch.isfinite, "a finite number")

    if tau is None and (recipe.clip_regularized if regularized else recipe.clip_original):
        tau = 10.0
    if tau is not None:
        _in_range("tau", tau, lambda t: t > 0, "> 0")
        if not isinstance(tau, Tensor) and math.isinf(tau):
            tau = None
    if tau is not None and isinstance(recipe.bound, type):
        raise ValueError(f"tau: {name} keeps a moving average of unclipped scores; drop tau")
    if clip == "product" and family != "smile":
        raise ValueError(f"clip: 'product' is an option of SMILE and ReSMILE, not of {name}")

    bound: BoundFunction = recipe.bound() if isinstance(recipe.bound, type) else recipe.bound
    if mi_shift != 0.0:
        if family != "js":
            raise ValueError(f"mi_shift: only JS and ReJS are read by another bound, not {name}")
        bound = _shifted_js(mi_shift)
    options: dict = {}
    if official and family in _OFFICIAL_ANCHORS:
        options["anchor"] = _OFFICIAL_ANCHORS[family]
    return Loss(name, bound, weight, target, tau, clip, **options)


@cache
def _shifted_js(mi_shift: float) -> BoundFunction:
    return lambda scores: js(scores, mi_shift)


def stack(losses: Sequence[Loss], device: torch.device | str = "cpu") -> BoundOf:
    """M losses as one function of a score table with leading dimension M, in any order.

    Losses that share their formula are evaluated together, with their weights, targets and
    thresholds as tensors, so that a dozen losses cost six calls.  Each member's result is what
    its own loss gives on its own slice.
    """
    families: dict[tuple, list[int]] = {}
    for i, loss in enumerate(losses):
        families.setdefault((loss.bound, loss.anchor, loss.clip), []).append(i)
    groups = list(families.values())
    merged = [_merge([losses[i] for i in group], device) for group in groups]
    sizes = [len(group) for group in groups]
    order = torch.tensor([i for group in groups for i in group], device=device)
    back = order.argsort()
    sorted_already = order.tolist() == sorted(order.tolist())

    def evaluate(scores: Scores) -> Bound:
        table = [x.expand_as(scores.values) for x in scores]
        if not sorted_already:
            table = [x.index_select(0, order) for x in table]
        parts = zip(*(x.split(sizes) for x in table), strict=True)
        bounds = [loss(Scores(*part)) for loss, part in zip(merged, parts, strict=True)]
        fields = [torch.cat(field) for field in zip(*bounds, strict=True)]
        return Bound(*(fields if sorted_already else (x.index_select(0, back) for x in fields)))

    return evaluate


def _merge(losses: Sequence[Loss], device: torch.device | str) -> Loss:
    def column(values: Sequence[Number | None], off: float) -> Tensor | None:
        if all(value is None for value in values):
            return None
        return torch.tensor([off if v is None else float(v) for v in values], device=device)

    weight = column([loss.weight for loss in losses], 0.0)
    target = torch.tensor([float(loss.target) for loss in losses], device=device)
    tau = column([loss.tau for loss in losses], math.inf)
    return replace(losses[0], weight=weight, target=target, tau=tau)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not allowed; choose one of {', '.join(allowed)}")


def _in_range(key: str, value: Number, test: Callable, allowed: str) -> None:
    if not bool(torch.as_tensor(test(torch.as_tensor(value))).all()):
        raise ValueError(f"{key}: {value} is not allowed; must be {allowed}")
