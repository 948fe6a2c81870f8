"""Convolutions in the forms that XLA:CPU runs fast, and that it divides among GPUs.

XLA:CPU has one fast convolution: images (batch, ..., channels) with a kernel (...,
channels, features), in one group. It rewrites others into that layout, but only in the
outermost computation, not in the body of a loop; a convolution it does not rewrite runs
as naive loops, 15 to 100 times slower. It also exchanges images and kernel where the
kernel has more places, *after* that rewriting, and never splits groups. So all three
are done here, in the program that it is given. ``docs/cpu.md`` holds the measurements.

XLA does not divide the images of a convolution in groups among devices: each gathers
the whole batch and convolves all of it. Compilers of TPUs take the groups apart first;
for GPUs it is done here.

Values are those of ``jax.lax.conv_general_dilated`` but for rounding; nothing here is
ever differentiated, as the program is lowered after all derivatives are taken.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from jaxssl.types import Array

NARROW = 32
"""With more features than this, XLA:CPU copes with an odd number of channels."""

MULTIPLIER = 4
"""Features for each channel up to which XLA's naive depthwise loops are the faster."""

UNROLLED = 8
"""Groups that are written out one by one; more run in a loop, on GPUs in one piece."""


def lower_on_cpu(
    x: Array, kernel: Array, *, dimension_numbers: Any, **parameters: Any
) -> Array:
    """Convolve in any layout by a convolution in the fast one.

    Args:
      x: images of any layout and number of spatial axes.
      kernel: in any layout.
      dimension_numbers: the layouts, a ``jax.lax.ConvDimensionNumbers``.
      **parameters: the others of ``jax.lax.conv_general_dilated_p``.

    Returns:
      The convolved images.
    """
    if _has_explicit_axes(x) or _has_explicit_axes(kernel):
        # The types of the operands say how they are sharded, in the layout they have.
        return lax.conv_general_dilated_p.bind(
            x, kernel, dimension_numbers=dimension_numbers, **parameters
        )
    images, taps, out = dimension_numbers
    x = jnp.transpose(x, (images[0], *images[2:], images[1]))
    kernel = jnp.transpose(kernel, (*taps[2:], taps[1], taps[0]))
    y = _by_group(x, kernel, **parameters)
    places = {axis: i for i, axis in enumerate((out[0], *out[2:], out[1]))}
    return jnp.transpose(y, [places[axis] for axis in range(y.ndim)])


def lower_on_gpus(
    x: Array,
    kernel: Array,
    *,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **parameters: Any,
) -> Array:
    """Convolve group by group, where a program is divided among GPUs.

    Args:
      x: images of any layout.
      kernel: in any layout.
      dimension_numbers: the layouts, a ``jax.lax.ConvDimensionNumbers``.
      feature_group_count: groups that the channels fall into.
      batch_group_count: groups that the batch falls into.
      **parameters: the others of ``jax.lax.conv_general_dilated_p``.

    Returns:
      The convolved images.
    """
    convolve = functools.partial(
        lax.conv_general_dilated_p.bind,
        dimension_numbers=dimension_numbers,
        **parameters,
    )
    groups = max(feature_group_count, batch_group_count)
    explicit = _has_explicit_axes(x) or _has_explicit_axes(kernel)
    if groups == 1 or groups > UNROLLED or explicit:
        return convolve(
            x,
            kernel,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
        )
    images, taps, out = dimension_numbers
    parted = images[1] if feature_group_count > 1 else images[0]
    slices = jnp.split(x, groups, parted), jnp.split(kernel, groups, taps[0])
    alone = {"feature_group_count": 1, "batch_group_count": 1}
    parts = [convolve(*one, **alone) for one in zip(*slices, strict=True)]
    return jnp.concatenate(parts, out[1])


def _has_explicit_axes(x: Array) -> bool:
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


def _by_group(
    x: Array,
    kernel: Array,
    *,
    feature_group_count: int,
    batch_group_count: int,
    **parameters: Any,
) -> Array:
    """Convolve group by group, but leave depthwise convolutions alone."""
    groups = max(feature_group_count, batch_group_count)
    if groups == 1:
        return _in_one_group(x, kernel, **parameters)
    multiplier = kernel.shape[-1] // groups
    if feature_group_count == x.shape[-1] and multiplier <= MULTIPLIER:
        grouped = {"feature_group_count": groups, "batch_group_count": 1}
        return _stock(x, kernel, **grouped, **parameters)
    axis = x.ndim - 1 if feature_group_count > 1 else 0

    def convolve(carry, group):
        return carry, _in_one_group(*group, **parameters)

    slices = _split(x, groups, axis), _split(kernel, groups, kernel.ndim - 1)
    _, y = lax.scan(convolve, None, slices, unroll=min(groups, UNROLLED))
    y = jnp.moveaxis(y, 0, -2)  # b ... g o
    return y.reshape(*y.shape[:-2], -1)


def _split(x: Array, groups: int, axis: int) -> Array:
    shape = (*x.shape[:axis], groups, -1, *x.shape[axis + 1 :])
    return jnp.moveaxis(x.reshape(shape), axis, 0)


def _in_one_group(x: Array, kernel: Array, **parameters: Any) -> Array:
    """Choose the form by the shapes."""
    if x.size == 0 or kernel.size == 0:
        return _stock(x, kernel, **parameters)
    if x.ndim == 5:
        return _fold_time(x, kernel, **parameters)
    if math.prod(kernel.shape[:-2]) > math.prod(x.shape[1:-1]):
        return _exchange(x, kernel, **parameters)
    channels, features = kernel.shape[-2:]
    if channels % 2 and 1 < channels and features <= NARROW:
        # XLA packs its operands 13 times faster where the channels are even.
        more = [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, [*more, (0, 0), (0, 1)])
        kernel = jnp.pad(kernel, [*more, (0, 1), (0, 0)])
    return _stock(x, kernel, **parameters)


def _fold_time(
    x: Array,
    kernel: Array,
    *,
    window_strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    **parameters: Any,
) -> Array:
    """Convolve over (time, rows, columns) by one convolution over rows and columns.

    The frames that a window sees are put side by side on the channels; time moves into
    the batch.
    """
    (low, high), stride, step = padding[0], window_strides[0], rhs_dilation[0]
    time = (low, high, lhs_dilation[0] - 1)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), time, *[(0, 0, 0)] * 3])
    length = (x.shape[1] - step * (kernel.shape[0] - 1) - 1) // stride + 1
    frames = [
        lax.slice_in_dim(x, i, i + (length - 1) * stride + 1, stride, axis=1)
        for i in range(0, step * kernel.shape[0], step)
    ]
    x = jnp.concatenate(frames, axis=-1)  # b t h w (kt i)
    batch = x.shape[0]
    kernel = jnp.moveaxis(kernel, 0, 2)  # kh kw kt i o
    y = _in_one_group(
        x.reshape(-1, *x.shape[2:]),
        kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1]),
        window_strides=window_strides[1:],
        padding=padding[1:],
        lhs_dilation=lhs_dilation[1:],
        rhs_dilation=rhs_dilation[1:],
        **parameters,
    )
    return y.reshape(batch, length, *y.shape[1:])


def _exchange(
    x: Array,
    kernel: Array,
    *,
    padding,
    lhs_dilation,
    rhs_dilation,
    window_strides,
    **parameters: Any,
) -> Array:
    """Let the kernel be the images and the images be the kernel.

    Output p sums x[m] kernel[q] over ``stride p + step q = dilation m + low``. Counted
    from their ends, m' = M - 1 - m and q' = Q - 1 - q, this is ``stride p + dilation m'
    = step q' + low'``: a convolution of the reversed kernel by the reversed images.
    """
    padding = [
        _exchanged_padding(m, q, *axis)
        for m, q, *axis in zip(
            x.shape[1:-1],
            kernel.shape[:-2],
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            strict=True,
        )
    ]
    axes = range(x.ndim - 2)
    y = _stock(
        lax.rev(jnp.moveaxis(kernel, -1, 0), [axis + 1 for axis in axes]),
        lax.rev(jnp.moveaxis(x, 0, -1), list(axes)),
        window_strides=window_strides,
        padding=tuple(padding),
        lhs_dilation=rhs_dilation,
        rhs_dilation=lhs_dilation,
        **parameters,
    )  # o ... b
    return jnp.moveaxis(y, (0, -1), (-1, 0))


def _exchanged_padding(m, q, stride, pad, dilation, step) -> tuple[int, int]:
    images, window = dilation * (m - 1), step * (q - 1)
    length = (images + sum(pad) - window) // stride + 1
    low = images - window + pad[0]
    return low, stride * (length - 1) + images - window - low


def _stock(x: Array, kernel: Array, **parameters: Any) -> Array:
    spatial = tuple(range(1, x.ndim - 1))
    images = (0, x.ndim - 1, *spatial)
    taps = (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
    numbers = lax.ConvDimensionNumbers(images, taps, images)
    grouped = {"feature_group_count": 1, "batch_group_count": 1} | parameters
    return lax.conv_general_dilated_p.bind(
        x, kernel, dimension_numbers=numbers, **grouped
    )
