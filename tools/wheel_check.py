"""`make wheel-check`: what an installed wheel must do, without the checkout beside it."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

import remi_lib
from remi_lib import LOSSES, class_pairs, estimate_mi, make_loss

assert "site-packages" in str(Path(remi_lib.__file__)), remi_lib.__file__
logits, labels = torch.randn(32, 10), torch.randint(10, (32,))
for name in LOSSES:
    assert make_loss(name)(class_pairs(logits, labels)).objective.isfinite(), name
infonce = float(make_loss("infonce")(class_pairs(logits, labels)).mi)
exact = math.log(10) - float(torch.nn.functional.cross_entropy(logits, labels))
assert math.isclose(infonce, exact, abs_tol=1e-5), (infonce, exact)

rng = np.random.default_rng(0)
x = rng.normal(size=(2000, 3))
found = estimate_mi(x, x[:, :2] + rng.normal(size=(2000, 2)), seeds=1, label=None)
assert abs(float(found) - math.log(2)) < 0.1, found

data = files("remi_lib") / "data"
assert (data / "table2.csv").is_file()
assert any(path.name.endswith(".yaml") for path in (data / "claims").iterdir())
print(f"{remi_lib.__version__}: {len(LOSSES)} losses, estimate_mi {float(found):.3f} of 0.693")
