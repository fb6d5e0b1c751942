"""The network of `vrseg demo`: a small U-Net that finds people."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  everyone calls it F
from torch import Tensor, nn


class Unit(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Inverted(nn.Module):
    """Inverted residual of MobileNetV2 (Sandler et al., 2018): widen, filter each channel, narrow, add."""

    def __init__(self, inputs: int, outputs: int, widen: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        inner = inputs * widen
        self.body = nn.Sequential(
            Unit(inputs, inner, 1),
            Unit(inner, inner, kernel, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.body(x)
        return x + y if self.adds else y


class Up(nn.Module):
    """Double the size, add what the encoder saw there, filter."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.narrow = Unit(inputs, outputs, 1)
        self.skip = Unit(skip, outputs, 1)
        self.mix = nn.Sequential(Unit(outputs, outputs, 3, groups=outputs), Unit(outputs, outputs, 1))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map (N, inputs, H, W) and (N, skip, 2H, 2W) to (N, outputs, 2H, 2W)."""
        wide = F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest")
        return self.mix(wide + self.skip(seen))


class PersonNet(nn.Module):
    """U-Net (Ronneberger et al., 2015) of inverted residuals, strides 2 to 16, with one global context."""

    def __init__(self) -> None:
        super().__init__()
        self.to2 = Unit(3, 16, 3, 2)
        self.to4 = nn.Sequential(Unit(16, 32, 3, 2), Inverted(32, 32, 2))
        self.to8 = nn.Sequential(Inverted(32, 56, 3, stride=2), Inverted(56, 56, 3), Inverted(56, 56, 3))
        self.to16 = nn.Sequential(
            Inverted(56, 96, 3, 5, stride=2), Inverted(96, 96, 4, 5), Inverted(96, 96, 4, 5), Inverted(96, 96, 4, 5)
        )
        self.context = nn.Sequential(nn.Conv2d(96, 96, 1), nn.ReLU(inplace=True))
        self.up8, self.up4, self.up2 = Up(96, 56, 56), Up(56, 32, 32), Up(32, 16, 16)
        self.head = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, 3, H, W) RGB, 0 to 1, sides multiples of 16, to (N, 1, H, W) logits of `person`."""
        half = self.to2(image * 4 - 2)
        quarter = self.to4(half)
        eighth = self.to8(quarter)
        deep = self.to16(eighth)
        deep = deep + self.context(deep.mean((2, 3), keepdim=True))
        fine = self.up2(self.up4(self.up8(deep, eighth), quarter), half)
        # Four logits per half-size pixel, unfolded: sharp edges without work at full size.
        return F.pixel_shuffle(self.head(fine), 2)


class WithSigmoid(nn.Module):
    """What is exported: probabilities."""

    def __init__(self, net: PersonNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """See `PersonNet.forward`; 0 to 1 instead of logits."""
        return torch.sigmoid(self.net(image))
