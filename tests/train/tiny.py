"""A config small enough to train in a second: one layer that tells dark from bright.

Variables of the environment hurt the process. Where the online evaluations are:
``TINY_KILL=step:seconds`` kills it with signal 9 that long after the step,
``TINY_TERM=step`` sends it SIGTERM, ``TINY_FREEZE=step`` SIGSTOP, ``TINY_PACE=seconds``
lets each of them take that long. Where it reads: ``TINY_STALL=read:seconds`` lets one
read take that long, and ``read:never`` lets it fail; with ``TINY_MISSING=1`` there is
nothing to read. ``TINY_BARRIER=seconds`` is how long processes wait for each other in
Orbax.
"""

import os
import signal
import threading
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from orbax.checkpoint import multihost

from jaxssl.data.source import ArraySource
from jaxssl.errors import UserError
from jaxssl.experiment import Experiment
from jaxssl.types import SHARE, EvalResult, Metric, Task, TrainState

SIDE, CLASSES = 4, 3


class Traces(NamedTuple):
    """How often Python ran the functions of the task."""

    init: list
    step: list


TRACES = Traces([], [])


def get_config(variant="small"):
    config = ConfigDict()
    config.seed = 3
    config.data = ConfigDict({"count": 24, "labels": (0, 1, 2)})
    config.model = ConfigDict(
        {"width": 8 if variant == "small" else 16, "noise": 0.1, "nan_at": -1}
    )
    config.model.nan_for = 99
    config.model.classes = CLASSES
    config.optim = ConfigDict({"learning_rate": 0.01})
    config.train = ConfigDict(
        {
            "num_steps": 20,
            "batch_size": 8,
            "save_every": 4,
            "log_every": 2,
            "eval_every": 5,
            "keep_checkpoints": 3,
            "num_workers": 0,
        }
    )
    config.mesh = ConfigDict({"data": 1, "model": 1, "params": "replicated"})
    config.eval = ConfigDict({"first": 0})
    return config.lock()


def make_source(count=24, kind=ArraySource):
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    noise = rng.integers(0, 60, (count, SIDE, SIDE, 3))
    images = (labels[:, None, None, None] * 80 + noise).astype(np.uint8)
    names = ("dark", "grey", "bright")
    arrays = {"image": images, "label": labels}
    return kind(arrays, name="shades", class_names=names)


class StallingSource(ArraySource):
    """Waits before one of its reads, or fails in it, as a disk may."""

    reads = 0

    def take(self, indices):
        read, _, seconds = os.environ["TINY_STALL"].partition(":")
        self.reads += 1
        if self.reads == int(read):
            if seconds == "never":
                raise UserError("the disk is gone")
            time.sleep(float(seconds))
        return super().take(indices)


def make_task(
    width=8, noise=0.1, nan_at=-1, nan_for=99, learning_rate=0.01, classes=CLASSES
):
    tx = optax.adam(learning_rate)

    def init(key, batch):
        TRACES.init.append(1)
        if batch["image"].shape[1] < 2:
            raise ValueError("images are too small\nfor this network")
        features = batch["image"][0].size
        hidden, logits = jax.random.split(key)
        params = {
            "dense": {"kernel": 0.1 * jax.random.normal(hidden, (features, width))},
            "logits": {
                "kernel": 0.1 * jax.random.normal(logits, (width, classes)),
                "bias": jnp.zeros(classes),
            },
        }
        stats = {"mean": jnp.zeros(features)}
        return TrainState(
            jnp.int32(0),
            {"classifier": params},
            {"classifier": stats},
            {"classifier": tx.init(params)},
        )

    def forward(params, mean, pixels):
        hidden = jnp.tanh((pixels - mean[None]) @ params["dense"]["kernel"])
        return hidden @ params["logits"]["kernel"] + params["logits"]["bias"][None]

    def step(state, batch, key):
        TRACES.step.append(1)
        params = state.params["classifier"]
        pixels = batch["image"].reshape(batch["image"].shape[0], -1) / 255.0
        pixels = pixels + noise * jax.random.normal(key, pixels.shape)
        mean = 0.9 * state.stats["classifier"]["mean"] + 0.1 * pixels.mean(0)

        def loss_fn(params):
            logits = forward(params, mean, pixels)
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch["label"]
            )
            hit = (logits.argmax(-1) == batch["label"]).mean()
            bad = (nan_at >= 0) & (state.step >= nan_at)
            bad &= state.step < nan_at + nan_for
            return losses.mean() + jnp.where(bad, jnp.nan, 0.0), hit

        (loss, hit), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt = tx.update(grads, state.opt_state["classifier"], params)
        new = TrainState(
            state.step + 1,
            {"classifier": optax.apply_updates(params, updates)},
            {"classifier": {"mean": mean}},
            {"classifier": opt},
        )
        return new, {"acc/shade": hit, "loss/classifier": loss}

    def logits(state, image):
        stats = state.stats["classifier"]["mean"]
        pixels = image.reshape(image.shape[0], -1) / 255.0
        return forward(state.params["classifier"], stats, pixels)

    return Task(init, step, {"logits": logits})


def make_eval(task, source, first=0):
    def accuracy(state):
        logits = np.asarray(
            jax.jit(task.predict_fns["logits"])(state, source.arrays["image"])
        )
        hits = (logits.argmax(-1) == source.arrays["label"])[first:]
        return EvalResult(
            {"accuracy": Metric(float(hits.mean()), SHARE, True)}, {"logits": logits}
        )

    return accuracy


def strike(state):
    """Stop this process where the environment says so; an evaluation without result."""
    step, _, delay = os.environ.get("TINY_KILL", "-1:0").partition(":")
    if int(state.step) == int(step):
        kill = (os.getpid(), signal.SIGKILL)
        threading.Timer(float(delay), os.kill, kill).start()
    if int(state.step) == int(os.environ.get("TINY_TERM", "-1")):
        os.kill(os.getpid(), signal.SIGTERM)
    if int(state.step) == int(os.environ.get("TINY_FREEZE", "-1")):
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(float(os.environ.get("TINY_PACE", "0")))
    return EvalResult({}, {})


def build(config):
    if config.data.labels != tuple(range(len(config.data.labels))):
        raise UserError(f"data.labels is {config.data.labels!r}; it must count from 0.")
    if "TINY_BARRIER" in os.environ:
        limit = int(os.environ["TINY_BARRIER"])
        multihost._DEFAULT_BARRIER_TIMEOUT = limit
    if "TINY_MISSING" in os.environ:
        raise UserError("there is no data set shades here")
    kind = StallingSource if "TINY_STALL" in os.environ else ArraySource
    source = make_source(config.data.count, kind)
    task = make_task(
        width=config.model.width,
        noise=config.model.noise,
        nan_at=config.model.nan_at,
        nan_for=config.model.nan_for,
        learning_rate=config.optim.learning_rate,
        classes=config.model.classes,
    )
    accuracy = make_eval(task, source, config.eval.first)
    return Experiment(
        task=task,
        train_set=source,
        evals={"shades": accuracy},
        online_evals={"online": accuracy, "strike": strike},
        init_from={},
    )
