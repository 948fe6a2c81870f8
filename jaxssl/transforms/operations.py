"""The operations that RandAugment, TrivialAugment and AugMix draw from.

An image goes through every operation, with parameters that keep it bit by bit for all
but the drawn one: the five geometric ones are one sampling, and no image is selected
from others. Under `jax.vmap` a `jax.lax` switch would compute all fourteen branches
instead, with five samplings.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks, color, histogram, tone
from jaxssl.transforms.checks import IntScalar, Scalar
from jaxssl.transforms.color import ValueRange
from jaxssl.transforms.geometric import rotate_coords
from jaxssl.transforms.sampling import CoordMap, geometric_chain, inside
from jaxssl.types import Array

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "saturation",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The operations of RandAugment, in the order of its paper (its "color" is called
saturation here)."""

BLENDS = {
    "contrast": color.contrast,
    "brightness": color.brightness,
    "sharpness": color.sharpness,
    "saturation": color.saturation,
}
"""Operations with a factor; the last one needs three channels."""


class Reach(NamedTuple):
    """What the operations do at magnitude 1.

    Attributes:
      shear: pixels to the side for each pixel.
      pixels: distance to translate by, in pixels.
      sides: distance to translate by besides, as a fraction of the side.
      angle: radians.
      factor: change of the four factors.
      bits: (b, s): ``ceil(b - s |magnitude|)`` bits are kept.
    """

    shear: float
    pixels: float
    sides: float
    angle: float
    factor: float
    bits: tuple[float, float]


def check(image, operation, magnitude, what: str, rank: int) -> None:
    """Raise an error if the image or the drawn operations are wrong."""
    checks.image_size(image)
    checks.floating(image, what)
    checks.channels(image, (1, 3), what)
    shape = checks.whole(operation, "operation").shape
    if len(shape) != rank or jnp.shape(magnitude) != shape:
        axes = "(n,)" if rank == 1 else "(width, depth)"
        raise ValueError(
            f"operation and magnitude must have one shape {axes}; got {shape} and "
            f"{jnp.shape(magnitude)}. Use jax.vmap or batched for one per example."
        )


def draw(
    key: Array, shape: tuple[int, ...], operations: tuple[str, ...]
) -> tuple[Array, Array]:
    """Return places in `OPERATIONS` and signs."""
    if not operations:
        raise ValueError("operations must name at least one operation; got none.")
    for name in operations:
        checks.choice(name, OPERATIONS, "operations")
    places = jnp.array([OPERATIONS.index(name) for name in operations], jnp.int32)
    which, sign = jax.random.split(key)
    drawn = jax.random.randint(which, shape, 0, len(operations))
    return inside(places, drawn, -1), jax.random.rademacher(sign, shape, jnp.float32)


def in_order(
    image: Array,
    drawn: tuple[Array, Array],
    reach: Reach,
    value_range: ValueRange,
    border: str,
) -> Array:
    """Apply operations ``drawn`` = (operation, magnitude) one after the other."""

    def step(image, one):
        return _operate(image, *one, reach, value_range, border), None

    return jax.lax.scan(step, jnp.asarray(image), drawn)[0]


def _operate(
    image: Array,
    operation: IntScalar,
    magnitude: Scalar,
    reach: Reach,
    value_range: ValueRange,
    border: str,
) -> Array:
    """Apply one operation; all others get the parameters that keep the image."""

    def of(name: str, value, otherwise):
        return jnp.where(operation == OPERATIONS.index(name), value, otherwise)

    def is_drawn(name: str):
        return operation == OPERATIONS.index(name)

    def pull(coords, size):
        y, x = coords[..., 0], coords[..., 1]
        shear = reach.shear * magnitude
        down, across = ((reach.pixels + reach.sides * n) * magnitude for n in size)
        # Sheared about the corner of the image, half a pixel from the first centre.
        row = y + of("shear_y", shear, 0) * (x + 0.5) + of("translate_y", down, 0)
        column = x + of("shear_x", shear, 0) * (y + 0.5)
        return jnp.stack([row, column + of("translate_x", across, 0)], axis=-1)

    strength = jnp.abs(magnitude)
    turn = rotate_coords(of("rotate", reach.angle * magnitude, 0))
    image = geometric_chain(image, [turn, CoordMap(pull)], border=border)
    for name, blend in BLENDS.items():
        if name != "saturation" or image.shape[-1] == 3:
            factor = of(name, 1 + reach.factor * magnitude, 1)
            image = blend(image, factor, value_range=value_range)
    threshold = of("solarize", 256 / 255 * (1 - strength), 2)
    image = tone.solarize(image, threshold, value_range=value_range)
    bits = jnp.ceil(reach.bits[0] - reach.bits[1] * strength).astype(jnp.int32)
    image = tone.posterize(image, of("posterize", bits, 8), value_range=value_range)
    image = histogram.autocontrast(
        image, is_drawn("autocontrast"), value_range=value_range
    )
    return histogram.equalize(image, is_drawn("equalize"), value_range=value_range)
