"""Learn from labels: the supervised baseline, fine-tuning, and the task of chapter 8.

A classifier sees one random view of each labelled image; crop and flip are composed and
sampled once. `jaxssl.methods.bilevel` says how the labels become an update: plain SGD,
ghost batches, or deep bilevel learning. Plain SGD is also the supervised baseline of
Tables 4.4 to 4.7, and fine-tuning, with ``init_from={"classifier": <workdir>}``: all
layers but the network's head start from the pre-trained player "classifier".

| thesis | code | where |
|---|---|---|
| crops, brightness, contrast | ``make_views`` | Sec. 8.4.1 |
| crops of 30 to 100 % of the area | ``random_resized_views`` | Sec. 8.4.4 |
| label smoothing | ``make_targets`` | Table 8.3 |
| mixup, and bilevel + mixup | ``mix`` | Table 8.3 |
| several labels an image (VOC) | ``Config.labels`` | Sec. 8.4.4 |
| noisy labels, permuted pixels | `jaxssl.data.corruption` | Sec. 8.4.2, 8.4.3 |

Deviations. Mixup mixes the k mini-batches alike, so that their labels stay the same;
the thesis does not say how it joins the two. Table 4.7 augments "similar to [149]"
(IIC), which jitters colours by 0.4, 0.4, 0.4 and 0.125, too;
configs/classify_resnet34_stl10.py has crops and flips.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl import keys, losses
from jaxssl import transforms as T  # noqa: N812
from jaxssl.config import checks, fields
from jaxssl.errors import UserError
from jaxssl.methods import task as task_lib
from jaxssl.methods.bilevel import (
    Learner,
    MatchedOrder,
    learner_gradient,
    split_places,
    weight_metrics,
)
from jaxssl.methods.task import Gradients, make_gradients
from jaxssl.models.network import from_pixels
from jaxssl.types import (
    Array,
    Batch,
    Float,
    Int,
    Key,
    Network,
    Params,
    Shaped,
    Stats,
    Task,
    TrainState,
)

__all__ = [
    "Config",
    "Learner",
    "MatchedOrder",
    "Networks",
    "make_loss",
    "make_task",
    "random_views",
]

PIXELS = ("symmetric", "standardized", "normalized")
"""In [-1, 1]; of mean 0 and variance 1 in each image; or in the whole data set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What the classifier sees, and what is asked of it.

    Attributes:
      crop_size: side of the views, in pixels.
      flip: mirror half of them.
      padding: zeros around the image before the crop, in pixels (released code: 4).
      area: smallest and largest share of the image's area that is cut and resized,
        (0.3, 1.0) on VOC; empty for crops of ``crop_size`` pixels.
      brightness: see `perturb_colors`; 0 for no change; released code: 63/255.
      contrast: see `perturb_colors`; 0 for no change; released code: 0.8.
      pixels: ``symmetric`` for [-1, 1]; ``standardized`` for mean 0 and variance 1 of
        each image (released code); ``normalized`` for those of the data set.
      mean: of each channel of the data set in [0, 1], for ``normalized``.
      std: standard deviation of each channel of the data set, for ``normalized``.
      labels: ``classes``, one label an image; or ``attributes``, several 0/1 labels an
        image (VOC).
      smoothing: share of the label that goes to all classes evenly; Table 8.3: 0.1.
      mixup: alpha of mixup, 0 for no mixup. The paper of mixup has 1.
    """

    crop_size: int = fields.pixels(64)  # Sec. 4.4.1, as in pre-training.
    flip: bool = True  # Sec. 4.4
    padding: int = fields.pixels(0, at_least=0)
    area: tuple[float, ...] = fields.number((), above=0, at_most=1)
    brightness: float = fields.number(0.0, at_least=0, at_most=1000)
    contrast: float = fields.number(0.0, at_least=0, at_most=1000)
    pixels: str = fields.choice("symmetric", PIXELS)
    mean: tuple[float, ...] = fields.number((), at_least=-1000, at_most=1000)
    std: tuple[float, ...] = fields.number((), above=0, at_most=1000)
    labels: str = fields.choice("classes", ("classes", "attributes"))
    smoothing: float = fields.number(0.0, at_least=0, below=1)
    mixup: float = fields.number(0.0, at_least=0, at_most=10_000)

    def __post_init__(self) -> None:
        """Raise UserError where no training is possible."""
        fields.validate(self)
        rising = len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1
        if self.area and not rising:
            raise UserError(
                f"area is {self.area}; it must be empty, or two shares that rise in "
                "(0, 1], as (0.3, 1.0)."
            )
        num_channels = 3 if self.pixels == "normalized" else 0
        if len(self.mean) != num_channels or len(self.std) != num_channels:
            raise UserError(
                f"mean is {self.mean} and std {self.std}; with pixels={self.pixels!r} "
                f"each needs {num_channels} values."
            )
        if self.area and self.padding:
            raise UserError(
                f"padding is {self.padding}, but parts of the image are cut by area; "
                "leave one of the two out."
            )
        if self.smoothing and self.labels == "attributes":
            raise UserError(f"smoothing is {self.smoothing}; it is for labels=classes.")


class Networks(NamedTuple):
    """The classifier, and its trunk for reading features at any size.

    Attributes:
      classifier: ``logits`` has one column for each class.
      backbone: the classifier without its head, on the same parameters.
    """

    classifier: Network
    backbone: Network


# --- Views


def make_views(
    key: Key[Array, ""], batch: Batch, config: Config
) -> Shaped[Array, "b s s c"]:
    """Return a random view of each image, uint8 unless colours change."""
    crop_key, color_key = jax.random.split(key)
    images, ids = batch["image"], batch["id"]
    shared: dict[str, Any] = {"size": config.crop_size, "flip": config.flip}
    if config.area:
        area = (config.area[0], config.area[1])
        views = random_resized_views(crop_key, images, ids, **shared, area=area)
    else:
        views = random_views(crop_key, images, ids, **shared, padding=config.padding)
    if config.brightness or config.contrast:
        views = perturb_colors(
            color_key,
            views,
            ids,
            brightness=config.brightness,
            contrast=config.contrast,
        )
    return views


def random_views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    size: int,
    flip: bool,
    padding: int = 0,
) -> Shaped[Array, "b s s c"]:
    """Cut one random square from each image and mirror half of them.

    Pixels are exact and keep their type.

    Args:
      key: the step's key; each sample's randomness comes from its id.
      images: any dtype and range; both are kept.
      ids: index of each sample in its data set.
      size: side of the squares, in pixels.
      flip: whether to mirror.
      padding: zeros around the image before the cut, in pixels.

    Returns:
      The views.

    Raises:
      UserError: the padded images are smaller than the squares.
    """
    if padding:
        side = (padding, padding)
        images = jnp.pad(images, ((0, 0), side, side, (0, 0)))
    height, width = images.shape[1:3]
    if size > min(height, width):
        raise UserError(
            f"crop_size is {size} but the images are {height}x{width}; "
            f"it must be at most {min(height, width)}."
        )

    def cut(cut_key):
        corner = T.crop_params(cut_key, image_size=(height, width), size=size).top_left
        return T.crop_coords(corner, size)

    return _views(key, images, ids, cut, flip=flip)


def random_resized_views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    size: int,
    flip: bool,
    area: tuple[float, float],
) -> Shaped[Array, "b s s c"]:
    """Cut a random part from each image, resize it, and mirror half of them.

    The part may be smaller than ``size``. A larger part is sampled, not averaged: load
    images at about the size of the views.

    Args:
      key: see `random_views`, also for the following.
      images: see there.
      ids: see there.
      size: see there.
      flip: see there.
      area: smallest and largest share of the image's area. VOC: 30 to 100 %.

    Returns:
      The views.
    """
    image_size = images.shape[1], images.shape[2]

    def cut(cut_key):
        box = T.resized_crop_params(cut_key, image_size=image_size, scale=area)
        return T.resized_crop_coords(box, size)

    return _views(key, images, ids, cut, flip=flip)


def _views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    cut: Callable[[Key[Array, ""]], T.CoordMap],
    *,
    flip: bool,
) -> Shaped[Array, "b s s c"]:
    """Sample each image once: the part that ``cut`` draws, perhaps mirrored."""

    def view(sample_key, image):
        cut_key, flip_key = jax.random.split(sample_key)
        maps = [cut(cut_key)]
        if flip:
            maps.append(T.hflip_coords(*T.hflip_params(flip_key)))
        return T.geometric_chain(image, maps)

    return jax.vmap(view)(keys.per_example(key, ids), images)


def perturb_colors(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    brightness: float,
    contrast: float,
) -> Float[Array, "b h w c"]:
    """Change brightness and contrast of each image at random (section 8.4.1).

    Nothing is clipped, as in TensorFlow and in the released code. Standardisation takes
    the brightness out again.

    Args:
      key: see `random_views`.
      images: uint8, or floating point in [-1, 1].
      ids: see there.
      brightness: the largest value that is added or taken away, as a share of the range
        of pixels; the value is uniform.
      contrast: the distance from each channel's mean is multiplied by a factor that is
        uniform in 1 -+ ``contrast``.

    Returns:
      The images in the units of [-1, 1], beyond which they may lie.
    """

    def perturb(sample_key, image):
        bright_key, contrast_key = jax.random.split(sample_key)
        added = jax.random.uniform(bright_key, (), minval=-1) * 2 * brightness
        factor = 1 + jax.random.uniform(contrast_key, (), minval=-1) * contrast
        mean = image.mean(axis=(0, 1), keepdims=True)
        return (image - mean) * factor + mean + added

    return jax.vmap(perturb)(keys.per_example(key, ids), from_pixels(images))


# --- What the network takes and should give


def to_input(
    images: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"], config: Config
) -> Float[Array, "b h w c"]:
    """Bring images to what the network takes.

    Args:
      images: uint8, or floating point in [-1, 1].
      config: ``pixels`` picks the range. The standard deviation of an image counts as
        at least one grey level over the root of the number of values, for images of one
        colour (TensorFlow's per-image standardization has this bound).

    Returns:
      float32.
    """
    x = from_pixels(images)
    if config.pixels == "symmetric":
        return x
    if config.pixels == "normalized":
        return T.normalize((x + 1) / 2, config.mean, config.std)
    values = (1, 2, 3)
    least = 1 / 127.5 / (x[0].size ** 0.5)
    deviation = jnp.maximum(x.std(axis=values, keepdims=True), least)
    return (x - x.mean(axis=values, keepdims=True)) / deviation


def make_targets(
    labels: Int[Array, "b ..."], num_classes: int, config: Config
) -> Float[Array, "b n"]:
    """Return the probabilities that the logits should give; zeros without a label."""
    if config.labels == "attributes":
        return labels.astype(jnp.float32)
    targets = T.smooth_labels(
        jax.nn.one_hot(labels, num_classes), smoothing=config.smoothing
    )
    return jnp.where((labels >= 0)[..., None], targets, 0)


def mix(
    key: Key[Array, ""], x: Float[Array, "b ..."], alpha: float
) -> Float[Array, "b ..."]:
    """Mix each row with another row; the same key picks the same rows and weight.

    Returns:
      The mixed rows; ``x`` itself if ``alpha`` is 0.
    """
    if not alpha:
        return x
    order_key, weight_key = jax.random.split(key)
    other = jax.random.permutation(order_key, len(x))
    return T.mixup(x, x[other], T.mixup_params(weight_key, alpha=alpha).weight)


# --- Loss

LOSSES = {
    "classes": losses.soft_cross_entropy,
    "attributes": losses.attribute_cross_entropy,
}
ACCURACIES = {"classes": losses.accuracy, "attributes": losses.attribute_accuracy}


def make_loss(config: Config, network: Network, mix_key: Key[Array, ""]) -> Callable:
    """Return the loss function of one mini-batch, for `learner_gradient`.

    Returns:
      ``loss_fn(params, minibatch, *, state, key) -> (loss, (state, logits))``; the loss
      is the mean cross-entropy, ``state`` the statistics of the network.
    """

    def loss_fn(
        params: Params, minibatch: Batch, *, state: Stats, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[Stats, Float[Array, "b n"]]]:
        x = to_input(minibatch["image"], config)
        x = mix(mix_key, x, config.mixup)
        outputs, stats = network.apply(params, state, x, train=True, key=key)
        logits = outputs["logits"]
        targets = make_targets(minibatch["label"], logits.shape[-1], config)
        targets = mix(mix_key, targets, config.mixup)
        cross_entropy = LOSSES[config.labels]
        return cross_entropy(logits, targets), (stats, logits)

    return loss_fn


# --- Training


def init_state(
    key: Key[Array, ""],
    batch: Batch,
    *,
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
) -> TrainState:
    """Draw the classifier's first parameters."""
    b, channels = len(batch["image"]), batch["image"].shape[-1]
    x = jnp.zeros((b, config.crop_size, config.crop_size, channels))
    params, stats = networks.classifier.init(key, x)
    opt_state = {"classifier": txs["classifier"].init(params)}
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, {"classifier": params}, {"classifier": stats}, opt_state)


def differentiate(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    number: Int[Array, ""] | None,
    *,
    config: Config,
    learner: Learner,
    networks: Networks,
) -> Gradients:
    """Make views and return the learner's gradient."""
    _check_labels(batch["label"], config)
    view_key, network_key, mix_key = jax.random.split(key, 3)
    if number is not None:
        network_key, mix_key = (
            jax.random.fold_in(k, number) for k in (network_key, mix_key)
        )
    rows = {**batch, "image": make_views(view_key, batch, config)}
    minibatches = split_places(rows, 1 if learner.name == "sgd" else learner.k)
    loss_fn = make_loss(config, networks.classifier, mix_key)
    params, stats = state.params["classifier"], state.stats["classifier"]
    loss, stats, logits, gradient, info = learner_gradient(
        loss_fn, learner, params, stats, minibatches, network_key
    )
    metrics = {
        "loss/classifier": loss,
        "acc/classifier": ACCURACIES[config.labels](logits, minibatches["label"]),
    }
    if info is not None:
        metrics |= weight_metrics(info, minibatches)
    return Gradients({"classifier": gradient}, {"classifier": stats}, metrics)


def _check_labels(labels: Shaped[Array, "b ..."], config: Config) -> None:
    ndim = {"classes": 1, "attributes": 2}[config.labels]
    if labels.ndim != ndim:
        other = "attributes" if ndim == 1 else "classes"
        raise UserError(
            f"method.labels is {config.labels!r}, but this data set has labels of "
            f"shape {labels.shape[1:]} each; set method.labels to {other!r}."
        )
    if config.labels == "classes":
        checks.class_dtype(labels)


def make_predict_fns(config: Config, networks: Networks) -> dict:
    """Return ``features``, ``logits``, and ``sampled_logits`` with dropout active."""

    def apply(network, state, images, key=None):
        params, stats = state.params["classifier"], state.stats["classifier"]
        x = to_input(images, config)
        return network.apply(params, stats, x, train=False, key=key)[0]

    def features(state, images):
        return apply(networks.backbone, state, images)

    def logits(state, images):
        return apply(networks.classifier, state, images)["logits"]

    def sampled_logits(state, images, key):
        return apply(networks.classifier, state, images, key)["logits"]

    return {"features": features, "logits": logits, "sampled_logits": sampled_logits}


def make_task(
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
    learner: Learner | None = None,
    *,
    micro_batches: int = 1,
) -> Task:
    """Return the task of learning from labels.

    Args:
      config: what the classifier sees.
      networks: the classifier and its backbone.
      txs: the optimizer of the player "classifier".
      learner: how labels become an update; plain SGD by default. The others take rows
        as `MatchedOrder` draws them.
      micro_batches: parts of the batch that go through the network one after the other;
        see `jaxssl.methods.task.make_gradients`. With ``ghost`` each part has rows of
        all k mini-batches.

    Returns:
      A task whose mini-batches hold uint8 images (b, h, w, c) with sides of at least
      ``crop_size`` and one label each, or several.

    Raises:
      UserError: micro-batches of bilevel learning.
    """
    learner = learner or Learner()
    if learner.name == "bilevel" and micro_batches != 1:
        raise UserError(
            f"compute.micro_batches is {micro_batches}, but learner.name is 'bilevel', "
            "whose weights compare the gradients of whole mini-batches, one of k in "
            "memory at a time; leave it at 1."
        )
    gradients = make_gradients(
        functools.partial(
            differentiate, config=config, networks=networks, learner=learner
        ),
        micro_batches=micro_batches,
        together=1 if learner.name == "sgd" else learner.k,
    )
    return task_lib.make_task(
        functools.partial(init_state, config=config, networks=networks, txs=txs),
        gradients,
        txs,
        make_predict_fns(config, networks),
    )
