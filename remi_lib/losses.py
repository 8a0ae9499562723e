"""The six neural MI losses, their regularised twins, and how they compose.

A *bound* (:mod:`remi_lib.bounds`) turns a score table into two terms.  A *penalty* anchors the
second term.  A :class:`Loss` is one bound, optionally clipped, minus lambda times one penalty.
:data:`TABLE1` says which parts make which of the paper's twelve losses.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from remi_lib.bounds import (
    BoundFunction,
    EmaMine,
    Number,
    Terms,
    dv,
    flo,
    gan_dime,
    i_alpha,
    infonce,
    infonce_rows,
    js,
    lower_bound,
    nwj,
    smile_js,
    tuba,
)
from remi_lib.checks import one_of, within
from remi_lib.scores import Scores

Variant = Literal["paper", "official"]
Clip = Literal["both", "product"]


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
        return lower_bound(raw.joint_term, clipped.product_term, clipped.anchor)

    def _penalty(self, anchor: Tensor, spread: Number) -> Tensor:
        if self.weight is None:
            return torch.zeros_like(anchor)
        weight = torch.as_tensor(self.weight, dtype=anchor.dtype, device=anchor.device)
        target = torch.as_tensor(self.target, dtype=anchor.dtype, device=anchor.device)
        # A weight of 0 must switch off an infinite anchor too: 0 * inf would be NaN.
        squared = torch.where(weight > 0, anchor - target, 0.0).square()
        spread = torch.as_tensor(spread, dtype=anchor.dtype, device=anchor.device)
        return weight * (squared + torch.where(weight > 0, spread, 0.0))


@dataclass(frozen=True)
class Recipe:
    """A row of Table 1, or a loss beside it: the bound, how its source sets it up, and the parts.

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
    has_twin: bool = True
    per_row: bool = False  # all pairs are its product, and its second term is one per row
    needs: str = ""  # the only table that it can read, if it cannot read every one

    @property
    def twin(self) -> str | None:
        """The name of the regularised loss, "re" + ``name``; None for a rival, which has none."""
        return "re" + self.name if self.has_twin else None


SQUARE = "needs a square table with the joint pairs on the diagonal"
HEAD = "needs a table with a second head of the critic below it"

TABLE1: tuple[Recipe, ...] = (
    Recipe("mine", "MINE", dv, "no gradient moving average", "Euclidean distance"),
    Recipe("smile", "SMILE", dv, "clipping", "Euclidean distance", True, True),
    Recipe("infonce", "InfoNCE", infonce, "-", "Euclidean distance", per_row=True),
    Recipe("nwj", "NWJ", nwj, "-", "log-Euclidean distance, clipping", False, True, 1.0),
    Recipe("tuba", "TUBA", tuba, "a(y) = 1", "log-Euclidean distance, clipping", False, True),
    Recipe("js", "JS", js, "MI estimated with NWJ", "Euclidean distance"),
)

# Estimators that came before or after the paper, with their source; they have no twin.
RIVALS: tuple[Recipe, ...] = (
    Recipe("mine_ema", "MINE (EMA)", EmaMine, "Belghazi et al. 2018", "-", has_twin=False),
    Recipe("smile_js", "SMILE (JS gradient)", smile_js, "Song & Ermon 2020", "-", has_twin=False),
    Recipe("i_alpha", "I_alpha", i_alpha, "Poole et al. 2019", "-", has_twin=False, needs=SQUARE),
    Recipe("flo", "FLO", flo, "Guo et al. 2022", "-", has_twin=False, needs=HEAD),
    Recipe("gan_dime", "GAN-DIME", gan_dime, "Letizia et al. 2024", "-", has_twin=False),
)

# Not of the paper, with a twin: "infonce_rows" is InfoNCE, "reinfonce_rows" has a penalty per row.
VARIANTS: tuple[Recipe, ...] = (
    Recipe(
        *("infonce_rows", "InfoNCE (rows)", infonce_rows, "as InfoNCE", "Euclidean, per row"),
        per_row=True,
    ),
)

FAMILIES: tuple[str, ...] = tuple(row.name for row in TABLE1)
LOSSES: tuple[str, ...] = FAMILIES + tuple(row.twin for row in TABLE1 if row.twin)

_RECIPES = {row.name: row for row in TABLE1 + RIVALS + VARIANTS}


# Where the authors' code anchors another quantity than the text: Eq. 15 has log E_Q[e^(T-1)],
# the code log E_Q[e^T], whose zero is not the optimum of NWJ.
def _unshifted(terms: Terms) -> Tensor:
    return terms.anchor + 1


_OFFICIAL_ANCHORS: dict[str, Callable[[Terms], Tensor]] = {"nwj": _unshifted}
# The code's target for the second term of JS in the benchmarks; the text names none.
_OFFICIAL_TARGETS: dict[str, float] = {"js": 1.0}


def register(
    name: str,
    bound: BoundFunction,
    title: str | None = None,
    *,
    clip: bool = False,
    needs: str = "",
) -> None:
    """Add a loss of one's own, and with it "re" + ``name``, its regularised twin.

    Args:
        name: letters, digits and underscores; not that of another loss.
        bound: a function (no ``functools.partial``, whose arguments a stored result could not tell)
            from :class:`~remi_lib.scores.Scores` to :class:`Terms`, each field (...), in nats.
        title: the printed name; ``name`` if None.
        clip: both losses clip their scores to [-tau, tau], 10 if not given, as SMILE does.
        needs: of a bound that cannot read every table, what it needs, as :data:`SQUARE` says it;
            callers that make another table then refuse the loss.

    The loss is known to this process.  Where others have to find it, as the workers of a sweep
    do, put the call into a module and name the loss ``name@module``: whoever meets that name
    imports the module.  The same function may be registered again, as by a module that is
    imported twice; the last call counts.

    Raises:
        ValueError: a name that is not allowed, or is taken, or a bound that is no function.
    """
    if not hasattr(bound, "__qualname__"):
        raise ValueError(f"bound: {bound!r} is no function; write it as one")
    if not name.isidentifier():
        raise ValueError(f"name: {name!r} is not allowed; letters, digits and underscores only")
    for taken in (name, name.removeprefix("re"), "re" + name):
        known = _RECIPES.get(taken)
        # An interactive cell that is run again, or a module loaded afresh, makes a new object.
        again = known and taken == name and _origin(known.bound) == _origin(bound)
        if known and not again:
            raise ValueError(f"name: {name!r} is taken by another loss, {known.title}")
    _RECIPES[name] = Recipe(
        name, title or name, bound, "own", "own", clip, clip, source=_source(bound), needs=needs
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
        except (ImportError, ValueError) as error:
            raise ValueError(f"loss: {family!r}: cannot import {module!r} ({error})") from error
    return _RECIPES.get(name)


def split_name(name: str) -> tuple[str, bool]:
    """("renwj") -> ("nwj", True): the family and whether the loss is regularised.

    Raises ValueError for a name that is none of :data:`LOSSES` or :data:`RIVALS` and was not
    registered.
    """
    if not isinstance(name, str):
        raise ValueError(f"loss: {name!r} is not the name of a loss")
    if _recipe(name):
        return name, False
    family = name.removeprefix("re")
    known = _recipe(family)
    if family != name and known and known.twin:
        return family, True
    allowed = [*_RECIPES, *(row.twin for row in _RECIPES.values() if row.twin)]
    raise ValueError(
        f"loss: no loss is called {name!r}; allowed: {', '.join(allowed)}, "
        "or name@module of one that the module registers"
    )


def regularized(family: str) -> str:
    """The regularised loss of a family: "nwj" -> "renwj", "own@module" -> "reown@module".

    Raises ValueError for a name that is no family, or one of a rival, which has no such loss.
    """
    name, already = split_name(family)
    if already or _recipe_of(name).twin is None:
        raise ValueError(f"loss: {family!r} has no regularised loss of its own")
    return "re" + name


def families_of(names: Iterable[str]) -> list[str]:
    """The families of some losses, each once, in the order they come."""
    return list(dict.fromkeys(split_name(name)[0] for name in names))


def optimal_shift(name: str) -> float:
    """The optimal critic of a loss is log dP/dQ plus this constant (0 among MINE's many)."""
    return _recipe_of(split_name(name)[0]).optimal_shift


def per_row(name: str) -> bool:
    """Whether all pairs are the loss's product and its second term is one per row, as InfoNCE's."""
    return _recipe_of(split_name(name)[0]).per_row


def needs(name: str) -> str:
    """What table a loss needs, "needs a square table ..."; "" for one that reads every table."""
    return _recipe_of(split_name(name)[0]).needs


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
    one_of("variant", variant, ("paper", "official"))
    one_of("clip", clip, ("both", "product"))
    official = variant == "official"

    for key, value in (("weight", weight), ("target", target)):
        if not regularized and value is not None:
            raise ValueError(f"{key}: {name} has no penalty; use 're{name}' (or drop {key})")
    if regularized:
        weight = 0.1 if weight is None else weight
        within("weight", weight, lambda w: (w >= 0) & w.isfinite(), ">= 0 and finite")
    if target is None:
        target = _OFFICIAL_TARGETS.get(family, 0.0) if official else 0.0
    within("target", target, torch.isfinite, "a finite number")

    if tau is None and (recipe.clip_regularized if regularized else recipe.clip_original):
        tau = 10.0
    tau = _threshold(tau)
    if tau is not None and isinstance(recipe.bound, type):
        raise ValueError(f"tau: {name} keeps a moving average of unclipped scores; drop tau")
    if clip == "product" and family != "smile":
        raise ValueError(f"clip: 'product' is an option of SMILE and ReSMILE, not of {name}")

    within("mi_shift", mi_shift, torch.isfinite, "a finite number")
    if mi_shift != 0.0 and family != "js":
        raise ValueError(f"mi_shift: only JS and ReJS are read by another bound, not {name}")
    bound: BoundFunction = recipe.bound() if isinstance(recipe.bound, type) else recipe.bound
    bound = _shifted_js(mi_shift) if mi_shift != 0.0 else bound
    options: dict = {}
    if official and family in _OFFICIAL_ANCHORS:
        options["anchor"] = _OFFICIAL_ANCHORS[family]
    return Loss(name, bound, weight, target, tau, clip, **options)


def _threshold(tau: Number | None) -> Number | None:
    """A clipping threshold that is > 0; None for no clipping, as infinity says too."""
    if tau is None:
        return None
    within("tau", tau, lambda t: t > 0, "> 0")
    return None if not isinstance(tau, Tensor) and math.isinf(tau) else tau


@cache
def _shifted_js(mi_shift: float) -> BoundFunction:
    return partial(js, mi_shift=mi_shift)
