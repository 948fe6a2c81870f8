"""Layers that several networks share: convolutions with norms, dropout, LRN.

A layer computes in the type of the parameters and maps that it is given
(`jaxssl.models.network.compute_in`); batch norm takes its means, and spectral norm its
singular values, in float32 whatever that is.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxssl import ops
from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.types import Array, Float

glorot = nn.initializers.glorot_uniform()
he_normal = nn.initializers.he_normal()

Padding = str | Sequence[tuple[int, int]]

Channels = Annotated[int, fields.Range(at_least=1, at_most=2**20)]
Width = Annotated[float, fields.Range(above=0, at_most=1024)]
Kernel = Annotated[int, fields.Range(at_least=1, at_most=1024)]
Epsilon = Annotated[float, fields.Range(above=0, at_most=1000)]


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Apply a leaky ReLU of slope 0.1, that of the inpainter and of the critic."""
    return nn.leaky_relu(x, 0.1)


def batch_norm_settings(module: Any) -> dict[str, Any]:
    """Return the settings of batch norm that a module passes on to its layers."""
    return {"bn_momentum": module.bn_momentum, "bn_epsilon": module.bn_epsilon}


def batch_norm(
    module: Any, train: bool, name: str = "norm", **settings: Any
) -> nn.BatchNorm:
    """Make a batch norm inside of a module with ``bn_momentum`` and ``bn_epsilon``."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=module.bn_momentum,
        epsilon=module.bn_epsilon,
        name=name,
        **settings,
    )


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm with shift and mostly scale, activation.

    Attributes:
      features: output channels.
      kernel: rows and columns of the kernel.
      strides: rows and columns between windows.
      padding: "SAME", "VALID" or (low, high) for rows and columns.
      groups: groups of channels.
      activation: applied last; ``None`` for none.
      kernel_init: initializer of the kernel.
      use_scale: whether batch norm multiplies by a learned scale.
      scale_init: initializer of the batch-norm scale.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to the variance.
    """

    features: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    groups: int = 1
    activation: Callable[[Array], Array] | None = nn.relu
    kernel_init: Callable[..., Array] = he_normal
    use_scale: bool = True
    scale_init: Callable[..., Array] = nn.initializers.ones
    bn_momentum: float = 0.975
    bn_epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool):
        """Return the activated maps (b, h', w', features)."""
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            feature_group_count=self.groups,
            use_bias=False,
            kernel_init=self.kernel_init,
            conv_general_dilated=ops.conv_general_dilated,
            name="conv",
        )(x)
        scale = {"use_scale": self.use_scale, "scale_init": self.scale_init}
        x = batch_norm(self, train, **scale)(x)
        return x if self.activation is None else self.activation(x)


class DenseNorm(nn.Module):
    """Dense layer without bias, batch norm with scale and shift, ReLU.

    Attributes:
      features: output width.
      kernel_init: initializer of the kernel.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to the variance.
    """

    features: int
    kernel_init: Callable[..., Array] = he_normal
    bn_momentum: float = 0.975
    bn_epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], *, train: bool):
        """Return the activations (b, features)."""
        x = nn.Dense(
            self.features, use_bias=False, kernel_init=self.kernel_init, name="dense"
        )(x)
        x = batch_norm(self, train)(x)
        return nn.relu(x)


class Dropout(nn.Module):
    """Dropout in training, which asks for its key, and wherever a key is given.

    With a key and without ``train`` a network samples its answers: batch norm is in
    inference mode and dropout is active ("MC dropout").

    Attributes:
      rate: share of the values that are set to zero; the others grow by 1 / (1 - rate).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], *, train: bool):
        """Return the values, some of them dropped.

        Raises:
          UserError: training without a key.
        """
        has_key = self.has_rng("dropout")
        if train and self.rate > 0 and not has_key:
            raise UserError(
                f"Dropout of {self.rate} needs a key in training; call "
                "apply(..., train=True, key=key), or build the network with dropout=0."
            )
        return nn.Dropout(self.rate)(x, deterministic=not has_key)


def local_response_norm(
    x: Float[Array, "b h w c"],
    *,
    radius: int = 4,
    alpha: float = 0.001 / 9.0,
    beta: float = 0.75,
    bias: float = 1.0,
) -> Float[Array, "b h w c"]:
    """Divide each value by the size of its neighbours on the channels.

    ``x / (bias + alpha sum x_j^2) ** beta``, over channels at most ``radius`` away.
    Written as a product with a band matrix, whose gradient is one, too.

    Args:
      x: feature maps.
      radius: channels on each side that count, fewer at the ends.
      alpha: factor on the sum of squares (TensorFlow's; PyTorch's is a mean's).
      beta: exponent.
      bias: added to the sum.

    Returns:
      The normalised maps.

    References:
      Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural
      Networks", 2012, section 3.3.
    """
    channels = jnp.arange(x.shape[-1])
    band = jnp.abs(channels[:, None] - channels[None, :]) <= radius
    sums = jnp.square(x.astype(jnp.float32)) @ band.astype(jnp.float32)
    return x * ((bias + alpha * sums) ** -beta).astype(x.dtype)


class DeconvNorm(nn.Module):
    """4x4 transposed convolution of stride 2, batch norm, activation.

    Attributes:
      features: output channels.
      activation: applied last.
      bn_momentum: weight of the old value in the running averages.
      bn_epsilon: added to the variance.
    """

    features: int
    activation: Callable[[Array], Array] = leaky_relu
    bn_momentum: float = 0.975
    bn_epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool):
        """Return the activated maps (b, 2h, 2w, features)."""
        shape = (4, 4, x.shape[-1], self.features)
        kernel = self.param("kernel", glorot, shape, jnp.float32)
        x = ops.conv_transpose(x, kernel, strides=(2, 2))
        x = batch_norm(self, train)(x)
        return self.activation(x)


class SpectralConv(nn.Module):
    """Convolution with bias whose kernel has spectral norm 1 (as a matrix).

    Attributes:
      features: output channels.
      kernel: rows and columns of the kernel.
      strides: rows and columns between windows.
    """

    features: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool):
        """Return the maps (b, h', w', features), SAME padding."""
        shape = (*self.kernel, x.shape[-1], self.features)
        weight = _spectral_weight(self, shape, train).astype(x.dtype)
        x = ops.conv_general_dilated(x, weight, self.strides, "SAME")
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return x + bias[None, None, None, :].astype(x.dtype)


class SpectralDense(nn.Module):
    """Dense layer with bias whose kernel has spectral norm 1.

    Attributes:
      features: output width.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], *, train: bool):
        """Return the activations (b, features)."""
        weight = _spectral_weight(self, (x.shape[-1], self.features), train)
        x = x @ weight.astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return x + bias[None, :].astype(x.dtype)


def spectral_normalize(
    kernel: Float[Array, "... o"], u: Float[Array, " o"]
) -> tuple[Float[Array, "... o"], Float[Array, " o"]]:
    """Divide a kernel by an estimate of its largest singular value.

    One power iteration refines the left vector ``u``. The gradient flows through the
    estimate; the two singular vectors count as constants.

    Args:
      kernel: weights; all axes but the last are the rows of the matrix.
      u: last estimate of the singular vector over output features.

    Returns:
      The normalised kernel and the refined ``u``.

    References:
      Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = lax.stop_gradient(matrix)
    v = _unit(fixed @ u)
    u = _unit(v @ fixed)
    sigma = v @ matrix @ u
    return kernel / sigma, u


def _unit(x: Array) -> Array:
    return x * lax.rsqrt(jnp.sum(x * x) + 1e-12)


def _spectral_weight(module: nn.Module, shape: tuple[int, ...], train: bool) -> Array:
    """Return the normalised float32 kernel; advance ``u`` where ``train``."""
    kernel = module.param("kernel", glorot, shape, jnp.float32)
    u = module.variable(
        "batch_stats",
        "u",
        lambda: _unit(jax.random.normal(module.make_rng("params"), shape[-1:])),
    )
    weight, advanced = spectral_normalize(
        kernel.astype(jnp.float32), lax.stop_gradient(u.value)
    )
    if train:
        u.value = advanced
    return weight
