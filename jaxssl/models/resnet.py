"""ResNet-18, -34 and -50 for classification, laid out as in torchvision."""

from typing import Annotated

import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks of the four stages by depth; from 50 on they are bottlenecks."""

EXPANSION = {18: 1, 34: 1, 50: 4}
"""Output channels of a stage over its width."""

STEMS = ("imagenet", "small")

_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 (a bottleneck).

    Attributes:
      width: channels inside.
      expansion: output channels over ``width``; above 1 makes a bottleneck.
      stride: of the first 3x3 convolution and of the projection.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.
    """

    width: int
    expansion: int
    stride: int
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool):
        """Return the maps (b, h / stride, w / stride, width * expansion)."""
        features = self.width * self.expansion
        if self.expansion == 1:
            layout = [(self.width, 3, self.stride), (features, 3, 1)]
        else:
            layout = [
                (self.width, 1, 1),
                (self.width, 3, self.stride),
                (features, 1, 1),
            ]
        y = x
        for i, (channels, kernel, stride) in enumerate(layout):
            last = i == len(layout) - 1
            y = self._conv(channels, kernel, stride, f"conv{i + 1}", last)(
                y, train=train
            )
        if x.shape != y.shape:
            x = self._conv(features, 1, self.stride, "project", True)(x, train=train)
        return nn.relu(x + y)

    def _conv(self, features, kernel, stride, name, linear):
        return layers.ConvNorm(
            features,
            (kernel, kernel),
            (stride, stride),
            padding=((kernel // 2, kernel // 2),) * 2,
            activation=None if linear else nn.relu,
            kernel_init=_init,
            **layers.batch_norm_settings(self),
            name=name,
        )


class ResNet(nn.Module):
    """See ``resnet`` for the settings."""

    depth: int
    num_classes: int | None
    stem: str
    width: int
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the endpoints conv1, stage1 .. stage4, pool and perhaps logits."""
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        norm = layers.batch_norm_settings(self)
        x = layers.ConvNorm(
            self.width,
            (kernel, kernel),
            (stride, stride),
            padding=((kernel // 2, kernel // 2),) * 2,
            kernel_init=_init,
            name="conv1",
            **norm,
        )(x, train=train)
        endpoints = {"conv1": x}
        if self.stem == "imagenet":
            x = ops.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            for i in range(blocks):
                x = Block(
                    self.width * 2**stage,
                    EXPANSION[self.depth],
                    stride=2 if stage > 0 and i == 0 else 1,
                    name=f"stage{stage + 1}_block{i + 1}",
                    **norm,
                )(x, train=train)
            endpoints[f"stage{stage + 1}"] = x
        x = endpoints["pool"] = x.astype(jnp.float32).mean(axis=(1, 2))
        if self.num_classes is None:
            return endpoints
        logits = nn.Dense(self.num_classes, name="logits")(x)
        return endpoints | {"logits": logits}


@fields.checked
def resnet(
    depth: Annotated[int, fields.OneOf(tuple(BLOCKS))],
    num_classes: layers.Channels | None,
    *,
    stem: Annotated[str, fields.OneOf(STEMS)] = "imagenet",
    width: layers.Channels = 64,
    bn_momentum: fields.Fraction = 0.975,
    bn_epsilon: layers.Epsilon = 1e-3,
) -> Network:
    """Make a ResNet v1; the stride of a bottleneck sits in its 3x3 convolution.

    Args:
      depth: 18, 34 or 50.
      num_classes: width of the logits; ``None`` leaves the last layer out.
      stem: "imagenet" (7x7 convolution of stride 2 and 3x3/2 max pooling) or "small"
        (3x3 convolution of stride 1, no pooling), for images of about 32 to 64 pixels.
      width: channels of the first stage; each stage doubles them.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.

    Returns:
      A network from images in [-1, 1] to ``conv1`` (after ReLU, before pooling),
      ``stage1`` .. ``stage4``, ``pool`` (b, features) and ``logits``.

    Raises:
      UserError: a setting is not allowed.

    References:
      He et al., "Deep Residual Learning for Image Recognition", 2016.
    """
    module = ResNet(depth, num_classes, stem, width, bn_momentum, bn_epsilon)
    return from_linen(module, head=("logits",))
