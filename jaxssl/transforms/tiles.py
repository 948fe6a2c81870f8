"""Images cut into tiles or pixels, and put together in another order.

Each permutation has an inverse, ``jnp.argsort(permutation)``, that puts the image back
together bit by bit. For an order that is fixed for each image of a data set give
`jaxssl.transforms.batched` the images' ids.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Size
from jaxssl.transforms.sampling import inside
from jaxssl.types import Array, Int, Key, Shaped


class JigsawParams(NamedTuple):
    """Where the tiles come from.

    Attributes:
      permutation: int32 (tiles,): place i shows tile ``permutation[i]`` of the image,
        counted row by row.
    """

    permutation: Int[Array, " tiles"]


class PixelPermutationParams(NamedTuple):
    """Where the pixels come from.

    Attributes:
      permutation: int32 (H W,): place i shows pixel ``permutation[i]`` of the image,
        counted row by row.
    """

    permutation: Int[Array, " pixels"]


# --- Tiles


def tile(
    image: Shaped[Array, "*lead height width c"],
    *,
    grid: int | tuple[int, int] = (3, 3),
) -> Shaped[Array, "*lead tiles h w c"]:
    """Cut an image into tiles of the same size.

    Args:
      image: any dtype and value range.
      grid: static number of tiles down and across; it must divide the sides.

    Returns:
      The tiles row by row, on a new axis in front of height, width and channels.

    Raises:
      ValueError: if the grid does not divide the image.
    """
    rows, columns = _check_grid(checks.image_size(image), grid)
    *lead, height, width, c = image.shape
    size = (height // rows, width // columns)
    blocks = image.reshape(*lead, rows, size[0], columns, size[1], c)
    return jnp.swapaxes(blocks, -4, -3).reshape(*lead, rows * columns, *size, c)


def untile(
    tiles: Shaped[Array, "*lead tiles h w c"], *, grid: int | tuple[int, int] = (3, 3)
) -> Shaped[Array, "*lead height width c"]:
    """Put tiles together to an image; undoes `tile`.

    Args:
      tiles: row by row; any dtype and value range.
      grid: static number of tiles down and across.

    Returns:
      The image.

    Raises:
      ValueError: if there are more or fewer tiles than the grid has places.
    """
    size = checks.image_size(tiles)
    rows, columns = checks.size_pair(grid, "grid")
    if tiles.ndim < 4 or tiles.shape[-4] != rows * columns:
        raise ValueError(
            f"tiles must have the axes (..., {rows * columns}, h, w, C) for a grid of "
            f"{rows}x{columns}; got shape {tiles.shape}."
        )
    *lead, _, _, _, c = tiles.shape
    blocks = jnp.swapaxes(tiles.reshape(*lead, rows, columns, *size, c), -4, -3)
    return blocks.reshape(*lead, rows * size[0], columns * size[1], c)


def jigsaw(
    image: Shaped[Array, "*lead h w c"],
    permutation: Int[Array, " tiles"],
    *,
    grid: int | tuple[int, int] = (3, 3),
) -> Shaped[Array, "*lead h w c"]:
    """Put an image's tiles into another order.

    Args:
      image: any dtype and value range.
      permutation: place i shows tile ``permutation[i]``; may be traced. An entry that
        names no tile takes the nearest one.
      grid: static number of tiles down and across; it must divide the sides.

    Returns:
      The image, as large as before.

    Raises:
      ValueError: if the grid does not divide the image or the permutation is of
        another length.
      TypeError: if the permutation is not whole.

    References:
      Noroozi and Favaro, 2016 (thesis reference 4); figure 4.1 of the thesis.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.arange(4).reshape(2, 2, 1)
      >>> jigsaw(image, jnp.array([3, 2, 1, 0]), grid=2)[..., 0]
      Array([[3, 2],
             [1, 0]], dtype=int32)
    """
    tiles = tile(image, grid=grid)
    permutation = _check_permutation(permutation, tiles.shape[-4])
    return untile(inside(tiles, permutation, -4), grid=grid)


def jigsaw_params(
    key: Key[Array, ""], *, grid: int | tuple[int, int] = (3, 3)
) -> JigsawParams:
    """Draw an order of the tiles, all orders as likely.

    Args:
      key: a typed key.
      grid: static number of tiles down and across.

    Returns:
      The order.

    Raises:
      ValueError: if the grid has no tiles.
    """
    rows, columns = checks.size_pair(grid, "grid")
    return JigsawParams(_permutation(key, rows * columns))


def random_jigsaw(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    grid: int | tuple[int, int] = (3, 3),
) -> tuple[Shaped[Array, "*lead h w c"], JigsawParams]:
    """Put an image's tiles into random order; see `jigsaw`.

    Returns:
      The image and the order.
    """
    params = jigsaw_params(key, grid=grid)
    return jigsaw(image, *params, grid=grid), params


# --- Pixels


def pixel_permutation(
    image: Shaped[Array, "*lead h w c"], permutation: Int[Array, " pixels"]
) -> Shaped[Array, "*lead h w c"]:
    """Put an image's pixels into another order; channels stay together.

    Args:
      image: any dtype and value range.
      permutation: place i shows pixel ``permutation[i]``, counted row by row; may be
        traced. An entry that names no pixel takes the nearest number.

    Returns:
      The image.

    Raises:
      ValueError: if the rank of the image is wrong or the permutation is of another
        length.
      TypeError: if the permutation is not whole.

    References:
      Thesis section 8.4.2, where each image has its own fixed order: draw it by
      ``batched(random_pixel_permutation)(key, images, ids)``, with the same key always.
    """
    height, width = checks.image_size(image)
    permutation = _check_permutation(permutation, height * width)
    flat = image.reshape(*image.shape[:-3], height * width, image.shape[-1])
    return inside(flat, permutation, -2).reshape(image.shape)


def pixel_permutation_params(
    key: Key[Array, ""], *, size: int | tuple[int, int]
) -> PixelPermutationParams:
    """Draw an order of the pixels, all orders as likely.

    Args:
      key: a typed key.
      size: static side, or (height, width), of the image.

    Returns:
      The order.

    Raises:
      ValueError: if the size has no pixels.
    """
    height, width = checks.size_pair(size)
    return PixelPermutationParams(_permutation(key, height * width))


def random_pixel_permutation(
    key: Key[Array, ""], image: Shaped[Array, "*lead h w c"]
) -> tuple[Shaped[Array, "*lead h w c"], PixelPermutationParams]:
    """Put an image's pixels into random order; see `pixel_permutation`.

    Returns:
      The image and the order.
    """
    params = pixel_permutation_params(key, size=checks.image_size(image))
    return pixel_permutation(image, *params), params


# --- Shared


def _permutation(key: Key[Array, ""], length: int) -> Array:
    return jax.random.permutation(key, jnp.arange(length, dtype=jnp.int32))


def _check_permutation(permutation: Array, length: int) -> Array:
    if permutation.shape != (length,):
        raise ValueError(
            f"permutation must have {length} entries, one for each place; got shape "
            f"{permutation.shape}. Use jax.vmap for orders that differ per image."
        )
    return jnp.clip(checks.whole(permutation, "permutation"), 0, length - 1)


def _check_grid(size: Size, grid: int | tuple[int, int]) -> Size:
    rows, columns = checks.size_pair(grid, "grid")
    if size[0] % rows or size[1] % columns:
        raise ValueError(
            f"grid must divide the image of {size[0]}x{size[1]}; got {rows}x{columns}. "
            f"Crop to {size[0] // rows * rows}x{size[1] // columns * columns} first."
        )
    return rows, columns
