"""The same transforms by other libraries, each in the way its documentation has it.

`make_calls` returns, for a case of benchmarks/transforms.py, one call a library that is
installed and has the transform. All draw anew for each image.
"""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

Call = Callable[[], object]

PACKAGES = {
    "kornia": "kornia",
    "albumentations": "albumentations",
    "torchvision": "torchvision",
    "dm_pix": "dm-pix",
    "augmax": "augmax",
    "cv2": "opencv-python-headless",
}
"""Module to distribution."""


def make_calls(case: str, images: np.ndarray) -> dict[str, Call]:
    """Return a call by library.

    Args:
      case: name of the transform.
      images: float32 (b, h, w, 3) in [0, 1].
    """
    calls = {}
    for module, make in (
        ("kornia", _kornia),
        ("albumentations", _albumentations),
        ("torchvision", _torchvision),
        ("dm_pix", _dm_pix),
        ("augmax", _augmax),
        ("cv2", _opencv),
    ):
        if _is_usable(module):
            calls |= make(case, images)
    return calls


def versions() -> list[str]:
    """Return each library's version, or that it is not installed."""
    told = []
    for module, package in PACKAGES.items():
        version = "not run"
        if _is_usable(module):
            version = importlib.metadata.version(package)
        told.append(f"{package} {version}")
    return told


def _is_usable(module: str) -> bool:
    """Say whether a library is installed."""
    if importlib.util.find_spec(module) is None:
        return False
    if module == "torchvision":
        _declare_operators()
    return True


@functools.cache
def _declare_operators():
    """Declare the two operators that torchvision needs while it is imported.

    Its wheel is built for a PyTorch with CUDA: with one for CPUs the compiled part does
    not load. The transforms are Python and need neither operator.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(library)
    except OSError:
        declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            arguments = "Tensor dets, Tensor scores, float iou_threshold"
            declared.define(f"{name}({arguments}) -> Tensor")
        return declared


# --- PyTorch


def _kornia(case: str, images: np.ndarray) -> dict[str, Call]:
    import kornia.augmentation as K  # noqa: N812
    import torch

    size = images.shape[1:3]
    jitter = K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0)
    crop = K.RandomResizedCrop(size, scale=(0.08, 1.0), p=1.0)
    made = {
        "warp": lambda: K.RandomThinPlateSpline(scale=0.1, p=1.0),
        "rot90": lambda: K.RandomRotation90(times=(0, 3), p=1.0),
        "hflip": lambda: K.RandomHorizontalFlip(p=0.5),
        "resized_crop": lambda: crop,
        "color_jitter": lambda: jitter,
        "gaussian_blur": lambda: K.RandomGaussianBlur((9, 9), (0.1, 2.0), p=1.0),
        "view": lambda: torch.nn.Sequential(
            crop,
            K.RandomHorizontalFlip(p=0.5),
            K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
            K.RandomGaussianBlur((9, 9), (0.1, 2.0), p=0.5),
        ),
    }
    if case not in made:
        return {}
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    run = made[case]()
    return {"kornia": torch.no_grad()(lambda: run(batch))}


def _torchvision(case: str, images: np.ndarray) -> dict[str, Call]:
    import torch
    from torchvision.transforms import v2

    size = images.shape[1:3]
    crop = v2.RandomResizedCrop(size, antialias=False)
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    blur = v2.GaussianBlur(9, (0.1, 2.0))
    flip = v2.RandomHorizontalFlip()
    made = {
        "hflip": flip,
        "resized_crop": crop,
        "color_jitter": jitter,
        "gaussian_blur": blur,
        "view": v2.Compose(
            [crop, flip, v2.RandomApply([jitter], 0.8), v2.RandomApply([blur], 0.5)]
        ),
        "warp": v2.ElasticTransform(),
        "rand_augment": v2.RandAugment(2, 9),
        "trivial_augment": v2.TrivialAugmentWide(),
        "augmix": v2.AugMix(),
    }
    if case not in made:
        return {}
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    run = made[case]
    name = "torchvision" + (", elastic" if case == "warp" else "")
    return {name: lambda: torch.stack([run(x) for x in batch])}


# --- NumPy and OpenCV


def _albumentations(case: str, images: np.ndarray) -> dict[str, Call]:
    import albumentations as A  # noqa: N812

    size = images.shape[1:3]
    crop = A.RandomResizedCrop(size=size, scale=(0.08, 1.0), p=1.0)
    made = {
        "warp": [
            ("", A.ThinPlateSpline(num_control_points=4, p=1.0)),
            (", elastic", A.ElasticTransform(p=1.0)),
        ],
        "rot90": [("", A.RandomRotate90(p=1.0))],
        "hflip": [("", A.HorizontalFlip(p=0.5))],
        "resized_crop": [("", crop)],
        "color_jitter": [("", A.ColorJitter(*_around(0.4), hue=(-0.1, 0.1), p=1.0))],
        "gaussian_blur": [("", A.GaussianBlur(9, (0.1, 2.0), p=1.0))],
        "view": [
            (
                "",
                A.Compose(
                    [
                        crop,
                        A.HorizontalFlip(p=0.5),
                        A.ColorJitter(*_around(0.4), hue=(-0.1, 0.1), p=0.8),
                        A.GaussianBlur(9, (0.1, 2.0), p=0.5),
                    ]
                ),
            )
        ],
    }

    def loop(run) -> Call:
        return lambda: np.stack([run(image=image)["image"] for image in images])

    return {f"albumentations{kind}": loop(run) for kind, run in made.get(case, ())}


def _around(strength: float) -> tuple[tuple[float, float], ...]:
    return ((1 - strength, 1 + strength),) * 3


def _opencv(case: str, images: np.ndarray) -> dict[str, Call]:
    """Sample along a field that is given for free: no spline, no random numbers."""
    import cv2

    if case != "warp":
        return {}
    height, width = images.shape[1:3]
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    maps = (grid + rng.normal(size=(len(images), height, width, 2))).astype(np.float32)

    def run():
        return np.stack(
            [
                cv2.remap(
                    image,
                    field,
                    None,
                    cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_REPLICATE,
                )
                for image, field in zip(images, maps, strict=True)
            ]
        )

    return {"OpenCV remap, field given": run}


# --- JAX


def _jitted(fn, images: np.ndarray) -> Call:
    """Compile ``fn(key, image)`` over the batch."""
    batch, root = jnp.asarray(images), jax.random.key(0)
    step = iter(range(1 << 30))

    @jax.jit
    def run(root, i, batch):
        keys = jax.random.split(jax.random.fold_in(root, i), len(batch))
        return jax.vmap(fn)(keys, batch)

    return lambda: jax.block_until_ready(run(root, next(step), batch))


def _dm_pix(case: str, images: np.ndarray) -> dict[str, Call]:
    import dm_pix as pix

    def jitter(key, image):
        keys = jax.random.split(key, 4)
        image = pix.random_brightness(keys[0], image, 0.4)
        image = pix.random_contrast(keys[1], image, lower=0.6, upper=1.4)
        image = pix.random_saturation(keys[2], image, lower=0.6, upper=1.4)
        return pix.random_hue(keys[3], image, 0.1)

    def blur(key, image):
        sigma = jax.random.uniform(key, (), minval=0.1, maxval=2.0)
        return pix.gaussian_blur(image, sigma, 9)

    made = {
        "warp": lambda key, x: pix.elastic_deformation(key, x, 10.0, 4.0),
        "hflip": pix.random_flip_left_right,
        "color_jitter": jitter,
        "gaussian_blur": blur,
    }
    if case not in made:
        return {}
    name = "dm_pix" + (", elastic" if case == "warp" else "")
    return {name: _jitted(made[case], images)}


def _augmax(case: str, images: np.ndarray) -> dict[str, Call]:
    import augmax

    height, width = images.shape[1:3]
    crop = (augmax.RandomSizedCrop, (width, height))
    jitter = (augmax.ColorJitter, ())
    made = {
        "warp": [(augmax.Warp, ())],
        "rot90": [(augmax.Rotate90, ())],
        "hflip": [(augmax.HorizontalFlip, ())],
        "resized_crop": [crop],
        "color_jitter": [jitter],
        "gaussian_blur": [(augmax.GaussianBlur, (2,))],
        "view": [
            crop,
            (augmax.HorizontalFlip, ()),
            jitter,
            (augmax.GaussianBlur, (2,)),
        ],
    }
    if case not in made:
        return {}
    run = augmax.Chain(*(make(*given) for make, given in made[case]))
    return {"augmax": _jitted(run, images)}
