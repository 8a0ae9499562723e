"""The twelve losses in half precision and in the corners of a batch: two tables of docs/losses.md.

python tools/loss_tables.py

Everything is seeded; tests/repository/test_loss_tables.py compares the page with what it finds.
"""

from __future__ import annotations

import math
from functools import cache

import torch

from remi_lib import LOSSES, Scores, class_pairs, make_loss, off_diagonal, same_label_pairs
from remi_lib.losses import title
from remi_lib.nn import ContrastiveLoss
from remi_lib.replication.scoreboard import markdown_table, write_block
from remi_lib.streams import generator

B, K, D = 300, 10, 8  # 300 * 299 pairs are more than float16 can count
HALF = (torch.float16, torch.bfloat16)
LARGEST = (10.0, 100.0, 1e4)  # |T| of a table
CORNERS = {
    "no positives": [0, 1, 2, 3, 4, 5],
    "one positive": [0, 0, 1, 2, 3, 4],
    "one label": [0, 0, 0, 0, 0, 0],
    "B = 2, a pair": [0, 0],
    "B = 2, no pair": [0, 1],
}


@cache
def tables(dtype: torch.dtype, largest: float) -> list[tuple[Scores, Scores]]:
    """Independent pairs, SLB and CLB from inputs of a type, each beside float64's of the same."""
    labels = torch.arange(B) % K
    draws = generator(0, "scores")
    square, scores = (torch.randn(B, k, generator=draws).clamp(-4, 4) / 4 for k in (B, K))
    embeddings = torch.randn(B, D, generator=draws)
    embeddings = embeddings / embeddings.norm(dim=-1).max() * math.sqrt(largest)
    inputs = [(largest * x).to(dtype) for x in (square, scores)] + [embeddings.to(dtype)]
    makers = (
        off_diagonal,
        lambda x: class_pairs(x, labels),
        lambda x: same_label_pairs(x, labels),
    )
    return [(make(x), make(x.double())) for make, x in zip(makers, inputs, strict=True)]


def error(name: str, dtype: torch.dtype, keep: bool = False) -> float:
    """Largest error of MI and objective, relative where they exceed a nat; inf if one overflows.

    ``keep``: leave the table in the type of its inputs, as no maker does.
    """
    worst = 0.0
    for largest in LARGEST:
        for ours, double in tables(dtype, largest):
            table = Scores(*(x.to(dtype) for x in ours)) if keep else ours
            found, exact = make_loss(name)(table), make_loss(name)(double)
            for field in ("mi", "objective"):
                a, b = (getattr(bound, field).float().double().item() for bound in (found, exact))
                if a != b:  # an infinity that float32 shares is no error
                    off = abs(a - b) / max(1.0, abs(b))
                    worst = max(worst, off if math.isfinite(off) else math.inf)
    return worst


def precision_table() -> str:
    """A row a loss: what bounds its error, for inputs of each type; and in a table of that type."""
    names = [str(dtype).removeprefix("torch.") for dtype in HALF]
    headings = ["loss", *names, "float32", *(f"table kept in {name}" for name in names)]
    rows = [
        [
            title(name),
            *(_power(error(name, dtype)) for dtype in (*HALF, torch.float32)),
            *(_power(error(name, dtype, keep=True)) for dtype in HALF),
        ]
        for name in LOSSES
    ]
    return markdown_table(headings, rows)


def _power(error: float) -> str:
    """The next power of ten."""
    if not math.isfinite(error):
        return "overflows"
    return f"{10.0 ** math.ceil(math.log10(error)):g}" if error > 0 else "0"


def corner(name: str, labels: list[int]) -> tuple[float, bool]:
    """What ContrastiveLoss reads of a tiny batch, and whether value and gradient are finite."""
    z = torch.randn(len(labels), 3, generator=generator(0, "corner")).requires_grad_()
    module = ContrastiveLoss(name)
    value = module(z, torch.tensor(labels))
    (gradient,) = torch.autograd.grad(value, z)
    assert module.last is not None
    finite = bool(value.isfinite() and gradient.isfinite().all())
    return module.last.mi.item(), finite


def corner_table() -> str:
    """A row a loss: the MI it reads in each corner; an asterisk where something is not finite."""
    rows = []
    for name in LOSSES:
        found = [corner(name, labels) for labels in CORNERS.values()]
        rows.append([title(name), *(f"{mi:.4g}{'' if finite else ' *'}" for mi, finite in found)])
    return markdown_table(["loss", *CORNERS], rows)


if __name__ == "__main__":
    write_block("precision", precision_table())
    write_block("corners", corner_table())
