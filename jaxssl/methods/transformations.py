"""Learn features by recognising how an image was transformed (thesis chapter 4).

Jenni, Jin and Favaro, "Steering Self-Supervised Feature Learning Beyond Local Pixel
Statistics", CVPR 2020. A classifier C sees an image that was rotated, warped, locally
inpainted, or left alone, and says which. Each transformation keeps local statistics
(texture) and changes global ones (shape, layout), so C must learn the global ones. The
inpainter F paints a patch from a thin border. A patch critic D keeps the texture of the
patch natural, and F also works against C. Half of the untransformed and of the rotated
images carry a patch that F autoencoded, so that C cannot recognise LCI by the brush of
F. All three networks step together from one forward pass.

| thesis | code | where |
|---|---|---|
| x_i | ``canvas``, the square on which a transformation acts | Sec. 4.2 |
| T_0 ... T_5 | ``TRANSFORMS``; label j is ``Config.classes[j]`` | Sec. 4.2 |
| T_y o x_i for all y | ``make_examples`` | Sec. 4.2 |
| C, F, D | ``classifier``, ``inpainter``, ``critic`` of ``Networks`` | Sec. 4.2 |
| Delta | ``Patches.top_left``, the corner of W_Delta | (4.2) |
| e_i | ``Patches.patch`` | (4.2) |
| e_i (1 - m) + z m | ``Patches.erased`` | (4.3) |
| m, z | inside of ``T.border_mask``; ``noise`` | (4.3) |
| r_i = F(...) | ``Painted.inpainted`` | (4.3) |
| T_5 o x_i | ``T.paste_patch`` of r_i | (4.4) |
| F(e_i) | ``Painted.reconstructed``, the autoencoded patch | Sec. 4.2.4 |
| L_SSL, l_cls | ``classifier_loss``, `jaxssl.losses.cross_entropy` | (4.1) |
| l_GAN, maximised by D | ``critic_loss`` | Sec. 4.2.1 |
| L_inp, L_inp,AE | ``inpainter_loss`` | Sec. 4.2.1, 4.2.4 |
| lambda_border, lambda_AE | ``lambda_border``, ``lambda_autoencode`` | Sec. 4.2 |

Deviations. Every difference between the thesis and the author's released code is a
field of ``Config`` or of ``jaxssl.optim.adam.AdamWConfig``. These have no field:

- "Half of the batch" is every other row, which needs no traffic between devices.
- A horizontal flip is drawn for each view, not once for an image.
- Squared norms of L_inp are means over pixels; the border term over border pixels.
- D scores F in inference mode. F always normalises by the statistics of the batch.

The optimizers of Sec. 4.4 are set in ``configs/transformations_stl10.py``.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxssl import keys as key_lib
from jaxssl import losses
from jaxssl import transforms as T  # noqa: N812
from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.methods import task as task_lib
from jaxssl.methods.task import Gradients, make_gradients
from jaxssl.models.network import from_pixels
from jaxssl.types import (
    Array,
    Batch,
    Bool,
    Float,
    Int,
    Key,
    Metrics,
    Network,
    Shaped,
    Stats,
    Task,
    TrainState,
)

__all__ = ["TRANSFORMS", "Config", "Networks", "make_task"]

TRANSFORMS = T.TRANSFORMATIONS
"""T_0 none, T_1 rot90, T_2 rot180, T_3 rot270, T_4 warp and T_5 lci, in thesis order.

The released code orders none, lci, rot90 ..., warp.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is recognised, and how the examples are made. Sizes are pixels.

    Defaults are a mixture of the thesis and the released code.
    ``configs/transformations_stl10.py`` sets all that differs by its variant, ``paper``
    or ``released``.

    Attributes:
      classes: the transformations to tell apart, any two or more of ``TRANSFORMS``.
        Label j is ``classes[j]``.
      canvas_size: side of the random square on which transformations act.
      crop_size: side of what the classifier sees, cut from the transformed canvas.
      patch_size: side of the patch that is inpainted (Table 4.1 a-c).
      border: width of the border that the inpainter keeps. Thesis: 2; code: 3.
      noise_std: standard deviation of z. Thesis: 1; code: 0.1.
      warp_points: ``grid``, control points on a uniform grid (thesis), or ``free``,
        at random places (code).
      warp_grid: control points a side; ``free`` draws its square.
      warp_magnitude: largest shift of a control point, as a share of the side. Thesis:
        1/10; code: 1/16.
      tilt: largest rotation of a view, as a share of pi. Thesis: none; code: 0.07.
      tilted: ``alternate`` tilts the rows without an autoencoded patch (code);
        ``random`` tilts each view with probability 1/2. With ``random``, tilt and patch
        do not go together.
      patch_autoencoding: mix autoencoded patches into the untransformed and rotated
        images, and train F to make them (Table 4.1 f).
      lambda_border: weight of F's error on the border.
      lambda_autoencode: weight of F's error on autoencoded patches.
      lambda_classifier: weight of the loss of C that F raises; 0 is Table 4.1 e.
      critic_patches: patches that D judges together, on channels. Thesis: 1; code: 2.
      inpainter: ``joint`` trains F with C; ``frozen`` takes F from another run and
        leaves it as it is, without D (Table 4.1 d).
    """

    classes: tuple[str, ...] = fields.choice(TRANSFORMS, TRANSFORMS)
    canvas_size: int = fields.pixels(80)
    crop_size: int = fields.pixels(64)
    patch_size: int = fields.pixels(48)
    border: int = fields.pixels(3)
    noise_std: float = fields.number(0.1, at_least=0, at_most=1000)
    warp_points: str = fields.choice("grid", ("grid", "free"))
    warp_grid: int = fields.number(4, at_least=2, at_most=64)
    warp_magnitude: float = fields.number(0.1, at_least=0, at_most=10)
    tilt: float = fields.number(0.07, at_least=0, at_most=2)
    tilted: str = fields.choice("random", ("alternate", "random"))
    patch_autoencoding: bool = True
    lambda_border: float = fields.number(50.0, at_least=0, at_most=1e6)
    lambda_autoencode: float = fields.number(50.0, at_least=0, at_most=1e6)
    lambda_classifier: float = fields.number(1.0, at_least=0, at_most=1e6)
    critic_patches: int = fields.number(2, at_least=1, at_most=1024)
    inpainter: str = fields.choice("joint", ("joint", "frozen"))

    def __post_init__(self):
        """Raise UserError where no experiment is possible."""
        fields.validate(self)
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise UserError(
                f"classes is {self.classes}; it needs two or more different ones of "
                f"{', '.join(TRANSFORMS)}."
            )
        if self.crop_size > self.canvas_size:
            raise UserError(
                f"crop_size is {self.crop_size}, larger than canvas_size "
                f"{self.canvas_size}; a crop must fit its canvas."
            )
        if self.inpaints:
            self._check_patch()

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


class Networks(NamedTuple):
    """The players, and the classifier's trunk for reading features at any size.

    Attributes:
      classifier: C; ``logits`` has one column for each class.
      backbone: C without its fully connected layers, on the same parameters.
      inpainter: F; ``image`` is its output in [-1, 1]. Unused without ``lci``.
      critic: D; ``logits`` is one score for each stack of patches. Unused without F,
        and where F is frozen.
    """

    classifier: Network
    backbone: Network
    inpainter: Network
    critic: Network


class SampleKeys(NamedTuple):
    """One key a sample for each random thing, so that no two share their randomness.

    ``canvas`` and ``patch`` place a canvas and its patch; ``base``, ``warp`` and
    ``lci`` draw the views of T_0, T_4 and T_5.
    """

    canvas: Key[Array, " b"]
    patch: Key[Array, " b"]
    base: Key[Array, " b"]
    warp: Key[Array, " b"]
    lci: Key[Array, " b"]


def make_sample_keys(key: Key[Array, ""], ids: Int[Array, " b"]) -> SampleKeys:
    """Derive each sample's keys from the step's key and the sample's id."""
    streams = jax.random.split(key, len(SampleKeys._fields))
    return SampleKeys(*(key_lib.per_example(stream, ids) for stream in streams))


def cut_canvases(
    keys: SampleKeys, images: Shaped[Array, "b h w c"], config: Config
) -> Float[Array, "b s s c"]:
    """Cut a random ``canvas_size`` square x_i from each image, in [-1, 1]."""
    size = (config.canvas_size, config.canvas_size)

    def cut(key, image):
        return T.random_crop(key, image, size=size)[0]

    return from_pixels(jax.vmap(cut)(keys.canvas, images))


# --- Sec. 4.2.1 Limited context inpainting


class Patches(NamedTuple):
    """Where the patches are, what they show, and what F sees; values in [-1, 1]."""

    top_left: Int[Array, "b 2"]
    patch: Float[Array, "b p p c"]
    erased: Float[Array, "b p p c"]


class Painted(NamedTuple):
    """What F makes of patches, in [-1, 1]; the latter with ``patch_autoencoding``."""

    inpainted: Float[Array, "b p p c"]
    reconstructed: Float[Array, "b p p c"] | None


def draw_patches(
    keys: SampleKeys, canvases: Float[Array, "b s s c"], config: Config
) -> Patches:
    """Cut patches at uniform places, (4.2), and replace their inside by noise."""
    hole = config.patch_size - 2 * config.border

    def draw(key, canvas):
        corner_key, noise_key = jax.random.split(key)
        num_corners = config.canvas_size - config.patch_size + 1
        top_left = jax.random.randint(corner_key, (2,), 0, num_corners)
        patch = T.extract_patch(canvas, top_left, config.patch_size)
        noise = jax.random.normal(noise_key, (hole, hole, canvas.shape[-1]))
        erased = T.erase_center(patch, config.noise_std * noise, config.border)
        return Patches(top_left, patch, erased)

    return jax.vmap(draw)(keys.patch, canvases)


def paint(
    inpainter: Network, params, stats, patches: Patches, config: Config
) -> tuple[Painted, Stats]:
    """Run F once on erased and clean patches together (shared batch statistics).

    Returns:
      r_i of (4.3) and F(e_i) of Sec. 4.2.4, and F's new statistics.
    """
    inputs = patches.erased
    if config.patch_autoencoding:
        inputs = jnp.concatenate([patches.erased, patches.patch])
    outputs, stats = inpainter.apply(params, stats, inputs, train=True)
    if not config.patch_autoencoding:
        return Painted(outputs["image"], None), stats
    inpainted, reconstructed = jnp.split(outputs["image"], 2)
    return Painted(inpainted, reconstructed), stats


# --- Sec. 4.2.2 Random warping


def draw_warp(key: Key[Array, ""], config: Config) -> T.WarpParams | T.FreeWarpParams:
    """Draw a polyharmonic warp of the canvas, T_4."""
    side, magnitude = config.warp_grid, config.warp_magnitude
    if config.warp_points == "grid":
        return T.warp_params(key, grid=(side, side), magnitude=magnitude)
    return T.free_warp_params(key, num_points=side**2, magnitude=magnitude)


# --- Sec. 4.2.3 Image rotations, and Sec. 4.4 random cropping and flipping
#
# T_1, T_2 and T_3 are exact quarter turns of the view of T_0. `T.transformation_views`
# makes all views, each with one bilinear sample, warped or not, so that blur tells
# nothing. Their parameters are drawn here, from one key for each view of a sample.
# `T.transformation_params`, the library's own draw, splits one key for all views, and
# it draws neither a tilt nor free control points.


def draw_view(
    key: Key[Array, ""], is_odd: Bool[Array, ""], config: Config
) -> tuple[T.ViewParams, T.WarpParams | T.FreeWarpParams]:
    """Draw crop, flip and tilt of a view, and a warp.

    A warp is drawn for every view; T_4 alone uses it. The tilt is 0 in half of the
    views. These are the odd rows, or views drawn at random.
    """
    half_key, view_key = jax.random.split(key)
    warp_key, tilt_key, crop_key, flip_key = jax.random.split(view_key, 4)
    may_tilt = ~is_odd
    if config.tilted == "random":
        may_tilt = jax.random.bernoulli(half_key)
    angle = config.tilt * jnp.pi * jax.random.uniform(tilt_key, (), minval=-1, maxval=1)
    corner = T.crop_params(
        crop_key, image_size=config.canvas_size, size=config.crop_size
    ).top_left
    flip = jax.random.bernoulli(flip_key)
    view = T.ViewParams(corner, flip, jnp.where(may_tilt, angle, 0.0))
    return view, draw_warp(warp_key, config)


# --- Sec. 4.2.4 Preventing degenerate learning


def make_examples(
    keys: SampleKeys,
    canvases: Float[Array, "b s s c"],
    painted_patches: tuple[Patches, Painted] | None,
    config: Config,
) -> Float[Array, "b k t t c"]:
    """Make one view of each canvas for each class, T_y o x_i for all y.

    In every other row T_0 ... T_3 act on an image with an autoencoded patch; a row is a
    position in the batch, so that this holds on any number of devices. Each class costs
    its own work and no other's; column j has label j.

    Args:
      keys: of the samples.
      canvases: x_i, values in [-1, 1].
      painted_patches: where and what F painted; gradients flow back through the latter.
        None without the class ``lci``.
      config: sizes, ranges and classes.

    Returns:
      Views in [-1, 1], classes on axis 1 in the order of ``config.classes``.
    """
    odd = jnp.arange(len(canvases)) % 2 == 1

    def transform(keys, canvas, is_odd, painted_patches):
        inpainted = base = None
        if painted_patches is not None:
            patches, painted = painted_patches
            inpainted = T.paste_patch(canvas, painted.inpainted, patches.top_left)
            if painted.reconstructed is not None:
                pasted = T.paste_patch(canvas, painted.reconstructed, patches.top_left)
                base = jnp.where(is_odd, pasted, canvas)
        base_view, _ = draw_view(keys.base, is_odd, config)
        warped_view, warp = draw_view(keys.warp, is_odd, config)
        lci_view, _ = draw_view(keys.lci, is_odd, config)
        params = T.TransformationParams(base_view, warped_view, lci_view, warp)
        size, classes = config.crop_size, config.classes
        return T.transformation_views(
            canvas, inpainted, params, size=size, classes=classes, base=base
        )

    return jax.vmap(transform)(keys, canvases, odd, painted_patches)


# --- Eq. (4.1), l_GAN of Sec. 4.2.1, L_inp,AE of Sec. 4.2.4: the losses of C, D and F


def classifier_loss(
    params, stats, examples: Float[Array, "b k t t c"], classifier: Network
) -> tuple[Float[Array, ""], tuple[Stats, Float[Array, "b k j"]]]:
    """Return L_SSL of C, eq. (4.1): the mean cross-entropy over all views.

        L_SSL = 1 / (k N) sum_i sum_y l_cls(C(T_y o x_i), y)

    Returns:
      The loss, and C's new statistics with its logits.
    """
    b, k = examples.shape[:2]
    inputs = examples.reshape(b * k, *examples.shape[2:])
    outputs, stats = classifier.apply(params, stats, inputs, train=True)
    labels = jnp.tile(jnp.arange(k), b)
    loss = losses.cross_entropy(outputs["logits"], labels)
    return loss, (stats, outputs["logits"].reshape(b, k, k))


def critic_loss(
    params, stats, patches: Patches, painted: Painted, critic: Network, config: Config
) -> tuple[Float[Array, ""], Stats]:
    """Return the loss of D: the part of l_GAN that D maximises, with its sign turned.

        L_D = 1 / N sum_i relu(1 - D(e_i)) + relu(1 + D(r_i))

    Returns:
      The loss, and D's new statistics.
    """
    both = (patches.patch, painted.inpainted)
    stacks = [pack_patches(x, config.critic_patches) for x in both]
    outputs, stats = critic.apply(params, stats, jnp.concatenate(stacks), train=True)
    real, fake = jnp.split(outputs["logits"], 2)
    return losses.critic_hinge(real, fake), stats


def inpainter_loss(
    painted: Painted,
    patches: Patches,
    score: Callable[[Float[Array, "n p p d"]], Float[Array, " n"]],
    l_ssl: Float[Array, ""],
    config: Config,
) -> tuple[Float[Array, ""], Metrics]:
    """Return L_inp,AE of F.

        L_inp    = 1 / N sum_i -D(r_i) + lambda_border |(r_i - e_i) (1 - m)|^2 - L_SSL
        L_inp,AE = L_inp + lambda_AE 1 / N sum_i |F(e_i) - e_i|^2

    Args:
      painted: what F made.
      patches: what F was given.
      score: D, from stacks of patches to their scores.
      l_ssl: the value of L_SSL. A number to this function: see `joint_gradients`.
      config: the weights of the terms.

    Returns:
      The loss and its terms. The two squares are means over pixels.
    """
    adversarial = -score(pack_patches(painted.inpainted, config.critic_patches)).mean()
    border_mask = T.border_mask(config.patch_size, config.border)
    border = losses.masked_mse(painted.inpainted, patches.patch, border_mask)
    metrics = {"loss/border": border}
    loss = adversarial + config.lambda_border * border
    if painted.reconstructed is not None:
        autoencode = jnp.square(painted.reconstructed - patches.patch).mean()
        metrics["loss/autoencode"] = autoencode
        loss += config.lambda_autoencode * autoencode
    loss -= config.lambda_classifier * l_ssl
    return loss, metrics | {"loss/inpainter": loss}


def pack_patches(
    patches: Float[Array, "b p p c"], count: int
) -> Float[Array, "n p p d"]:
    """Concatenate ``count`` neighbouring patches on channels, as D judges them."""
    b, h, w, c = patches.shape
    packed = patches.reshape(b // count, count, h, w, c)
    return jnp.moveaxis(packed, 1, 3).reshape(b // count, h, w, count * c)


# --- Training: the gradients of C, F and D
#
# F runs forward and backward once. L_inp,AE depends on the parameters of F only through
# what F painted, so its gradient is that of the painted patches, pulled back through F.
# The gradient of the painted patches has two parts: that of `inpainter_loss` with L_SSL
# as a number, and -lambda_classifier times that of L_SSL, which the backward pass of C
# has computed on its way to the parameters of C.


def joint_gradients(
    state: TrainState, keys: SampleKeys, canvases: Array, config: Config, nets: Networks
) -> Gradients:
    """Differentiate the losses of C, F and D at the same parameters."""
    params, stats = state.params, state.stats
    patches = draw_patches(keys, canvases, config)

    def run_inpainter(params):
        return paint(nets.inpainter, params, stats["inpainter"], patches, config)

    def run_classifier(params, painted):
        examples = make_examples(keys, canvases, (patches, painted), config)
        return classifier_loss(params, stats["classifier"], examples, nets.classifier)

    painted, pull_back, inpainter_stats = jax.vjp(
        run_inpainter, params["inpainter"], has_aux=True
    )
    (l_ssl, (classifier_stats, logits)), (grads, from_classifier) = jax.value_and_grad(
        run_classifier, argnums=(0, 1), has_aux=True
    )(params["classifier"], painted)
    grads, moved = {"classifier": grads}, {"classifier": classifier_stats}
    metrics = classifier_metrics(l_ssl, logits, config)
    if config.inpainter == "frozen":
        return Gradients(grads, moved, metrics)
    adversary, from_own_loss = adversarial_gradients(
        state, patches, painted, l_ssl, config, nets.critic
    )
    weight = config.lambda_classifier
    cotangent = jax.tree.map(
        lambda own, c: own - weight * c, from_own_loss, from_classifier
    )
    (inpainter_grads,) = pull_back(cotangent)
    return Gradients(
        grads | {"inpainter": inpainter_grads} | adversary.grads,
        moved | {"inpainter": inpainter_stats} | adversary.stats,
        metrics | adversary.metrics,
    )


def adversarial_gradients(
    state: TrainState,
    patches: Patches,
    painted: Painted,
    l_ssl: Float[Array, ""],
    config: Config,
    critic: Network,
) -> tuple[Gradients, Painted]:
    """Differentiate F's loss by what F painted, and D's loss by D's parameters.

    Returns:
      D's gradients and statistics, with the metrics of F and D; the gradient for F to
      pull back, without the part of L_SSL.
    """
    params, stats = state.params["critic"], state.stats["critic"]

    def score(stacks):
        return critic.apply(params, stats, stacks, train=False)[0]["logits"]

    from_own_loss, metrics = jax.grad(inpainter_loss, has_aux=True)(
        painted, patches, score, l_ssl, config
    )
    (loss, stats), grads = jax.value_and_grad(critic_loss, has_aux=True)(
        params, stats, patches, painted, critic, config
    )
    metrics |= {"loss/critic": loss}
    return Gradients({"critic": grads}, {"critic": stats}, metrics), from_own_loss


def classifier_gradients(
    state: TrainState, keys: SampleKeys, canvases: Array, config: Config, nets: Networks
) -> Gradients:
    """Differentiate L_SSL alone, for classes that need no inpainter."""
    params, stats = state.params["classifier"], state.stats["classifier"]
    examples = make_examples(keys, canvases, None, config)
    (loss, (stats, logits)), grads = jax.value_and_grad(classifier_loss, has_aux=True)(
        params, stats, examples, nets.classifier
    )
    metrics = classifier_metrics(loss, logits, config)
    return Gradients({"classifier": grads}, {"classifier": stats}, metrics)


def classifier_metrics(
    loss: Float[Array, ""], logits: Float[Array, "b k j"], config: Config
) -> Metrics:
    """Return L_SSL and the share of recognised views, of all and of each class."""
    labels = jnp.arange(len(config.classes))
    correct = jnp.argmax(logits, axis=-1) == labels[None]
    accuracies = correct.mean(axis=0, dtype=jnp.float32)
    metrics = {"loss/classifier": loss, "acc/pretext": accuracies.mean()}
    for j, name in enumerate(config.classes):
        metrics[f"acc/{name}"] = accuracies[j]
    return metrics


def init_state(
    key: Key[Array, ""],
    batch: Batch,
    *,
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
) -> TrainState:
    """Draw every player's first parameters.

    Raises:
      UserError: the batch does not fit the settings.
    """
    b, height, width, channels = batch["image"].shape
    if min(height, width) < config.canvas_size:
        raise UserError(
            f"method.canvas_size is {config.canvas_size}, larger than the images "
            f"({height}x{width}); it must be at most {min(height, width)}."
        )
    if "critic" in config.players and b % config.critic_patches:
        raise UserError(
            f"train.batch_size is {b}, not a multiple of method.critic_patches "
            f"({config.critic_patches}), the patches that the critic judges together."
        )
    patch = jnp.zeros((b, config.patch_size, config.patch_size, channels))
    view = jnp.zeros((b, config.crop_size, config.crop_size, channels))
    params, stats = {}, {}
    for i, player in enumerate(config.players):
        network: Network = getattr(networks, player)
        inputs = view if player == "classifier" else patch
        if player == "critic":
            inputs = pack_patches(patch, config.critic_patches)
        player_key = jax.random.fold_in(key, i)
        params[player], stats[player] = network.init(player_key, inputs)
    opt_state = {player: tx.init(params[player]) for player, tx in txs.items()}
    return TrainState(jnp.zeros((), jnp.int32), params, stats, opt_state)


def differentiate(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    _number: Int[Array, ""] | None,
    *,
    config: Config,
    networks: Networks,
) -> Gradients:
    """Draw examples by the ids of the samples, and differentiate all losses.

    `jaxssl.methods.task` says what `Gradients` are. The number of the micro-batch is
    not used, because all randomness here belongs to a sample.
    """
    keys = make_sample_keys(key, batch["id"])
    canvases = cut_canvases(keys, batch["image"], config)
    gradients = joint_gradients if config.inpaints else classifier_gradients
    return gradients(state, keys, canvases, config, networks)


def make_predict_fns(config: Config, networks: Networks) -> dict:
    """Return ``features``, ``logits`` and ``pretext``, all in inference mode of C."""

    def classify(network, state, images):
        params, stats = state.params["classifier"], state.stats["classifier"]
        return network.apply(params, stats, from_pixels(images), train=False)[0]

    def features(state, images):
        return classify(networks.backbone, state, images)

    def logits(state, images):
        return classify(networks.classifier, state, images)["logits"]

    def pretext(state, batch, key):
        keys = make_sample_keys(key, batch["id"])
        canvases = cut_canvases(keys, batch["image"], config)
        painted_patches = None
        if config.inpaints:
            patches = draw_patches(keys, canvases, config)
            params, stats = state.params["inpainter"], state.stats["inpainter"]
            painted, _ = paint(networks.inpainter, params, stats, patches, config)
            painted_patches = patches, painted
        examples = make_examples(keys, canvases, painted_patches, config)
        b, k = examples.shape[:2]
        example_logits = logits(state, examples.reshape(b * k, *examples.shape[2:]))
        pixels = jnp.round((examples + 1) * 127.5).astype(jnp.uint8)
        return {"image": pixels, "logits": example_logits.reshape(b, k, -1)}

    return {"features": features, "logits": logits, "pretext": pretext}


def make_task(
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
    *,
    micro_batches: int = 1,
) -> Task:
    """Return the task of chapter 4.

    Args:
      config: what is recognised and how examples are made.
      networks: the players.
      txs: one optimizer for each of ``config.trained_players`` (Sec. 4.4: AdamW for C,
        Adam for F and D).
      micro_batches: parts of the batch that go through the networks one after the
        other; see `jaxssl.methods.task.make_gradients`.

    Returns:
      A task whose mini-batches hold uint8 images (b, h, w, c) with sides of at least
      ``canvas_size``; with LCI, b is a multiple of 2 and of ``critic_patches``.
    """
    parts = {"config": config, "networks": networks}
    # Every other row is treated otherwise, and D judges neighbours together.
    judged = config.critic_patches if "critic" in config.players else 1
    gradients = make_gradients(
        functools.partial(differentiate, **parts),
        micro_batches=micro_batches,
        together=math.lcm(2, judged),
    )
    return task_lib.make_task(
        functools.partial(init_state, txs=txs, **parts),
        gradients,
        txs,
        make_predict_fns(config, networks),
    )
