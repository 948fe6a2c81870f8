"""Three convolutions and a dense layer: the CPU-sized network of chapter 8."""

from typing import Any

from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network


class ConvNet(nn.Module):
    """See ``convnet`` for the settings."""

    num_classes: int | None
    channels: tuple[int, ...]
    features: int
    bn_momentum: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool):
        """Return the endpoints conv1, conv2, ..., fc1 and the logits."""
        shared: dict[str, Any] = {"bn_momentum": self.bn_momentum}
        endpoints = {}
        for i, channels in enumerate(self.channels, start=1):
            name = f"conv{i}"
            x = layers.ConvNorm(channels, name=name, **shared)(x, train=train)
            endpoints[name] = x
            x = ops.max_pool(x, (2, 2), (2, 2), "SAME")
        if self.num_classes is not None:
            x = x.reshape(x.shape[0], -1)
            dense = layers.DenseNorm(self.features, name="fc1", **shared)
            x = endpoints["fc1"] = dense(x, train=train)
            logits = nn.Dense(self.num_classes, name="logits")
            endpoints["logits"] = logits(x)
        return endpoints


@fields.checked
def convnet(
    num_classes: layers.Channels | None,
    *,
    channels: tuple[layers.Channels, ...] = (16, 32, 64),
    features: layers.Channels = 256,
    bn_momentum: fields.Fraction = 0.975,
) -> Network:
    """Make a small convolutional network with batch norm, for images of any size.

    Each stage is a 3x3 convolution, batch norm, ReLU and 2x2 max pooling; then follow a
    dense layer with batch norm, and the logits.

    Args:
      num_classes: width of the logits; ``None`` leaves the logits and the dense layer
        out.
      channels: of each stage.
      features: width of the dense layer.
      bn_momentum: see `jaxssl.models.mlp.mlp`.

    Returns:
      A network with outputs ``conv1``, ``conv2``, ... (after ReLU), ``fc1`` and
      ``logits``.

    Raises:
      UserError: a setting is not allowed.
    """
    module = ConvNet(num_classes, channels, features, bn_momentum)
    return from_linen(module, head=("fc1", "logits"))
