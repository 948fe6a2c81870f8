"""Saves states that follow from their step, one after another, until it is killed.

    python tests/train/saver.py WORKDIR

Each acknowledged step is printed once its manifest is on the disk.
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxssl.checkpoint import store as checkpoints
from jaxssl.types import TrainState


def make_state(step):
    """Return 1 MB of random floats, which like weights cannot be compressed."""
    rows = np.random.default_rng(step).normal(size=(4, 256, 256)).astype(np.float32)
    params = {"classifier": {f"conv{i}": jnp.asarray(rows[i]) for i in range(4)}}
    return TrainState(jnp.int32(step), params, {"classifier": {}}, {"classifier": {}})


def main(workdir):
    checkpoints.remove_unfinished(workdir, print)
    first = (checkpoints.find_newest(workdir)[0] or 0) + 1
    with checkpoints.open_store(workdir, keep=2) as store:
        for step in range(first, first + 10_000):
            checkpoints.save(store, make_state(step))
            checkpoints.settle(store)
            print(step, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
