"""Convolution and transposed convolution, fast on CPU and stock elsewhere."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.types import Array, Float

_NHWC = ("NHWC", "HWIO", "NHWC")

Padding = str | Sequence[tuple[int, int]]
"""``"SAME"``, ``"VALID"`` or (low, high) for each spatial axis."""

NARROW = 32
"""With more features than this, XLA:CPU copes with an odd number of channels."""

Convolution = Callable[[Array, Array], Array]
"""From images and a kernel to images."""


def conv_general_dilated(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = _NHWC,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Float[Array, "..."]:
    """Convolve; a drop-in for ``flax.linen.Conv(conv_general_dilated=...)``.

    Three cases have a form of their own on CPU; all others, and depthwise convolutions
    (one input channel a group), are left alone. Values differ by float32 rounding only.

    A grouped convolution becomes one convolution a group, on slices of the channels,
    and a concatenation: XLA runs ``feature_group_count > 1`` as naive loops.

    A kernel with more places than the map that comes out (3x3 on maps of 2x2) becomes
    a matrix product over all windows: XLA exchanges kernel and images there, and runs
    the result as naive loops, in the gradients if not in the value.

    A kernel of few features over an odd number of channels (3 to 24) gets one more
    channel, of zeros, in the forward pass, which XLA runs 13 times faster then.

    Args:
      lhs: images.
      rhs: kernel, (h, w, in / groups, out) in the default layout.
      window_strides: step of the window along each spatial axis.
      padding: "SAME", "VALID" or (low, high) for each spatial axis.
      lhs_dilation: as in ``jax.lax.conv_general_dilated``.
      rhs_dilation: as in ``jax.lax.conv_general_dilated``.
      dimension_numbers: the layout; NHWC and HWIO unless told otherwise.
      feature_group_count: groups that the channels fall into.
      precision: as in ``jax.lax.conv_general_dilated``.

    Returns:
      The convolved images.

    Raises:
      ValueError: the groups do not divide the channels.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    channels, features = lhs.shape[numbers.lhs_spec[1]], rhs.shape[numbers.rhs_spec[0]]
    if channels % feature_group_count or features % feature_group_count:
        raise ValueError(
            f"feature_group_count is {feature_group_count}; it must divide the "
            f"{channels} input and the {features} output channels."
        )

    def convolve(x, kernel, groups=1):
        return lax.conv_general_dilated(
            x,
            kernel,
            tuple(window_strides),
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=numbers,
            feature_group_count=groups,
            precision=precision,
        )

    stock = functools.partial(convolve, groups=feature_group_count)
    if channels == feature_group_count > 1:
        return stock(lhs, rhs)
    fast: Convolution | None = None
    dilated = {*(lhs_dilation or ()), *(rhs_dilation or ())} - {1}
    flat = lhs.ndim == 4 and not dilated
    if flat and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC):
        shapes = lhs.shape, (*rhs.shape[:3], features // feature_group_count)
        fast = _choose_form(shapes, tuple(window_strides), padding, convolve, precision)
    if feature_group_count > 1:
        axes = numbers.lhs_spec[1], numbers.rhs_spec[0], numbers.out_spec[1]
        fast = _by_group(fast or convolve, feature_group_count, axes)
    if fast is None:
        return stock(lhs, rhs)
    return lax.platform_dependent(lhs, rhs, cpu=fast, default=stock)


def _by_group(convolve: Convolution, groups: int, axes) -> Convolution:
    """Convolve group by group; ``axes`` hold inputs' and outputs' channels."""

    def split(x, kernel):
        inputs = jnp.split(x, groups, axis=axes[0])
        kernels = jnp.split(kernel, groups, axis=axes[1])
        outputs = [convolve(a, k) for a, k in zip(inputs, kernels, strict=True)]
        return jnp.concatenate(outputs, axis=axes[2])

    return split


def _choose_form(
    shapes, strides, padding: Padding, convolve: Convolution, precision
) -> Convolution | None:
    """Return a form that is faster than ``convolve`` on CPU, if one is known.

    ``shapes`` are those of the images and of one group's kernel.
    """
    images, kernel = shapes
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images[1:3], kernel[:2], strides, padding)
    padding = [(int(low), int(high)) for low, high in padding]
    sizes = [
        (side + low + high - k) // s + 1
        for side, k, s, (low, high) in zip(
            images[1:3], kernel[:2], strides, padding, strict=True
        )
    ]
    if min(sizes) < 1:
        return None
    if math.prod(sizes) < math.prod(kernel[:2]):
        geometry = {"strides": strides, "padding": padding, "sizes": sizes}
        return functools.partial(_product, precision=precision, **geometry)
    if kernel[2] % 2 and 1 < kernel[2] and kernel[3] <= NARROW:
        return _with_even_channels(convolve)
    return None


def _product(x: Array, kernel: Array, *, strides, padding, sizes, precision) -> Array:
    """Convolve by one matrix product over the windows of all places."""
    low_high = [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), low_high)
    b, _, _, i = x.shape
    spans = [(n - 1) * s + 1 for n, s in zip(sizes, strides, strict=True)]
    windows = [
        lax.slice(x, (0, r, c, 0), (b, r + spans[0], c + spans[1], i), (1, *strides, 1))
        for r in range(kernel.shape[0])
        for c in range(kernel.shape[1])
    ]
    columns = jnp.concatenate(windows, axis=-1)
    columns = columns.reshape(-1, columns.shape[-1])
    matrix = kernel.reshape(-1, kernel.shape[-1])
    y = jnp.matmul(columns, matrix, precision=precision)
    return y.reshape(b, *sizes, -1)


def _with_even_channels(convolve: Convolution) -> Convolution:
    """Add a channel of zeros in the forward pass; gradients are those of the stock."""

    @jax.custom_jvp
    def even(x, kernel):
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
        return convolve(x, jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0))))

    @even.defjvp
    def _(primals, tangents):
        x, kernel = primals
        dx, dkernel = tangents
        return even(x, kernel), convolve(dx, kernel) + convolve(x, dkernel)

    return even


def conv_transpose(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    *,
    strides: tuple[int, int],
    padding: Padding = "SAME",
    precision: Any = None,
) -> Float[Array, "b hh ww o"]:
    """Convolve with fractional strides, as ``flax.linen.ConvTranspose`` does.

    On CPU the 4x4 kernel with stride 2 and SAME padding (output twice the input) is one
    matrix product; XLA's own form is 7 to 30 times slower in the weight gradient. All
    other cases are ``jax.lax.conv_transpose`` everywhere.

    Args:
      x: images.
      kernel: not flipped, as in flax.
      strides: factor by which each spatial axis grows.
      padding: "SAME", "VALID" or (low, high) for each spatial axis.
      precision: as in ``jax.lax.conv_transpose``.

    Returns:
      The enlarged images.
    """

    def stock(x, kernel):
        return lax.conv_transpose(
            x,
            kernel,
            strides,
            padding,
            dimension_numbers=_NHWC,
            precision=precision,
        )

    def product(x, kernel):
        return _double_by_product(x, kernel, precision)

    if (kernel.shape[:2], strides, padding) != ((4, 4), (2, 2), "SAME"):
        return stock(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=product, default=stock)


def _double_by_product(x: Array, kernel: Array, precision: Any) -> Array:
    """Compute the 4x4, stride 2, SAME transposed convolution as one matrix product.

    With x zero outside, even and odd outputs along an axis read two neighbours each:
    ``y[2m] = x[m-1] k[0] + x[m] k[2]`` and ``y[2m-1] = x[m-1] k[1] + x[m] k[3]``.
    So the window (x[m-1], x[m]), m = 0..n, times the taps gives y[2m-1] and y[2m], and
    the first and the last value of the interleaved sequence are cut off.
    """
    b, h, w, i = x.shape
    o = kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = jnp.concatenate(
        [padded[:, r : r + h + 1, c : c + w + 1] for r in (0, 1) for c in (0, 1)], -1
    )  # b h+1 w+1 (2 2 i)
    taps = kernel.reshape(2, 2, 2, 2, i, o)[
        :, ::-1, :, ::-1
    ]  # shift, phase (odd first)
    taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(4 * i, 4 * o)
    y = jnp.matmul(windows.reshape(-1, 4 * i), taps, precision=precision)
    y = y.reshape(b, h + 1, w + 1, 2, 2, o).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(b, 2 * h + 2, 2 * w + 2, o)[:, 1:-1, 1:-1]
