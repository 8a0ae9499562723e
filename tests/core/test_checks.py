"""Checks: what passes, and errors that begin with the argument."""

from __future__ import annotations

import math

import torch

from remi_lib.checks import at_least, number, one_of, require_all, within
from tests.conftest import refuses


def test_what_is_allowed_passes():
    one_of("scale", "sqrt", ("plain", "sqrt"))
    at_least("batch", 2, 2)
    assert number("REMI_PER_GPU", "2", int) == 2
    assert number("REMI_GPU_SHARE", "0.25", float) == 0.25
    within("tau", torch.tensor([1.0, math.inf]), lambda t: t > 0, "> 0")
    require_all(torch.tensor([True, True]), "no")
    require_all(torch.ones(0, dtype=torch.bool), "no")


test_what_is_not_is_named = refuses(
    (lambda: one_of("scale", "cubic", ("plain", "sqrt")), "scale: 'cubic' is not allowed"),
    (lambda: one_of("scale", "cubic", {"plain": 1}), "choose one of plain"),
    (lambda: at_least("batch", 1, 2), "batch: 1 is not allowed; must be at least 2"),
    (lambda: at_least("batch", math.nan, 2), "batch: nan"),
    (
        lambda: number("REMI_PER_GPU", "2.5", int),
        "REMI_PER_GPU: '2.5' is not allowed; must be a whole",
    ),
    (lambda: number("REMI_GPU_SHARE", "half", float), "REMI_GPU_SHARE: 'half' is not allowed"),
    (lambda: within("tau", 0.0, lambda t: t > 0, "> 0"), "tau: 0.0 is not allowed"),
    (lambda: require_all(torch.tensor([True, False]), "labels: no"), "labels: no"),
)
