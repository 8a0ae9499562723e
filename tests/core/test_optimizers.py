"""ClippedSGD: each member's gradient norm alone is bounded."""

import torch

from remi_lib.optimizers import ClippedSGD, clip_by_member


def test_a_long_gradient_is_scaled_to_one_and_a_short_one_is_left():
    first = torch.tensor([[3.0, 0.0], [0.3, 0.0]])
    second = torch.tensor([[[4.0]], [[0.4]]])
    norm = clip_by_member([first, second])
    torch.testing.assert_close(norm, torch.tensor([5.0, 0.5], dtype=torch.float64))
    torch.testing.assert_close(first, torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(second.flatten(), torch.tensor([0.8, 0.4]))


def test_members_are_clipped_as_single_models_are():
    """Against torch's own clipping, one member at a time."""
    generator = torch.Generator().manual_seed(0)
    stacked = [torch.randn(3, 4, 2, generator=generator), torch.randn(3, 2, generator=generator)]
    alone = [[g[i].clone() for g in stacked] for i in range(3)]
    clip_by_member(stacked)
    for i, gradients in enumerate(alone):
        parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for p, g in zip(parameters, stacked, strict=True):
            torch.testing.assert_close(p.grad, g[i], atol=1e-5, rtol=1e-5)


def test_a_lost_member_does_not_reach_its_neighbour():
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    parameter.grad = torch.tensor([[torch.nan, 0.0, 0.0], [30.0, 40.0, 0.0]])
    ClippedSGD([parameter], lr=1.0).step()
    assert parameter[0].isnan().any()
    torch.testing.assert_close(parameter[1].detach(), torch.tensor([-0.6, -0.8, 0.0]))


def test_an_infinite_gradient_is_not_hidden():
    gradient = torch.tensor([[torch.inf, 1.0]])
    clip_by_member([gradient])
    assert not gradient.isfinite().all()
