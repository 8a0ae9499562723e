"""The losses as modules that are *minimised*, in the places where contrastive losses stand.

Each makes a score table of what it is given and returns minus the objective of the loss:

- :class:`ContrastiveLoss` of embeddings and labels, in place of SupCon or NT-Xent, with the
  arguments of pytorch-metric-learning (miners' indices and reference embeddings included);
- :class:`TwoViewLoss` of two augmented views, in place of SimCLR's NT-Xent;
- :class:`PairLoss` of two modalities, in place of CLIP's loss or of InfoNCE of queries and keys.

In a loop that has such a loss, one line changes::

    # was SupConLoss(0.1), which weighs every anchor the same
    criterion = ContrastiveLoss("reinfonce", weight=0.1, temperature=0.1, positives="anchors")
    criterion = TwoViewLoss("reinfonce", weight=0.1, temperature=0.5)  # was NTXentLoss(0.5)
    criterion = PairLoss("reinfonce", weight=0.1)  # was ClipLoss()

Every loss of :mod:`remi_lib.losses` has a place here but those that need a square table or a
second head (``i_alpha``, ``flo``).  With "infonce", or "reinfonce" at weight 0, and the same
weighting of positives, the value is the peers' minus ``last.log_candidates``, the constant that
makes a cross-entropy an MI, and the gradient is theirs.

Embeddings of half precision are scored in float32, under autocast too.  The losses are
functionals of the whole batch, not means over pairs, so a batch is one number: ``reduction``
reduces leading dimensions, where embeddings (S, B, d) hold S members trained together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from remi_lib import scores
from remi_lib._pair_tables import PairTable, marked, matched
from remi_lib.checks import one_of, require_all
from remi_lib.distributed import gather
from remi_lib.losses import Number, make_loss, needs, own_source
from remi_lib.scores import Positives, Scores

Reduction = Literal["mean", "sum", "none"]
Indices = tuple[Tensor, ...]
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": Tensor.mean,
    "sum": Tensor.sum,
    "none": lambda x: x,
}


class Last(NamedTuple):
    """What a module saw at its last call, detached; in nats, but for the temperature.

    Each (...), or () where it is the same for all.

    ``mi`` is the loss's reading of the MI, without the penalty; ``penalty`` is already weighted.
    ``log_candidates`` is the mean over joint pairs of the log of the number of candidates: for
    InfoNCE ``log_candidates - mi`` is the cross-entropy that other libraries report, and ``mi``
    cannot exceed it.  ``joint_mass`` is 0 for a batch without a joint pair, and 1 else.
    """

    mi: Tensor
    joint_term: Tensor
    product_term: Tensor
    penalty: Tensor
    objective: Tensor
    log_candidates: Tensor
    joint_mass: Tensor
    temperature: Tensor


class ScoreLoss(nn.Module):
    """What the three modules share: a loss, a temperature and the way to a number.

    Args:
        loss: a name that :func:`~remi_lib.losses.make_loss` knows.
        weight: lambda of the penalty; 0.1 if None, and only for the regularised losses.
        target: C, what the penalised second term is drawn to; 0 if None.
        temperature: > 0; scores are inner products divided by it.
        learn_temperature: train the logarithm of 1 / temperature from there on, as CLIP does
            (``log_scale``, a parameter).
        normalize_embeddings: divide embeddings by their length first.  The paper's contrastive
            benchmark does not, and has temperature 1.
        reduction: "mean", "sum" or "none" of leading dimensions; without any, all three agree.
        gather_distributed: score the embeddings of all processes together
            (:func:`remi_lib.distributed.gather`); under DistributedDataParallel the averaged
            gradient is that of the whole batch.
        options: of ``make_loss`` (``tau``, ``clip``, ``variant``, ``mi_shift``).

    ``last`` is None before the first call, then a :class:`Last`.

    Raises ValueError for a value that is not allowed.
    """

    def __init__(
        self,
        loss: str = "reinfonce",
        weight: Number | None = None,
        target: Number | None = None,
        temperature: float = 0.1,
        *,
        learn_temperature: bool = False,
        normalize_embeddings: bool = True,
        reduction: Reduction = "mean",
        gather_distributed: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if needs(loss):
            raise ValueError(f"loss: {loss!r} {needs(loss)}; choose another")
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature: {temperature} is not allowed; must be > 0 and finite")
        one_of("reduction", reduction, REDUCTIONS)
        self.loss = make_loss(loss, weight, target, **options)
        self._own_bound = own_source(loss) is not None
        self.learn_temperature = learn_temperature
        # A number unless it is learned: a buffer would be rounded by module.bfloat16().
        self._fixed = None if learn_temperature else float(temperature)
        if learn_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.normalize_embeddings = normalize_embeddings
        self.reduction = reduction
        self.gather_distributed = gather_distributed
        self.last: Last | None = None

    @property
    def temperature(self) -> Tensor:
        """The temperature now (), differentiable where it is learned."""
        return 1 / self._scale()

    def _scale(self, like: Tensor | None = None) -> Tensor:
        """1 / temperature (), in the precision and on the device of ``like`` where it is fixed."""
        if self._fixed is None:
            return scores.wide(self.log_scale).exp()
        dtype, device = (torch.float32, None) if like is None else (like.dtype, like.device)
        return torch.full((), 1 / self._fixed, dtype=dtype, device=device)

    def extra_repr(self) -> str:
        """``'reinfonce', weight=0.1, ...``, as the module was made."""
        penalty = "" if self.loss.weight is None else f", weight={_plain(self.loss.weight)}"
        learned = " (learned)" if self.learn_temperature else ""
        return (
            f"{self.loss.name!r}{penalty}, temperature={self.temperature.item():.4g}{learned}, "
            f"normalize_embeddings={self.normalize_embeddings}, reduction={self.reduction!r}"
            + (", gather_distributed=True" if self.gather_distributed else "")
        )

    def _ready(self, embeddings: Tensor, name: str = "embeddings") -> Tensor:
        """Embeddings (..., B, d) in float32 or wider, normalised, of every process."""
        if embeddings.dim() < 2 or embeddings.shape[-2] == 0:
            raise ValueError(f"{name}: need (..., B, d), got shape {tuple(embeddings.shape)}")
        embeddings = scores.wide(embeddings)
        if self.normalize_embeddings:
            embeddings = normalize(embeddings, dim=-1)
        return gather(embeddings, -2) if self.gather_distributed else embeddings

    def _evaluate(self, table: Scores | PairTable, scale: Tensor) -> Tensor:
        if isinstance(table, PairTable):
            of_row, count = table.row_mass(), table.counts()
            # A bound of the user's own may ask for more than a PairTable has.
            readable = table.full() if self._own_bound else cast("Scores", table)
        else:
            readable, of_row = table, table.log_joint.exp().sum(-1)
            count = (table.log_product > scores.NEG_INF).sum(-1)
        bound = self.loss(readable)
        with torch.no_grad():
            terms = {name: x.detach() for name, x in bound._asdict().items()}
            self.last = Last(
                **terms,
                log_candidates=(of_row * count.clamp(min=1).log()).sum(-1),
                joint_mass=of_row.sum(-1),
                temperature=1 / scale.detach(),
            )
        return REDUCTIONS[self.reduction](-bound.objective)


class ContrastiveLoss(ScoreLoss):
    """Embeddings (..., B, d) whose labels (..., B) say which pairs are joint; a scalar to minimise.

    Args:
        positives: how joint pairs weigh, see :func:`~remi_lib.scores.marked_pairs`: ``"pairs"``
            as the paper, ``"anchors"`` as SupCon, ``"alone"`` as pytorch-metric-learning's
            NTXentLoss.  The three are one where every anchor has one positive.

    The other arguments are those of :class:`ScoreLoss`.  A batch without a joint pair is legal:
    its joint term is 0, nothing is NaN, and ``last.joint_mass`` says so.  One without any pair, a
    single sample or a miner that chose nothing, has no gradient either.
    """

    def __init__(
        self,
        loss: str = "reinfonce",
        weight: Number | None = None,
        target: Number | None = None,
        temperature: float = 0.1,
        *,
        positives: Positives = "pairs",
        **options: Any,
    ) -> None:
        super().__init__(loss, weight, target, temperature, **options)
        one_of("positives", positives, get_args(Positives))
        self.positives: Positives = positives

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, positives={self.positives!r}"

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Indices | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings, labels: the anchors, (..., B, d) and (..., B).
            indices_tuple: a miner's choice in place of all pairs: (anchors, positives, anchors,
                negatives) or triplets (anchors, positives, negatives).  Positives are joint;
                positives and negatives are candidates.  A pair counts once however often it is
                named.  A table of chosen negatives has another product than the marginals', so
                ``last.mi`` reads no MI.
            ref_emb, ref_labels: what anchors are compared with, (..., K, d) and (..., K), in place
                of one another.

        Raises ValueError where labels are missing or do not fit.
        """
        if indices_tuple is not None and self.gather_distributed:
            raise ValueError("indices_tuple: indices of one process; drop gather_distributed")
        if (ref_emb is None) != (ref_labels is None) and indices_tuple is None:
            raise ValueError("ref_emb, ref_labels: give both or neither")
        anchors = self._ready(embeddings)
        others = anchors if ref_emb is None else self._ready(ref_emb, "ref_emb")
        if others.shape[-1] != anchors.shape[-1]:
            raise ValueError(
                f"ref_emb: rows of {others.shape[-1]}, embeddings have {anchors.shape[-1]}"
            )
        scale = self._scale(anchors)
        t = _inner_products(anchors, others, scale)
        if indices_tuple is not None:
            joint, product = _mined(indices_tuple, t)
            t, product = _never_empty(t, product)
        else:
            mine = self._labels(labels, "labels", anchors)
            theirs = mine if ref_labels is None else self._labels(ref_labels, "ref_labels", others)
            joint = mine.unsqueeze(-1) == theirs.unsqueeze(-2)
            product = torch.ones_like(joint)
            if ref_emb is None:
                product = ~torch.eye(t.shape[-1], dtype=torch.bool, device=t.device)
                joint = joint & product
            if t.shape[-1] == 1:  # the last batch of an epoch may be a single sample
                t, product = _never_empty(t, product)
        if self.positives == "alone":
            return self._evaluate(scores.marked_pairs(t, joint, product, "alone"), scale)
        return self._evaluate(marked(t, joint, product, self.positives == "anchors"), scale)

    def _labels(self, labels: Tensor | None, name: str, embeddings: Tensor) -> Tensor:
        if labels is None:
            raise ValueError(f"{name}: needed where no indices_tuple is given")
        labels = torch.as_tensor(labels, device=embeddings.device)
        if self.gather_distributed:
            labels = gather(labels, -1)
        own = embeddings.shape[:-1]
        # As many members as the embeddings have, or the same labels for all of them.
        if labels.shape[-1:] != own[-1:] or labels.shape not in [own[i:] for i in range(len(own))]:
            raise ValueError(
                f"{name}: {tuple(labels.shape)} do not fit embeddings {tuple(embeddings.shape)}; "
                "one for each row, of one-hot or soft labels labels.argmax(-1)"
            )
        if labels.is_floating_point():  # NaN is not NaN: such a row would have no positive
            require_all(~labels.isnan(), f"{name}: must not be NaN")
        return labels


class TwoViewLoss(ScoreLoss):
    """Two augmented views of the same samples, (..., N, d) each; a scalar to minimise.

    The table is SimCLR's, each of 2N outputs against the 2N - 1 others
    (:func:`~remi_lib.scores.two_view_pairs`).  Arguments: see :class:`ScoreLoss`.
    """

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """The loss of a batch whose i-th rows are views of one sample."""
        first, second = self._ready(out0), self._ready(out1)
        _same_shape("out0, out1", first, second)
        scale, n = self._scale(first), first.shape[-2]
        both = torch.cat(torch.broadcast_tensors(first, second), -2)
        t = _inner_products(both, both, scale)
        others = ~torch.eye(2 * n, dtype=torch.bool, device=t.device)
        partner = torch.arange(2 * n, device=t.device).roll(n)
        return self._evaluate(matched(t, partner, others), scale)


class PairLoss(ScoreLoss):
    """Two modalities, (..., N, d) each, whose i-th rows belong together; a scalar to minimise.

    Args:
        temperature: CLIP's 0.07 if not given; not used where the call passes ``logit_scale``.
        symmetric: read the pairs both ways (:func:`~remi_lib.scores.symmetric_pairs`), as CLIP
            does; if False only the texts of each image compete, as in InfoNCE of queries and keys.

    The other arguments are those of :class:`ScoreLoss`.
    """

    def __init__(
        self,
        loss: str = "reinfonce",
        weight: Number | None = None,
        target: Number | None = None,
        temperature: float = 0.07,
        *,
        symmetric: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(loss, weight, target, temperature, **options)
        self.symmetric = symmetric

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, symmetric={self.symmetric}"

    def forward(
        self, image: Tensor, text: Tensor, logit_scale: Tensor | float | None = None
    ) -> Tensor:
        """The loss of a batch of N pairs.

        ``logit_scale``: 1 / temperature from a model that learns its own, () or one of each
        member (...); it gets its gradient.
        """
        first, second = self._ready(image), self._ready(text)
        _same_shape("image, text", first, second, least=2)
        given = self._scale(first) if logit_scale is None else logit_scale
        scale = torch.as_tensor(given, dtype=first.dtype, device=first.device)
        if scale.shape not in ((), members := first.shape[:-2]):
            raise ValueError(
                f"logit_scale: {tuple(scale.shape)} is neither () nor {tuple(members)}"
            )
        t = _inner_products(first, second, scale)
        own = torch.arange(t.shape[-1], device=t.device)
        return self._evaluate(matched(t, own, both_ways=self.symmetric), scale)


def _same_shape(name: str, first: Tensor, second: Tensor, least: int = 1) -> None:
    if first.shape[-2:] != second.shape[-2:]:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"{name}: shapes {shapes} do not pair")
    if first.shape[-2] < least:
        raise ValueError(f"{name}: need at least {least} rows, got {first.shape[-2]}")


def _never_empty(t: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """A table (..., R, K) without a candidate reads T = 0 everywhere: it says and moves nothing."""
    nothing = ~product.any(-1, keepdim=True).any(-2, keepdim=True)
    return t.masked_fill(nothing, 0.0), product | nothing


def _inner_products(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """scale * <x, y> of all pairs (..., R, K)."""
    return scores.inner_products(first * (scores.cells(scale) if scale.dim() else scale), second)


def _mined(indices: Indices, t: Tensor) -> tuple[Tensor, Tensor]:
    """The joint and the product cells that a miner's indices name."""
    if len(indices) == 3:
        indices = (indices[0], indices[1], indices[0], indices[2])
    if len(indices) != 4 or t.dim() != 2:
        raise ValueError("indices_tuple: three or four index tensors, for embeddings (B, d)")
    a1, positive, a2, negative = (x.to(t.device) for x in indices)
    joint = torch.zeros(t.shape, dtype=torch.bool, device=t.device)
    joint[a1, positive] = True
    product = joint.clone()
    product[a2, negative] = True
    return joint, product


def _plain(value: Number) -> float | list[float]:
    return value.tolist() if isinstance(value, Tensor) else value
