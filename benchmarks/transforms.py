"""Time jaxssl.transforms against other libraries' transforms, in one run.

    python benchmarks/transforms.py [--sides 64,128] [--rounds 5] [--cases "warp;view"]

Each call makes 64 random float32 RGB images out of 64, its random numbers included,
each image with its own draw. Images lie where the library wants them before the clock
starts. Libraries that are not installed are left out. Turns alternate; the table holds
medians.
"""

import argparse
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import rounds
import transform_peers

from jaxssl import transforms as T  # noqa: N812

BATCH = 64
Call = Callable[[], object]


def repeated(fn, images) -> Call:
    """Compile ``fn(key, image)`` for a batch; each call draws from a new key."""
    batch = jnp.asarray(images)
    step = iter(range(1 << 30))
    root = jax.random.key(0)
    run = jax.jit(lambda root, i, x: T.batched(fn)(jax.random.fold_in(root, i), x))
    return lambda: jax.block_until_ready(run(root, next(step), batch))


def view(key, image, *, fast: bool = True):
    """Make the view of a contrastive method: crop, flip, colour, blur."""
    crop, flip, color, use_color, blur, use_blur = jax.random.split(key, 6)
    side = image.shape[0]
    if fast:
        box = T.resized_crop_params(crop, image_size=side)
        flipped = T.hflip_coords(*T.hflip_params(flip))
        image = T.geometric_chain(image, [T.resized_crop_coords(box, side), flipped])
    else:
        image, _ = T.random_resized_crop(crop, image, size=side)
        image, _ = T.random_hflip(flip, image)
    jitter = T.color_jitter_params(color)
    off = T.ColorJitterParams(1, 1, 1, 0, jitter.order)
    image = T.color_jitter(image, T.maybe(use_color, jitter, off, prob=0.8))
    sigma = T.maybe(use_blur, T.gaussian_blur_params(blur), T.BlurParams(0), prob=0.5)
    return T.gaussian_blur(image, *sigma, radius=4)


CLASSES = ("none", "rot90", "rot180", "rot270", "warp", "erase")


def as_class(name: str, key, image):
    """Apply one of six transformations."""
    if name == "warp":
        return T.random_warp(key, image)[0]
    if name == "erase":
        side = image.shape[0] // 2
        return T.paste_patch(image, jnp.zeros((side, side, 3)), (side // 2, side // 2))
    return T.rot90(image, ("none", "rot90", "rot180", "rot270").index(name))


def in_groups(images) -> Call:
    """Apply the six transformations to a sixth of the batch each."""
    groups = np.array_split(images[: len(images) // 6 * 6], 6)

    @jax.jit
    def run(key, *groups):
        made = [
            T.batched(functools.partial(as_class, name))(jax.random.fold_in(key, i), x)
            for i, (name, x) in enumerate(zip(CLASSES, groups, strict=True))
        ]
        return jnp.concatenate(made)

    arrays = [jnp.asarray(group) for group in groups]
    return lambda: jax.block_until_ready(run(jax.random.key(0), *arrays))


def by_switch(images) -> Call:
    """Apply one of the six to each image, by a traced class."""
    branches = [functools.partial(as_class, name) for name in CLASSES]
    kept = jnp.asarray(images[: len(images) // 6 * 6])
    kinds = jnp.arange(len(kept)) % 6

    @jax.jit
    def run(key, kinds, images):
        keys = jax.random.split(key, len(images))
        return jax.vmap(lambda i, k, x: jax.lax.switch(i, branches, k, x))(
            kinds, keys, images
        )

    return lambda: jax.block_until_ready(run(jax.random.key(0), kinds, kept))


def plain_free_warp(key, image):
    """Warp by a thin-plate spline through free points as one would write it down."""
    params, side = T.free_warp_params(key), image.shape[0]
    centres = side * (params.points + params.offsets)
    n = len(centres)

    def phi(a, b):
        squared = ((a[:, None] - b[None]) ** 2).sum(-1)
        return 0.5 * squared * jnp.log(jnp.maximum(squared, 1e-10))

    def affine(points):
        return jnp.concatenate([points, jnp.ones((len(points), 1))], axis=1)

    system = jnp.zeros((n + 3, n + 3)).at[:n, :n].set(phi(centres, centres))
    system = system.at[:n, n:].set(affine(centres)).at[n:, :n].set(affine(centres).T)
    shifts = jnp.zeros((n + 3, 2)).at[:n].set(-side * params.offsets)
    weights = jnp.linalg.solve(system, shifts)
    line = jnp.arange(side, dtype=jnp.float32)
    pixels = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1)
    flat = pixels.reshape(-1, 2)
    flow = phi(flat, centres) @ weights[:n] + affine(flat) @ weights[n:]
    return T.bilinear_sample(image, pixels + flow.reshape(side, side, 2))


def only_image(random):
    """Drop the parameters that a random transform returns."""
    return lambda key, image: random(key, image)[0]


CASES = {
    "warp": only_image(T.random_warp),
    "free_warp, stride 4": only_image(functools.partial(T.random_free_warp, stride=4)),
    "rot90": only_image(T.random_rot90),
    "hflip": only_image(T.random_hflip),
    "resized_crop": lambda key, image: T.random_resized_crop(
        key, image, size=image.shape[0]
    )[0],
    "color_jitter": only_image(T.random_color_jitter),
    "gaussian_blur": only_image(functools.partial(T.random_gaussian_blur, radius=4)),
    "view": view,
    "rand_augment": only_image(T.random_rand_augment),
    "trivial_augment": only_image(T.random_trivial_augment),
    "augmix": only_image(T.random_augmix),
}
PLAIN = {
    "free_warp, stride 4": {
        "jaxssl, stride 1": only_image(T.random_free_warp),
        "plain spline": plain_free_warp,
    },
    "view": {"jaxssl, one after the other": functools.partial(view, fast=False)},
}


def one_by_one(random, images) -> Call:
    """Apply a random transform to one image after the other, inside of one program."""
    batch, step = jnp.asarray(images), iter(range(1 << 30))

    @jax.jit
    def run(i, batch):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), i), len(batch))
        return jax.lax.map(lambda given: random(*given)[0], (keys, batch))

    return lambda: jax.block_until_ready(run(next(step), batch))


MAPPED = {
    "rand_augment": T.random_rand_augment,
    "trivial_augment": T.random_trivial_augment,
    "augmix": T.random_augmix,
}


def make_calls(case: str, images: np.ndarray) -> dict[str, Call]:
    """Return jaxssl's call first, then the plain ones and the other libraries'."""
    if case == "classes":
        return {
            "jaxssl, static groups": in_groups(images),
            "vmapped switch": by_switch(images),
        }
    own = {"jaxssl": CASES[case]} | PLAIN.get(case, {})
    calls = {name: repeated(fn, images) for name, fn in own.items()}
    if case in MAPPED:
        calls["jaxssl, lax.map"] = one_by_one(MAPPED[case], images)
    return calls | transform_peers.make_calls(case, images)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="64,128", help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn")
    parser.add_argument("--cases", default=";".join([*CASES, "classes"]))
    args = parser.parse_args()
    print(f"batch {BATCH}, {jax.devices()[0]}, jax {jax.__version__}, ", end="")
    print(", ".join(transform_peers.versions()), end="\n\n")
    print("| transform | side | library | wall, ms | CPU, ms | ratio of CPU |")
    print("|---|---|---|---|---|---|")
    for case in args.cases.split(";"):
        for side in map(int, args.sides.split(",")):
            rng = np.random.default_rng(0)
            images = rng.uniform(size=(BATCH, side, side, 3)).astype(np.float32)
            calls = make_calls(case, images)
            found = rounds.measure(calls, rounds=args.rounds, seconds=args.seconds)
            own = next(iter(found.values()))
            for name, cost in found.items():
                print(
                    f"| {case} | {side} | {name} | {cost.wall:.2f} | {cost.cpu:.2f} | "
                    f"{cost.cpu / own.cpu:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
