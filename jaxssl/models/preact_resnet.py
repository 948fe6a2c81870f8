"""PreAct-ResNet-18: residual blocks that normalise before they convolve."""

import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

STAGES = 4
BLOCKS = 2
"""Blocks of each stage."""


class PreActBlock(nn.Module):
    """Twice batch norm, ReLU and a 3x3 convolution, added to the input.

    Where the shape changes, the input goes through the first norm and ReLU and a 1x1
    convolution instead.

    Attributes:
      features: output channels.
      stride: of the first convolution and of the projection.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.
    """

    features: int
    stride: int
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool):
        """Return the maps (b, h / stride, w / stride, features), without ReLU."""
        y = self._activate(x, "norm1", train)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self._conv(y, 1, self.stride, "project")
        y = self._conv(y, 3, self.stride, "conv1")
        y = self._conv(self._activate(y, "norm2", train), 3, 1, "conv2")
        return x + y

    def _activate(self, x: Array, name: str, train: bool) -> Array:
        return nn.relu(layers.batch_norm(self, train, name)(x))

    def _conv(self, x: Array, kernel: int, stride: int, name: str) -> Array:
        return nn.Conv(
            self.features,
            (kernel, kernel),
            (stride, stride),
            padding=((kernel // 2, kernel // 2),) * 2,
            use_bias=False,
            kernel_init=layers.he_normal,
            conv_general_dilated=ops.conv_general_dilated,
            name=name,
        )(x)


class PreActResNet(nn.Module):
    """See ``preact_resnet18`` for the settings."""

    num_classes: int | None
    width: int
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the endpoints conv1, stage1 .. stage4, pool and perhaps logits."""
        norm = layers.batch_norm_settings(self)
        x = layers.ConvNorm(self.width, name="conv1", **norm)(x, train=train)
        endpoints = {"conv1": x}
        for stage in range(STAGES):
            for i in range(BLOCKS):
                x = PreActBlock(
                    self.width * 2**stage,
                    stride=2 if stage > 0 and i == 0 else 1,
                    name=f"stage{stage + 1}_block{i + 1}",
                    **norm,
                )(x, train=train)
            endpoints[f"stage{stage + 1}"] = x
        endpoints["pool"] = x.astype(jnp.float32).mean(axis=(1, 2))
        if self.num_classes is None:
            return endpoints
        logits = nn.Dense(self.num_classes, name="logits")(endpoints["pool"])
        return endpoints | {"logits": logits}


@fields.checked
def preact_resnet18(
    num_classes: layers.Channels | None,
    *,
    width: layers.Channels = 64,
    bn_momentum: fields.Fraction = 0.9,
    bn_epsilon: layers.Epsilon = 1e-5,
) -> Network:
    """Make the PreAct-ResNet-18 of Table 8.3, for images of about 32 pixels.

    A 3x3 convolution with batch norm and ReLU, four stages of two blocks, the mean over
    all places, logits. As in the network that the table compares with (mixup's), no
    norm and no ReLU come before the mean.

    Args:
      num_classes: width of the logits; ``None`` leaves the last layer out.
      width: channels of the first stage; each stage doubles them.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.

    Returns:
      A network with outputs ``conv1`` (after ReLU), ``stage1`` .. ``stage4`` (without),
      ``pool`` (b, features) and ``logits``.

    Raises:
      UserError: a setting is not allowed.

    References:
      He et al., "Identity Mappings in Deep Residual Networks", 2016; Zhang et al.,
      "mixup: Beyond Empirical Risk Minimization", 2018; thesis section 8.4.
    """
    module = PreActResNet(num_classes, width, bn_momentum, bn_epsilon)
    return from_linen(module, head=("logits",))
