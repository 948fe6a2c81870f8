"""Learn from labels: the supervised baseline, and fine-tuning of learned features.

Not a method of the thesis but what its methods are measured against (Tables 4.4 to
4.7): the same network on the same crops, trained to name the class. Fine-tuning is the
same task with ``init_from={"classifier": <workdir>}``: all layers start from the
pre-trained player "classifier", except a last layer for another number of classes.

ResNet-34 on STL-10 (Table 4.7: 91.8 %). Pre-train for 200 epochs on the 100k unlabelled
images, then fine-tune this task for 300 epochs on the 5k labelled ones, with the
optimizer of the pre-training: AdamW, beta 0.5 and 0.99, 3e-4 falling to 3e-7 along a
cosine, weight decay 1e-4 not multiplied by the rate. Tested on the 8k test images by
ten crops (`jaxssl.evals.suite.accuracy_eval` with ``views="ten"``).

| thesis | code | where |
|---|---|---|
| fine-tuned network | player ``classifier`` | Sec. 4.4.2 |
| random cropping, horizontal flipping | ``random_views`` | Sec. 4.4 |
| multi-crop evaluation | ``views="ten"`` of the evaluation | Table 4.7 |

Deviations. The thesis augments "similar to [149]" (IIC), which jitters colours by 0.4,
0.4, 0.4 and 0.125, too; here views are crops and flips. The crop size of the
fine-tuning is not in the thesis.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxssl import keys, losses, settings
from jaxssl import transforms as T  # noqa: N812
from jaxssl.models.network import from_pixels
from jaxssl.types import (
    Array,
    Batch,
    Int,
    Key,
    Metrics,
    Network,
    Shaped,
    Task,
    TrainState,
    UserError,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What the classifier sees.

    Attributes:
      crop_size: side of the random crops, in pixels.
      flip: mirror half of them.
    """

    crop_size: int = 64  # Sec. 4.4.1, as in pre-training on STL-10.
    flip: bool = True  # Sec. 4.4

    def __post_init__(self) -> None:
        """Raise UserError where no training is possible."""
        settings.positive(self, "crop_size")


class Networks(NamedTuple):
    """The classifier, and the same without its head for reading features.

    Attributes:
      classifier: ``logits`` has one column for each class.
      backbone: the taps at any image size, on the classifier's parameters.
    """

    classifier: Network
    backbone: Network


# --- Sec. 4.4 Random cropping and horizontal flipping


def random_views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    size: int,
    flip: bool,
) -> Shaped[Array, "b s s c"]:
    """Cut one random square from each image and mirror half of them.

    Crop and flip are composed and sampled once, at pixel centres: the pixels are exact
    and keep their type.

    Args:
      key: the step's key; each sample's randomness comes from its id.
      images: any dtype and range; both are kept.
      ids: index of each sample in its data set.
      size: side of the squares, in pixels.
      flip: whether to mirror.

    Returns:
      The views.

    Raises:
      UserError: the images are smaller than the squares.
    """
    height, width = images.shape[1:3]
    if size > min(height, width):
        raise UserError(
            f"crop_size is {size} but the images are {height}x{width}; "
            f"it must be at most {min(height, width)}."
        )

    def view(sample_key, image):
        crop_key, flip_key = jax.random.split(sample_key)
        corner = T.crop_params(crop_key, image_size=(height, width), size=size).top_left
        maps = [T.crop_coords(corner, size)]
        if flip:
            maps.append(T.hflip_coords(*T.hflip_params(flip_key)))
        return T.geometric_chain(image, maps)

    return jax.vmap(view)(keys.per_example(key, ids), images)


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


def train_step(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    *,
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
) -> tuple[TrainState, Metrics]:
    """Take one step on the cross-entropy of random views."""
    labels = batch["label"]
    if labels.ndim != 1:
        raise UserError(
            "classify needs one class an image, but this data set has labels of shape "
            f"{labels.shape[1:]} each; train `probe` with labels=attributes instead."
        )
    view_key, network_key = jax.random.split(key)
    views = random_views(
        view_key, batch["image"], batch["id"], size=config.crop_size, flip=config.flip
    )

    def loss_fn(params):
        outputs, stats = networks.classifier.apply(
            params,
            state.stats["classifier"],
            from_pixels(views),
            train=True,
            key=network_key,
        )
        logits = outputs["logits"]
        return losses.cross_entropy(logits, labels), (stats, logits)

    params = state.params["classifier"]
    (loss, (stats, logits)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = txs["classifier"].update(
        grads, state.opt_state["classifier"], params
    )
    params = optax.apply_updates(params, updates)
    metrics = {
        "loss/classifier": loss,
        "acc/classifier": losses.accuracy(logits, labels),
    }
    new_state = TrainState(
        state.step + 1,
        {"classifier": params},
        {"classifier": stats},
        {"classifier": opt_state},
    )
    return new_state, metrics


def make_readouts(networks: Networks) -> dict:
    """Return ``features`` and ``logits``, both in inference mode."""

    def apply(network, state, images):
        params, stats = state.params["classifier"], state.stats["classifier"]
        return network.apply(params, stats, from_pixels(images), train=False)[0]

    def features(state, images):
        return apply(networks.backbone, state, images)

    def logits(state, images):
        return apply(networks.classifier, state, images)["logits"]

    return {"features": features, "logits": logits}


def make_task(
    config: Config,
    networks: Networks,
    txs: Mapping[str, optax.GradientTransformation],
) -> Task:
    """Return the task of learning from labels.

    Args:
      config: what the classifier sees.
      networks: the classifier and its backbone.
      txs: the optimizer of the player "classifier".

    Returns:
      A task whose mini-batches hold uint8 images (b, h, w, c) with sides of at least
      ``crop_size`` and one label each.
    """
    parts = {"config": config, "networks": networks, "txs": txs}
    return Task(
        functools.partial(init_state, **parts),
        functools.partial(train_step, **parts),
        make_readouts(networks),
    )
