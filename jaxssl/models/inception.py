"""The small Inception network of chapter 8."""

import math

import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

STEM = 96
"""Channels of the first convolution."""

STAGES = (
    ((32, 32), (32, 48)),
    ((112, 48), (96, 64), (80, 80), (48, 96)),
    ((176, 160), (176, 160)),
)
"""Channels of the 1x1 and of the 3x3 convolution of each block."""

DOWN = (80, 96)
"""Channels of the strided convolutions between the stages."""


class Inception(nn.Module):
    """See ``inception`` for the settings."""

    num_classes: int | None
    width: float
    dropout: float
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the endpoints conv1, stage1 .. stage3, pool and perhaps logits."""
        x = self._conv(x, STEM, 3, "conv1", train, padding="VALID")
        endpoints = {"conv1": x}
        for stage, blocks in enumerate(STAGES, 1):
            if stage > 1:
                down = self._conv(
                    x, DOWN[stage - 2], 3, f"down{stage - 1}", train, stride=2
                )
                pooled = ops.max_pool(x, (3, 3), (2, 2), "SAME")
                x = jnp.concatenate([down, pooled], axis=-1)
            for i, (ones, threes) in enumerate(blocks, 1):
                name = f"stage{stage}_block{i}"
                one = self._conv(x, ones, 1, f"{name}_conv1", train)
                three = self._conv(x, threes, 3, f"{name}_conv3", train)
                x = jnp.concatenate([one, three], axis=-1)
            endpoints[f"stage{stage}"] = x
        endpoints["pool"] = x.astype(jnp.float32).mean(axis=(1, 2))
        if self.num_classes is None:
            return endpoints
        x = layers.Dropout(self.dropout)(endpoints["pool"], train=train)
        logits = nn.Dense(self.num_classes, name="logits")(x)
        return endpoints | {"logits": logits}

    def _conv(
        self,
        x: Array,
        features: int,
        kernel: int,
        name: str,
        train: bool,
        *,
        stride: int = 1,
        padding: str = "SAME",
    ) -> Array:
        return layers.ConvNorm(
            scaled(features, self.width),
            (kernel, kernel),
            (stride, stride),
            padding=padding,
            use_scale=False,
            **layers.batch_norm_settings(self),
            name=name,
        )(x, train=train)


def scaled(features: int, width: float) -> int:
    """Return a number of channels times the width, at least one."""
    return max(1, math.floor(width * features + 0.5))


@fields.checked
def inception(
    num_classes: layers.Channels | None,
    *,
    width: layers.Width = 1.0,
    dropout: fields.Fraction = 0.5,
    bn_momentum: fields.Fraction = 0.975,
    bn_epsilon: layers.Epsilon = 1e-3,
) -> Network:
    """Make the small Inception network, for crops of about 29 pixels.

    A 3x3 convolution without padding; eight blocks, each a 1x1 and a 3x3 convolution
    side by side, in three stages; between the stages a 3x3/2 convolution beside 3x3/2
    max pooling; the mean over all places, dropout, logits. Each convolution has batch
    norm with a shift and no scale, and ReLU.

    Args:
      num_classes: width of the logits; ``None`` leaves the last layer out.
      width: factor on all channels, 1 for the paper's.
      dropout: share of the pooled features that training drops; 0 for none.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.

    Returns:
      A network with outputs ``conv1``, ``stage1`` .. ``stage3``, ``pool`` (b, features)
      and ``logits``. With dropout it needs a key in training.

    Raises:
      UserError: a setting is not allowed.

    References:
      Thesis section 8.4 and the released code; Zhang et al., "Understanding deep
      learning requires rethinking generalization", 2017, figure 3.
    """
    module = Inception(num_classes, width, dropout, bn_momentum, bn_epsilon)
    return from_linen(module, head=("logits",))
