"""Batches for pretext tasks: every image once in each class.

Classes are static and lie on axis 1, so column j has label j: each class costs its own
work and no other's, classes are balanced exactly, and the labels are constants of the
compiled program. (`jax.vmap` of a `jax.lax.switch` over classes would run every branch
for every image.) For a network, merge the two leading axes:
``views.reshape(-1, *views.shape[2:])``.

Random builders take ``ids`` as `jaxssl.transforms.batched` does, and return what they
drew. Labels are in thesis order. `jaxssl.transforms.clips` does the same for videos.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.compose import batched, class_labels
from jaxssl.transforms.crops import crop_coords, crop_params
from jaxssl.transforms.freewarp import FreeWarpParams, free_warp_coords
from jaxssl.transforms.geometric import (
    all_rotations,
    hflip_coords,
    rot90,
    rotate_coords,
)
from jaxssl.transforms.sampling import CoordMap, geometric_chain
from jaxssl.transforms.warp import WarpParams, warp_coords, warp_params
from jaxssl.types import Array, Bool, Int, Key, Shaped

TRANSFORMATIONS = ("none", "rot90", "rot180", "rot270", "warp", "lci")
"""T_0 ... T_5 in thesis order. The released code orders none, lci, rot90 ..., warp."""


# --- Rotations, warps, limited context inpainting


def rotation_batch(
    images: Shaped[Array, "b h w c"],
) -> tuple[Shaped[Array, "b 4 h w c"], Int[Array, "b 4"]]:
    """Turn each image by 0, 90, 180 and 270 degrees, exactly.

    Args:
      images: square; any dtype and value range.

    Returns:
      The images, and labels 0 to 3: the number of counter-clockwise quarter turns.

    Raises:
      ValueError: if the images are not square.

    References:
      RotNet, thesis reference 54.
    """
    return all_rotations(images), class_labels(len(images), 4)


class ViewParams(NamedTuple):
    """A crop, mirrored or not, of an image that may be rotated first.

    Attributes:
      top_left: int32 (y, x) of the crop's first pixel.
      flip: bool scalar.
      angle: of the rotation, in radians as in `rotate`; None for no rotation.
    """

    top_left: Int[Array, "2"]
    flip: Bool[Array, ""]
    angle: Scalar | None = None


class TransformationParams(NamedTuple):
    """The views of one image.

    Attributes:
      base: the view that is turned, too.
      warped: the view of the warped image.
      inpainted: the view of the inpainted image.
      warp: the warp; either kind.
    """

    base: ViewParams
    warped: ViewParams
    inpainted: ViewParams
    warp: WarpParams | FreeWarpParams


def transformation_params(
    key: Key[Array, ""],
    *,
    image_size: int | tuple[int, int],
    size: int,
    grid: tuple[int, int] = (4, 4),
    magnitude: Scalar = 0.1,
) -> TransformationParams:
    """Draw the views of one image: crops anywhere, flips with probability 1/2, a warp.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the images.
      size: static side of the views.
      grid: see `warp_params`.
      magnitude: see `warp_params`.

    Returns:
      The parameters.

    Raises:
      ValueError: if the views are larger than the images, or see `warp_params`.
    """
    base_key, warped_key, inpainted_key, warp_key = jax.random.split(key, 4)

    def view(key):
        crop_key, flip_key = jax.random.split(key)
        corner = crop_params(crop_key, image_size=image_size, size=size).top_left
        return ViewParams(corner, jax.random.bernoulli(flip_key))

    return TransformationParams(
        view(base_key),
        view(warped_key),
        view(inpainted_key),
        warp_params(warp_key, grid=grid, magnitude=magnitude),
    )


def transformation_views(
    image: Shaped[Array, "h w c"],
    inpainted: Shaped[Array, "h w c"] | None,
    params: TransformationParams,
    *,
    size: int,
    classes: Sequence[str] = TRANSFORMATIONS,
    base: Shaped[Array, "h w c"] | None = None,
) -> Shaped[Array, "k t t c"]:
    """Make one view of an image for each class, T_y of it for all y.

    Rotations turn the base view, exactly; the others are views of their own. Each view
    is sampled once.

    Args:
      image: any dtype and value range.
      inpainted: the image with an inpainted patch (`paste_patch`); None without the
        class ``lci``.
      params: see `transformation_params`.
      size: static side of the views.
      classes: static; the transformations to tell apart, any of `TRANSFORMATIONS`.
      base: the image for ``none`` and the rotations, where it is another than that of
        ``warp``: the image with an autoencoded patch (section 4.2.4). None for
        ``image``.

    Returns:
      The views, in the order of ``classes``.

    Raises:
      ValueError: if a class is unknown, ``lci`` comes without inpainted images, or the
        images differ in size or channels.
      TypeError: if the images differ in dtype.

    References:
      Thesis section 4.2.
    """

    def view(image, params: ViewParams, *maps):
        if params.angle is not None:
            maps = (*maps, rotate_coords(params.angle))
        crop = crop_coords(params.top_left, size)
        return geometric_chain(image, [*maps, crop, hflip_coords(params.flip)])

    warped = pasted = None
    if "warp" in classes:
        warped = view(image, params.warped, _warp_map(params.warp))
    if "lci" in classes and inpainted is not None:
        _check_alike(image, inpainted, "inpainted")
        pasted = view(inpainted, params.inpainted)
    if base is None:
        base = image
    _check_alike(image, base, "base")
    return stack_transformations(
        view(base, params.base), warped, pasted, classes=classes
    )


def _warp_map(params: WarpParams | FreeWarpParams) -> CoordMap:
    if isinstance(params, FreeWarpParams):
        return free_warp_coords(params)
    return warp_coords(params)


def stack_transformations(
    base: Shaped[Array, "*lead h w c"],
    warped: Shaped[Array, "*lead h w c"] | None = None,
    inpainted: Shaped[Array, "*lead h w c"] | None = None,
    *,
    classes: Sequence[str] = TRANSFORMATIONS,
) -> Shaped[Array, "*lead k h w c"]:
    """Put the views of all classes together; the rotations are made of the base view.

    Args:
      base: untransformed views, square if they are to be turned.
      warped: views of warped images; None without the class ``warp``.
      inpainted: views of inpainted images; None without the class ``lci``.
      classes: static; any of `TRANSFORMATIONS`.

    Returns:
      The views on a new axis in front of height, width and channels, in the order of
      ``classes``.

    Raises:
      ValueError: if a class is unknown, or its views are missing or of another shape.
      TypeError: if the dtypes differ.
    """
    own = {"warp": warped, "lci": inpainted}
    views = []
    for name in classes:
        checks.choice(name, TRANSFORMATIONS, "classes")
        given = own.get(name)
        if name not in own:
            views.append(rot90(base, TRANSFORMATIONS.index(name)))
        elif given is not None:
            _check_alike(base, given, "warped" if name == "warp" else "inpainted")
            views.append(given)
        else:
            raise ValueError(
                f"classes has {name!r}, but no such views are given; got {classes}. "
                "Pass them, or leave the class out."
            )
    return jnp.stack(views, axis=-4)


def transformation_batch(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    inpainted: Shaped[Array, "b h w c"] | None = None,
    ids: Int[Array, " b"] | None = None,
    *,
    size: int,
    classes: Sequence[str] = TRANSFORMATIONS,
    grid: tuple[int, int] = (4, 4),
    magnitude: Scalar = 0.1,
) -> tuple[Shaped[Array, "b k t t c"], Int[Array, "b k"], TransformationParams]:
    """Make views of each image, one for each class, with random crops and flips.

    =====  ======  ========================
    label  class   label in released code
    =====  ======  ========================
    0      none    0
    1      rot90   2
    2      rot180  3
    3      rot270  4
    4      warp    5
    5      lci     1
    =====  ======  ========================

    Args:
      key: a typed key.
      images: any dtype and value range.
      inpainted: the images, each with an inpainted patch; None without ``lci``.
      ids: see `jaxssl.transforms.batched`.
      size: static side of the views.
      classes: see `transformation_views`. Label j is ``classes[j]``.
      grid: see `warp_params`.
      magnitude: see `warp_params`.

    Returns:
      The views, their labels, and what was drawn for each image.

    Raises:
      ValueError, TypeError: see `transformation_params` and `transformation_views`.

    References:
      Thesis section 4.2.
    """

    def one(key, example):
        image, painted = example
        params = transformation_params(
            key,
            image_size=checks.image_size(image),
            size=size,
            grid=grid,
            magnitude=magnitude,
        )
        views = transformation_views(image, painted, params, size=size, classes=classes)
        return views, params

    views, params = batched(one)(key, (images, inpainted), ids)
    return views, class_labels(len(images), len(classes)), params


def _check_alike(one: Array, other: Array, name: str) -> None:
    if other.shape != one.shape:
        raise ValueError(
            f"{name} must have the shape of the images it goes with, {one.shape}; got "
            f"{other.shape}. Resize or crop it alike."
        )
    checks.same_dtype(one, other, name)
