"""Networks with batch normalisation folded against the same networks as timm builds them."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from benchmarks.folding import disturb
from workers.device.folding import fold_batch_norms


class Network(nn.Module):
    """A convolution and a batch normalisation, joined as the test says."""

    def __init__(self, join: Callable[["Network", Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self._join = join
        disturb(self)
        self.eval()

    def forward_features(self, images: Tensor) -> Tensor:
        return self._join(self, images)

    def forward_head(self, maps: Tensor) -> Tensor:
        return maps


def plain(network: Network, images: Tensor) -> Tensor:
    return network.norm(network.convolution(images))


def branched(network: Network, images: Tensor) -> Tensor:
    maps = network.convolution(images)
    return network.norm(maps) + maps


def twice(network: Network, images: Tensor) -> Tensor:
    return network.norm(network.convolution(images)) + network.norm(network.convolution(images + 1))


def reversed_order(network: Network, images: Tensor) -> Tensor:
    return network.convolution(network.norm(network.convolution(images).relu())[:, :3])


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_efficientnet", "test_byobnet", "mobilenetv3_small_050", "resnetv2_18", "mobilevit_xxs"],
)
def test_features_stay_as_they_were(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    disturb(network)
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        folded = fold_batch_norms(network, images[:1])
        found = network.forward_head(network.forward_features(images), pre_logits=True)
    assert folded > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("join", "folded"), [(plain, 1), (branched, 0), (twice, 0), (reversed_order, 0)])
def test_only_a_pair_that_nothing_else_reads_is_folded(join: Callable[[Network, Tensor], Tensor], folded: int) -> None:
    network = Network(join)
    images = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        expected = network.forward_features(images)
        assert fold_batch_norms(network, images) == folded
        torch.testing.assert_close(network.forward_features(images), expected)


def test_a_layer_whose_output_is_wanted_stays() -> None:
    assert fold_batch_norms(Network(plain), torch.rand(1, 3, 8, 8), kept=["convolution"]) == 0


def test_a_convolution_without_a_bias_gets_one() -> None:
    network = Network(plain)
    network.convolution.bias = None
    images = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        expected = network.forward_features(images)
        fold_batch_norms(network, images)
        torch.testing.assert_close(network.forward_features(images), expected)
