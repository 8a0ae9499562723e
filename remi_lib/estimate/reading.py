"""The cross-fitted reading: critics stacked on held-out pairs, read on pairs that none has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remi_lib.estimate.elliptical import Base
from remi_lib.estimate.pairs import bound_of, partners_of, shifted_pairs
from remi_lib.estimate.team import Team
from remi_lib.losses import dv
from remi_lib.scores import Scores

PAIRS = 2**17  # of a fold that are read at most
PULL = 1e-3  # nats, per squared weight
PERMUTATIONS = 499  # of a fold's pairing, where all of its pairs were read
SHIFTS = 99  # of a fold, from where on they are as good as permutations
LEVEL_STEPS = 20

# log 1 / P(x) (n,) and log 1 / P(y) (n,) where a side is labels, else None: p(x, y) / p(x) p(y) is
# never larger than either.
Caps = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Reading:
    """The cross-fitted value and its standard error, and what else the tables say.

    ``by_seed``: the value with the networks of one seed alone; ``ceiling``: log of the pairs of a
    sample; ``gains`` (F, s): what each test sample adds to its fold's bound, whose mean is the
    value; ``p_value``: against independence; ``weights`` (F, critics): of the stack.
    """

    value: float
    error: float
    by_seed: tuple[float, ...]
    ceiling: float
    gains: Tensor
    p_value: float
    weights: Tensor


@torch.no_grad()
def read(
    team: Team,
    alive: Tensor,
    per_row: bool,
    generator: torch.Generator,
    closed: Sequence[tuple[Base, Base]] = (),
    caps: Caps = (None, None),
) -> Reading:
    """Read every fold by the critics that did not see it.

    ``alive`` (M,): usable members; ``closed``: closed forms beside the networks, each as it
    reads the watched samples and as it reads the test samples; ``caps``: see :data:`Caps`.
    """
    size = team.rows.test.shape[1]
    shifts = _shifts(size)
    of_watch = _shifts(team.rows.watch.shape[1])
    watched = _parts(team, alive, [c[0] for c in closed], team.rows.watch, of_watch, per_row)
    tested = _parts(team, alive, [c[1] for c in closed], team.rows.test, shifts, per_row)
    weights = _stacked(watched.mean(0), per_row)
    for k, (one, _) in enumerate(closed, weights.shape[1] - len(closed)):
        weights[:, k] *= (one.a != 0).any(1)  # what was left out has no weight
    # (seeds, F, s, S)
    edges = [
        _caps_of(caps, *pairs) for pairs in ((team.rows.watch, of_watch), (team.rows.test, shifts))
    ]
    level = None if per_row else _level(watched.mean(0), weights, edges[0])
    mixed = _mixed(tested, weights, level, edges[1])
    table = shifted_pairs(mixed.mean(0), per_row)
    values = bound_of(per_row)(table).mi
    by_seed = [bound_of(per_row)(shifted_pairs(one, per_row)).mi.mean().item() for one in mixed]
    added = influence(table, per_row)
    variance = added.var().item() / added.numel()
    finite = torch.tensor([v for v in by_seed if math.isfinite(v)])
    if len(finite) > 1:
        variance += finite.var().item() / len(finite)
    return Reading(
        values.mean().item(),
        math.sqrt(variance),
        tuple(by_seed),
        math.log(len(shifts)),
        added + values.unsqueeze(-1),
        independence_p(table.values, generator),
        weights,
    )


def _shifts(size: int) -> Tensor:
    return torch.arange(min(size - 1, max(PAIRS // size, 1)) + 1)


def _parts(
    team: Team, alive: Tensor, closed: Sequence[Base], role: Tensor, shifts: Tensor, per_row: bool
) -> Tensor:
    """Tables (seeds, F, critics, m, S) of a role: the networks, then the closed forms.

    A dead member is replaced by the mean of the living of its fold.  Without any, the networks
    score 0, or NaN if there is no closed form to be read.
    """
    folds = team.rows.folds
    values = team.table(team.of_members(role), shifts, per_row).values
    values = values.where(alive.to(values.device)[:, None, None], math.nan)
    values = values.view(-1, folds, *values.shape[1:])
    values = values.where(values.isfinite(), values.nanmean(0, keepdim=True))
    if closed:
        values = values.nan_to_num(nan=0.0)
    fits = torch.arange(folds, device=role.device)
    others = [base.pairs(fits, role, shifts).expand_as(values) for base in closed]
    return torch.stack([values, *others], 2)


def _stacked(tables: Tensor, per_row: bool) -> Tensor:
    """Weights >= 0 (F, critics) with which the sum of the critics reads the watched pairs best.

    The bound is concave in them.  A slight pull to equal weights keeps them finite where every
    larger one reads more, as it does if one side determines the other.  They are scaled to a sum
    of 1 if it is more: that a steeper sum reads more of a few pairs is chance more often than not,
    because e^T has a heavy tail.  One critic alone keeps its weight of 1.
    """
    folds, critics = tables.shape[:2]
    if critics == 1:
        return tables.new_ones(folds, 1)
    device = tables.device
    tables = tables.cpu().double()  # small, and not every device has doubles
    root = torch.full((folds, critics), critics**-0.5, dtype=torch.float64)
    root.requires_grad_()
    search = torch.optim.LBFGS([root], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        weights = root.square()
        level = None if per_row else _level(tables, weights)
        mixed = _mixed(tables[None], weights, level)[0]
        pull = PULL * (root.square() - 1 / critics).square().sum()
        value = pull - bound_of(per_row)(shifted_pairs(mixed, per_row)).mi.sum()
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    found = root.detach().square().float()
    found = (found / found.sum(1, keepdim=True).clamp(min=1)).to(device)
    return found if found.isfinite().all() else torch.full_like(found, 1 / critics)


def _level(tables: Tensor, weights: Tensor, cap: Tensor | None = None) -> Tensor:
    """log E_Q[e^T] (F,) of the stack: the constant that T is known up to.

    With a ``cap`` the one that leaves E_Q[e^T] = 1 after it; each step comes nearer from above.
    """
    mixed = _mixed(tables[None], weights, None)[0]
    level = dv(shifted_pairs(mixed)).product_term
    if cap is None:
        return level
    for _ in range(LEVEL_STEPS):
        capped = torch.minimum(mixed - level[:, None, None], cap)
        level = level + dv(shifted_pairs(capped)).product_term
    return level


def _mixed(
    tables: Tensor, weights: Tensor, level: Tensor | None, cap: Tensor | None = None
) -> Tensor:
    """The stack (seeds, F, m, S) of tables (seeds, F, critics, m, S), less ``level`` (F,).

    It ends at the log of the number of its cells, on both sides: no sample of that size tells a
    larger ratio, and one pair that a critic is wrong about must not be all that is read.  It ends
    at ``cap`` (F, m, S) too.
    """
    mixed = (weights[:, :, None, None] * tables).sum(2)
    if level is None:
        return mixed
    edge = math.log(mixed.shape[-2] * mixed.shape[-1])
    mixed = (mixed - level[:, None, None]).clamp(-edge, edge)
    return mixed if cap is None else torch.minimum(mixed, cap)


def _caps_of(caps: Caps, role: Tensor, shifts: Tensor) -> Tensor | None:
    """The smaller cap of each pair of a role (F, m, S), or None if there is none."""
    of_x, of_y = (None if cap is None else cap[role] for cap in caps)
    x = None if of_x is None else of_x.unsqueeze(-1).expand(-1, -1, len(shifts))
    y = None if of_y is None else of_y[:, partners_of(role.shape[1], shifts.to(role.device))]
    return torch.minimum(x, y) if x is not None and y is not None else y if x is None else x


def independence_p(values: Tensor, generator: torch.Generator) -> float:
    """P-value against independence from the test tables (F, s, S), without training.

    Permuting the pairs within a fold leaves E_Q as it is, so a fold's statistic is the mean of T
    over its pairs: against random permutations where all pairs were read, else against the
    shifts, each of which is a permutation of samples in random order.  A large fold has few
    shifts, and is compared with a normal whose variance is that of all T: of the permutations it
    is that of T without the means of rows and columns (Hoeffding 1951), which is less.  Valid
    for each fold, whose pairing no critic of it has seen.  Folds depend on each other (a fold's
    pairs trained the critics of the others), so their p-values are joined by the Cauchy
    combination (Liu and Xie 2020), which needs no independence.  Ties count half: a critic that
    scores all pairs alike has found nothing, and its p-value of 1/2 leaves the others' word.
    """
    folds, size, shifts = values.shape
    if shifts == size:
        orders = torch.stack(
            [torch.randperm(size, generator=generator) for _ in range(PERMUTATIONS)]
        )
        met = (orders.to(values.device) - torch.arange(size, device=values.device)) % size
        spread = values.gather(-1, met.T.expand(folds, -1, -1)).mean(1)
    else:
        spread = values[..., 1:].mean(1)
    own = values[..., 0].mean(1, keepdim=True)
    above, level = (spread > own + 1e-9).sum(1), ((spread - own).abs() <= 1e-9).sum(1)
    p = (1 + above + level / 2) / (1 + spread.shape[1])
    if spread.shape[1] < min(SHIFTS, size - 1):
        off = values[..., 1:].flatten(1)
        z = (own[:, 0] - off.mean(1)) / (off.std(1) / math.sqrt(size)).clamp(min=1e-12)
        p = torch.special.ndtr(-z.cpu().double())
    if not own.isfinite().all():
        return math.nan
    # 1 among the p-values would be minus infinity, and outweigh everything.
    angle = ((0.5 - p.cpu().double().clamp(max=0.99)) * math.pi).tan().mean()
    return float(0.5 - angle.atan() / math.pi)


def influence(table: Scores, per_row: bool = False) -> Tensor:
    """What each sample adds to the bound of its table, mean 0: (..., n, 1 + others) -> (..., n).

    Its variance over n is that of the bound.  A sample enters DV once by its joint pair and
    twice by its product pairs, as x_i and as y_i: T_ii - E[T] - (w_i. + w_.i - 2) with w_i. and
    w_.i the means of e^T over its row and column, relative to the mean of all.  InfoNCE has
    log E[e^T] of the row in place of w_i., and w relative to the mean of the row.
    """
    own = table.values[..., 0]
    n, k = table.values.shape[-2:]
    met = partners_of(n, torch.arange(k, device=own.device))
    if per_row:
        share, gain = table.values.softmax(-1), own - torch.logsumexp(table.values, -1)
    else:
        share = (table.values[..., 1:] - table.log_mean_exp()[..., None, None]).exp() / (k - 1)
        met, gain = met[:, 1:], own - share.sum(-1)
    as_y = torch.zeros_like(own).index_add_(-1, met.flatten(), share.flatten(-2))
    return gain - gain.mean(-1, keepdim=True) - (as_y - 1)
