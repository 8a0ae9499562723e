"""Random streams: one per seed and purpose, so that no two things share their randomness.

Two generators seeded with the same integer give the same numbers: a critic and the data it is
trained on would be functions of each other.  Every generator of the library is therefore seeded
here, by its seed *and* by what it is for.  Ground, which imports nothing of the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from zlib import crc32

import numpy as np
import torch


def generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A CPU stream of torch's that depends on all its arguments and on nothing else.

    Args:
        seed: of the run, >= 0.
        purpose: what the stream is for, in words: "critic", "data", "held-out".  Streams of the
            same seed and different purposes are independent.
        numbers: which of several streams of that purpose, each >= 0 (an epoch, a picture).

    Raises:
        ValueError: a seed or number that is negative or no integer.
    """
    state = _sequence(seed, purpose, numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def numpy_generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """:func:`generator` for the laws that numpy draws from and torch does not."""
    return np.random.default_rng(_sequence(seed, purpose, numbers))


@contextmanager
def as_global_stream(seed: int, purpose: str, *numbers: int) -> Iterator[None]:
    """torch's global CPU stream is :func:`generator`'s inside the block, and its own after it.

    For code of others that takes no generator (torchvision's networks and transforms).
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, purpose, *numbers).get_state())
        yield


def _sequence(seed: int, purpose: str, numbers: tuple[int, ...]) -> np.random.SeedSequence:
    # crc32 of the text: Python's own hash differs from process to process.
    return np.random.SeedSequence([_whole(seed), crc32(purpose.encode()), *map(_whole, numbers)])


def _whole(seed: int) -> int:
    try:
        whole = index(seed)
    except TypeError:
        whole = -1
    if whole < 0:
        raise ValueError(f"seed: {seed!r} is not allowed; must be an integer of at least 0")
    return whole
