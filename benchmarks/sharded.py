"""Time the step that is placed on a mesh of one device against a plain ``jax.jit``.

    python benchmarks/sharded.py [--size demo] [--rounds 9]

Both are the loop's guarded step of chapter 4 on the same batch. The meshless one knows
nothing of devices; the other has the shardings of ``jaxssl train``. Their ratio is what
the axes ``data`` and ``model`` cost where nothing is split.
"""

import argparse
import functools

import chapter4
import jax
import rounds

from jaxssl.distributed import mesh as meshes
from jaxssl.train import state_init, step


class Trainer:
    """One compiled form of the step, with its state."""

    def __init__(self, run, state, empty, batch, key):
        """Keep what a step needs; the state is donated."""
        self._run, self._state, self._empty = run, state, empty
        self._rest = batch, key

    def step(self):
        """Train one step and wait for it."""
        self._state, meter = self._run(self._state, self._empty, *self._rest)
        return jax.block_until_ready(meter)


def make_trainers(case: chapter4.Case) -> dict[str, Trainer]:
    """Return the step on a mesh, and the plain one."""
    mesh = meshes.make_mesh(meshes.MeshConfig(data=1))
    batch = jax.device_get(case.batch)
    spec = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}
    abstract = state_init.make_abstract(case.task, spec, mesh)
    key = state_init.make_keys(0)[1]
    first = functools.partial(state_init.init, case.task, spec, abstract, seed=0)
    program = step.make_program(case.task, abstract, spec, mesh)
    advance, empty = step.make_advance(case.task, abstract, spec)
    device = jax.devices()[0]
    return {
        "on a mesh": Trainer(
            program.compile(),
            first(),
            program.empty,
            meshes.to_devices(batch, mesh),
            jax.device_put(key, meshes.replicated(mesh)),
        ),
        "plain": Trainer(
            jax.jit(advance, donate_argnums=0),
            *jax.device_put((first(), empty, batch, key), device),
        ),
    }


def main():
    """Print both costs and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(chapter4.SIZES), default="demo")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    args = parser.parse_args()
    trainers = make_trainers(chapter4.make_case(chapter4.SIZES[args.size]))
    found = rounds.measure(
        {name: trainer.step for name, trainer in trainers.items()},
        rounds=args.rounds,
        seconds=args.seconds,
    )
    print("| step | wall, ms | CPU, ms |\n|---|---|---|")
    for name, cost in found.items():
        print(f"| {name} | {cost.wall:.2f} | {cost.cpu:.2f} |")
    ours, plain = found["on a mesh"], found["plain"]
    print(f"ratio: wall {ours.wall / plain.wall:.3f}, CPU {ours.cpu / plain.cpu:.3f}")


if __name__ == "__main__":
    main()
