"""Checks of static facts: each raises at trace time and says what to do about it."""

import numbers
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxssl.types import Array, Int, Num, Shaped

Size = tuple[int, int]
"""Height and width in pixels."""

Scalar = Num[Array, ""] | float | int
"""A number that may be traced."""

IntScalar = Int[Array, ""] | int
"""A whole number that may be traced."""


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


def size_pair(size: Any, name: str = "size") -> Size:
    """Return ``(height, width)`` from a side or a pair of sides.

    Raises:
      TypeError: if a side is not a Python integer (shapes are static).
      ValueError: if there are not two sides or one is below 1.
    """
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if not all(isinstance(side, numbers.Integral) for side in sides):
        raise TypeError(
            f"{name} must be Python integers, as shapes are static; got {size}. "
            "Pass it outside of the traced arguments."
        )
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(
            f"{name} must be one side or (height, width), each at least 1; got {size}."
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
      ValueError: if it is made of Python integers and the window sticks out.
    """
    room = (image_size[0] - size[0], image_size[1] - size[1])
    static = isinstance(top_left, Sequence)
    start = jnp.array(top_left) if static else top_left
    if not jnp.issubdtype(start.dtype, jnp.integer):
        raise TypeError(
            f"top_left must be whole pixels; got {top_left}. Round it, or sample with "
            "geometric_chain(image, [crop_coords(top_left, size)])."
        )
    if static and not all(
        0 <= at <= free for at, free in zip(top_left, room, strict=True)
    ):
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
    """Raise a ValueError if ``value`` is a Python number below zero."""
    if isinstance(value, int | float | np.floating) and not value >= 0:
        raise ValueError(f"{name} must be at least 0; got {value}. Use 0 for none.")


def probability(value: Any, name: str) -> None:
    """Raise a ValueError if ``value`` is a Python number outside [0, 1]."""
    if isinstance(value, int | float | np.floating) and not 0 <= value <= 1:
        raise ValueError(
            f"{name} must lie in [0, 1]; got {value}. Give it as a share, not percent."
        )


def positive(value: Any, name: str) -> None:
    """Raise a ValueError if ``value`` is a Python number that is not above zero."""
    if isinstance(value, int | float | np.floating) and not value > 0:
        raise ValueError(f"{name} must be above 0; got {value}. Use 1 for none.")


def at_most(value: Any, limit: float | int, name: str) -> None:
    """Raise a ValueError if ``value`` is a Python number above the limit."""
    if isinstance(value, int | float | np.floating) and not value <= limit:
        raise ValueError(
            f"{name} must be at most {limit}; got {value}. Take a smaller {name}."
        )


def interval(pair: Any, name: str, *, strict: bool = False) -> None:
    """Raise a ValueError unless ``pair`` is (low, high) in this order.

    Args:
      pair: values that are no Python numbers are not compared.
      name: what to call the pair.
      strict: whether the two must differ.
    """
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"{name} must be a pair (low, high); got {pair}.")
    low, high = pair
    if not all(isinstance(end, int | float | np.floating) for end in pair):
        return
    if not (low < high or (low == high and not strict)):
        raise ValueError(
            f"{name} must be (low, high) with low {'<' if strict else '<='} high; got "
            f"{pair}. Swap or correct the two."
        )


def floating(image: Shaped[Array, "..."], what: str) -> None:
    """Raise a TypeError if the pixels are no floating-point numbers."""
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"{what} needs a floating-point image; got {image.dtype}. Convert it "
            "first, for uint8 by image.astype(jnp.float32) / 255."
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
    if jnp.dtype(image.dtype) != jnp.dtype(other.dtype):
        raise TypeError(
            f"{name} must have the image's dtype {image.dtype}; got {other.dtype}. "
            f"Cast one of them with astype."
        )


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
      ValueError: if ``value`` is a Python integer outside of the range.
      TypeError: if it is not whole.
    """
    if isinstance(value, int | np.integer) and not 0 <= value <= largest:
        raise ValueError(f"{name} must lie between 0 and {largest}; got {value}.")
    return jnp.clip(whole(value, name), 0, largest)


def real(array: Shaped[Array, "..."], what: str) -> None:
    """Raise a TypeError if features or probabilities are no floating-point numbers."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{what} needs floating-point numbers, as its results are not whole; got "
            f"{array.dtype}. Cast with astype, class indices with jax.nn.one_hot."
        )
