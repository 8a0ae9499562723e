"""Random streams: reproducible, apart from each other by purpose, seeded in one place."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from remi_lib.streams import as_global_stream, generator, numpy_generator
from remi_lib.tasks import Member, StaircaseTask
from tests.conftest import ROOT


def numbers(stream: torch.Generator) -> list[float]:
    return torch.rand(4, generator=stream).tolist()


def test_a_stream_is_its_seed_and_its_purpose():
    assert numbers(generator(3, "data")) == numbers(generator(np.int64(3), "data"))
    others = [(4, "data"), (3, "critic"), (3, "data", 1), (3, "data", 2), (2**40, "data")]
    drawn = [numbers(generator(*which)) for which in [(3, "data"), *others]]
    assert len({tuple(x) for x in drawn}) == len(drawn)
    assert numpy_generator(3, "data").random() != numpy_generator(3, "critic").random()


def test_a_stream_is_the_same_in_every_process_and_version():
    """Known numbers: a stream that moves is a change of every table."""
    assert generator(0, "data").initial_seed() == 3211717214160997342
    assert generator(7, "crop", 2, 5).initial_seed() == 9443268928472212256


def test_the_global_stream_is_given_back():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with as_global_stream(3, "encoder"):
        inside = torch.rand(4).tolist()
    assert inside == numbers(generator(3, "encoder"))
    assert torch.rand(2).equal(expected)


@pytest.mark.parametrize("seed", [-1, 0.5, "0", None, np.float64(1)])
def test_a_bad_seed_is_named(seed):
    with pytest.raises(ValueError, match=r"^seed: .* is not allowed"):
        generator(seed, "data")


@pytest.mark.parametrize("seed", [0, 1])
def test_first_weights_are_not_the_first_samples(seed):
    """With one stream for both, W / init_std of the first rows *are* the first x, all 640."""
    members, task = [Member("mine", seed, batch=32)], StaircaseTask(levels=(2.0,), each=250)
    weights = task.critic(members).weights[0].detach() / task.init_std
    samples = next(task.batches(members, task.steps, torch.device("cpu")))[0].x
    n = 32 * task.dim
    pairs = torch.stack([weights.flatten()[:n], samples.flatten()[:n]])
    assert not torch.isclose(*pairs, rtol=1e-4).any()
    assert pairs.corrcoef()[0, 1].abs() < 4 / n**0.5


def test_generators_are_seeded_in_one_place():
    """Purposes keep streams apart only if nobody seeds one without."""
    seeds = re.compile(r"manual_seed\(|default_rng\(|SeedSequence\(|RandomState\(")
    # The estimator and its comparison state their own seeds.
    own = ("remi_lib/streams.py", "remi_lib/estimate/", "remi_lib/estimators/")
    files = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "remi_lib").rglob("*.py")}
    assert [n for n, text in files.items() if not n.startswith(own) and seeds.search(text)] == []
