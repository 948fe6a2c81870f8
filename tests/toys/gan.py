"""A toy GAN: the critic steps twice, then the generator; averaged weights, a history.

It proves that a task may step its players one after the other, keep averaged weights
and a uint8 buffer in ``TrainState.extra``, and know neither labels nor features.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxssl import keys
from jaxssl.experiment import Experiment
from jaxssl.types import EvalResult, Metric, Task, TrainState

SIDE, NOISE, WIDTH = 6, 4, 16
CRITIC_STEPS, HISTORY, AVERAGE = 2, 8, 0.9


class Blobs:
    """Bright squares at one of four places; images and nothing else."""

    name, class_names, fingerprint = "blobs", (), "blobs 1"

    def __init__(self, count=48):
        rng = np.random.default_rng(0)
        self._images = rng.integers(0, 40, (count, SIDE, SIDE, 3)).astype(np.uint8)
        for i, image in enumerate(self._images):
            y, x = 3 * (i % 2), 3 * (i // 2 % 2)
            image[y : y + 3, x : x + 3] += 180
        shape = jax.ShapeDtypeStruct((SIDE, SIDE, 3), np.uint8)
        self.spec = {"image": shape}

    def __len__(self):
        return len(self._images)

    def read(self, index, rng):
        del rng  # Nothing of a record is drawn on the host.
        return {"image": self._images[index]}

    def record_name(self, index):
        return f"blobs[{index}]"


def init_mlp(key, sizes):
    layers = {}
    for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        kernel = jax.random.normal(jax.random.fold_in(key, i), (rows, columns))
        layers[f"dense{i}"] = {"kernel": kernel / rows**0.5, "bias": jnp.zeros(columns)}
    return layers


def apply_mlp(params, x):
    for i in range(len(params)):
        layer = params[f"dense{i}"]
        x = x @ layer["kernel"] + layer["bias"][None]
        x = jax.nn.leaky_relu(x, 0.2) if i < len(params) - 1 else x
    return x


def generate(params, noise):
    return jnp.tanh(apply_mlp(params, noise)).reshape(-1, SIDE, SIDE, 3)


def judge(params, images):
    return apply_mlp(params, images.reshape(len(images), -1))[:, 0]


def to_pixels(images):
    return jnp.round((images + 1) * 127.5).astype(jnp.uint8)


def from_pixels(pixels):
    return pixels.astype(jnp.float32) / 127.5 - 1


def make_task(txs):
    def init(key, batch):
        generator_key, critic_key = jax.random.split(key)
        size = batch["image"][0].size
        params = {
            "generator": init_mlp(generator_key, (NOISE, WIDTH, size)),
            "critic": init_mlp(critic_key, (size, WIDTH, 1)),
        }
        extra = {
            "average": params["generator"],
            "history": jnp.zeros((HISTORY, *batch["image"].shape[1:]), jnp.uint8),
        }
        opt_state = {player: tx.init(params[player]) for player, tx in txs.items()}
        step = jnp.zeros((), jnp.int32)
        return TrainState(
            step, params, {"generator": {}, "critic": {}}, opt_state, extra
        )

    def update(state, player, grads):
        updates, opt_state = txs[player].update(
            grads, state.opt_state[player], state.params[player]
        )
        params = optax.apply_updates(state.params[player], updates)
        return state._replace(
            params=state.params | {player: params},
            opt_state=state.opt_state | {player: opt_state},
        )

    def draw_noise(key, ids):
        draw = jax.vmap(lambda one: jax.random.normal(one, (NOISE,)))
        return draw(keys.per_example(key, ids))

    def step(state, batch, key):
        real, old = from_pixels(batch["image"]), from_pixels(state.extra["history"])
        metrics = {}
        for i in range(CRITIC_STEPS):
            noise = draw_noise(jax.random.fold_in(key, i), batch["id"])
            fake = generate(state.params["generator"], noise)

            def critic_loss(params, fake=fake):
                loss = jax.nn.softplus(-judge(params, real)).mean()
                loss += jax.nn.softplus(judge(params, fake)).mean()
                return loss + 0.5 * jax.nn.softplus(judge(params, old)).mean()

            metrics["loss/critic"], grads = jax.value_and_grad(critic_loss)(
                state.params["critic"]
            )
            state = update(state, "critic", grads)
        noise = draw_noise(jax.random.fold_in(key, CRITIC_STEPS), batch["id"])

        def generator_loss(params):
            fake = generate(params, noise)
            return jax.nn.softplus(-judge(state.params["critic"], fake)).mean(), fake

        (metrics["loss/generator"], fake), grads = jax.value_and_grad(
            generator_loss, has_aux=True
        )(state.params["generator"])
        state = update(state, "generator", grads)
        extra = {
            "average": optax.incremental_update(
                state.params["generator"], state.extra["average"], 1 - AVERAGE
            ),
            "history": jnp.concatenate(
                [
                    to_pixels(fake[: HISTORY // 2]),
                    state.extra["history"][: HISTORY // 2],
                ]
            ),
        }
        return state._replace(step=state.step + 1, extra=extra), metrics

    def samples(state, noise):
        return to_pixels(generate(state.extra["average"], noise))

    return Task(init, step, {"samples": samples})


def make_eval(task, source):
    """Compare the mean image of samples with that of the data, in grey levels."""
    draw = jax.jit(task.predict_fns["samples"])
    noise = jax.random.normal(jax.random.key(5), (32, NOISE))
    rng = np.random.default_rng(0)
    real = np.stack([source.read(i, rng)["image"] for i in range(len(source))])

    def distance(state):
        fake = np.asarray(draw(state, noise))
        gap = np.abs(fake.mean(axis=0) - real.mean(axis=0)).mean()
        found = Metric(float(gap), "grey levels", higher_is_better=False)
        return EvalResult({"mean_image": found}, {"samples": fake[:8]})

    return distance


def get_config():
    config = ConfigDict({"seed": 1})
    config.optim = {
        "generator": {"learning_rate": 1e-2},
        "critic": {"learning_rate": 1e-2},
    }
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
    source = Blobs()
    txs = {
        player: optax.adam(config.optim[player].learning_rate, b1=0.5)
        for player in ("generator", "critic")
    }
    task = make_task(txs)
    distance = make_eval(task, source)
    return Experiment(task, source, {"samples": distance}, {"samples": distance}, {})
