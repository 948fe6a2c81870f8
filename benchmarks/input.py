"""Compare the images a second that the loader gives with those that a step takes.

    python benchmarks/input.py [--size cpu]

Sources: ``fashion_on_photos`` in memory, an .npz, and a folder of JPEG files of 96
pixels. The loader runs alone, in this process; the step is the demo's (rotations and
warps) and the joint one with LCI, at the demo's sizes, on the same processors.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import chapter4
import jax
import numpy as np
import rounds
from PIL import Image

from jaxssl.data import pipeline, registry
from jaxssl.data import source as source_lib

NUM_FILES = 512
FILE_SIDE = 96
BATCHES = 20


def write_npz(folder: Path, source: source_lib.Source) -> None:
    """Store the images of a source in memory as ``train.npz``."""
    np.savez(
        folder / "train.npz", image=source.arrays["image"], label=source.arrays["label"]
    )


def write_jpeg(folder: Path) -> None:
    """Write smooth random images, half a class each."""
    random = np.random.default_rng(0)
    for i in range(NUM_FILES):
        name = folder / "train" / f"class{i % 2}" / f"{i:04}.jpg"
        name.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 256, (12, 12, 3), np.uint8)
        large = Image.fromarray(small).resize((FILE_SIDE, FILE_SIDE))
        large.save(name, quality=90)


def load_all(folder: Path, preset: str) -> dict[str, source_lib.Source]:
    """Return the sources by name."""
    memory = registry.load("fashion_on_photos", split="train", preset=preset)
    write_npz(folder, memory)
    write_jpeg(folder)
    stored = {"split": "train", "data_dir": str(folder)}
    return {
        "fashion_on_photos, in memory": memory,
        "npz": registry.load("npz", **stored),
        f"folder of JPEG, {FILE_SIDE} px": registry.load("folder", **stored),
    }


def measure_loader(
    source: source_lib.Source, batch_size: int, num_rounds: int
) -> float:
    """Return the images a second that the pipeline gives, alone."""
    with pipeline.batches(source, batch_size=batch_size, seed=0) as rows:
        cost = rounds.measure(
            {"loader": lambda: _take(rows)}, rounds=num_rounds, seconds=0.2
        )["loader"]
    return 1e3 * BATCHES * batch_size / cost.wall


def _take(rows: Iterator[dict]) -> None:
    for _ in range(BATCHES):
        next(rows)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("cpu", "tiny"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    chosen = {
        "cpu": {"demo step": "demo", "LCI step": "cpu"},
        "tiny": {"tiny step": "tiny demo"},
    }[args.size]
    cases = {name: chapter4.make_case(chapter4.SIZES[s]) for name, s in chosen.items()}
    batch_size = chapter4.SIZES[args.size].batch_size
    steps = rounds.measure(
        {name: chapter4.Ours(case).step for name, case in cases.items()},
        rounds=args.rounds,
    )
    wanted = {name: 1e3 * batch_size / cost.wall for name, cost in steps.items()}
    print(f"{jax.devices()[0]}, batch {batch_size}, {args.rounds} rounds\n")
    for name, speed in wanted.items():
        print(f"The {name} takes {speed:,.0f} images/s.")
    ratios = "".join(f" ratio to the {name} |" for name in wanted)
    print(f"\n| source | images/s |{ratios}\n|---|---|{'---|' * len(wanted)}")
    with tempfile.TemporaryDirectory() as folder:
        preset = "demo" if args.size == "cpu" else "tiny"
        for name, source in load_all(Path(folder), preset).items():
            speed = measure_loader(source, batch_size, args.rounds)
            found = "".join(f" {speed / other:,.1f} |" for other in wanted.values())
            print(f"| {name} | {speed:,.0f} |{found}")


if __name__ == "__main__":
    main()
