"""torchvision's Python parts, also beside a torch that lacks its compiled operators.

PyPI's torchvision carries CUDA operators.  Beside a CPU build of torch they do not load and the
import fails when it registers fake kernels for two of them.  Declaring these two schemas first
is enough for models, data sets and transforms, which call neither.  Its JPEG decoders are compiled
too and stay absent there; Pillow decodes instead.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_MISSING = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing_operators() -> torch.library.Library | None:
    """The declared library, or None where torchvision's own operators load."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed; `pip install torchvision`")
    compiled = Path(spec.origin).parent / "_C.so"
    try:
        if compiled.exists():
            torch.ops.load_library(str(compiled))
            return None
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for schema in _MISSING.values():
        library.define(schema)
    return library


_LIBRARY = _declare_missing_operators()

from torchvision import datasets, io, models  # noqa: E402
from torchvision.datasets.utils import check_integrity  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

__all__ = ["check_integrity", "datasets", "io", "models", "v2"]
