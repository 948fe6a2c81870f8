"""Chapter 4's joint step as a benchmark: sizes, compiled step, parts, random draws."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxssl import transforms as T  # noqa: N812
from jaxssl.config import section
from jaxssl.methods import transformations
from jaxssl.models.alexnet import alexnet
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter
from jaxssl.optim.registry import make_optimizers
from jaxssl.types import Task, TrainState

CONFIGS = Path(__file__).parent.parent / "configs"


class Size(NamedTuple):
    """A config and what is changed in it.

    Attributes:
      file: in ``configs``.
      variant: of the config.
      batch_size: images in a step.
      image_side: of the data set's images.
      variants: PyTorch's variants that are tried.
      changes: to the config.
    """

    file: str
    variant: str
    batch_size: int
    image_side: int
    variants: tuple[str, ...]
    changes: dict


EAGER = ("eager", "eager, channels last")
ALL = (*EAGER, "compiled", "compiled, channels last")
PHOTOS, STL10 = "transformations_fashion_on_photos.py", "transformations_stl10.py"
TINY = {
    "model": {"width": 1 / 12, "fc_features": 8},
    "inpainter": {"depth": 4, "num_layers": 2},
    "critic": {"depth": 4, "num_stages": 2},
}
SIZES = {
    "demo": Size(PHOTOS, "rot_warp", 32, 40, (), {}),
    "cpu": Size(PHOTOS, "rot_warp_lci", 32, 40, ALL, {}),
    "stl10": Size(STL10, "rot_warp_lci,released", 16, 96, ALL, {}),
    "tiny": Size(PHOTOS, "warp_lci", 4, 40, EAGER, TINY),
    "tiny demo": Size(PHOTOS, "rot", 4, 40, (), TINY),
}


class Case(NamedTuple):
    """One experiment, ready to step.

    Attributes:
      sections: the config.
      config: the method's settings.
      networks: the players.
      txs: their optimizers.
      task: what is stepped.
      batch: uint8 images, labels and ids.
    """

    sections: ConfigDict
    config: transformations.Config
    networks: transformations.Networks
    txs: dict[str, optax.GradientTransformation]
    task: Task
    batch: dict


def read_config(size: Size) -> ConfigDict:
    """Load the config file with the size's changes."""
    spec = importlib.util.spec_from_file_location("config", CONFIGS / size.file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sections = module.get_config(size.variant)
    sections.train.batch_size = size.batch_size
    for name, change in size.changes.items():
        sections[name].update(change)
    return sections


def make_case(size: Size) -> Case:
    """Build the task of a size, and one batch of noise."""
    sections = read_config(size)
    config = section.read(transformations.Config, sections, "method")
    networks = transformations.Networks(
        classifier=alexnet(len(config.classes), **sections.model),
        backbone=alexnet(None, **sections.model),
        inpainter=inpainter(**sections.inpainter),
        critic=critic(**sections.critic),
    )
    txs = make_optimizers(sections, config.trained_players, sections.train.num_steps)
    task = transformations.make_task(config, networks, txs)
    count, side = size.batch_size, size.image_side
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    ids = np.arange(count, dtype=np.int32)
    batch = jax.device_put({"image": images, "label": ids * 0, "id": ids})
    return Case(sections, config, networks, txs, task, batch)


# --- jaxssl


class Ours:
    """The jitted step with its state, which is donated as in training."""

    def __init__(self, case: Case):
        def step(state, batch, key):
            return case.task.step(state, batch, jax.random.fold_in(key, state.step))

        self._step = jax.jit(step, donate_argnums=0)
        self._batch, self._key = case.batch, jax.random.key(1)
        self.state: TrainState = jax.jit(case.task.init)(jax.random.key(0), case.batch)

    def step(self):
        """Train one step; wait for it; return the metrics."""
        self.state, metrics = self._step(self.state, self._batch, self._key)
        jax.block_until_ready((self.state, metrics))
        return metrics


class Material(NamedTuple):
    """What the parts of the step work on."""

    state: TrainState
    draws: transformations.SampleKeys
    canvases: jax.Array
    patches: transformations.Patches
    painted: transformations.Painted
    examples: jax.Array


def make_material(case: Case, state: TrainState, key: jax.Array) -> Material:
    """Run the forward pass up to C's input."""
    draws, canvases, patches = draw(case, key)
    params, stats = state.params["inpainter"], state.stats["inpainter"]
    painted, _ = transformations.paint(
        case.networks.inpainter, params, stats, patches, case.config
    )
    examples = transformations.make_examples(
        draws, canvases, (patches, painted), case.config
    )
    return Material(state, draws, canvases, patches, painted, examples)


def draw(case: Case, key: jax.Array):
    """Return the step's keys, canvases and patches."""
    draws = transformations.make_sample_keys(key, case.batch["id"])
    canvases = transformations.cut_canvases(draws, case.batch["image"], case.config)
    patches = transformations.draw_patches(draws, canvases, case.config)
    return draws, canvases, patches


def make_parts(case: Case, state: TrainState) -> dict[str, Callable[[], object]]:
    """Return jaxssl's parts of the step, each compiled on its own."""
    m = jax.jit(functools.partial(make_material, case))(state, jax.random.key(2))
    params, stats = m.state.params, m.state.stats
    config, networks = case.config, case.networks

    def make(key, painted):
        draws, canvases, patches = draw(case, key)
        return transformations.make_examples(
            draws, canvases, (patches, painted), config
        )

    def classify(params, examples):
        def loss(params, examples):
            return transformations.classifier_loss(
                params, stats["classifier"], examples, networks.classifier
            )

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, examples)

    def inpaint(params, patches, cotangent):
        painted, pull_back, new = jax.vjp(
            lambda p: transformations.paint(
                networks.inpainter, p, stats["inpainter"], patches, config
            ),
            params,
            has_aux=True,
        )
        return painted, new, pull_back(cotangent)

    def judge(state, patches, painted):
        return transformations.adversarial_gradients(
            state, patches, painted, jnp.zeros(()), config, networks.critic
        )

    def update(params, opt_state):
        moved = {}
        for player, tx in case.txs.items():
            updates, new = tx.update(params[player], opt_state[player], params[player])
            moved[player] = optax.apply_updates(params[player], updates), new
        return {p: m[0] for p, m in moved.items()}, {p: m[1] for p, m in moved.items()}

    carried = [jax.tree.map(jnp.copy, (params, m.state.opt_state))]
    jitted_update = jax.jit(update, donate_argnums=(0, 1))

    def step_optimizers():
        carried[0] = jax.block_until_ready(jitted_update(*carried[0]))

    def waiting(function, *arguments):
        jitted = jax.jit(function)
        return lambda: jax.block_until_ready(jitted(*arguments))

    return {
        "views, forward": waiting(make, jax.random.key(2), m.painted),
        "C, forward + backward": waiting(classify, params["classifier"], m.examples),
        "F, forward + backward": waiting(
            inpaint, params["inpainter"], m.patches, m.painted
        ),
        "D, both losses": waiting(judge, m.state, m.patches, m.painted),
        "optimizers": step_optimizers,
    }


# --- Its draws, for another implementation


def make_draw(case: Case, key: jax.Array) -> dict[str, jax.Array]:
    """Write a step's random draws out as arrays.

    An image whose pixels are their own coordinates, sent through the views, comes out
    as their sampling grids.
    """
    draws, canvases, patches = draw(case, key)
    b, side = canvases.shape[:2]
    line = jnp.arange(side, dtype=jnp.float32)
    ramp = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1)
    ramps = jnp.broadcast_to(ramp[None], (b, side, side, 2))
    p = case.config.patch_size
    cut = jax.vmap(lambda x, corner: T.extract_patch(x, corner, p))
    painted = transformations.Painted(cut(ramps, patches.top_left), None)
    found = transformations.make_examples(draws, ramps, (patches, painted), case.config)
    grids = 2 * found[..., ::-1] / (side - 1) - 1
    place = patches.top_left[:, :, None] + jnp.arange(p)[None, None, :]
    arrays = {
        "canvas": jnp.round((canvases + 1) * 127.5).astype(jnp.uint8),
        "rows": place[:, 0],
        "columns": place[:, 1],
        "noise": patches.erased,
    }
    for stream, name in (("base", "none"), ("warp", "warp"), ("lci", "lci")):
        arrays[stream] = grids[:, case.config.classes.index(name)]
    return arrays
