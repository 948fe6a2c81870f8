"""The patch critic D of chapter 4: spectrally normalised convolutions, sum pooling."""

from typing import Annotated

import jax.numpy as jnp
from flax import linen as nn

from jaxssl.config import fields
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

MAX_CHANNELS = 512


class Critic(nn.Module):
    """See ``critic`` for the settings."""

    num_stages: int
    depth: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool):
        """Return one score for each input."""
        for i in range(self.num_stages):
            features = min(self.depth * 2**i, MAX_CHANNELS)
            x = layers.SpectralConv(features, (3, 3), name=f"stage{i + 1}_conv")(
                x, train=train
            )
            x = layers.leaky_relu(x)
            if i < self.num_stages - 1:
                x = layers.SpectralConv(
                    features, (4, 4), (2, 2), name=f"stage{i + 1}_down"
                )(x, train=train)
                x = layers.leaky_relu(x)
        x = x.astype(jnp.float32).sum(axis=(1, 2))
        x = layers.SpectralDense(1, name="logits")(x, train=train)
        return {"logits": x[:, 0]}


@fields.checked
def critic(
    *,
    num_stages: Annotated[int, fields.Range(at_least=1, at_most=16)] = 3,
    depth: layers.Channels = 64,
) -> Network:
    """Make the network that tells inpainted patches from untouched ones.

    Each stage is a 3x3 convolution and, in all but the last, a 4x4 one of stride 2,
    with leaky ReLU; then the sum over all places and one linear score. Every kernel is
    divided by its spectral norm, estimated by one power iteration from a vector kept in
    the statistics. The iterate depends on the weights alone; a pass with ``train=True``
    advances it once, a pass without uses the same estimate and leaves it.

    Args:
      num_stages: the inpainter's ``num_layers`` minus one: 3 for STL-10.
      depth: channels of the first stage; doubled by each stage up to 512.

    Returns:
      A network from images in [-1, 1] of any number of channels (3, or 6 for two
      patches that are scored as a pair) to ``logits`` (b,).

    Raises:
      UserError: a setting is not allowed.

    References:
      Thesis section 4.2.1 and the STL-10 network of the released code.
    """
    return from_linen(Critic(num_stages, depth))
