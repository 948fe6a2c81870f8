"""Compare saving and restoring with the manifest to Orbax without it.

    python benchmarks/checkpoint.py [--megabytes 1000] [--rounds 8]

"save" is until all is on the disk, as `checkpoint.settle` waits for it; "restore" is
from the newest checkpoint, which with the manifest has every byte verified first. In a
round each pair runs in the order ours, Orbax, Orbax, ours, or the other way round:
whoever comes first pays for memory that earlier files have freed, which may double a
time, so the least seconds say more than the median. "checksums" are what the manifest
adds to either. The last line is what saves cost a run that makes one every 100 steps:
how long its loop waits for the copy to the host, beside 100 steps of the demo.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import chapter4
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.train import process_settings
from jaxssl.types import TrainState

LEAVES = 16


def make_state(megabytes: float) -> TrainState:
    """Return random floats, which like weights cannot be compressed."""
    count = int(megabytes * 1e6 / 4 / LEAVES)
    rng = np.random.default_rng(0)
    rows = {
        f"layer{i}": jnp.asarray(rng.standard_normal(count, np.float32))
        for i in range(LEAVES)
    }
    return TrainState(
        jnp.int32(1), {"classifier": rows}, {"classifier": {}}, {"classifier": {}}
    )


def save(folder: Path, state: TrainState) -> None:
    """Save with the manifest, to the end."""
    with checkpoints.open_store(folder, keep=2) as store:
        checkpoints.save(store, state)
        checkpoints.settle(store)


def save_plainly(folder: Path, state: TrainState) -> None:
    """Save with Orbax alone, to the end."""
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(int(state.step), args=ocp.args.StandardSave(state))
        manager.wait_until_finished()


def restore(folder: Path, abstract: TrainState) -> TrainState:
    """Verify and restore."""
    state = checkpoints.restore_newest(folder, abstract, print)
    assert state is not None
    return jax.block_until_ready(state)


def restore_plainly(folder: Path, abstract: TrainState) -> TrainState:
    """Restore the same files without a look at the manifest."""
    item = folder / checkpoints.FOLDER / "1" / checkpoints.ITEM
    tree = abstract._asdict()
    del tree["extra"]  # an empty one is not stored
    with ocp.StandardCheckpointer() as checkpointer:
        return jax.block_until_ready(checkpointer.restore(item, tree))


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(place: Path, state: TrainState, num_rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way, two values a round for each of a pair."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), state
    )
    ours, plain = place / "ours", place / "plain"

    def save_to(folder: Path, call: Callable[[Path, TrainState], None]) -> float:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        os.sync()
        return timed(lambda: call(folder, state))

    calls = {
        "save": lambda: save_to(ours, save),
        "save, Orbax alone": lambda: save_to(plain, save_plainly),
        "restore": lambda: timed(lambda: restore(ours, abstract)),
        "restore, Orbax alone": lambda: timed(lambda: restore_plainly(ours, abstract)),
        "checksums": lambda: timed(
            lambda: manifest.find_damage(ours / checkpoints.FOLDER / "1")
        ),
    }
    names = list(calls)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(num_rounds + 1):
        for pair in (names[:2], names[2:4], names[4:]):
            there = pair if number % 2 else pair[::-1]
            for name in (*there, *there[::-1]):
                seconds = calls[name]()
                if number:  # The first round warms up.
                    found[name].append(seconds)
    return found


def wait_of_a_save(place: Path, state: TrainState, num_rounds: int) -> float:
    """Return the median seconds that ``save`` holds a loop up."""
    waits = []
    with checkpoints.open_store(place, keep=2) as store:
        for number in range(num_rounds + 1):
            now = state._replace(step=jnp.int32(number + 1))
            waits.append(timed(lambda now=now: checkpoints.save(store, now)))
            checkpoints.settle(store)
    return statistics.median(waits[1:])


def print_table(found: dict[str, list[float]]) -> None:
    """Print least and median seconds, and ratios to Orbax alone of both."""
    print("| | least s | median s | to Orbax alone: least | median |")
    print("|---|---|---|---|---|")
    for name, values in found.items():
        cells = [min(values), statistics.median(values)]
        alone = found.get(f"{name}, Orbax alone")
        ratios = (
            [
                f"{cells[0] / min(alone):.2f}",
                f"{cells[1] / statistics.median(alone):.2f}",
            ]
            if alone
            else ["", ""]
        )
        print(f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} | {' | '.join(ratios)} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1000.0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--size", choices=("demo", "tiny"), default="demo")
    args = parser.parse_args()
    process_settings.keep_freed_memory()  # As `jaxssl train` does.
    print(f"{args.megabytes:,.0f} MB in {LEAVES} arrays, {args.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print_table(compare(place, make_state(args.megabytes), args.rounds))
        name = "demo" if args.size == "demo" else "tiny demo"
        case = chapter4.make_case(chapter4.SIZES[name])
        ours = chapter4.Ours(case)
        ours.step()
        step = statistics.median(timed(ours.step) for _ in range(10 * args.rounds))
        (place / "run").mkdir()
        wait = wait_of_a_save(place / "run", ours.state, 3 * args.rounds)
    print(
        f"\nThe {name}'s step takes {1e3 * step:.0f} ms; a save holds its loop up for "
        f"{1e3 * wait:.0f} ms: {100 * wait / (100 * step):.2f} % of 100 steps."
    )


if __name__ == "__main__":
    main()
