"""Networks: the split first layer, stacked members, batch norm as torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from remi_lib.critics import (
    Block,
    ConcatCritic,
    ImageCritic,
    ResNet8,
    ResNet18,
    StackedConvNet,
    normal_init,
)


def test_split_first_layer_equals_plain_concatenation():
    critic = ConcatCritic([0, 1], 5, 3, (7, 6), output_bias=True).double()
    x, y = torch.randn(2, 4, 5).double(), torch.randn(2, 6, 3).double()
    scores = critic(x, y)
    assert scores.shape == (2, 4, 6)
    for m in range(2):
        pairs = torch.cat(
            [x[m].unsqueeze(1).expand(4, 6, 5), y[m].unsqueeze(0).expand(4, 6, 3)], -1
        )
        h = pairs
        for layer in range(3):
            h = h @ critic.weights[layer][m] + critic.biases[layer][m]
            h = h.relu() if layer < 2 else h
        torch.testing.assert_close(scores[m], h.squeeze(-1))


def test_initialisation_depends_on_the_seed_alone():
    both, alone = ConcatCritic([3, 8], 4, 4), ConcatCritic([8], 4, 4)
    for stacked, single in zip(both.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(stacked[1], single[0])
        assert not stacked[0].equal(stacked[1])


def test_authors_initialisation():
    critic = ConcatCritic([0], 20, 20, (256, 256), True, normal_init(0.05))
    assert all((bias == 0).all() for bias in critic.biases)
    assert critic.weights[1].std().item() == pytest.approx(0.05, rel=0.02)


def plain(net: StackedConvNet, member: int) -> nn.Sequential:
    """The same network from torch's own layers."""
    layers: list[nn.Module] = []
    for layer, (kernel, stride) in enumerate(((3, 2), (3, 2), (1, 1))):
        weight = net.weights[layer][member]
        taps = kernel * kernel
        fan_out, fan_in = weight.shape[1], weight.shape[0] // taps
        conv = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False)
        conv.weight.data = weight.view(kernel, kernel, fan_in, fan_out).permute(3, 2, 0, 1)
        layers += [conv, nn.BatchNorm2d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (7, 3)])
def test_stacked_network_equals_torch_layers_in_value_gradient_and_running_statistics(
    size, channels
):
    net = StackedConvNet([0, 1], size, channels, width=12).double()
    reference = [plain(net, m) for m in range(2)]
    for _ in range(3):
        x = torch.randn(5, channels, size, size).double()
        out = net(x)
        expected = torch.stack([r(x) for r in reference])
        torch.testing.assert_close(out, expected)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    for m, r in enumerate(reference):
        theirs = r[0].weight.grad.permute(2, 3, 1, 0).reshape(9 * channels, 16)
        torch.testing.assert_close(net.weights[0].grad[m], theirs)
    net.eval()
    torch.testing.assert_close(net(x), torch.stack([r.eval()(x) for r in reference]))


def test_a_diverged_member_leaves_the_others_alone():
    net = StackedConvNet([0, 1], 8, 1, 16)
    x = torch.randn(4, 1, 8, 8)
    before = net(x)[1]
    with torch.no_grad():
        net.weights[0][0] = torch.nan
    torch.testing.assert_close(net(x)[1], before)
    assert net(x)[0].isnan().any()


def test_features_are_not_negative():
    """Quirk 7: what makes the CLB critic non-negative."""
    assert (StackedConvNet([0], 8, 1, 16)(torch.randn(9, 1, 8, 8)) >= 0).all()


def test_scales_of_the_inner_product():
    features = torch.rand(1, 6, 16)

    def gram(scale: str) -> torch.Tensor:
        g = ImageCritic(nn.Identity(), [0], 16, scale=scale, temperature=0.5)(features)
        return g @ g.mT

    torch.testing.assert_close(gram("sqrt"), gram("plain") / 4)
    cosine = nn.functional.cosine_similarity(features[0, 0], features[0, 1], dim=0)
    torch.testing.assert_close(gram("cosine")[0, 0, 1], cosine / 0.5)
    with pytest.raises(ValueError, match="scale: 'cubic'"):
        gram("cubic")


def test_resnet_is_torchvisions():
    net = ResNet18([5])
    assert net(torch.randn(2, 3, 64, 64)).shape == (1, 2, 512)
    assert sum(p.numel() for p in net.parameters()) == 11_176_512
    again = ResNet18([5])
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert a.equal(b)
    with pytest.raises(ValueError, match="one member at a time"):
        ResNet18([0, 1])


def test_resnet8_is_of_13_million_multiply_adds():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        ResNet8([0])(torch.rand(1, 3, 32, 32))
    assert counter.get_total_flops() / 2 == pytest.approx(13.3e6, rel=0.01)


def test_resnet8s_features_are_non_negative_and_depend_on_the_seed_alone():
    x = torch.rand(4, 3, 32, 32)
    first, again, other = (ResNet8([seed])(x) for seed in (0, 0, 1))
    assert first.shape == (1, 4, 512)
    assert first.min() >= 0
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="net: resnet8 trains one member at a time"):
        ResNet8([0, 1])


def test_a_block_is_its_convolutions_beside_its_shortcut():
    block = Block(2, 2, 1).eval()
    torch.nn.init.zeros_(block.body[3].weight)  # the last convolution says nothing
    x = torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(block(x), x)  # batch norm at its start leaves zero where it is
    assert Block(2, 3, 2)(x).shape == (1, 3, 2, 2)


def test_half_precision_ends_at_the_encoder():
    """SLB's logits are scores: the head runs in float32 whatever the encoder's precision."""
    from remi_lib.tasks import ImageTask, Member

    task = ImageTask(net="resnet18", size=32, precision="bfloat16")
    critic = task.critic([Member("mine")]).eval()
    data = task.data()
    logits = task.outputs_of(critic, data.train_x[:4], data)
    assert logits.dtype == torch.float32
    assert not logits.equal(logits.bfloat16().float())


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 1, 9, 9), (4, 1, 16, 16), (4, 1, 6, 6)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"^x: needs images \(B, 1, 8, 8\)"):
        StackedConvNet([0])(torch.zeros(shape))
