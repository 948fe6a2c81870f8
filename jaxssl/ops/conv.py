"""Convolution and transposed convolution: fast on CPU, divided among GPUs."""

import functools
from collections.abc import Sequence
from typing import Any

from jax import lax

from jaxssl.ops.primitive import substitute
from jaxssl.types import Array, Float

Padding = str | Sequence[tuple[int, int]]
"""``"SAME"``, ``"VALID"`` or (low, high) for each spatial axis."""


def conv_general_dilated(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Float[Array, "..."]:
    """Convolve; a drop-in for ``jax.lax.conv_general_dilated`` where channels are last.

    Fits the ``conv_general_dilated`` of ``flax.linen.Conv`` and ``flax.nnx.Conv``. Over
    one, two or three spatial axes. Values and derivatives of any order and mode differ
    from the stock ones by rounding only; on TPU and one GPU the program is the stock
    one. Where ``jax.jit`` divides a program among GPUs, up to eight groups, also those
    that ``vmap`` makes, are convolutions of their own: XLA would let each GPU convolve
    the whole batch.
    Checkpoint policies that look for convolutions by their primitive
    (``dots_saveable``) do not see these. On CPU:

    - Gradients are as fast in the body of a loop (``lax.scan``, ``lax.map``,
      ``lax.fori_loop``) as outside of it; XLA's own are 20 to 80 times slower there.
    - Groups of channels, and a ``vmap`` over kernels or over the weight gradient, which
      JAX writes as groups, are convolved group by group (depthwise convolutions are
      XLA's own); XLA runs them as naive loops.
    - Where the kernel has more places than the map (3x3 on maps of 2x2, or gradients of
      strided convolutions of small maps), the two change roles in XLA's fast layout.
    - A kernel of few features over an odd number of channels (3 to 24) gets one more
      channel, of zeros.
    - Over time, rows and columns, time is folded into channels and batch.

    Args:
      lhs: images, (b, ..., channels) by default.
      rhs: kernel, (..., channels / groups, features) by default.
      window_strides: step of the window along each spatial axis.
      padding: "SAME", "VALID" or (low, high) for each spatial axis.
      lhs_dilation: as in ``jax.lax.conv_general_dilated``.
      rhs_dilation: as in ``jax.lax.conv_general_dilated``.
      dimension_numbers: the layout as in ``jax.lax``, but for ``None``, which puts the
        channels last (NHWC and HWIO) here.
      feature_group_count: groups that the channels fall into.
      batch_group_count: groups that the batch falls into.
      precision: as in ``jax.lax.conv_general_dilated``.
      preferred_element_type: as in ``jax.lax.conv_general_dilated``.
      out_sharding: as in ``jax.lax.conv_general_dilated``; where a mesh has explicit
        axes, the program is the stock one on every platform.

    Returns:
      The convolved images.

    Raises:
      ValueError: the groups do not divide the channels.
    """
    if dimension_numbers is None:
        dimension_numbers = _channels_last(lhs.ndim)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    channels, features = lhs.shape[numbers.lhs_spec[1]], rhs.shape[numbers.rhs_spec[0]]
    if channels % feature_group_count or features % feature_group_count:
        raise ValueError(
            f"feature_group_count is {feature_group_count}; it must divide the "
            f"{channels} input and the {features} output channels."
        )
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=tuple(window_strides),
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    return substitute(convolve, lhs, rhs)


def _channels_last(ndim: int) -> tuple[str, str, str]:
    """Return the default layout for images of ``ndim`` axes."""
    if not 3 <= ndim <= 5:
        raise ValueError(
            f"The images have {ndim} axes; allowed are batch, channels and one to "
            "three spatial axes. Add or merge axes."
        )
    spatial = "DHW"[5 - ndim :]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def conv_transpose(
    x: Float[Array, "b *s i"],
    kernel: Float[Array, "*k i o"],
    *,
    strides: Sequence[int],
    padding: Padding = "SAME",
    precision: Any = None,
) -> Float[Array, "b *t o"]:
    """Convolve with fractional strides, as ``flax.linen.ConvTranspose`` does.

    On CPU its weight gradient is 25 to 40 times faster than XLA's own form, in which
    the kernel has more places than the map; see ``conv_general_dilated``.

    Args:
      x: images of one, two or three spatial axes.
      kernel: not flipped, as in flax.
      strides: factor by which each spatial axis grows.
      padding: "SAME", "VALID" or (low, high) for each spatial axis.
      precision: as in ``jax.lax.conv_transpose``.

    Returns:
      The enlarged images.
    """
    convolve = functools.partial(
        lax.conv_transpose,
        strides=strides,
        padding=padding,
        dimension_numbers=_channels_last(x.ndim),
        precision=precision,
    )
    return substitute(convolve, x, kernel)
