"""Checks of static facts: each raises at trace time and says what to do about it."""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.types import Array, Int, Num, Shaped

Size = tuple[int, int]
"""Height and width in pixels."""

Scalar = Num[Array, ""] | float | int
"""A number that may be traced."""

IntScalar = Int[Array, ""] | int
"""A whole number that may be traced."""

PerChannel = Num[Array, " c"] | Num[Array, ""] | Sequence[Scalar] | float | int
"""One number, or one for each channel; all may be traced."""


def scalar(value: Any, name: str) -> None:
    """Raise a ValueError if ``value`` is not a single number.

    One with axes would be broadcast against those of the image.
    """
    shape = np.shape(value)
    if shape:
        raise ValueError(
            f"{name} must be a single number, which all leading axes share; got shape "
            f"{shape}. Use jax.vmap or batched for one per example."
        )


def known(value: Any, name: str) -> Any:
    """Return a scalar that is known when the program is traced, or None.

    Python and NumPy numbers are known, 0-d NumPy arrays too. An array of jax is not: it
    may be traced, and reading it would wait for the device.

    Raises:
      ValueError: if ``value`` is not a single number.
    """
    scalar(value, name)
    if isinstance(value, np.ndarray):
        return value[()]
    return value if isinstance(value, numbers.Real | np.generic) else None


def pair(value: Shaped[Array, "2"] | Sequence, name: str) -> Shaped[Array, "2"]:
    """Return two numbers, each of which may be traced, as one array.

    Raises:
      ValueError: if there are not two, or one is not a single number.
    """
    if isinstance(value, Sequence):
        for number in value:
            scalar(number, name)
    array = jnp.array(value) if isinstance(value, Sequence) else jnp.asarray(value)
    if array.shape != (2,):
        raise ValueError(
            f"{name} must be two numbers (y, x); got shape {array.shape}. Use jax.vmap "
            "or batched for one pair per example."
        )
    return array


def per_channel(
    value: PerChannel, channels: int, name: str
) -> Num[Array, "..."] | np.ndarray:
    """Return one number, or one for each channel, as an array ``()`` or ``(c,)``.

    The array is one of NumPy where all numbers are known, see `known`.

    Raises:
      ValueError: if the number of values is neither one nor that of the channels.
    """
    traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    array = jnp.asarray(value) if traced else np.asarray(value)
    if array.shape not in ((), (channels,)):
        raise ValueError(
            f"{name} must be one number, or have one value for each of the {channels} "
            f"channels; got shape {array.shape}. Use jax.vmap or batched for one per "
            "example."
        )
    return array


def image_size(image: Shaped[Array, "..."]) -> Size:
    """Return the height and width of ``(..., H, W, C)``.

    Raises:
      ValueError: if the array has fewer than three axes or no pixels.
    """
    if image.ndim < 3:
        raise ValueError(
            f"image must have the axes (..., H, W, C); got shape {image.shape}. "
            "Add a channel axis with image[..., None]."
        )
    height, width = image.shape[-3:-1]
    if height < 1 or width < 1:
        raise ValueError(
            f"image must have at least one pixel; got shape {image.shape}. "
            "Drop empty images before the transform."
        )
    return height, width


def size_pair(size: Any, name: str = "size", least: int = 1) -> Size:
    """Return ``(height, width)`` from a side or a pair of sides.

    Raises:
      TypeError: if a side is not a Python integer (shapes are static).
      ValueError: if there are not two sides or one is below ``least``.
    """
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if not all(isinstance(side, numbers.Integral) for side in sides):
        raise TypeError(
            f"{name} must be Python integers, as shapes are static; got {size}. "
            "Pass it outside of the traced arguments."
        )
    if len(sides) != 2 or min(sides) < least:
        raise ValueError(
            f"{name} must be one side or (height, width), each at least {least}; got "
            f"{size}."
        )
    return int(sides[0]), int(sides[1])


def fits(size: Size, image_size: Size, name: str) -> None:
    """Raise a ValueError if ``size`` is larger than the image."""
    if size[0] > image_size[0] or size[1] > image_size[1]:
        raise ValueError(
            f"{name} must fit into the image of {image_size[0]}x{image_size[1]}; got "
            f"{size[0]}x{size[1]}. Take a smaller {name} or pad the image first."
        )


def corner(
    top_left: Shaped[Array, "2"] | Sequence, size: Size, image_size: Size
) -> Shaped[Array, "2"]:
    """Return the window's first pixel as int32, moved into the image.

    Raises:
      TypeError: if the position is not whole.
      ValueError: if it is not two numbers, or one of them is a Python or NumPy number
        with which the window sticks out.
    """
    start = pair(top_left, "top_left")
    room = (image_size[0] - size[0], image_size[1] - size[1])
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise TypeError(
            f"top_left must be whole pixels; got {top_left}. Round it, or sample with "
            "geometric_chain(image, [crop_coords(top_left, size)])."
        )
    static = top_left if isinstance(top_left, Sequence) else ()
    places = [known(at, "top_left") for at in static]
    for at, free in zip(places, room, strict=False):
        if at is not None and not 0 <= at <= free:
            raise ValueError(
                f"top_left must lie between (0, 0) and {room} for a window of "
                f"{size[0]}x{size[1]} in {image_size[0]}x{image_size[1]}; got "
                f"{top_left}. Move the window or make it smaller."
            )
    return jnp.clip(start.astype(jnp.int32), 0, jnp.array(room, jnp.int32))


def square(size: Size, what: str) -> None:
    """Raise a ValueError if the sides differ."""
    if size[0] != size[1]:
        raise ValueError(
            f"{what} needs a square image, as its output size would depend on a value;"
            f" got {size[0]}x{size[1]}. Crop to a square, or pass k as a Python int."
        )


def non_negative(value: Any, name: str) -> None:
    """Raise a ValueError if ``value`` is known and no finite number from zero on."""
    number = known(value, name)
    if number is not None and not 0 <= number < np.inf:
        raise ValueError(
            f"{name} must be at least 0; got {value}. Give a finite number, 0 for none."
        )


def probability(value: Any, name: str) -> None:
    """Raise a ValueError if ``value`` is a known number outside [0, 1], or not one."""
    number = known(value, name)
    if number is not None and not 0 <= number <= 1:
        raise ValueError(
            f"{name} must lie in [0, 1]; got {value}. Give it as a share, not percent."
        )


def positive(value: Any, name: str) -> None:
    """Raise a ValueError if ``value`` is known and no finite number above zero."""
    number = known(value, name)
    if number is not None and not 0 < number < np.inf:
        raise ValueError(
            f"{name} must be above 0; got {value}. Give a finite number, 1 for none."
        )


def at_most(value: Any, limit: float | int, name: str) -> None:
    """Raise a ValueError if ``value`` is a known number above the limit, or not one."""
    number = known(value, name)
    if number is not None and not number <= limit:
        raise ValueError(
            f"{name} must be at most {limit}; got {value}. Take a smaller {name}."
        )


def interval(pair: Any, name: str, *, strict: bool = False) -> None:
    """Raise a ValueError unless ``pair`` is (low, high) in this order.

    Args:
      pair: values that may be traced are not compared.
      name: what to call the pair.
      strict: whether the two must differ.
    """
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"{name} must be a pair (low, high); got {pair}.")
    low, high = (known(end, name) for end in pair)
    if low is None or high is None:
        return
    ordered = low < high or (low == high and not strict)
    if not (ordered and -np.inf < low and high < np.inf):
        raise ValueError(
            f"{name} must be (low, high) with low {'<' if strict else '<='} high; got "
            f"{pair}. Swap or correct the two; both must be finite."
        )


def floating(array: Shaped[Array, "..."], what: str) -> None:
    """Raise a TypeError if pixels, features or probabilities are no real numbers."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{what} needs floating-point numbers, as its results are not whole; got "
            f"{array.dtype}. Convert uint8 with image.astype(jnp.float32) / 255, class "
            "indices with jax.nn.one_hot."
        )


def channels(image: Shaped[Array, "..."], allowed: tuple[int, ...], what: str) -> None:
    """Raise a ValueError if the number of channels is none of the allowed ones."""
    if image.shape[-1] not in allowed:
        raise ValueError(
            f"{what} needs {' or '.join(map(str, allowed))} channels on the last axis; "
            f"got shape {image.shape}. Leave out alpha; repeat grey with jnp.repeat."
        )


def choice(value: Any, allowed: tuple, name: str) -> None:
    """Raise a ValueError if ``value`` is none of the allowed ones."""
    if value not in allowed:
        listed = ", ".join(repr(item) for item in allowed)
        raise ValueError(f"{name} must be one of {listed}; got {value!r}.")


def same_dtype(
    image: Shaped[Array, "..."], other: Shaped[Array, "..."], name: str
) -> None:
    """Raise a TypeError if the dtypes differ, as a silent cast would lose pixels."""
    if canonical(image.dtype) != canonical(other.dtype):
        raise TypeError(
            f"{name} must have the image's dtype {image.dtype}; got {other.dtype}. "
            f"Cast one of them with astype."
        )


def canonical(dtype: Any) -> np.dtype:
    """Return the dtype that jax gives arrays of this one: without x64, of 32 bits."""
    return jax.dtypes.canonicalize_dtype(dtype)


def count(value: Any, name: str) -> int:
    """Return a static whole number above zero.

    Raises:
      TypeError: if it is not a Python or NumPy integer.
      ValueError: if it is below 1.
    """
    if not isinstance(value, numbers.Integral):
        raise TypeError(
            f"{name} must be a Python integer, as shapes are static; got {value}. Pass "
            "it outside of the traced arguments."
        )
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}.")
    return int(value)


def whole(value: Any, name: str) -> Int[Array, "..."]:
    """Return whole numbers as int32.

    Raises:
      TypeError: if they are not of an integer dtype.
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be whole; got {array.dtype}. Round it, or cast with astype."
        )
    return array.astype(jnp.int32)


def within(value: Any, name: str, largest: int) -> Int[Array, ""]:
    """Return an int32 in [0, largest]; a traced one from outside is moved there.

    Raises:
      ValueError: if ``value`` is a known number outside of the range, or not one.
      TypeError: if it is not whole.
    """
    number = known(value, name)
    if number is not None and not 0 <= number <= largest:
        raise ValueError(f"{name} must lie between 0 and {largest}; got {value}.")
    return jnp.clip(whole(value, name), 0, largest)
