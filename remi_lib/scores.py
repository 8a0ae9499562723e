"""A batch is a table of critic outputs under two measures.

The losses of the paper are dual forms of KL(P || Q), JS one of the Jensen-Shannon divergence, with
P the joint and Q the product of marginals, on a finite batch.  A batch is therefore a table
``T[..., i, j]`` of critic outputs and two probability measures on its cells.  The experiments
differ only in how the table is made; with the exact P and Q in place of the empirical ones the same
code gives the exact answer.

A table is float32 or wider: half-precision scores and embeddings are widened before anything is
summed, under autocast too, as cross-entropy does.  float64 stays float64.

Leading dimensions broadcast, so S seeds x L losses are one batched table.  Shapes are static: a
cell that a measure does not see carries log-probability ``-inf`` and is never indexed away.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from remi_lib.checks import one_of, require_all

NEG_INF = -math.inf


def logsumexp(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """log sum e^x over ``dim``; -inf with a zero gradient (not NaN) where nothing is summed."""
    empty = x.detach().amax(dim, keepdim=True) == NEG_INF
    x = torch.where(empty, 0.0, x)  # the name is taken over, so that a table is freed
    total = torch.logsumexp(x, dim, keepdim=True)
    total = torch.where(empty, NEG_INF, total)
    return total.squeeze(dim)


class Scores(NamedTuple):
    """Critic outputs ``values`` (..., R, K) with the log-mass of each cell under P and Q.

    ``log_joint`` and ``log_product`` broadcast against ``values`` and hold ``-inf`` where a cell
    has no mass.  A joint without mass (a contrastive batch without a positive pair) is legal and
    visible: its mean is 0, and :meth:`joint_mass`.  Without product mass few losses are finite.
    """

    values: Tensor
    log_joint: Tensor
    log_product: Tensor

    def joint_mass(self) -> Tensor:
        """Total mass of P on the table, broadcasts to (...): 1, or 0 without a joint pair."""
        return self.log_joint.exp().sum((-2, -1))

    def joint_mean(self) -> Tensor:
        """E_P[T] (...), in nats for a log-ratio critic."""
        return _mean(self.values, self.log_joint)

    def product_mean(self) -> Tensor:
        """E_Q[T] (...)."""
        return _mean(self.values, self.log_product)

    def log_mean_exp(self) -> Tensor:
        """log E_Q[e^T] (...), finite for every finite T that Q sees a cell of."""
        return logsumexp(_weigh(self.values, self.log_product), (-2, -1))

    def rows(self) -> Tensor:
        """log E_{Q(.|i)}[e^T] of each row i (..., R), Q restricted to the row; -inf if unseen."""
        mass = logsumexp(self.log_product, -1).nan_to_num(neginf=0.0)
        return logsumexp(_weigh(self.values, self.log_product), -1) - mass

    def row_log_mean_exp(self) -> Tensor:
        """Mean over joint pairs (i, j) of :meth:`rows` i, the second term of InfoNCE (...).

        A row that Q does not see adds nothing.
        """
        rows = self.rows()
        weight = self.log_joint.exp().sum(-1)
        return torch.where((weight > 0) & (rows > NEG_INF), rows, 0.0).mul(weight).sum(-1)

    def row_variance(self) -> Tensor:
        """Variance over joint pairs (i, j) of :meth:`rows` i (...); 0 where nothing is joint."""
        rows, weight = self.rows(), self.log_joint.exp().sum(-1)
        mean = self.row_log_mean_exp().unsqueeze(-1)
        seen = (weight > 0) & (rows > NEG_INF)
        return torch.where(seen, rows - mean, 0.0).square().mul(weight).sum(-1)

    def map(self, values: Tensor) -> Scores:
        """The same measures on other cell values (clipped, shifted, passed through softplus)."""
        return self._replace(values=values)

    def detach(self) -> Scores:
        """The same table without its history of gradients."""
        return Scores(*(x.detach() for x in self))

    def clip(self, tau: float | Tensor) -> Scores:
        """T clipped to [-tau, tau]; a tensor ``tau`` (...) gives each member its own threshold."""
        limit = cells(torch.as_tensor(tau, dtype=self.values.dtype, device=self.values.device))
        return self.map(self.values.clamp(-limit, limit))


def with_head(scores: Scores, head: Tensor) -> Scores:
    """A second output of the critic (..., R, K) below the first, as cells without mass.

    No measure sees these cells, so every bound reads the table (..., 2R, K) as before; a bound
    that learns its own normaliser (FLO) finds it there, see :func:`split_head`.
    """
    values = torch.cat([scores.values, head], -2)
    unseen = [
        torch.cat([mass, torch.full_like(mass, NEG_INF)], -2)
        for mass in (scores.log_joint, scores.log_product)
    ]
    return Scores(values, *unseen)


def split_head(scores: Scores) -> tuple[Scores, Tensor]:
    """The table and the second head that :func:`with_head` put below it.

    Raises ValueError for a table whose lower half is not such a head.
    """
    missing = f"split_head: no second head in a table {tuple(scores.values.shape)}"
    rows = scores.values.shape[-2]
    if rows % 2:
        raise ValueError(missing)
    for mass in (scores.log_joint, scores.log_product):
        require_all(mass[..., rows // 2 :, :] == NEG_INF, missing)
    upper, lower = zip(*(x.chunk(2, -2) for x in scores), strict=True)
    return Scores(*upper), lower[0]


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is where it is float32 or float64.

    Half precision cannot count the pairs of a batch: float16 ends at 65504, bfloat16 has three
    digits.
    """
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def inner_products(first: Tensor, second: Tensor) -> Tensor:
    """<x, y> of all pairs (..., R, K) of rows (..., R, d) and (..., K, d), float32 or wider."""
    with torch.autocast(first.device.type, enabled=False):  # it would multiply in half precision
        return wide(first) @ wide(second).mT


def cells(x: Tensor) -> Tensor:
    """A per-member value (...) made to broadcast against a table (..., R, K)."""
    return x[..., None, None]


def _weigh(values: Tensor, log_mass: Tensor) -> Tensor:
    # Masked before the exponential: 0 * inf after it would be NaN.  In place: tables are large.
    return (values + log_mass).masked_fill_(log_mass == NEG_INF, NEG_INF)


def _mean(values: Tensor, log_mass: Tensor) -> Tensor:
    return torch.where(log_mass == NEG_INF, 0.0, values).mul_(log_mass.exp()).sum((-2, -1))


def _uniform(mask: Tensor, like: Tensor) -> Tensor:
    """Log of the uniform measure on the cells of a boolean mask (..., R, K).

    One pass over the table: the logarithm is that of a number, not of every cell.
    """
    count = mask.sum((-2, -1), keepdim=True).clamp(min=1).to(like.dtype)
    return torch.where(mask, count.reciprocal().log(), NEG_INF)


def _everywhere(like: Tensor) -> Tensor:
    """Log of the uniform measure on all cells (R, K), one number in memory."""
    rows, columns = like.shape[-2:]
    return like.new_full((), rows * columns).reciprocal().log().expand(rows, columns)


def _normalized(counts: Tensor) -> Tensor:
    """log(counts / total) (..., R, K); -inf where the count, or the total, is zero."""
    total = counts.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(counts.dtype).tiny)
    mass = counts / total
    # The logarithm of 1 where there is none: that of 0 has a gradient of NaN.
    return torch.where(mass > 0, torch.where(mass > 0, mass, 1.0).log(), NEG_INF)


def independent(t_joint: Tensor, t_product: Tensor) -> Scores:
    """Any critic on drawn pairs: ``t_joint`` (..., n) from P, ``t_product`` (..., m) from Q.

    One row of n + m cells, P uniform on the first n and Q on the last m.  With a single row
    InfoNCE is DV.

    Raises ValueError for no pairs, and for scores (n, 1) as a network with one output gives them:
    they would be n members of one pair each.
    """
    for name, t in (("t_joint", t_joint), ("t_product", t_product)):
        if t.shape[-1] == 1 and t.numel() > 1:
            raise ValueError(
                f"{name}: scores {tuple(t.shape)} are {t.numel()} members of one pair each; "
                f"pass {name}.squeeze(-1)"
            )
    return single_row(t_joint, t_product)


def single_row(t_joint: Tensor, t_product: Tensor) -> Scores:
    """:func:`independent` for members (...) that may have one pair each."""
    n, m = t_joint.shape[-1], t_product.shape[-1]
    if n == 0 or m == 0:
        raise ValueError(f"independent: needs joint and product pairs, got {n} and {m}")
    values = torch.cat([wide(t_joint), wide(t_product)], -1).unsqueeze(-2)
    first = (torch.arange(n + m, device=values.device) < n).unsqueeze(0)
    return Scores(values, _uniform(first, values), _uniform(~first, values))


def support_counts(t: Tensor, joint_counts: Tensor, product_counts: Tensor) -> Scores:
    """A finite alphabet: the critic on all R x K symbol pairs, the batch as counts on them.

    ``t`` (..., R, K); the counts (non-negative, integer or real, any positive scale) broadcast
    against it.  Probabilities in place of counts give the exact MI of the critic.

    Raises ValueError for counts of another shape, negative or NaN.
    """
    for name, counts in (("joint_counts", joint_counts), ("product_counts", product_counts)):
        if counts.shape[-2:] != t.shape[-2:]:
            raise ValueError(
                f"support_counts: {name} has shape {tuple(counts.shape)}, scores {tuple(t.shape)}"
            )
        require_all(counts >= 0, f"{name}: counts must not be negative or NaN")
    t = wide(t)
    return Scores(t, _normalized(joint_counts.to(t.dtype)), _normalized(product_counts.to(t.dtype)))


def off_diagonal(t: Tensor) -> Scores:
    """All n x n pairs of a batch: the diagonal is joint, the rest product."""
    t, eye = wide(t), _eye(t, "off_diagonal")
    return Scores(t, _uniform(eye, t), _uniform(~eye, t))


def all_pairs(t: Tensor) -> Scores:
    """All n x n pairs of a batch: the diagonal is joint, every cell product (InfoNCE)."""
    t, eye = wide(t), _eye(t, "all_pairs")
    return Scores(t, _uniform(eye, t), _everywhere(t))


def class_pairs(logits: Tensor, labels: Tensor) -> Scores:
    """Supervised benchmark (SLB): ``logits`` (..., B, K), ``labels`` (..., B).

    The true-label entries are joint; all B x K entries are product, since the label marginal of
    a balanced data set is known exactly.

    Raises ValueError for labels that are not integers from 0 to K - 1, one for each row (a GPU
    asserts the range when it gets there, so that no step waits).
    """
    one_for_each("labels", labels, logits, "logits")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels: class numbers are integers, not {labels.dtype}; "
            "of one-hot or soft labels pass labels.argmax(-1)"
        )
    last = logits.shape[-1] - 1
    require_all(
        (labels >= 0) & (labels <= last), f"labels: class numbers must lie between 0 and {last}"
    )
    logits = wide(logits)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    true = labels.unsqueeze(-1) == classes
    return Scores(logits, _uniform(true, logits), _everywhere(logits))


def same_label_pairs(embeddings: Tensor, labels: Tensor) -> Scores:
    """Contrastive benchmark (CLB): ``embeddings`` (..., B, d), ``labels`` (..., B).

    T is the inner product.  Ordered pairs of distinct samples are product; those that share a
    label are joint.  A batch without such a pair has joint mass 0.

    Raises ValueError for labels that are not one for each embedding.
    """
    one_for_each("labels", labels, embeddings, "embeddings")
    t = inner_products(embeddings, embeddings)
    off = ~_eye(t, "same_label_pairs")
    same = (labels.unsqueeze(-1) == labels.unsqueeze(-2)) & off
    return Scores(t, _uniform(same, t), _uniform(off, t))


def one_for_each(name: str, labels: Tensor, rows: Tensor, of: str) -> None:
    """Raise ValueError unless labels (..., B) are one for each row (..., B, d); one-hot are not."""
    if labels.shape[-1:] != rows.shape[-2:-1] or labels.dim() >= rows.dim():
        raise ValueError(
            f"{name}: {tuple(labels.shape)} do not fit {of} {tuple(rows.shape)}; "
            "one for each row, of one-hot labels labels.argmax(-1)"
        )


def _eye(t: Tensor, maker: str) -> Tensor:
    n = t.shape[-1]
    if t.dim() < 2 or t.shape[-2] != n or n < 2:
        hint = "; pass t.squeeze(-1)" if t.dim() > 2 and n == 1 else ""
        raise ValueError(
            f"{maker}: needs a square table of at least 2 x 2, got {tuple(t.shape)}{hint}"
        )
    return torch.eye(n, dtype=torch.bool, device=t.device)


Positives = Literal["pairs", "anchors", "alone"]


def marked_pairs(
    t: Tensor, joint: Tensor, product: Tensor, positives: Positives = "pairs"
) -> Scores:
    """Any choice of pairs: ``t`` (..., R, K), boolean masks ``joint`` and ``product`` of its cells.

    What a miner returns is such a choice.  ``positives`` says how the joint pairs weigh:

    - ``"pairs"``: all the same, as the paper's contrastive benchmark does.
    - ``"anchors"``: every row with a joint pair the same, and its joint pairs among them (SupCon,
      Khosla et al. 2020).
    - ``"alone"``: all the same, each in a row of its own (n, K) beside those product cells of its
      anchor that are not joint (the NT-Xent of several positives).  ``t`` must be (R, K), and the
      size of the table depends on the data, which a compiled graph has to be able to follow.

    Raises ValueError for another ``positives``, for masks that are not boolean or do not fit, or
    for ``"alone"`` with leading dimensions.
    """
    one_of("positives", positives, ("pairs", "anchors", "alone"))
    t = wide(t)
    joint, product = _mask("joint", joint, t), _mask("product", product, t)
    if positives == "pairs":
        return Scores(t, _uniform(joint, t), _uniform(product, t))
    if positives == "anchors":
        each = joint.to(t.dtype)
        each = each / each.sum(-1, keepdim=True).clamp(min=1)
        return Scores(t, _normalized(each), _uniform(product, t))
    if t.dim() != 2:
        raise ValueError(f"positives: 'alone' takes one table (R, K), not {tuple(t.shape)}")
    anchor, positive = joint.nonzero(as_tuple=True)
    if len(anchor) == 0:  # no row to make; the product is still there to be seen
        return Scores(t, _uniform(joint, t), _uniform(product, t))
    own = torch.zeros(len(anchor), t.shape[-1], dtype=torch.bool, device=t.device)
    own[torch.arange(len(anchor), device=t.device), positive] = True
    beside = (product & ~joint)[anchor]
    values = t[anchor]
    return Scores(values, _uniform(own, values), _uniform(own | beside, values))


def _mask(name: str, mask: Tensor, t: Tensor) -> Tensor:
    """A boolean mask of the cells of ``t``, without the leading dimensions that it lacks."""
    if mask.dtype != torch.bool or mask.shape[-2:] != t.shape[-2:] or mask.dim() > t.dim():
        raise ValueError(
            f"{name}: needs booleans {tuple(t.shape)}, got {mask.dtype} {tuple(mask.shape)}"
        )
    return mask


def two_view_pairs(first: Tensor, second: Tensor) -> Scores:
    """Two views of N samples, ``first`` and ``second`` (..., N, d): the table of SimCLR.

    T is the inner product of all 2N outputs with the 2N - 1 others, (..., 2N, 2N) with a diagonal
    that no measure sees.  The two views of a sample are joint, every other output is a candidate.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"two_view_pairs: views of shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )
    both = torch.cat([first, second], -2)
    t = inner_products(both, both)
    eye = _eye(t, "two_view_pairs")
    return Scores(t, _uniform(eye.roll(first.shape[-2], -1), t), _uniform(~eye, t))


def symmetric_pairs(t: Tensor) -> Scores:
    """Pairs of two modalities read both ways: ``t`` (..., N, N), image by text, diagonal joint.

    The table (..., 2N, N) has the rows of ``t`` (texts of an image) above those of its transpose
    (images of a text).  One table instead of two losses: InfoNCE on it is the mean of its two
    directions exactly, since its mean over joint pairs is; a bound with one log-mean-exp sees the
    same cells twice and reads what it reads on ``t``; and a penalty holds one second term, not
    the mean of two squares.
    """
    t, eye = wide(t), _eye(t, "symmetric_pairs")
    values = torch.cat([t, t.mT], -2)
    joint = torch.cat([eye, eye], -2)
    return Scores(values, _uniform(joint, values), _everywhere(values))


def keep(scores: Scores, mask: Tensor) -> Scores:
    """The table without the cells where the boolean ``mask`` (broadcast to (..., R, K)) is False.

    For padded candidates.  Both measures are renormalised on what is left.  Pass padded scores
    as they are, not filled with -inf: with a learned temperature -inf / tau has the gradient
    0 * inf = NaN, which no later step can repair.  Raises
    ValueError for a mask that is not boolean or does not fit.
    """
    try:
        mask = mask.expand_as(scores.values)
    except RuntimeError as error:
        shapes = f"{tuple(mask.shape)}, scores {tuple(scores.values.shape)}"
        raise ValueError(f"mask: has shape {shapes}") from error
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: needs booleans, got {mask.dtype}")
    kept = []
    for log_mass in (scores.log_joint, scores.log_product):
        log_mass = torch.where(mask, log_mass, NEG_INF)
        total = logsumexp(log_mass, (-2, -1)).nan_to_num(neginf=0.0)
        kept.append(log_mass - cells(total))
    return Scores(torch.where(mask, scores.values, 0.0), *kept)
