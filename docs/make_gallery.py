"""Draw docs/images/transforms/*.png from embedded photos and jaxssl.transforms.

python docs/make_gallery.py [NAME ...]
"""

import argparse
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from PIL import Image

from jaxssl import transforms as T  # noqa: N812
from jaxssl.data import fashion_on_photos

IMAGES = Path(__file__).parent / "images" / "transforms"
SIDE = 120
GAP, CAPTION, MARGIN = 6, 17, 96
"""Pixels between panels, above each and left of labelled rows."""

DOGS = ("friends_by_Aitzol_Berasategi", (110, 110, 290, 290))
BRUSHES = ("Picture_1A_by_freespace", (60, 40, 480, 460))
FIELD = ("aitzgorri_by_Aitzol_Berasategi", (120, 30, 420, 330))
ROOM = ("Wine_by_Jakkub_Mede", (60, 60, 380, 380))
FLOWER = ("seeding_by_Clements_Engelhardt", (60, 0, 380, 320))

Content = np.ndarray | jax.Array | Callable[[Any], None]
Panels = Sequence[tuple[str, Content]]


def photo(which: tuple[str, tuple[int, ...]], side: int = SIDE) -> jax.Array:
    """Return a square of an embedded photo, uint8 (side, side, 3)."""
    name, box = which
    with Image.open(io.BytesIO(fashion_on_photos.asset(f"{name}.jpg"))) as whole:
        return jnp.array(whole.convert("RGB").resize((side, side), box=box))


def real(image) -> jax.Array:
    """Return uint8 pixels as float32 in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255


def byte(image) -> jax.Array:
    """Return pixels of [0, 1] as uint8."""
    return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)


# --- Sheets


def sheet(
    rows: Sequence[Panels], *, labels: Sequence[str] = (), side: int = SIDE
) -> bytes:
    """Return a contact sheet as PNG of 256 colours.

    Args:
      rows: panels with their captions; images are shown pixel by pixel if they are of
        ``side`` pixels, functions draw on a matplotlib axis.
      labels: of the rows, on the left.
      side: of a panel, in pixels.
    """
    left = MARGIN if labels else 0
    width = left + max(map(len, rows)) * (side + GAP) - GAP
    height = len(rows) * (side + GAP + CAPTION) - GAP
    figure = matplotlib.figure.Figure(figsize=(width / 100, height / 100), dpi=100)
    for i, row in enumerate(rows):
        bottom = height - (i + 1) * (side + CAPTION) - i * GAP
        if labels:
            at = (0.0, (bottom + side / 2) / height)
            figure.text(*at, labels[i], fontsize=8, family="monospace", va="center")
        for j, (caption, content) in enumerate(row):
            x = left + j * (side + GAP)
            box = (x / width, bottom / height, side / width, side / height)
            panel(figure.add_axes(box), caption, content)
    return packed(figure)


def panel(axis, caption: str, content: Content) -> None:
    """Draw one panel."""
    axis.set_title(caption, fontsize=6.8, family="monospace", pad=3)
    axis.set_axis_off()
    if callable(content):
        content(axis)
    else:
        show(axis, content)


def show(axis, image) -> None:
    """Show an image or a mask without interpolation."""
    pixels = np.asarray(image)
    axis.imshow(pixels, interpolation="nearest", cmap="gray", vmin=0, vmax=1)


def packed(figure) -> bytes:
    """Return a figure as PNG of 256 colours."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    image = Image.open(drawn).convert("RGB")
    # Given a palette Pillow dithers, which smooth areas need.
    indexed = image.quantize(palette=image.quantize(256, kmeans=1))
    colours = np.array(indexed.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) >= 248] = 255  # Paper stays white.
    indexed.putpalette(colours.reshape(-1).tolist())
    indexed.save(small, format="png", optimize=True)
    return small.getvalue()


# --- Images


def geometric() -> bytes:
    """Flips, turns, crops, and what composes them."""
    image, key = photo(DOGS), jax.random.key(1)
    turns = np.asarray(T.all_rotations(image)[:, ::2, ::2])
    four = np.vstack([np.hstack(turns[:2]), np.hstack(turns[2:])])
    crops = [
        T.random_resized_crop(jax.random.key(seed), image, size=SIDE)[0]
        for seed in (3, 8)
    ]
    spin = T.rotate_coords(0.3)
    slant = T.AffineParams(0.0, (0.0, 0.0), 0.7, (0.0, 0.5))
    orange = {"border": "constant", "fill": (230, 150, 60)}
    box = T.resized_crop_params(key, image_size=SIDE, scale=(0.4, 0.5))
    maps = [
        T.warp_coords(T.warp_params(key)),
        spin,
        T.resized_crop_coords(box, SIDE),
        T.hflip_coords(),
    ]
    return sheet(
        [
            [
                ("image", image),
                ("hflip", T.hflip(image)),
                ("vflip", T.vflip(image)),
                ("rot90(k=1)", T.rot90(image, 1)),
                ("rot90(k=3)", T.rot90(image, 3)),
                ("all_rotations", four),
            ],
            [
                ("rotate(0.3)", T.rotate(image, 0.3)),
                ("border='reflect'", T.rotate(image, 0.3, border="reflect")),
                ("border='constant'", T.rotate(image, 0.3, border="constant")),
                ("crop", framed(T.crop(image, (20, 30), 64))),
                ("resized_crop", crops[0]),
                ("resized_crop", crops[1]),
            ],
            [
                ("affine", T.random_affine(key, image)[0]),
                ("scale, shear; fill", T.affine(image, slant, **orange)),
                ("perspective", T.random_perspective(key, image, **orange)[0]),
                ("pad_and_crop", T.pad_and_crop(image, (0, 30), padding=20, **orange)),
                ("center_crop", framed(T.center_crop(image, 84))),
                ("resize", framed(T.resize(image, (50, 100)))),
            ],
            [
                ("bilinear_sample", T.bilinear_sample(image, swirl())),
                ("warp in a chain", T.geometric_chain(image, maps[:1])),
                ("+ rotate", T.geometric_chain(image, maps[:2])),
                ("+ resized_crop", T.geometric_chain(image, maps[:3])),
                ("+ hflip", T.geometric_chain(image, maps)),
                ("own CoordMap", T.geometric_chain(image, [ripple(), *maps[3:]])),
            ],
        ]
    )


def framed(image) -> np.ndarray:
    """Return a smaller image on grey."""
    canvas = np.full((SIDE, SIDE, 3), 170, np.uint8)
    top, left = ((SIDE - n) // 2 for n in image.shape[:2])
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def swirl() -> jax.Array:
    """Return coordinates that turn more the nearer they are to the centre."""
    centre = (SIDE - 1) / 2
    y, x = jnp.meshgrid(*(jnp.arange(SIDE) - centre,) * 2, indexing="ij")
    angle = 2.5 * jnp.exp(-(y**2 + x**2) / (2 * 28**2))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([cos * y + sin * x, cos * x - sin * y], axis=-1) + centre


def ripple() -> T.CoordMap:
    """Return a map that moves columns up and down."""

    def pull(coords, size):
        wave = 5 * jnp.sin(coords[..., 1] * (6 * jnp.pi / size[1]))
        return coords.at[..., 0].add(wave)

    return T.CoordMap(pull)


# --- Warps


def warps() -> bytes:
    """Warps by a grid and by free points, with their flow."""
    image, key = photo(DOGS), jax.random.key(4)
    params = T.warp_params(key)
    free = [T.free_warp_params(jax.random.key(seed)) for seed in (0, 5)]
    marks = jnp.array([[43.0, 33.0], [43.0, 50.0], [61.0, 42.0], [86.0, 65.0]])
    warped = T.warp(image, params)
    moved = T.warp_points(marks, params, size=SIDE)
    return sheet(
        [
            [
                ("control grid", functools.partial(dotted, image, grid(params))),
                ("warp_flow", functools.partial(arrows, T.warp_flow(params, SIDE))),
                ("warp(order=1)", T.warp(image, params, order=1)),
                ("warp(order=2)", warped),
                ("warp(order=3)", T.warp(image, params, order=3)),
                ("border='constant'", T.warp(image, params, border="constant")),
            ],
            [
                ("magnitude=0.05", T.random_warp(key, image, magnitude=0.05)[0]),
                ("magnitude=0.2, folds", T.random_warp(key, image, magnitude=0.2)[0]),
                ("grid=(8, 8), folds", T.random_warp(key, image, grid=(8, 8))[0]),
                ("points", functools.partial(dotted, image, marks)),
                ("warp_points", functools.partial(dotted, warped, moved)),
                ("warp of a clip", clip_strip(image, params)),
            ],
            [
                ("free_warp", T.free_warp(image, free[0])),
                ("free_warp", T.free_warp(image, free[1])),
                (
                    "regularization=0.01",
                    T.free_warp(image, free[1], regularization=0.01),
                ),
                ("stride=4", T.free_warp(image, free[0], stride=4)),
                (
                    "free_warp_flow",
                    functools.partial(arrows, T.free_warp_flow(free[0], SIDE)),
                ),
                (
                    "its points",
                    functools.partial(dotted, image, free[0].points * (SIDE - 1)),
                ),
            ],
        ]
    )


def grid(params: T.WarpParams) -> np.ndarray:
    """Return the control points of a grid warp in pixels."""
    axes = [np.linspace(0, SIDE - 1, n) for n in params.offsets.shape[:2]]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def dotted(image, points, axis) -> None:
    """Show an image with points on it."""
    show(axis, image)
    points = np.asarray(points)
    axis.scatter(points[:, 1], points[:, 0], s=14, c="yellow", edgecolors="black")
    axis.set(xlim=(-4, SIDE + 3), ylim=(SIDE + 3, -4))


def arrows(flow, axis) -> None:
    """Show a flow as arrows from output pixels to where they look."""
    step = SIDE // 12
    y, x = np.mgrid[step // 2 : SIDE : step, step // 2 : SIDE : step]
    dy, dx = np.moveaxis(np.asarray(flow)[y, x], -1, 0)
    options = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.008}
    axis.quiver(x, y, dx, dy, **options)
    axis.set(xlim=(-8, SIDE + 8), ylim=(SIDE + 8, -8))


def clip_strip(image, params) -> np.ndarray:
    """Return two frames that share a warp, cut in halves to stand side by side."""
    clip = jnp.stack([image, 255 - image])
    first, second = np.asarray(T.warp(clip, params))
    return np.hstack([first[:, : SIDE // 2], second[:, SIDE // 2 :]])


# --- Patches and tiles


def patches() -> bytes:
    """Limited context inpainting by hand, and tiles."""
    image, key = photo(FIELD), jax.random.key(0)
    place, side, border = jnp.array([30, 34]), 54, 5
    hole = side - 2 * border
    patch = T.extract_patch(image, place, side)
    noise = byte(0.5 + 0.25 * jax.random.normal(key, (hole, hole, 3)))
    erased = T.erase_center(patch, noise, border)
    parts = T.tile(image, grid=4)
    shuffled, params = T.random_jigsaw(key, image, grid=4)
    box = T.erase_params(jax.random.key(3), image_size=SIDE)
    grain = byte(jax.random.uniform(key, image.shape))
    back = T.jigsaw(shuffled, jnp.argsort(params.permutation), grid=4)
    return sheet(
        [
            [
                ("image", image),
                ("extract_patch", framed(patch)),
                ("border_mask", framed(byte(np.dstack([T.border_mask(side, 5)] * 3)))),
                ("erase_center", framed(erased)),
                ("paste_patch", T.paste_patch(image, erased, place)),
                ("pixel_permutation", T.random_pixel_permutation(key, image)[0]),
            ],
            [
                ("tile(grid=4)", apart(parts)),
                ("untile", T.untile(parts, grid=4)),
                ("jigsaw(grid=4)", shuffled),
                ("its inverse", back),
                ("jigsaw(grid=2)", T.random_jigsaw(key, image, grid=2)[0]),
                ("jigsaw(grid=(1, 5))", T.random_jigsaw(key, image, grid=(1, 5))[0]),
            ],
            [
                ("erase", T.erase(image, box)),
                ("fill=(230, 150, 60)", T.erase(image, box, fill=(230, 150, 60))),
                ("fill=noise", T.erase(image, box, fill=grain)),
                *[
                    ("random_cutout(size=60)", T.random_cutout(k, image, size=60)[0])
                    for k in jax.random.split(key, 3)
                ],
            ],
        ]
    )


def apart(tiles) -> np.ndarray:
    """Return the 16 tiles of a 4x4 grid with white lines in between."""
    rows = np.asarray(tiles).reshape(4, 4, *tiles.shape[1:])
    rows = np.pad(rows, [(0, 0)] * 2 + [(2, 2)] * 2 + [(0, 0)], constant_values=255)
    return np.vstack([np.hstack(row) for row in rows])


# --- Colours


def color() -> bytes:
    """Each change at several strengths, and draws of the jitter."""
    image, side = real(photo(BRUSHES, 84)), 84
    mean, std = image.mean((0, 1)), image.std((0, 1))

    def row(apply, values, form="{}"):
        return [(form.format(v), byte(apply(image, v))) for v in values]

    def jitter(image, seed, *, exact=False):
        params = T.color_jitter_params(jax.random.key(seed), hue=0.2)
        return T.color_jitter(image, params, exact=exact)

    exact = functools.partial(T.hue, exact=True)
    return sheet(
        [
            row(T.brightness, (0.4, 0.7, 1.0, 1.3, 1.6)),
            row(T.contrast, (0.0, 0.5, 1.0, 1.5, 2.0)),
            row(T.saturation, (0.0, 0.5, 1.0, 1.5, 2.0)),
            row(T.hue, (-0.3, -0.1, 0.0, 0.1, 0.3)),
            row(exact, (-0.3, -0.1, 0.0, 0.1, 0.3)),
            row(jitter, (0, 1, 2, 3, 4), "draw {}"),
            row(functools.partial(jitter, exact=True), (0, 1, 2, 3, 4), "draw {}"),
            row(T.gaussian_blur, (0.0, 0.5, 1.0, 2.0, 3.0), "sigma={}"),
            [
                ("image", byte(image)),
                ("grayscale", byte(T.grayscale(image))),
                ("normalize", byte(T.normalize(image, mean, std) / 4 + 0.5)),
            ],
        ],
        labels=(
            "brightness",
            "contrast",
            "saturation",
            "hue",
            "hue\n(exact=True)",
            "color_jitter",
            "color_jitter\n(exact=True)",
            "gaussian_blur",
            "",
        ),
        side=side,
    )


# --- Tones and policies


def tone() -> bytes:
    """Each change at several strengths."""
    image, side = real(photo(FLOWER, 64)), 64
    flat = 0.35 + 0.3 * image

    def row(name, apply, values):
        return [(f"{name}={v}", byte(apply(image, v))) for v in values]

    return sheet(
        [
            row("factor", T.sharpness, (0.0, 1.0, 2.0, 5.0, 9.0)),
            row("exponent", T.gamma, (0.4, 0.7, 1.0, 1.5, 2.5)),
            row("threshold", T.solarize, (0.0, 0.3, 0.5, 0.8, 2.0)),
            row("bits", T.posterize, (1, 2, 3, 4, 8)),
            [
                ("image", byte(image)),
                ("less contrast", byte(flat)),
                ("autocontrast", byte(T.autocontrast(flat))),
                ("equalize", byte(T.equalize(flat))),
                ("of the image", byte(T.equalize(image))),
            ],
        ],
        labels=("sharpness", "gamma", "solarize", "posterize", ""),
        side=side,
    )


def policies() -> bytes:
    """Draws of the three policies, and each operation alone."""
    image, side = real(photo(DOGS, 64)), 64
    gray = {"border": "constant", "fill": 0.5}

    def draws(random, **options):
        keys = [jax.random.key(seed) for seed in range(7)]
        made = [random(key, image, **options) for key in keys]
        return [(f"draw {i}", byte(one)) for i, (one, _) in enumerate(made)]

    def alone(place):
        params = T.RandAugmentParams(jnp.array([place]), jnp.array([0.6]))
        return T.OPERATIONS[place], byte(T.rand_augment(image, params, **gray))

    return sheet(
        [
            [alone(place) for place in range(7)],
            [alone(place) for place in range(7, 14)],
            draws(T.random_rand_augment, magnitude=0.5),
            draws(T.random_trivial_augment, **gray),
            draws(T.random_augmix),
        ],
        labels=(
            "magnitude 0.6\nfill=0.5",
            "",
            "rand_augment\nmagnitude=0.5",
            "trivial_\naugment\nfill=0.5",
            "augmix",
        ),
        side=side,
    )


# --- Time

FRAMES, FRAME = 64, 64
KAPPA = (2, 0, 2, 0)


def walk() -> jax.Array:
    """Return frames of a camera that moves over a photo, uint8."""
    name = "picosdeeuropa_by_Aitzol_Berasategi"
    with Image.open(io.BytesIO(fashion_on_photos.asset(f"{name}.jpg"))) as whole:
        wide = np.array(whole.convert("RGB").resize((320, 240)))
    frames = []
    for t in range(FRAMES):
        top, left = 90 + round(20 * np.sin(t / 6)), round(t * (320 - FRAME) / FRAMES)
        frames.append(wide[top : top + FRAME, left : left + FRAME])
    return jnp.array(np.stack(frames))


def time() -> bytes:
    """Frame numbers over the position in the clip, and what is then seen."""
    figure = matplotlib.figure.Figure(figsize=(7.5, 4.1), dpi=100)
    clip, width = walk(), 1 / len(T.KINDS)
    for kind, (name, kappa) in enumerate(zip(T.KINDS, KAPPA, strict=True)):
        axis = figure.add_axes((kind * width + 0.035, 0.66, width - 0.045, 0.28))
        for seed in range(5):
            speed = seed % 3 if kind == 0 else kappa
            key = jax.random.key(10 * seed + kind)
            indices = T.temporal_indices(key, kind, FRAMES, speed)
            axis.plot(indices, marker=".", markersize=4, linewidth=0.8)
        title = {0: ", kappa=0, 1, 2", 2: ", kappa=2"}.get(kind, "")
        axis.set_title(f"{name}_indices{title}", fontsize=6.8, family="monospace")
        axis.set(ylim=(-2, FRAMES + 1), xticks=(0, 5, 10, 15), yticks=(0, 32, 64))
        axis.tick_params(labelsize=6, pad=1)
        strip = figure.add_axes((0, 0.44 - 0.145 * kind, 1, 0.115))
        chosen = T.temporal_indices(jax.random.key(kind), kind, FRAMES, kappa)
        shown = np.asarray(T.take_frames(clip, chosen))
        shown = np.pad(shown, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=255)
        strip.imshow(np.hstack(shown), aspect="auto")
        panel_title = f"take_frames(clip, {name}_indices(...))"
        strip.set_title(panel_title, fontsize=6.8, family="monospace", pad=2)
        strip.set_axis_off()
    return packed(figure)


# --- Views


def views() -> bytes:
    """A fixed camera: its background, and the subject without it; a pose."""
    frames, wall = camera(ROOM)
    background = T.median_background(frames)
    other = photo(FLOWER)
    image, threshold = frames[2], 25
    mask = T.foreground_mask(image, background, threshold=threshold)
    removed = T.remove_background(image, background, threshold=threshold)
    filled = T.remove_background(image, background, threshold=threshold, fill=128)
    other_wall = T.substitute_background(image, background, other, threshold=threshold)
    pose, pairs = figure_of_a_walker()
    mirrored = T.flip_pose(pose, pairs=pairs)
    return sheet(
        [
            [
                ("frame 0 of 15", frames[0]),
                ("frame 2", image),
                ("frame 9", frames[9]),
                ("median_background", background),
                ("without a subject", wall),
                ("foreground_mask", np.asarray(mask)),
            ],
            [
                ("remove_background", removed),
                ("fill=128", filled),
                ("substitute", other),
                ("substitute_background", other_wall),
                ("pose", functools.partial(stick, pose)),
                ("flip_pose", functools.partial(stick, mirrored)),
            ],
        ]
    )


def camera(which: tuple[str, tuple[int, ...]]) -> tuple[jax.Array, jax.Array]:
    """Return 15 noisy frames of a garment before a photo, and the photo."""
    wall = np.asarray(photo(which))
    sprite = fashion_on_photos.garments("train")[0][16]
    rng = np.random.default_rng(0)
    frames = []
    for shift in rng.uniform(-2.5, 3.5, (15, 2)):
        layout = fashion_on_photos.Layout(
            crops=np.zeros((1, 4)), flip=1.0, side=-0.6, shift=shift, tint=np.ones(3)
        )
        frame = fashion_on_photos.paste_garment(wall, sprite, layout)
        noisy = frame + rng.normal(0, 3, frame.shape)
        frames.append(np.clip(np.round(noisy), 0, 255).astype(np.uint8))
    return jnp.array(np.stack(frames)), jnp.array(wall)


BONES = (
    (0, 1),
    (1, 2),
    (1, 3),
    (3, 5),
    (1, 4),
    (4, 6),
    (0, 7),
    (7, 9),
    (0, 8),
    (8, 10),
)


def figure_of_a_walker() -> tuple[jax.Array, list[tuple[int, int]]]:
    """Return the joints (x, y) of a figure about its root, and its sides."""
    joints = [(0, 0), (0, -4), (0.3, -6)]
    joints += [(1.2, -3.8), (-1.2, -3.8), (3.0, -2.5), (-1.8, -1.2)]
    joints += [(0.7, 0.2), (-0.7, 0.2), (2.4, 4.5), (-1.0, 4.8)]
    return jnp.array(joints, jnp.float32), [(3, 4), (5, 6), (7, 8), (9, 10)]


def stick(pose, axis) -> None:
    """Draw a pose; odd joints, those of the left side, in red."""
    pose = np.asarray(pose)
    for a, b in BONES:
        colour = "black" if b < 3 else ("tab:red" if b % 2 else "tab:blue")
        axis.plot(*pose[[a, b]].T, color=colour, linewidth=2, marker="o", markersize=3)
    axis.set(xlim=(-7, 7), ylim=(6.5, -7.5))


# --- Features


def features() -> bytes:
    """Damage to a feature map; a small photo stands for three channels of it."""
    maps = real(photo(FIELD, 28))
    mask = T.drop_mask(jax.random.key(2), 7, 0.6)
    large = T.upsample_mask(mask, 4)
    return sheet(
        [
            [
                ("features", maps),
                ("drop_mask", np.asarray(mask)),
                ("upsample_mask", np.asarray(large)),
                ("local_average, 9x9", T.local_average(maps, size=9)),
                ("damage, 9x9", T.damage(maps, large, size=9)),
                ("local_average, 55x55", T.local_average(maps, size=55)),
            ]
        ]
    )


# --- Labels


def labels() -> bytes:
    """Mixtures of two images, their weights, and noisy and smooth labels."""
    first, second = real(photo(BRUSHES)), real(photo(FLOWER))
    key = jax.random.key(0)
    truth = jnp.repeat(jnp.arange(10), 1000)
    noisy, _ = T.random_label_noise(key, truth, num_classes=10, rate=0.4)
    counts = np.zeros((10, 10))
    np.add.at(counts, (np.asarray(truth), np.asarray(noisy)), 1)
    soft = T.smooth_labels(jax.nn.one_hot(jnp.array(2), 5), smoothing=0.1)
    mixed = [(f"mixup({w})", byte(T.mixup(first, second, w))) for w in (0.7, 0.3)]
    boxed, box = T.random_cutmix(key, first, second)
    return sheet(
        [
            [
                *mixed,
                (f"cutmix, weight {box.weight:.2f}", byte(boxed)),
                ("mixup_params(alpha)", weights),
                ("label_noise(rate=0.4)", counts / 1000),
                ("smooth_labels(0.1)", functools.partial(bars, soft)),
            ]
        ]
    )


def weights(axis) -> None:
    """Draw histograms of mixup's weight for three values of alpha."""
    keys = jax.random.split(jax.random.key(0), 4000)
    for alpha in (0.2, 1.0, 8.0):
        draws = jax.vmap(functools.partial(T.mixup_params, alpha=alpha))(keys).weight
        axis.hist(
            np.asarray(draws),
            24,
            range=(0, 1),
            histtype="step",
            density=True,
            label=alpha,
        )
    axis.set_axis_on()
    axis.set(yticks=(), xticks=(), ylim=(0, 7))
    axis.legend(fontsize=6, loc="upper center", frameon=False)


def bars(probabilities, axis) -> None:
    """Draw the probabilities of classes."""
    axis.set_axis_on()
    axis.bar(np.arange(len(probabilities)), np.asarray(probabilities))
    axis.set(yticks=(), xticks=(), ylim=(0, 1))


# --- Pretext batches


def pretext() -> bytes:
    """One image in the classes of chapter 4, one scene in those of chapter 6."""
    key, canvas = jax.random.key(2), SIDE + 20
    image = photo(DOGS, canvas)
    noise = byte(0.5 + 0.25 * jax.random.normal(key, (48, 48, 3)))
    place = jnp.array([46, 44])
    patch = T.erase_center(T.extract_patch(image, place, 56), noise, 4)
    painted = T.paste_patch(image, patch, place)
    batch, _, _ = T.transformation_batch(key, image[None], painted[None], size=SIDE)
    scene = jnp.stack([camera(ROOM)[0], camera(FIELD)[0]])
    pairs, _, _ = T.view_pair_batch(jax.random.key(5), scene[None])
    kinds = [f"{kind}, {i}" for kind in T.PAIRS for i in (1, 2)]
    return sheet(
        [
            list(zip(T.TRANSFORMATIONS, batch[0], strict=True)),
            list(zip(kinds, pairs[0].reshape(6, SIDE, SIDE, 3), strict=True)),
        ]
    )


# --- A view


def view(key, image, *, size: int):
    """Draw a view as in `jaxssl.transforms.compose`: one sampling, one colour map."""
    crop, flip, color, use_color, blur, use_blur = jax.random.split(key, 6)
    box = T.resized_crop_params(crop, image_size=image.shape[:2])
    maps = [
        T.resized_crop_coords(box, size),
        T.hflip_coords(*T.hflip_params(flip)),
    ]
    image = T.geometric_chain(image, maps)
    jitter = T.color_jitter_params(color)
    off = T.ColorJitterParams(1, 1, 1, 0, jitter.order)
    image = T.color_jitter(image, T.maybe(use_color, jitter, off, prob=0.8))
    sigma = T.gaussian_blur_params(blur)
    sigma = T.maybe(use_blur, sigma, T.BlurParams(0), prob=0.5)
    return T.gaussian_blur(image, *sigma, radius=4)


def contrastive() -> bytes:
    """Views of two photos; a column shares its id and so its draws."""
    apply = jax.jit(T.batched(functools.partial(view, size=SIDE)))
    rows = []
    for which in (DOGS, BRUSHES):
        image = real(photo(which))
        drawn = apply(jax.random.key(3), jnp.stack([image] * 5), jnp.arange(5))
        views = [(f"id {i}", byte(one)) for i, one in enumerate(drawn)]
        rows.append([("image", byte(image)), *views])
    return sheet(rows)


SHEETS = {
    "geometric": geometric,
    "warps": warps,
    "patches": patches,
    "color": color,
    "tone": tone,
    "policies": policies,
    "time": time,
    "views": views,
    "features": features,
    "labels": labels,
    "pretext": pretext,
    "view": contrastive,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Draw all sheets, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {list(SHEETS)}")
    names = parser.parse_args(argv).names or list(SHEETS)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in names:
        (IMAGES / f"{name}.png").write_bytes(SHEETS[name]())


if __name__ == "__main__":
    main()
