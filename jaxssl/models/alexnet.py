"""AlexNet: the variant of chapter 4 with batch norm, and the original of chapter 8."""

import math
from typing import Annotated

import jax.numpy as jnp
from flax import linen as nn

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.models import layers
from jaxssl.models.network import from_linen
from jaxssl.types import Array, Float, Network

RGB_MEAN = (123.68, 116.78, 103.94)
"""Mean colour of ImageNet in 0..255, subtracted inside the network."""

CHANNELS = (96, 256, 384, 384, 256)
KERNELS = (None, 5, 3, 3, 3)
GROUPED = (False, True, False, True, True)
"""conv1 .. conv5; the kernel of conv1 is a setting."""

HEAD = ("fc1", "fc2", "logits")
"""Dense layers of both networks; the size of fc1 depends on that of the images."""

INITS = {
    "thesis": (
        nn.initializers.truncated_normal(0.01),
        nn.initializers.truncated_normal(0.005),
    ),
    "he": (layers.he_normal, layers.he_normal),
}
"""Initializers of convolutions and of dense layers by name."""


class AlexNet(nn.Module):
    """See ``alexnet`` for the settings."""

    num_classes: int | None
    channels: tuple[int, ...]
    groups: int
    stem_kernel: int
    stem_stride: int
    fc_features: int
    padding: str
    pool5: bool
    init_scheme: str
    bn_momentum: float
    bn_epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the endpoints conv1 .. conv5 and, with classes, the logits."""
        x = _centre(x)
        endpoints = {}
        for i in range(5):
            x = endpoints[f"conv{i + 1}"] = self._convolution(i)(x, train=train)
            if i < 2 or (i == 4 and self.pool5):
                x = ops.max_pool(x, (3, 3), (2, 2), self.padding)
        if self.num_classes is None:
            return endpoints
        x = x.reshape(x.shape[0], -1)
        _, dense_init = INITS[self.init_scheme]
        for name in ("fc1", "fc2"):
            x = layers.DenseNorm(
                self.fc_features,
                kernel_init=dense_init,
                **layers.batch_norm_settings(self),
                name=name,
            )(x, train=train)
        logits = nn.Dense(self.num_classes, kernel_init=dense_init, name="logits")(x)
        return endpoints | {"logits": logits}

    def _convolution(self, i: int) -> layers.ConvNorm:
        kernel = KERNELS[i] or self.stem_kernel
        stride = self.stem_stride if i == 0 else 1
        return layers.ConvNorm(
            self.channels[i],
            (kernel, kernel),
            (stride, stride),
            padding=self.padding if i == 0 else "SAME",
            groups=self.groups if GROUPED[i] else 1,
            kernel_init=INITS[self.init_scheme][0],
            **layers.batch_norm_settings(self),
            name=f"conv{i + 1}",
        )


def _centre(x: Array) -> Array:
    """Bring images in [-1, 1] to 0..255 minus the mean colour; float32 inside."""
    mean = jnp.asarray(RGB_MEAN, jnp.float32)[None, None, None, :]
    return ((x.astype(jnp.float32) + 1.0) * 127.5 - mean).astype(x.dtype)


@fields.checked
def alexnet(
    num_classes: layers.Channels | None,
    *,
    width: layers.Width = 1.0,
    groups: layers.Channels = 2,
    stem_kernel: layers.Kernel = 11,
    stem_stride: layers.Kernel = 4,
    fc_features: layers.Channels = 4096,
    padding: Annotated[str, fields.OneOf(("SAME", "VALID"))] = "SAME",
    pool5: bool = False,
    init: Annotated[str, fields.OneOf(tuple(INITS))] = "thesis",
    bn_momentum: fields.Fraction = 0.975,
    bn_epsilon: layers.Epsilon = 1e-3,
) -> Network:
    """Make the transformation classifier of chapter 4.

    Five convolutions, each followed by batch norm and ReLU; 3x3/2 max pooling after the
    first two; two dense layers with batch norm and ReLU; logits. Inputs are in [-1, 1]
    and are brought to 0..255 minus the mean colour inside. The defaults are those of
    the thesis; the CPU-sized network is ``width=0.25, groups=1, stem_kernel=5,
    stem_stride=2, fc_features=256, init="he", bn_momentum=0.95``.

    Args:
      num_classes: width of the logits; ``None`` leaves the three dense layers out, and
        the convolutions keep their parameter names, so the trunk runs on the parameters
        of a whole network at any image size.
      width: factor on the channels of the convolutions.
      groups: groups of channels in conv2, conv4 and conv5.
      stem_kernel: side of conv1's kernel.
      stem_stride: stride of conv1.
      fc_features: width of the first two dense layers.
      padding: of conv1 and of the pools: "SAME" for small images, "VALID" for 227
        pixels.
      pool5: max pooling between conv5 and the dense layers; the thesis leaves it out
        for small images. The endpoint ``conv5`` lies before it.
      init: "thesis" (truncated normal, 0.01 for convolutions, 0.005 for dense layers)
        or "he".
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to variances.

    Returns:
      A network with outputs ``conv1`` .. ``conv5`` (after ReLU, before pooling) and
      ``logits``.

    Raises:
      UserError: a setting is not allowed.

    References:
      Jenni, Jin, Favaro, "Steering Self-Supervised Feature Learning Beyond Local Pixel
      Statistics", CVPR 2020; thesis section 4.4.
    """
    channels = tuple(math.floor(width * c + 0.5) for c in CHANNELS)
    if min(channels) < 1 or any(c % groups for c in channels):
        raise UserError(
            f"width is {width} and groups is {groups}: the channels {channels} must be "
            "multiples of the groups. Change one of the two."
        )
    return from_linen(
        AlexNet(
            num_classes=num_classes,
            channels=channels,
            groups=groups,
            stem_kernel=stem_kernel,
            stem_stride=stem_stride,
            fc_features=fc_features,
            padding=padding,
            pool5=pool5,
            init_scheme=init,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
        ),
        head=HEAD,
    )


class OriginalAlexNet(nn.Module):
    """See ``original_alexnet`` for the settings."""

    num_classes: int
    channels: tuple[int, ...]
    fc_features: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], *, train: bool):
        """Return the endpoints conv1 .. conv5, fc1, fc2 and the logits."""
        x = _centre(x)
        endpoints = {}
        for i in range(5):
            kernel = KERNELS[i] or 11
            x = nn.Conv(
                self.channels[i],
                (kernel, kernel),
                strides=4 if i == 0 else 1,
                padding="VALID" if i == 0 else "SAME",
                feature_group_count=2 if GROUPED[i] else 1,
                kernel_init=nn.initializers.normal(0.01),
                bias_init=nn.initializers.constant(float(i in (1, 3, 4))),
                conv_general_dilated=ops.conv_general_dilated,
                name=f"conv{i + 1}",
            )(x)
            x = endpoints[f"conv{i + 1}"] = nn.relu(x)
            if i < 2:
                x = layers.local_response_norm(x, radius=2, alpha=1e-4, bias=2.0)
            if i in (0, 1, 4):
                x = ops.max_pool(x, (3, 3), (2, 2), "VALID")
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = endpoints[name] = nn.relu(self._dense(self.fc_features, 1.0, name)(x))
            x = layers.Dropout(self.dropout)(x, train=train)
        endpoints["logits"] = self._dense(self.num_classes, 0.0, "logits")(x)
        return endpoints

    def _dense(self, features: int, bias: float, name: str) -> nn.Dense:
        return nn.Dense(
            features,
            kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.constant(bias),
            name=name,
        )


@fields.checked
def original_alexnet(
    num_classes: layers.Channels,
    *,
    width: layers.Width = 1.0,
    fc_features: layers.Channels = 4096,
    dropout: fields.Fraction = 0.5,
) -> Network:
    """Make AlexNet as published, which chapter 8 trains on PASCAL VOC and ImageNet.

    Five convolutions with bias and ReLU, three in two groups; local response
    normalisation and 3x3/2 max pooling after the first two, pooling after the fifth;
    two dense layers with ReLU and dropout; logits. No batch norm. Inputs are in [-1, 1]
    and are brought to 0..255 minus the mean colour inside; meant for 227 pixels.

    Args:
      num_classes: width of the logits: 20 for VOC, 1000 for ImageNet.
      width: factor on the channels of the convolutions.
      fc_features: width of the two dense layers.
      dropout: share of each dense layer that training drops; 0 for none.

    Returns:
      A network with outputs ``conv1`` .. ``conv5`` (after ReLU, before pooling),
      ``fc1``, ``fc2`` (after ReLU, before dropout) and ``logits``. With dropout it
      needs a key in training.

    Raises:
      UserError: a setting is not allowed.

    References:
      Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural
      Networks", 2012; thesis sections 8.4 and 8.4.4, which add no detail.
    """
    channels = tuple(math.floor(width * c + 0.5) for c in CHANNELS)
    if min(channels) < 1 or any(c % 2 for c in channels):
        raise UserError(
            f"width is {width}: the channels {channels} must be even, as three "
            "convolutions have two groups. Change width."
        )
    module = OriginalAlexNet(num_classes, channels, fc_features, dropout)
    return from_linen(module, head=HEAD)
