"""Linear classifiers on frozen features, by the thesis' protocol (Tables 4.1 to 4.6).

A pre-trained network is frozen in inference mode. Each of its endpoints conv1 ... conv5
gets one linear classifier on the average-pooled feature map, after a batch norm without
scale and shift. The five are trained jointly on random crops, so the features are
computed anew at every step: slow, but no crop comes twice. The cached linear probe of
`jaxssl.evals.linear_probe` is quick; its numbers are not those of this protocol.

The frozen network is the player "classifier" of the state, which has no optimizer; give
``init_from={"classifier": <workdir>}``. The classifiers are the player "probe".

| thesis | code | where |
|---|---|---|
| frozen features | player ``classifier``, ``Config.endpoints`` | Sec. 4.4 |
| linear classifier of one layer | ``probe[endpoint]`` | Table 4.2 |
| feature maps of about 9,200 values (227 px) | ``POOLS`` | Table 4.5, 4.6 |
| random cropping, horizontal flipping | ``classify.random_views`` | Sec. 4.4 |
| multi-crop evaluation | ``views="ten"`` of the evaluation | Table 4.5 |
| average precision on CelebA | ``labels="attributes"`` | Table 4.3 |

Deviations. The thesis says that feature maps are not resized on STL-10, the released
code pools them: ``Config.pooling``. The thesis trains 500 (Table 4.1), 700 (4.2) or 100
epochs (4.3), the released code 900: ``train.num_steps``. The loss for attributes is not
given anywhere; sigmoid cross-entropy, its mean over attributes, is assumed.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jaxssl import losses
from jaxssl.config import checks, fields
from jaxssl.errors import UserError
from jaxssl.methods import task as task_lib
from jaxssl.methods.classify import random_views
from jaxssl.methods.task import Gradients, make_gradients
from jaxssl.models.network import from_pixels
from jaxssl.ops.average import Pool, average_pool
from jaxssl.types import (
    Array,
    Batch,
    Float,
    Int,
    Key,
    Network,
    Outputs,
    Params,
    Stats,
    Task,
    TrainState,
)

POOLS = {
    "conv1": Pool(6, "SAME"),
    "conv2": Pool(4, "VALID"),
    "conv3": Pool(3, "SAME"),
    "conv4": Pool(3, "SAME"),
    "conv5": Pool(2, "VALID"),
}
"""Kernel (which is the stride) and padding by endpoint, for AlexNet (released code)."""

FILL_STEPS = 400
"""Steps that fill the averages; 4e-5 of the first value is left (momentum 0.975)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The protocol; numbers without a section are the released code's.

    Attributes:
      num_classes: classes, or attributes.
      labels: ``classes``, one label an image and softmax; or ``attributes``, several
        0/1 labels and sigmoid (CelebA).
      endpoints: the layers that get a classifier.
      crop_size: side of the random crops, in pixels.
      flip: mirror half of the crops.
      pooling: ``table`` pools by ``POOLS`` (code); ``none`` leaves the maps as they are
        (thesis, on STL-10 and CelebA).
      l2: ``0.5 * l2 * sum(kernel ** 2)`` is added to each classifier's loss.
      bn_momentum: share of the running statistics that stays at each step.
      bn_epsilon: added to the variance.
      learning_rates: one rate for each part of training.
      boundaries: where the rate changes, as shares of training.
      momentum: Nesterov's.
    """

    num_classes: int = fields.number(at_least=1, at_most=2**20)
    labels: str = fields.choice("classes", ("classes", "attributes"))
    endpoints: tuple[str, ...] = tuple(POOLS)
    crop_size: int = fields.pixels(64)  # Sec. 4.4.1, Table 4.2
    flip: bool = True  # Sec. 4.4
    pooling: str = fields.choice("table", ("table", "none"))
    l2: float = fields.number(5e-4, at_least=0, at_most=1e6)
    bn_momentum: float = fields.number(0.975, at_least=0, below=1)
    bn_epsilon: float = fields.number(1e-3, above=0, at_most=1000)
    learning_rates: tuple[float, ...] = fields.number(
        (0.1, 0.01, 2e-3, 4e-4, 8e-5), above=0, at_most=1e6
    )
    boundaries: tuple[float, ...] = fields.number(
        (0.08, 0.4, 0.7, 0.9), above=0, below=1
    )
    momentum: float = fields.number(0.9, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Raise UserError where no training is possible."""
        fields.validate(self)
        if not self.endpoints:
            raise UserError("endpoints is empty; name at least one layer, as in conv5.")
        for endpoint in self.endpoints:
            if self.pooling == "table":
                checks.choice("endpoints", endpoint, POOLS)
        if len(self.learning_rates) != len(self.boundaries) + 1:
            raise UserError(
                f"boundaries has {len(self.boundaries)} values; learning_rates has "
                f"{len(self.learning_rates)}, so it must have "
                f"{len(self.learning_rates) - 1}."
            )
        edges = (0.0, *self.boundaries, 1.0)
        if not all(a < b for a, b in itertools.pairwise(edges)):
            raise UserError(
                f"boundaries is {self.boundaries}; it must rise strictly inside (0, 1)."
            )


def make_tx(config: Config, *, num_steps: int) -> optax.GradientTransformation:
    """Return Nesterov's SGD with the protocol's steps of the learning rate.

    Args:
      config: rates, where they change, and the momentum.
      num_steps: length of the training.
    """
    rate = optax.join_schedules(
        [optax.constant_schedule(rate) for rate in config.learning_rates],
        [round(share * num_steps) for share in config.boundaries],
    )
    return optax.sgd(rate, momentum=config.momentum, nesterov=True)


# --- Linear classifiers on pooled feature maps


def pooled(maps: Outputs, config: Config) -> Outputs:
    """Average-pool each endpoint as the protocol has it, in float32.

    Raises:
      UserError: the network lacks an endpoint, or a map is too small for its pool.
    """
    for endpoint in config.endpoints:
        checks.choice("endpoints", endpoint, maps)
    maps = {
        endpoint: maps[endpoint].astype(jnp.float32) for endpoint in config.endpoints
    }
    if config.pooling == "none":
        return maps
    for endpoint, x in maps.items():
        pool = POOLS[endpoint]
        if pool.padding == "VALID" and pool.size > min(x.shape[1:3]):
            raise UserError(
                f"crop_size is {config.crop_size}: the map of {endpoint} is "
                f"{x.shape[1]}x{x.shape[2]}, smaller than its pool of {pool.size}. "
                "Use larger crops, or pooling=none."
            )
    return {endpoint: average_pool(x, POOLS[endpoint]) for endpoint, x in maps.items()}


def init_probe(
    key: Key[Array, ""], maps: Outputs, *, num_classes: int
) -> tuple[Params, Stats]:
    """Draw a linear classifier for each endpoint (He), with running statistics."""
    he = jax.nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
    params, stats = {}, {}
    for i, (endpoint, x) in enumerate(sorted(maps.items())):
        shape = (x[0].size, num_classes)
        kernel = he(jax.random.fold_in(key, i), shape, jnp.float32)
        params[endpoint] = {"kernel": kernel, "bias": jnp.zeros((num_classes,))}
        channels = (x.shape[-1],)
        stats[endpoint] = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
    return params, stats


def apply_probe(
    params: Params, stats: Stats, maps: Outputs, *, train: bool, config: Config
) -> tuple[Outputs, Stats]:
    """Normalise each map over the batch and its places, flatten, classify.

    Args:
      params: ``kernel`` and ``bias`` by endpoint.
      stats: running ``mean`` and ``var`` by endpoint.
      maps: pooled feature maps (b, h, w, c) by endpoint.
      train: normalise by the batch and move the running statistics.
      config: momentum and epsilon.

    Returns:
      Logits (b, k) by endpoint, and the statistics.
    """
    logits, new_stats = {}, {}
    for endpoint, x in maps.items():
        running = stats[endpoint]
        norm = running
        if train:
            norm = {"mean": x.mean(axis=(0, 1, 2)), "var": x.var(axis=(0, 1, 2))}
            running = optax.incremental_update(norm, running, 1 - config.bn_momentum)
        scale = jax.lax.rsqrt(norm["var"] + config.bn_epsilon)
        x = (x - norm["mean"][None, None, None]) * scale[None, None, None]
        x = x.reshape(len(x), -1)  # b (h w c)
        logits[endpoint] = (
            x @ params[endpoint]["kernel"] + params[endpoint]["bias"][None]
        )
        new_stats[endpoint] = running
    return logits, new_stats


def label_loss(
    logits: Float[Array, "b k"], labels: Int[Array, "b ..."], config: Config
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the cross-entropy and the accuracy, in [0, 1]."""
    if labels.ndim != (1 if config.labels == "classes" else 2):
        raise UserError(
            f"labels is {config.labels!r}, but a label of this data set has the shape "
            f"{labels.shape[1:]}; use classes for one label an image, attributes for "
            "several."
        )
    if config.labels == "classes":
        checks.class_dtype(labels)
        return losses.cross_entropy(logits, labels), losses.accuracy(logits, labels)
    loss = losses.attribute_cross_entropy(logits, labels)
    return loss, losses.attribute_accuracy(logits, labels)


# --- Training


def init_state(
    key: Key[Array, ""],
    batch: Batch,
    *,
    config: Config,
    backbone: Network,
    txs: Mapping[str, optax.GradientTransformation],
) -> TrainState:
    """Draw the classifiers, and a backbone that ``init_from`` is to replace."""
    backbone_key, probe_key = jax.random.split(key)
    b, channels = len(batch["image"]), batch["image"].shape[-1]
    x = jnp.zeros((b, config.crop_size, config.crop_size, channels))
    backbone_params, backbone_stats = backbone.init(backbone_key, x)
    outputs, _ = backbone.apply(backbone_params, backbone_stats, x, train=False)
    params, stats = init_probe(
        probe_key, pooled(outputs, config), num_classes=config.num_classes
    )
    return TrainState(
        jnp.zeros((), jnp.int32),
        {"classifier": backbone_params, "probe": params},
        {"classifier": backbone_stats, "probe": stats},
        {"probe": txs["probe"].init(params)},
    )


def frozen_maps(
    state: TrainState,
    images: Array,
    *,
    config: Config,
    backbone: Network,
) -> Outputs:
    """Return the pooled endpoints of uint8 images, in inference mode."""
    params, stats = state.params["classifier"], state.stats["classifier"]
    outputs, _ = backbone.apply(params, stats, from_pixels(images), train=False)
    return pooled(outputs, config)


def fill_statistics(
    state: TrainState, images: Array, *, backbone: Network, fill_steps: int
) -> Stats:
    """Move an untrained backbone's batch-norm averages in the first steps.

    An untrained network has averages of 0 and variances of 1; frozen with these values
    the network would look worse than it is.
    """
    params, stats = state.params["classifier"], state.stats["classifier"]

    def move(stats: Stats) -> Stats:
        return backbone.apply(params, stats, from_pixels(images), train=True)[1]

    return jax.lax.cond(state.step < fill_steps, move, lambda stats: stats, stats)


def differentiate(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    _number: Int[Array, ""] | None,
    *,
    config: Config,
    backbone: Network,
    fill_steps: int,
) -> Gradients:
    """Differentiate the sum of all classifiers' losses on views drawn by sample.

    The number of the micro-batch is not used; see `jaxssl.methods.task`.
    """
    views = random_views(
        key, batch["image"], batch["id"], size=config.crop_size, flip=config.flip
    )
    moved = {}
    if fill_steps:
        moved["classifier"] = fill_statistics(
            state, views, backbone=backbone, fill_steps=fill_steps
        )
        state = state._replace(stats=state.stats | moved)
    maps = frozen_maps(state, views, config=config, backbone=backbone)

    def loss_fn(params):
        logits, stats = apply_probe(
            params, state.stats["probe"], maps, train=True, config=config
        )
        total, accuracies = jnp.zeros(()), {}
        for endpoint in config.endpoints:
            loss, accuracy = label_loss(logits[endpoint], batch["label"], config)
            accuracies[f"acc/{endpoint}"] = accuracy
            total += loss
            total += 0.5 * config.l2 * jnp.square(params[endpoint]["kernel"]).sum()
        return total, (stats, accuracies)

    (loss, (stats, accuracies)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params["probe"]
    )
    metrics = {"loss/probe": loss, **accuracies}
    return Gradients({"probe": grads}, moved | {"probe": stats}, metrics)


def make_task(
    config: Config,
    backbone: Network,
    txs: Mapping[str, optax.GradientTransformation],
    *,
    fill_steps: int = 0,
    micro_batches: int = 1,
) -> Task:
    """Return the task of the linear classifiers.

    Args:
      config: the protocol.
      backbone: the frozen network without its head, with ``config.endpoints``.
      txs: the optimizer of the player "probe" (`make_tx`).
      fill_steps: steps in which the backbone's batch-norm averages follow the views:
        `FILL_STEPS` for an untrained backbone.
      micro_batches: parts of the batch that go through the networks one after the
        other; see `jaxssl.methods.task.make_gradients`.

    Returns:
      A task with the predict_fns ``logits``, (b, k) by endpoint, and ``features``. Its
      mini-batches hold uint8 images (b, h, w, c) with sides of at least ``crop_size``.
    """
    parts = {"config": config, "backbone": backbone}

    def features(state, images):
        params, stats = state.params["classifier"], state.stats["classifier"]
        return backbone.apply(params, stats, from_pixels(images), train=False)[0]

    def logits(state, images):
        maps = frozen_maps(state, jnp.asarray(images), **parts)
        params, stats = state.params["probe"], state.stats["probe"]
        return apply_probe(params, stats, maps, train=False, config=config)[0]

    gradients = make_gradients(
        functools.partial(differentiate, fill_steps=fill_steps, **parts),
        micro_batches=micro_batches,
    )
    return task_lib.make_task(
        functools.partial(init_state, txs=txs, **parts),
        gradients,
        txs,
        {"features": features, "logits": logits},
    )
