"""The tasks that the contract suite runs over: one line each.

A value takes ``make_tx`` (the optimizer of a player) and the rows of a batch, and makes
a small task with its batch; `CALLS` says with what each predict_fn is called.
"""

import jax
import numpy as np

from jaxssl.methods import classify, probe, transformations
from jaxssl.models.alexnet import alexnet
from jaxssl.models.convnet import convnet
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter
from jaxssl.models.mlp import mlp
from tests.toys import clips, gan, poses

TINY = {"width": 0.125, "groups": 2, "fc_features": 16, "init": "he", "stem_kernel": 5}


def images(batch_size, size=24):
    """Return a batch of smooth random images with labels and ids."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (batch_size, size // 4, size // 4, 3))
    image = coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    return {
        "image": image,
        "label": (np.arange(batch_size) % 3).astype(np.int32),
        "id": np.arange(100, 100 + batch_size, dtype=np.int32),
    }


def recognise(*classes, **changes):
    """Chapter 4 with some of its classes."""

    def make(make_tx, batch_size):
        config = transformations.Config(
            classes=classes,
            canvas_size=24,
            crop_size=20,
            patch_size=12,
            border=2,
            **changes,
        )
        networks = transformations.Networks(
            classifier=alexnet(len(classes), **TINY),
            backbone=alexnet(None, **TINY),
            inpainter=inpainter(depth=8, num_layers=2),
            critic=critic(num_stages=2, depth=8),
        )
        txs = {player: make_tx(player) for player in config.trained_players}
        return transformations.make_task(config, networks, txs), images(batch_size)

    return make


def classify_images(make_tx, batch_size=8):
    """Supervised learning of three classes."""
    networks = classify.Networks(alexnet(3, **TINY), alexnet(None, **TINY))
    txs = {"classifier": make_tx("classifier")}
    task = classify.make_task(classify.Config(crop_size=20), networks, txs)
    return task, images(batch_size)


def learn(name, network, **changes):
    """Chapter 8: a learner on mini-batches whose labels are partly wrong."""

    def make(make_tx, batch_size):
        learner = classify.Learner(name=name, k=4, dropout_masks="split")
        config = classify.Config(crop_size=16, padding=2, **changes)
        networks = classify.Networks(network, network)
        txs = {"classifier": make_tx("classifier")}
        task = classify.make_task(config, networks, txs, learner)
        batch = images(batch_size, size=16)
        # Places of the mini-batches lie side by side; each has the same labels.
        batch["label"] = batch["label"].repeat(4)[:batch_size]
        batch["true_label"] = np.where(batch["id"] % 2, batch["label"], 0)
        return task, batch

    return make


def probe_features(make_tx, batch_size=8):
    """Linear classifiers on a frozen network."""
    backbone = alexnet(None, **TINY, stem_stride=2)
    config = probe.Config(num_classes=3, crop_size=20)
    txs = {"probe": make_tx("probe")}
    return probe.make_task(config, backbone, txs), images(batch_size)


def read_batch(source, batch_size):
    """Return the first records of a toy's source, stacked."""
    rng = np.random.default_rng(0)
    records = [source.read(i, rng) for i in range(batch_size)]
    batch = {name: np.stack([r[name] for r in records]) for name in source.spec}
    return batch | {"id": np.arange(batch_size, dtype=np.int32)}


def play(make_tx, batch_size=16):
    """Let a GAN step its players one after the other."""
    txs = {player: make_tx(player) for player in ("generator", "critic")}
    return gan.make_task(txs), read_batch(gan.Blobs(), batch_size)


def watch_clips(make_tx, batch_size=16):
    """Classify clips of the shape (t, h, w, c)."""
    return clips.make_task(make_tx("encoder")), read_batch(clips.Bars(), batch_size)


def locate(make_tx, batch_size=16):
    """Regress float poses."""
    return poses.make_task(make_tx("regressor")), read_batch(poses.Spots(), batch_size)


CALLS = {
    "features": lambda batch: (picture(batch),),
    "logits": lambda batch: (picture(batch),),
    "sampled_logits": lambda batch: (batch["image"], jax.random.key(3)),
    "pretext": lambda batch: (batch, jax.random.key(3)),
    "pose": lambda batch: (batch["image"],),
    "samples": lambda batch: (
        jax.random.normal(jax.random.key(3), (len(batch["id"]), gan.NOISE)),
    ),
}
"""What each predict_fn takes after the state, made of a batch."""


def picture(batch):
    """Return what a network looks at: the image, or the frames of a clip."""
    return batch["image"] if "image" in batch else clips.first_frames(batch)


TASKS = {
    "classify": classify_images,
    "classify/ghost": learn("ghost", convnet(3, channels=(8, 8), features=16)),
    "classify/bilevel": learn("bilevel", mlp(3, features=(16,)), contrast=0.5),
    "classify/bilevel_mixup": learn("bilevel", mlp(3, norm=False), mixup=1.0),
    "probe": probe_features,
    "toys/clips": watch_clips,
    "toys/gan": play,
    "toys/poses": locate,
    "transformations/rotations": recognise("none", "rot90", "rot180", "rot270"),
    "transformations/warp": recognise("none", "warp", warp_points="free"),
    "transformations/all": recognise(*transformations.TRANSFORMS),
    "transformations/lci_plain": recognise(
        "none", "lci", patch_autoencoding=False, critic_patches=1, tilted="alternate"
    ),
    "transformations/lci_frozen_whole": recognise("none", "lci", inpainter="frozen"),
    "transformations/lci_frozen": recognise(
        "none",
        "lci",
        inpainter="frozen",
        patch_autoencoding=False,
        tilted="alternate",
    ),
}
