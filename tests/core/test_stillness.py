"""A member that stands still for an epoch ends its training; reading the same is not enough."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from remi_lib.experiments.image_runs import Run, execute
from remi_lib.stillness import Stillness, frozen
from remi_lib.tasks import ImageTask, Member
from remi_lib.training import train

PLAIN = ImageTask(benchmark="clb")  # 512 features: every score of an untrained network is clipped
EPOCH = 143


class Weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, 2))


def block(*mi: float) -> torch.Tensor:
    """Two steps of three members that read the same both times."""
    return torch.tensor([[[x, 0.0] for x in mi]] * 2)


def test_frozen_by_hand():
    steps = torch.tensor([[1.0, 1.0, torch.nan], [1.0, 1.1, torch.nan]])
    assert frozen(steps).tolist() == [True, False, False]


def test_stillness_by_hand():
    critic = Weights()
    watch = Stillness(critic, 3, 4)
    names = ["mi", "other"]
    still, lost = block(0.0, 1.0, 2.0), block(0.0, torch.nan, 2.0)
    assert not watch.over([still], names)  # in the middle of an epoch
    assert watch.over([still] * 2, names)
    assert watch.over([lost] * 2, names)
    assert not watch.over([still, block(0.0, 1.5, 2.0)], names)  # one reading moved
    with torch.no_grad():
        critic.w[1, 0] = 1e-30
    assert not watch.over([still] * 2, names)  # one parameter moved
    assert watch.over([lost] * 2, names)


@pytest.fixture(scope="module")
def stopped():
    return train(
        PLAIN, [Member("smile", 0, 10)], 3 * EPOCH, 1e-3, "adam", epoch=EPOCH, device="cpu"
    )


def test_a_frozen_run_is_the_whole_run_up_to_there(stopped):
    whole = train(PLAIN, [Member("smile", 0, 10)], 2 * EPOCH, 1e-3, "adam", device="cpu").history
    ended = stopped.history.terms
    assert len(ended) == EPOCH
    pd.testing.assert_frame_equal(ended, whole.terms[:EPOCH], check_exact=True)
    assert whole.terms["mi"].abs().max() < 1e-5  # and the rest repeats it


def test_a_penalty_under_a_clipped_reading_goes_on():
    """ReNWJ reads a constant while its penalty brings the scores down."""
    member = Member("renwj", 0, 10, 0.1)
    history = train(PLAIN, [member], 2 * EPOCH, 1e-3, "adam", epoch=EPOCH, device="cpu").history
    assert len(history.terms) == 2 * EPOCH


def test_a_frozen_run_is_filed_as_frozen():
    runs = [Run(PLAIN, Member(loss, 0, 10), 4) for loss in ("smile", "nwj")]
    smile, nwj = execute(runs, "cpu")
    assert smile["summary"]["frozen"].item()
    assert smile["summary"]["epochs_trained"].item() == 1
    assert len(smile["batches"].query("split == 'train'")) == EPOCH
    assert not nwj["summary"]["frozen"].item()
    assert nwj["summary"]["diverged_step"].item() <= 1
