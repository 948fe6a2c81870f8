"""C, F and D of chapter 4 written plainly in PyTorch, and jaxssl's weights for them.

Layers have the names of jaxssl's parameters, so ``load`` walks both trees together.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

RGB_MEAN = (123.68, 116.78, 103.94)


class ConvNorm(nn.Module):
    """Convolution with SAME padding, batch norm, activation."""

    def __init__(self, i, o, kernel, stride, *, size, groups, activation, norm):
        super().__init__()
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        low, high = total // 2, total - total // 2
        self.pad = None if low == high else (low, high, low, high)
        self.conv = nn.Conv2d(
            i, o, kernel, stride, 0 if self.pad else low, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(o, **norm)
        self.activation = activation

    def forward(self, x):
        """Run the layers."""
        if self.pad:
            x = F.pad(x, self.pad)
        return self.activation(self.norm(self.conv(x)))


class DenseNorm(nn.Module):
    """Dense layer, batch norm, ReLU; ``maps`` is (c, h, w) where it reads maps."""

    def __init__(self, i, o, *, norm, maps=None):
        super().__init__()
        self.dense = nn.Linear(i, o, bias=False)
        self.dense.maps = maps
        self.norm = nn.BatchNorm1d(o, **norm)

    def forward(self, x):
        """Run the layers."""
        return F.relu(self.norm(self.dense(x)))


class AlexNet(nn.Module):
    """The classifier C."""

    def __init__(self, num_classes: int, *, side: int, model: Mapping[str, Any]):
        super().__init__()
        c = [int(model["width"] * n + 0.5) for n in (96, 256, 384, 384, 256)]
        groups, fc = model["groups"], model["fc_features"]
        kernel, stride = model.get("stem_kernel", 11), model.get("stem_stride", 4)
        norm = {"momentum": 1 - model.get("bn_momentum", 0.975), "eps": 1e-3}
        shared = {"activation": F.relu, "norm": norm}
        self.conv1 = ConvNorm(3, c[0], kernel, stride, size=side, groups=1, **shared)
        side = -(-side // stride) // 2
        self.conv2 = ConvNorm(c[0], c[1], 5, 1, size=side, groups=groups, **shared)
        side //= 2
        self.conv3 = ConvNorm(c[1], c[2], 3, 1, size=side, groups=1, **shared)
        self.conv4 = ConvNorm(c[2], c[3], 3, 1, size=side, groups=groups, **shared)
        self.conv5 = ConvNorm(c[3], c[4], 3, 1, size=side, groups=groups, **shared)
        maps = (c[4], side, side)
        self.fc1 = DenseNorm(c[4] * side**2, fc, norm=norm, maps=maps)
        self.fc2 = DenseNorm(fc, fc, norm=norm)
        self.logits = nn.Linear(fc, num_classes)
        self.register_buffer("mean", torch.tensor(RGB_MEAN)[None, :, None, None])

    def forward(self, x):
        """Run the layers."""
        x = (x + 1) * 127.5 - self.mean
        # With even sides, ceil_mode is SAME padding of a 3x3/2 window.
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv2(x), 3, 2, ceil_mode=True)
        x = self.conv5(self.conv4(self.conv3(x)))
        return self.logits(self.fc2(self.fc1(x.flatten(1))))


def leaky(x):
    """Apply a leaky ReLU of slope 0.1."""
    return F.leaky_relu(x, 0.1)


class DeconvNorm(nn.ConvTranspose2d):
    """4x4 transposed convolution of stride 2, batch norm, leaky ReLU."""

    def __init__(self, i, o, *, norm):
        super().__init__(i, o, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(o, **norm)

    def forward(self, x):
        """Run the layers."""
        return leaky(self.norm(super().forward(x)))


class Inpainter(nn.Module):
    """The network F."""

    def __init__(self, *, depth: int, num_layers: int, side: int):
        super().__init__()
        norm = {"momentum": 0.025, "eps": 1e-3}
        c = [min(depth * 2**i, 512) for i in range(num_layers)]
        self.stem = nn.Conv2d(3, depth, 3, padding=1)
        self.order = []
        for i in range(1, num_layers):
            layer = ConvNorm(
                c[i - 1], c[i], 4, 2, size=side, groups=1, activation=leaky, norm=norm
            )
            self._append(f"down{i}", layer)
            side //= 2
        for i in range(1, num_layers):
            self._append(f"up{i}", DeconvNorm(c[-i], c[-i - 1], norm=norm))
        self.image = nn.Conv2d(depth, 3, 3, padding=1)

    def _append(self, name, layer):
        self.add_module(name, layer)
        self.order.append(layer)

    def forward(self, x):
        """Run the layers."""
        x = leaky(self.stem(x))
        for layer in self.order:
            x = layer(x)
        return torch.tanh(self.image(x))


def spectral(weight, u):
    """Return the kernel over its spectral norm by one power iteration, and ``u``."""
    matrix = weight.flatten(1)
    fixed = matrix.detach()
    v = F.normalize(u @ fixed, dim=0, eps=1e-12)
    u = F.normalize(fixed @ v, dim=0, eps=1e-12)
    return weight / (u @ matrix @ v), u


class SpectralConv(nn.Conv2d):
    """Convolution with bias and a kernel of spectral norm 1."""

    def __init__(self, i, o, kernel, stride):
        super().__init__(i, o, kernel, stride, 1)
        self.register_buffer("u", torch.zeros(o))

    def forward(self, x, advance: bool):
        """Run the layers."""
        weight, u = spectral(self.weight, self.u)
        if advance:
            self.u.copy_(u)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class SpectralDense(nn.Linear):
    """Dense layer with bias and a kernel of spectral norm 1."""

    def __init__(self, i, o):
        super().__init__(i, o)
        self.register_buffer("u", torch.zeros(o))

    def forward(self, x, advance: bool):
        """Run the layers."""
        weight, u = spectral(self.weight, self.u)
        if advance:
            self.u.copy_(u)
        return F.linear(x, weight, self.bias)


class Critic(nn.Module):
    """The patch critic D."""

    def __init__(self, channels: int, *, depth: int, num_stages: int):
        super().__init__()
        self.order = []
        for i in range(num_stages):
            o = min(depth * 2**i, 512)
            self._append(f"stage{i + 1}_conv", SpectralConv(channels, o, 3, 1))
            if i < num_stages - 1:
                self._append(f"stage{i + 1}_down", SpectralConv(o, o, 4, 2))
            channels = o
        self.logits = SpectralDense(channels, 1)

    def _append(self, name, layer):
        self.add_module(name, layer)
        self.order.append(layer)

    def forward(self, x, advance: bool):
        """Run the layers."""
        for layer in self.order:
            x = leaky(layer(x, advance))
        return self.logits(x.sum((2, 3)), advance)[:, 0]


def load(module: nn.Module, params: Mapping, stats: Mapping) -> None:
    """Copy jaxssl's parameters and power iterates into ``module``, layer by layer."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            load(getattr(module, name), value, stats.get(name, {}))
            continue
        target = getattr(module, "bias" if name == "bias" else "weight")
        copy = torch.from_numpy(_layout(module, name, np.array(value)))
        if target.shape != copy.shape:
            raise ValueError(f"{name}: {tuple(target.shape)}, not {tuple(copy.shape)}")
        target.data.copy_(copy)
    if "u" in stats:
        module.u.copy_(torch.from_numpy(np.array(stats["u"])))


def _layout(module: nn.Module, name: str, value: np.ndarray) -> np.ndarray:
    """Bring an array from (h, w, in, out) to PyTorch's layout."""
    if name != "kernel":
        return value
    if isinstance(module, nn.ConvTranspose2d):  # PyTorch's kernel is flipped.
        return value[::-1, ::-1].transpose(2, 3, 0, 1).copy()
    if isinstance(module, nn.Conv2d):
        return value.transpose(3, 2, 0, 1).copy()
    if getattr(module, "maps", None):
        c, h, w = module.maps
        value = value.reshape(h, w, c, -1).transpose(2, 0, 1, 3)
        return value.reshape(c * h * w, -1).T.copy()
    return value.T.copy()


def make_players(config, sections, params, stats) -> dict[str, nn.Module]:
    """Return C, F and D with jaxssl's weights.

    Args:
      config: the method's settings.
      sections: settings of the networks: model, inpainter, critic.
      params: jaxssl's parameters by player.
      stats: jaxssl's statistics by player.
    """
    players = {
        "classifier": AlexNet(
            len(config.classes), side=config.crop_size, model=sections["model"]
        ),
        "inpainter": Inpainter(side=config.patch_size, **sections["inpainter"]),
        "critic": Critic(3 * config.critic_patches, **sections["critic"]),
    }
    for name, module in players.items():
        load(module, params[name], stats[name])
        mine = sum(x.numel() for x in module.parameters())
        theirs = sum(x.size for x in _leaves(params[name]))
        if mine != theirs:
            raise ValueError(f"{name} has {mine} parameters, not {theirs}")
    return players


def _leaves(tree):
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield value
