"""Time chapter 4's joint training step against plain PyTorch, in one run.

    python benchmarks/train_step.py --size cpu [--rounds 9]

One step trains C, F and D on none, rot90, rot180, rot270, warp and lci. Sizes: ``cpu``,
the embedded data's (AlexNet/4, 32 px, batch 32); ``stl10``, the paper's networks at 64
px, batch 16; ``tiny``, to see that it runs.

PyTorch trains the same networks from the same weights with the same losses and
optimizers, eager and compiled, in both memory formats. Its random draws and sampling
grids are made before the clock starts, while jaxssl makes its own inside the step.
Before anything is timed, the losses of two steps have to agree.
"""

import argparse
import functools
import importlib.util

import chapter4
import jax
import numpy as np
import rounds

from jaxssl.types import TrainState

TOLERANCE = (1e-3, 2e-2)
"""Largest relative difference of a loss in the first and in the second step.

Adam turns the rounding of a gradient near zero into a whole step of its parameter.
"""


def make_trainers(
    case: chapter4.Case, state: TrainState, names: tuple[str, ...]
) -> tuple[dict, list]:
    """Return a PyTorch trainer for each variant, and the draws of the first steps."""
    import torch
    import torch_networks
    import torch_step

    export = jax.jit(functools.partial(chapter4.make_draw, case))
    trainers, drawn = {}, []
    for step in range(len(TOLERANCE)):
        key = jax.random.fold_in(jax.random.key(1), step)
        arrays = {k: torch.from_numpy(np.array(v)) for k, v in export(key).items()}
        drawn.append(torch_step.make_draw(arrays))
    for name in names:
        players = torch_networks.make_players(
            case.config, case.sections, state.params, state.stats
        )
        last = "channels last" in name
        trainers[name] = torch_step.Trainer(
            case.config,
            players,
            torch_step.make_optimizers(players, case.sections.optim),
            drawn[0],
            layout=torch.channels_last if last else torch.contiguous_format,
            functions=torch_step.compiled() if "compiled" in name else torch_step.EAGER,
        )
    return trainers, drawn


def check(ours: chapter4.Ours, trainers: dict, drawn: list) -> None:
    """Compare the losses of the first steps.

    Raises:
      SystemExit: they differ.
    """
    for i, (draw, tolerance) in enumerate(zip(drawn, TOLERANCE, strict=True)):
        expected = ours.step()
        for name, trainer in trainers.items():
            trainer.draw = draw
            for loss, value in trainer.step().items():
                want, found = float(expected[loss]), float(value)
                if abs(found - want) > tolerance * max(1, abs(want)):
                    raise SystemExit(
                        f"PyTorch ({name}) has {loss} {found} in step {i + 1}, jaxssl "
                        f"{want}: they do not compute the same."
                    )
    print(f"The losses of {len(drawn)} steps agree.\n")


def print_table(found: dict[str, rounds.Cost], ours: str) -> None:
    """Print every cost and its ratio to ours."""
    print("| step | wall, ms | ratio | CPU, ms | ratio |\n|---|---|---|---|---|")
    own = found[ours]
    for name, cost in found.items():
        print(
            f"| {name} | {cost.wall:.1f} | {cost.wall / own.wall:.2f} | "
            f"{cost.cpu:.1f} | {cost.cpu / own.cpu:.2f} |"
        )


def print_parts(ours: dict, theirs: dict) -> None:
    """Print the parts of the step side by side."""
    print("\n| part | jaxssl, ms | CPU, ms | PyTorch, ms | CPU, ms | ratio |")
    print("|---|---|---|---|---|---|")
    for name, cost in ours.items():
        row = f"| {name} | {cost.wall:.1f} | {cost.cpu:.1f} |"
        if not theirs:
            print(row + " not run | not run | |")
            continue
        other = theirs[name]
        print(
            row
            + f" {other.wall:.1f} | {other.cpu:.1f} | {other.wall / cost.wall:.2f} |"
        )


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("cpu", "stl10", "tiny"), default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    return parser.parse_args()


def main():
    """Print the tables."""
    args = parse_args()
    size = chapter4.SIZES[args.size]
    case = chapter4.make_case(size)
    timing = {"rounds": args.rounds, "seconds": args.seconds}
    print(f"{args.size}: batch {size.batch_size}, {jax.devices()[0]}, ", end="")
    print(f"jax {jax.__version__}, {args.rounds} rounds")
    ours = chapter4.Ours(case)
    trainers = {}
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: pip install 'jaxssl[bench]' to compare.\n")
    else:
        trainers, drawn = make_trainers(case, ours.state, size.variants)
        check(ours, trainers, drawn)
    calls = {"jaxssl": ours.step} | {
        f"PyTorch, {name}": t.step for name, t in trainers.items()
    }
    found = rounds.measure(calls, **timing)
    print_table(found, "jaxssl")
    own = chapter4.make_parts(case, ours.state)
    parts = {("jaxssl", name): call for name, call in own.items()}
    if trainers:
        best = min(trainers, key=lambda name: found[f"PyTorch, {name}"].wall)
        fastest = found[f"PyTorch, {best}"].wall / found["jaxssl"].wall
        print(f"\njaxssl is {fastest:.2f} times as fast as PyTorch, {best}.")
        parts |= {("PyTorch", k): call for k, call in trainers[best].parts().items()}
    costs = rounds.measure(parts, **timing)
    print_parts(
        {part: cost for (who, part), cost in costs.items() if who == "jaxssl"},
        {part: cost for (who, part), cost in costs.items() if who != "jaxssl"},
    )


if __name__ == "__main__":
    main()
