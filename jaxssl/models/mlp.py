"""Dense layers on pixels: the smallest network that can memorise labels."""

from flax import linen as nn

from jaxssl.config import fields
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network


class Mlp(nn.Module):
    """See ``mlp`` for the settings."""

    num_classes: int | None
    features: tuple[int, ...]
    norm: bool
    bn_momentum: float
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool):
        """Return the endpoints fc1, fc2, ... and the logits."""
        endpoints = {}
        x = x.reshape(x.shape[0], -1)
        for i, features in enumerate(self.features, start=1):
            name = f"fc{i}"
            if self.norm:
                x = layers.DenseNorm(features, bn_momentum=self.bn_momentum, name=name)(
                    x, train=train
                )
            else:
                x = nn.Dense(features, kernel_init=layers.he_normal, name=name)(x)
                x = nn.relu(x)
            endpoints[name] = x
            x = layers.Dropout(self.dropout)(x, train=train)
        if self.num_classes is not None:
            endpoints["logits"] = nn.Dense(self.num_classes, name="logits")(x)
        return endpoints


@fields.checked
def mlp(
    num_classes: layers.Channels | None,
    *,
    features: tuple[layers.Channels, ...] = (256, 256),
    norm: bool = True,
    bn_momentum: fields.Fraction = 0.975,
    dropout: fields.Fraction = 0.0,
) -> Network:
    """Make dense layers with ReLU over all pixels of an image.

    Args:
      num_classes: width of the logits; ``None`` leaves the logits out.
      features: widths of the layers.
      norm: batch norm after each, and no bias.
      bn_momentum: weight of the old value in the running averages; with k mini-batches
        a step they move k times a step.
      dropout: share of each layer that training drops; 0 for none.

    Returns:
      A network with outputs ``fc1``, ``fc2``, ... (after ReLU) and ``logits``. With
      dropout it needs a key in training.

    Raises:
      UserError: a setting is not allowed.
    """
    module = Mlp(num_classes, features, norm, bn_momentum, dropout)
    return from_linen(module, head=("logits",))
