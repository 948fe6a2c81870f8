"""Grouped and transposed convolution, fast on CPU and stock elsewhere."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxssl.types import Array, Float

_NHWC = ("NHWC", "HWIO", "NHWC")

Padding = str | Sequence[tuple[int, int]]
"""``"SAME"``, ``"VALID"`` or (low, high) for each spatial axis."""


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

    On CPU a grouped convolution becomes one convolution a group, on slices of the
    channels, and a concatenation: there XLA runs ``feature_group_count > 1`` as naive
    loops. Depthwise convolutions (one input channel a group) and ungrouped ones are
    left alone. Values differ by float32 rounding only.

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

    def convolve(x, kernel, groups):
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

    def stock(x, kernel):
        return convolve(x, kernel, feature_group_count)

    def split(x, kernel):
        inputs = jnp.split(x, feature_group_count, axis=numbers.lhs_spec[1])
        kernels = jnp.split(kernel, feature_group_count, axis=numbers.rhs_spec[0])
        outputs = [convolve(a, k, 1) for a, k in zip(inputs, kernels, strict=True)]
        return jnp.concatenate(outputs, axis=numbers.out_spec[1])

    if feature_group_count == 1 or channels == feature_group_count:
        return stock(lhs, rhs)
    return lax.platform_dependent(lhs, rhs, cpu=split, default=stock)


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
