"""NumPy arrays, as data sets hand them out, go into every transform without jit."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import warnings
import jax, jax.numpy as jnp, numpy as np
from jaxssl import transforms as T

warnings.simplefilter("error")
key, rng = jax.random.key(0), np.random.default_rng(0)
pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
reals = (pixels / 255).astype(np.float32)
video = rng.integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)
labels = np.arange(6) % 3
place, corner = np.full((2, 3, 2), 1.5, np.float32), np.array([1, 2])


class Given(np.ndarray):
    def __array_ufunc__(self, ufunc, method, *values, **options):
        raise AssertionError(f"NumPy computes {ufunc.__name__}.{method}, not JAX.")


def same(name, apply, *data):
    given = apply(*jax.tree.map(lambda array: array.view(Given), data))
    expected = apply(*jax.tree.map(jnp.asarray, data))
    jax.tree.map(np.testing.assert_array_equal, given, expected)
    print(name)

"""

SINGLE = """
plain = "warp free_warp hflip vflip rot90 rotate pixel_permutation jigsaw".split()
for name in plain:
    random = getattr(T, f"random_{name}")
    same(name, lambda image: random(key, image), pixels)
for name in "brightness contrast saturation hue grayscale color_jitter".split():
    random = getattr(T, f"random_{name}")
    same(name, lambda image: random(key, image), reals)
names = "sharpness gamma solarize posterize autocontrast equalize trivial_augment"
for name in names.split():
    random = getattr(T, f"random_{name}")
    same(name, lambda image: random(key, image), reals)
same("blur", lambda image: T.random_gaussian_blur(key, image), reals)
same("resized_crop", lambda x: T.random_resized_crop(key, x, size=12), pixels)
same("chain", lambda x: T.geometric_chain(x, [T.hflip_coords(True)]), pixels)
same("sample", T.bilinear_sample, pixels, place)
same("crop", lambda x, at: T.crop(x, at, 4), pixels, corner)
same("paste", T.paste_patch, pixels, pixels[:5, :6], corner)
same("erase", lambda x, z: T.erase_center(x, z, 4), pixels, pixels[4:-4, 4:-4])
same("rotations", T.rotation_batch, pixels[None])
same("frames", T.take_frames, video, np.array([3, 2, 1]))
same("background", T.median_background, video)
same("remove", lambda x, b: T.remove_background(x, b, threshold=9), pixels, pixels)
same("pose", lambda x: T.flip_pose(x, pairs=[(0, 1)]), reals[0])
same("average", T.local_average, reals)
same("damage", T.damage, reals, rng.random((24, 24)) > 0.5)
same("mixup", lambda a, b: T.mixup(a, b, 0.5), reals, reals[::-1])
same("normalize", lambda x: T.normalize(x, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)), reals)
same("smooth", T.smooth_labels, reals[0])
same("tile", T.tile, pixels)
same("untile", lambda x: T.untile(x, grid=2), pixels[None].repeat(4, axis=0))
same("upsample", T.upsample_mask, pixels[..., 0] > 9)
same("foreground", lambda x, b: T.foreground_mask(x, b, threshold=9), pixels, pixels)
replace = lambda x, b, s: T.substitute_background(x, b, s, threshold=9)
same("replace", replace, pixels, pixels, pixels[::-1])
bend = T.warp_params(key)
same("points", lambda x: T.warp_points(x, bend, size=24), place)
noise = T.label_noise_params(key, jnp.asarray(labels), num_classes=3, rate=0.5)
same("noise", lambda y: T.label_noise(y, noise), labels)
"""

BATCHES = """
views = lambda x: T.transformation_batch(key, x, x, size=20)
same("transformations", views, pixels[None])
same("clips", lambda x: T.temporal_batch(key, x), video[None])
same("pairs", lambda x: T.view_pair_batch(key, x), np.stack([video, video])[None])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "count"), [(SINGLE, 45), (BATCHES, 3)], ids=["single", "batches"]
)
def test_numpy_arrays_need_no_conversion(calls: str, count: int) -> None:
    """In a process of its own, where annotations are not checked."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + calls],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == count


MISFITS = """
import jax.numpy as jnp
from jaxssl import transforms as T

image = jnp.zeros((8, 8, 3))
for shape in ((4, 4, 1), (5, 4, 4, 3)):
    try:
        T.paste_patch(image, jnp.ones(shape), (0, 0))
    except ValueError as error:
        print(error)
"""


def test_a_patch_of_other_channels_or_leading_axes_is_refused() -> None:
    """In a process of its own, too: elsewhere the annotations refuse it first."""
    done = subprocess.run(
        [sys.executable, "-c", MISFITS],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("patch must have the image's channels" in line for line in lines)
