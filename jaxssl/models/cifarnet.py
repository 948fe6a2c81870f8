"""CifarNet: the small AlexNet-style network of chapter 8."""

import math

from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

CHANNELS = 64
"""Channels of both convolutions."""

FEATURES = (384, 192)
"""Widths of the two dense layers before the logits."""

_conv_init = nn.initializers.truncated_normal(0.05)
_dense_init = nn.initializers.truncated_normal(0.04)


class CifarNet(nn.Module):
    """See ``cifarnet`` for the settings."""

    num_classes: int
    channels: int
    features: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the endpoints conv1, conv2, fc1, fc2 and the logits."""
        endpoints = {}
        x = endpoints["conv1"] = self._convolve(x, "conv1")
        x = ops.max_pool(x, (2, 2), (2, 2), "VALID")
        x = layers.local_response_norm(x)
        x = endpoints["conv2"] = self._convolve(x, "conv2")
        x = layers.local_response_norm(x)
        x = ops.max_pool(x, (2, 2), (2, 2), "VALID")
        x = x.reshape(x.shape[0], -1)
        x = endpoints["fc1"] = self._dense(x, self.features[0], "fc1")
        x = layers.Dropout(self.dropout)(x, train=train)
        x = endpoints["fc2"] = self._dense(x, self.features[1], "fc2")
        endpoints["logits"] = nn.Dense(
            self.num_classes,
            kernel_init=nn.initializers.truncated_normal(1 / FEATURES[1]),
            name="logits",
        )(x)
        return endpoints

    def _convolve(self, x: Array, name: str) -> Array:
        x = nn.Conv(
            self.channels,
            (5, 5),
            kernel_init=_conv_init,
            conv_general_dilated=ops.conv_general_dilated,
            name=name,
        )(x)
        return nn.relu(x)

    def _dense(self, x: Array, features: int, name: str) -> Array:
        x = nn.Dense(
            features,
            kernel_init=_dense_init,
            bias_init=nn.initializers.constant(0.1),
            name=name,
        )(x)
        return nn.relu(x)


@fields.checked
def cifarnet(
    num_classes: layers.Channels,
    *,
    width: layers.Width = 1.0,
    dropout: fields.Fraction = 0.5,
) -> Network:
    """Make CifarNet, for images of about 32 pixels.

    Twice a 5x5 convolution of 64 channels, ReLU, 2x2 max pooling and local response
    normalisation (in the other order the second time), dense layers of 384 and 192 with
    dropout between them, logits. No batch norm. The thesis names the network and one
    dropout layer, not the sizes: these are those of TF-slim's network of that name.

    Args:
      num_classes: width of the logits.
      width: factor on the channels and on the dense layers, 1 for the paper's.
      dropout: share of the first dense layer that training drops; 0 for none.

    Returns:
      A network with outputs ``conv1``, ``conv2``, ``fc1`` and ``fc2`` (after ReLU) and
      ``logits``. With dropout it needs a key in training.

    Raises:
      UserError: a setting is not allowed.

    References:
      Thesis section 8.4; Zhang et al., "Understanding deep learning requires rethinking
      generalization", 2017, whose small AlexNet differs in its pools and in having no
      dropout.
    """
    channels, *features = (math.floor(width * c + 0.5) for c in (CHANNELS, *FEATURES))
    if channels < 1:
        raise UserError(f"width is {width}, which leaves no channel; give more.")
    module = CifarNet(num_classes, channels, tuple(features), dropout)
    return from_linen(module, head=("fc1", "fc2", "logits"))
