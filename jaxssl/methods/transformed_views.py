"""How chapter 4's examples are made: patches, transformations and views (Sec. 4.2).

The first half of ``jaxssl.methods.transformations``, which has the notation table, the
losses and the training.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl import keys
from jaxssl import transforms as T  # noqa: N812
from jaxssl.config import checks
from jaxssl.errors import UserError
from jaxssl.models.network import from_pixels
from jaxssl.types import Array, Float, Int, Key, Shaped

TRANSFORMS = T.TRANSFORMATIONS
"""T_0 ... T_5 in thesis order. The released code orders none, lci, rot90 ..., warp."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is recognised, and how the examples are made. Sizes are pixels.

    Defaults are the STL-10 experiment's.

    Attributes:
      classes: the transformations to tell apart, any two or more of ``TRANSFORMS``.
        Label j is ``classes[j]``.
      canvas_size: side of the random square on which transformations act.
      crop_size: side of what the classifier sees, cut from the transformed canvas.
      patch_size: side of the patch that is inpainted (Table 4.1 a-c).
      border: width of the rim that the inpainter keeps. Thesis: 2; code: 3.
      noise_std: standard deviation of z. Thesis: 1; code: 0.1.
      warp_points: ``grid``, control points on a uniform grid (thesis), or ``free``,
        at random places (code).
      warp_grid: control points a side; ``free`` draws its square.
      warp_magnitude: largest shift of a control point, as a share of the side. Thesis:
        1/10; code: 1/16.
      tilt: largest rotation of a view, as a share of pi. Thesis: none; code: 0.07.
      tilted: ``alternate``, the rows without an autoencoded patch (code), or
        ``random``, each view with probability 1/2, so that tilt and patch do not go
        together.
      patch_autoencoding: mix autoencoded patches into the untransformed and rotated
        images, and train F to make them (Table 4.1 f).
      lambda_border: weight of F's error on the rim.
      lambda_autoencode: weight of F's error on autoencoded patches.
      lambda_classifier: weight of the loss of C that F raises; 0 is Table 4.1 e.
      critic_patches: patches that D judges together, on channels. Thesis: 1; code: 2.
      inpainter: ``joint`` trains F with C; ``frozen`` takes F from another run and
        leaves it as it is, without D (Table 4.1 d).
    """

    classes: tuple[str, ...] = TRANSFORMS
    canvas_size: int = 80
    crop_size: int = 64
    patch_size: int = 48
    border: int = 3
    noise_std: float = 0.1
    warp_points: str = "grid"
    warp_grid: int = 4
    warp_magnitude: float = 0.1
    tilt: float = 0.07
    tilted: str = "random"
    patch_autoencoding: bool = True
    lambda_border: float = 50.0
    lambda_autoencode: float = 50.0
    lambda_classifier: float = 1.0
    critic_patches: int = 2
    inpainter: str = "joint"

    def __post_init__(self):
        """Raise UserError where no experiment is possible."""
        for name in self.classes:
            checks.choice("classes", name, TRANSFORMS)
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise UserError(
                f"classes is {self.classes}; it needs two or more different ones of "
                f"{', '.join(TRANSFORMS)}."
            )
        checks.choice("warp_points", self.warp_points, ("grid", "free"))
        checks.choice("tilted", self.tilted, ("alternate", "random"))
        checks.choice("inpainter", self.inpainter, ("joint", "frozen"))
        checks.positive(
            self, "canvas_size", "crop_size", "patch_size", "border", "critic_patches"
        )
        if self.crop_size > self.canvas_size:
            raise UserError(
                f"crop_size is {self.crop_size}, larger than canvas_size "
                f"{self.canvas_size}; a crop must fit its canvas."
            )
        if self.inpaints:
            self._check_patch()
        if self.warp_grid < 2:
            raise UserError(f"warp_grid is {self.warp_grid}; it must be 2 or more.")
        weights = ("lambda_border", "lambda_autoencode", "lambda_classifier")
        for field in ("warp_magnitude", "tilt", "noise_std", *weights):
            if getattr(self, field) < 0:
                raise UserError(f"{field} is {getattr(self, field)}; it must be >= 0.")

    def _check_patch(self):
        if self.patch_size >= self.crop_size:
            raise UserError(
                f"patch_size is {self.patch_size}, not below crop_size "
                f"{self.crop_size}; LCI needs context around the patch."
            )
        if 2 * self.border >= self.patch_size:
            raise UserError(
                f"border is {self.border}, too wide for patch_size {self.patch_size}; "
                f"it must be below {-(-self.patch_size // 2)} so that a hole remains."
            )

    @property
    def inpaints(self) -> bool:
        """Whether one of the classes needs the inpainter."""
        return "lci" in self.classes

    @property
    def players(self) -> tuple[str, ...]:
        """The networks that this experiment has."""
        if not self.inpaints:
            return ("classifier",)
        if self.inpainter == "frozen":
            return ("classifier", "inpainter")
        return ("classifier", "inpainter", "critic")

    @property
    def trained_players(self) -> tuple[str, ...]:
        """The networks that need an optimizer."""
        return self.players if self.inpainter == "joint" else ("classifier",)


# --- Sec. 4.2.1 Limited context inpainting


class Patches(NamedTuple):
    """Patches cut from canvases, values in [-1, 1].

    Attributes:
      top_left: Delta, int32 (b, 2), (y, x) on the canvas.
      patch: e_i (b, p, p, c).
      erased: e_i * (1 - m) + z * m, the inpainter's input.
    """

    top_left: Array
    patch: Array
    erased: Array


def draw_patch(
    key: Key[Array, ""], canvas: Float[Array, "h w c"], config: Config
) -> Patches:
    """Cut a patch at a uniform place and replace its inside by noise, (4.2), (4.3)."""
    place_key, noise_key = jax.random.split(key)
    free = canvas.shape[0] - config.patch_size + 1
    top_left = jax.random.randint(place_key, (2,), 0, free)
    patch = T.extract_patch(canvas, top_left, config.patch_size)
    hole = config.patch_size - 2 * config.border
    noise = jax.random.normal(noise_key, (hole, hole, canvas.shape[-1]))
    erased = T.erase_center(patch, config.noise_std * noise, config.border)
    return Patches(top_left, patch, erased)


class Painted(NamedTuple):
    """What F made of the patches: ``filled`` r_i, and ``copied`` F(e_i) or None."""

    filled: Array
    copied: Array | None


# --- Sec. 4.2.2 to 4.2.4 Transformations and views


def random_view(
    key: Key[Array, ""],
    canvas: Float[Array, "h w c"],
    *,
    config: Config,
    may_tilt: Array,
    warped: bool = False,
) -> Float[Array, "s s c"]:
    """Warp if asked, then tilt, crop and flip at random, with one bilinear sample.

    Warped and unwarped views are resampled alike, so that blur tells nothing.

    Args:
      key: this view's key.
      canvas: values in [-1, 1].
      config: sizes and ranges.
      may_tilt: boolean scalar; a view that may not tilt has angle 0.
      warped: draw a random warp, too.

    Returns:
      The view, ``crop_size`` a side.
    """
    warp_key, tilt_key, crop_key, flip_key = jax.random.split(key, 4)
    maps = [random_warp_coords(warp_key, config)] if warped else []
    angle = config.tilt * jnp.pi * jax.random.uniform(tilt_key, (), minval=-1, maxval=1)
    size = (config.crop_size, config.crop_size)
    corner = T.crop_params(crop_key, image_size=config.canvas_size, size=size).top_left
    maps += [
        T.rotate_coords(jnp.where(may_tilt, angle, 0.0)),
        T.crop_coords(corner, size),
        T.hflip_coords(jax.random.bernoulli(flip_key)),
    ]
    return T.geometric_chain(canvas, maps)


def random_warp_coords(key: Key[Array, ""], config: Config) -> T.CoordMap:
    """Draw a polyharmonic warp of the canvas (Sec. 4.2.2), in its coordinate form."""
    side, magnitude = config.warp_grid, config.warp_magnitude
    if config.warp_points == "grid":
        return T.warp_coords(T.warp_params(key, grid=(side, side), magnitude=magnitude))
    params = T.free_warp_params(key, num_points=side**2, magnitude=magnitude)
    return T.free_warp_coords(params)


class Draws(NamedTuple):
    """One key a sample for each random thing, so that no two share their randomness."""

    canvas: Array
    patch: Array
    base: Array
    warp: Array
    lci: Array


def draw_keys(key: Key[Array, ""], ids: Int[Array, " b"]) -> Draws:
    """Derive each sample's keys from the step's key and the sample's index."""
    streams = jax.random.split(key, len(Draws._fields))
    return Draws(*(keys.per_example(stream, ids) for stream in streams))


def cut_canvases(
    draws: Draws, images: Shaped[Array, "b h w c"], config: Config
) -> Float[Array, "b s s c"]:
    """Cut a random ``canvas_size`` square from each image, in [-1, 1]."""
    size = (config.canvas_size, config.canvas_size)

    def cut(key, image):
        return T.random_crop(key, image, size=size)[0]

    return from_pixels(jax.vmap(cut)(draws.canvas, images))


def make_examples(
    draws: Draws,
    canvases: Float[Array, "b s s c"],
    inpainted: tuple[Patches, Painted] | None,
    config: Config,
) -> Float[Array, "b k t t c"]:
    """Make one view of each canvas for each class, T_y o x_i for all y.

    The classes are static: each costs its own work and no other's, and labels are known
    at compile time (column j has label j).

    Args:
      draws: the samples' keys.
      canvases: x_i, values in [-1, 1].
      inpainted: where F painted, and what; gradients flow back through it. None
        without the class ``lci``.
      config: sizes, ranges and classes.

    Returns:
      Views in [-1, 1], classes on axis 1 in the order of ``config.classes``.
    """
    # Every other row carries an autoencoded patch (Sec. 4.2.4); a row is a position in
    # the batch, so that this holds on any number of devices.
    odd = jnp.arange(len(canvases)) % 2 == 1
    sources = canvases
    copied = None if inpainted is None else inpainted[1].copied
    if inpainted is not None and copied is not None:
        corners = inpainted[0].top_left
        pasted = jax.vmap(T.paste_patch)(canvases, copied, corners)
        sources = jnp.where(odd[:, None, None, None], pasted, canvases)

    def views(stream_keys, images, warped=False):
        def one(key, image, is_odd):
            tilt_key, view_key = jax.random.split(key)
            may_tilt = ~is_odd
            if config.tilted == "random":
                may_tilt = jax.random.bernoulli(tilt_key)
            return random_view(
                view_key, image, config=config, may_tilt=may_tilt, warped=warped
            )

        return jax.vmap(one)(stream_keys, images, odd)

    base = views(draws.base, sources)
    warped = filled = None
    if "warp" in config.classes:
        warped = views(draws.warp, canvases, warped=True)
    if "lci" in config.classes and inpainted is not None:
        patches, painted = inpainted
        pasted = jax.vmap(T.paste_patch)(canvases, painted.filled, patches.top_left)
        filled = views(draws.lci, pasted)
    return T.stack_transformations(base, warped, filled, classes=config.classes)
