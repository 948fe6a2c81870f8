"""The patch inpainter F of chapter 4: a small convolutional autoencoder."""

from typing import Annotated

import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

MAX_CHANNELS = 512


class Inpainter(nn.Module):
    """See ``inpainter`` for the settings."""

    depth: int
    num_layers: int
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the image, of the size of the input."""
        factor = 2 ** (self.num_layers - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise UserError(
                f"The inpainter got patches of {x.shape[1]} x {x.shape[2]}; with "
                f"num_layers={self.num_layers} both sides must be multiples of "
                f"{factor}. Change the patch size or num_layers."
            )
        channels = [
            min(self.depth * 2**i, MAX_CHANNELS) for i in range(self.num_layers)
        ]
        norm = layers.batch_norm_settings(self)
        x = layers.leaky_relu(self._plain(self.depth, "stem")(x))
        for i, features in enumerate(channels[1:]):
            x = layers.ConvNorm(
                features,
                (4, 4),
                (2, 2),
                activation=layers.leaky_relu,
                kernel_init=layers.glorot,
                name=f"down{i + 1}",
                **norm,
            )(x, train=train)
        for i, features in enumerate(reversed(channels[:-1])):
            x = layers.DeconvNorm(features, name=f"up{i + 1}", **norm)(x, train=train)
        x = self._plain(3, "image")(x).astype(jnp.float32)
        return {"image": jnp.tanh(x)}

    def _plain(self, features: int, name: str) -> nn.Conv:
        """Make a 3x3 convolution with bias; at stride 1 a deconvolution is the same."""
        return nn.Conv(
            features,
            (3, 3),
            kernel_init=layers.glorot,
            conv_general_dilated=ops.conv_general_dilated,
            name=name,
        )


@fields.checked
def inpainter(
    *,
    depth: layers.Channels = 48,
    num_layers: Annotated[int, fields.Range(at_least=2, at_most=16)] = 4,
    bn_momentum: fields.Fraction = 0.975,
    bn_epsilon: layers.Epsilon = 1e-3,
) -> Network:
    """Make the network that fills the hole of a patch.

    A 3x3 convolution, 4x4/2 convolutions that double the channels (up to 512), as many
    4x4/2 transposed convolutions, a 3x3 one to RGB and tanh. The author always runs it
    on the statistics of the batch: call it with ``train=True`` there.

    Args:
      depth: channels of the first layer.
      num_layers: convolutions of the encoder, the first included: 4 for STL-10, 5 in
        the author's class default. Patches are reduced by ``2 ** (num_layers - 1)``.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.

    Returns:
      A network from patches in [-1, 1] to ``image``, patches in [-1, 1]. It raises
      ``UserError`` where the sides of the patches are not multiples of the reduction.

    Raises:
      UserError: a setting is not allowed.

    References:
      Thesis section 4.2.1 and the STL-10 network of the released code.
    """
    return from_linen(Inpainter(depth, num_layers, bn_momentum, bn_epsilon))
