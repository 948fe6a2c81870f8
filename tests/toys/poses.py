"""A toy regression: where is the spot, in metres? Records hold float poses, no label.

It proves that float arrays reach the step as they are, that an error has a unit, and
that nothing asks for classes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxssl.experiment import Experiment
from jaxssl.types import EvalResult, Metric, Task, TrainState

SIDE, METRES = 8, 0.1


class Spots:
    """A spot on a grey image, and its place on the wall in metres."""

    name, class_names, fingerprint = "spots", (), "spots 1"

    def __init__(self, count=40):
        self._count = count
        self.spec = {
            "image": jax.ShapeDtypeStruct((SIDE, SIDE, 1), np.uint8),
            "pose": jax.ShapeDtypeStruct((1, 2), np.float32),
        }

    def __len__(self):
        return self._count

    def read(self, index, rng):
        del rng
        y, x = np.random.default_rng(index).integers(0, SIDE, 2)
        image = np.full((SIDE, SIDE, 1), 30, np.uint8)
        image[y, x] = 230
        pose = (np.array([[y, x]]) - SIDE / 2 + 0.5) * METRES
        return {"image": image, "pose": pose.astype(np.float32)}

    def record_name(self, index):
        return f"spots[{index}]"


def make_task(tx):
    def init(key, batch):
        size = batch["image"][0].size
        params = {
            "kernel": 0.01 * jax.random.normal(key, (size, 2)),
            "bias": jnp.zeros(2),
        }
        step = jnp.zeros((), jnp.int32)
        players = {"regressor": params}
        return TrainState(
            step, players, {"regressor": {}}, {"regressor": tx.init(params)}
        )

    def pose(state, images):
        params = state.params["regressor"]
        rows = images.reshape(len(images), -1).astype(jnp.float32) / 255
        return (rows @ params["kernel"] + params["bias"][None])[:, None]

    def step(state, batch, key):
        noise = jax.random.randint(key, batch["image"].shape, 0, 20).astype(jnp.uint8)

        def loss_fn(params):
            seen = state._replace(params={"regressor": params})
            error = pose(seen, batch["image"] + noise) - batch["pose"]
            return jnp.square(error).sum(axis=-1).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params["regressor"])
        updates, opt_state = tx.update(
            grads, state.opt_state["regressor"], state.params["regressor"]
        )
        params = optax.apply_updates(state.params["regressor"], updates)
        new = state._replace(
            step=state.step + 1,
            params={"regressor": params},
            opt_state={"regressor": opt_state},
        )
        return new, {"loss/regressor": loss}

    return Task(init, step, {"pose": pose})


def make_eval(task, source):
    """Measure the mean distance of the predicted joints from the true ones."""
    rng = np.random.default_rng(0)
    records = [source.read(i, rng) for i in range(len(source))]
    images, poses = (np.stack([r[name] for r in records]) for name in ("image", "pose"))
    predict = jax.jit(task.predict_fns["pose"])

    def mpjpe(state):
        error = np.linalg.norm(np.asarray(predict(state, images)) - poses, axis=-1)
        found = Metric(float(error.mean()), "m", higher_is_better=False)
        return EvalResult({"mpjpe_m": found}, {})

    return mpjpe


def get_config():
    config = ConfigDict({"seed": 3})
    config.optim = {"regressor": {"learning_rate": 0.02}}
    config.train = {
        "num_steps": 8,
        "batch_size": 16,
        "save_every": 2,
        "log_every": 2,
        "eval_every": 4,
    }
    config.mesh = {"data": -1}
    return config.lock()


def build(config):
    source = Spots()
    task = make_task(optax.adam(config.optim.regressor.learning_rate))
    evals = {"pose": make_eval(task, source)}
    return Experiment(task, source, evals, evals, {})
