"""A toy video task: which way does the bar move? Records are windows of clips.

It proves records of the shape (t, h, w, c), draws of the host by ``Source.read``, and
evaluations of features through the task's own ``prepare``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxssl import losses
from jaxssl.evals import accuracy, linear_probe
from jaxssl.evals.feature_bank import FeatureBank
from jaxssl.experiment import Experiment
from jaxssl.types import Task, TrainState

LENGTH, FRAMES, SIDE = 10, 6, 8
SEEN = 4
"""Frames that the network sees of a record's ``FRAMES``."""


class Bars:
    """A bar that moves right or left through a long clip; a window of it is read."""

    name, fingerprint = "bars", "bars 1"
    class_names = ("right", "left")

    def __init__(self, count=40):
        self._count = count
        self.spec = {
            "clip": jax.ShapeDtypeStruct((FRAMES, SIDE, SIDE, 1), np.uint8),
            "num_frames": jax.ShapeDtypeStruct((), np.int32),
            "label": jax.ShapeDtypeStruct((), np.int32),
        }

    def __len__(self):
        return self._count

    def read(self, index, rng):
        label = index % 2
        noise = np.random.default_rng(index).integers(0, 60, (LENGTH, SIDE, SIDE, 1))
        whole = noise.astype(np.uint8)
        for t in range(LENGTH):
            column = (t + index) if label == 0 else (index - t)
            whole[t, :, column % SIDE] = 255
        start = int(rng.integers(LENGTH - FRAMES + 1))
        return {
            "clip": whole[start : start + FRAMES],
            "num_frames": np.int32(FRAMES),
            "label": np.int32(label),
        }

    def record_name(self, index):
        return f"bars[{index}]"


def first_frames(batch):
    """Take as many frames of each clip as the network sees."""
    return batch["clip"][:, :SEEN]


def prepare(batch):
    """Show evaluations one view of each clip."""
    return first_frames(batch)[:, None]


def forward(params, clips):
    frames = clips.astype(jnp.float32) / 255
    moved = frames[:, 1:] * jnp.roll(frames[:, :-1], 1, axis=3)
    moved -= frames[:, 1:] * jnp.roll(frames[:, :-1], -1, axis=3)
    rows = moved.mean(axis=(2, 4)).reshape(len(clips), -1)
    hidden = jnp.tanh(rows @ params["hidden"]["kernel"])
    logits = hidden @ params["logits"]["kernel"] + params["logits"]["bias"][None]
    return {"motion": moved.mean(axis=1), "hidden": hidden, "logits": logits}


def make_task(tx):
    def init(key, batch):
        del batch
        rows = (SEEN - 1) * SIDE
        params = {
            "hidden": {"kernel": jax.random.normal(key, (rows, 8)) / rows**0.5},
            "logits": {"kernel": jnp.zeros((8, 2)), "bias": jnp.zeros(2)},
        }
        step = jnp.zeros((), jnp.int32)
        players = {"encoder": params}
        return TrainState(step, players, {"encoder": {}}, {"encoder": tx.init(params)})

    def step(state, batch, key):
        offsets = jax.random.randint(key, (), 0, FRAMES - SEEN + 1)
        clips = jax.lax.dynamic_slice_in_dim(batch["clip"], offsets, SEEN, axis=1)

        def loss_fn(params):
            logits = forward(params, clips)["logits"]
            loss = losses.cross_entropy(logits, batch["label"])
            return loss, losses.accuracy(logits, batch["label"])

        (loss, right), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params["encoder"]
        )
        updates, opt_state = tx.update(
            grads, state.opt_state["encoder"], state.params["encoder"]
        )
        params = optax.apply_updates(state.params["encoder"], updates)
        new = state._replace(
            step=state.step + 1,
            params={"encoder": params},
            opt_state={"encoder": opt_state},
        )
        return new, {"loss/encoder": loss, "acc/motion": right}

    def logits(state, clips):
        return forward(state.params["encoder"], clips)["logits"]

    def features(state, clips):
        outputs = forward(state.params["encoder"], clips)
        return {name: outputs[name] for name in ("motion", "hidden")}

    return Task(init, step, {"features": features, "logits": logits})


def get_config():
    config = ConfigDict({"seed": 2})
    config.optim = {"encoder": {"learning_rate": 0.05}}
    config.train = {
        "num_steps": 8,
        "batch_size": 16,
        "save_every": 2,
        "log_every": 2,
        "eval_every": 8,
    }
    config.mesh = {"data": -1}
    return config.lock()


def build(config):
    train, test = Bars(), Bars(20)
    task = make_task(optax.adam(config.optim.encoder.learning_rate))
    bank = FeatureBank(task.predict_fns["features"], prepare, batch_size=20)
    probe = linear_probe.LinearProbeConfig(num_epochs=2, batch_size=20)
    evals = {
        "linear_probe": linear_probe.linear_probe_eval(bank, train, test, probe),
        "accuracy": accuracy.accuracy_eval(
            task.predict_fns, test, prepare, batch_size=20
        ),
    }
    return Experiment(task, train, evals, {"test": evals["accuracy"]}, {})
