"""Erasing, cutout, CutMix, padding, resizing against plain loops, Pillow and OpenCV."""

import functools
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from jaxssl import transforms as T  # noqa: N812


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


# --- Boxes that are filled


def _erased(image: np.ndarray, box: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Fill pixel by pixel."""
    (top, left), (height, width) = box
    out = image.copy()
    for y in range(image.shape[-3]):
        for x in range(image.shape[-2]):
            v, u = (y + 0.5) / image.shape[-3], (x + 0.5) / image.shape[-2]
            if top <= v < top + height and left <= u < left + width:
                out[..., y, x, :] = fill[..., y, x, :]
    return out


FILLS = {
    "number": 0.5,
    "channels": (0.1, 0.2, 0.3),
    "noise": _image(9, (2, 6, 9, 3)),
}


@pytest.mark.parametrize("fill", FILLS)
def test_a_box_is_filled(fill: str) -> None:
    image, value = _image(0, (2, 6, 9, 3)), jnp.asarray(FILLS[fill])
    apply = jax.jit(
        lambda box: T.erase(jnp.array(image), T.EraseParams(*box), fill=value)
    )
    everywhere = np.broadcast_to(np.asarray(value), image.shape)
    boxes = [
        ((0.2, 0.3), (0.4, 0.35)),
        ((0.0, 0.0), (1.0, 1.0)),
        ((0.5, -0.2), (0.9, 0.5)),
        ((0.4, 0.4), (0.0, 0.5)),
    ]
    for box in boxes:
        expected = _erased(image, np.array(box), everywhere)
        np.testing.assert_array_equal(apply(jnp.array(box)), expected)


def test_integers_and_masks_are_filled_exactly() -> None:
    box = T.EraseParams((0.0, 0.0), (0.5, 1.0))
    for dtype, fill in ((jnp.uint8, 255), (jnp.uint32, 2**32 - 1), (jnp.bool_, True)):
        erased = np.asarray(T.erase(jnp.zeros((4, 3, 1), dtype), box, fill=fill))
        assert erased.dtype == dtype
        assert (erased[:2] == fill).all()
        assert (erased[2:] == 0).all()


def test_gradients_go_to_the_image_outside_and_to_the_fill_inside() -> None:
    weight = jnp.array(_image(1, (4, 6, 2)))
    box = T.EraseParams((0.25, 0.5), (0.5, 0.5))

    def total(image, fill):
        return (weight * T.erase(image, box, fill=fill)).sum()

    slopes = jax.jit(jax.grad(total, (0, 1)))
    to_image, to_fill = slopes(weight, jnp.zeros((4, 6, 2)))
    inside = np.zeros((4, 6, 1), bool)
    inside[1:3, 3:] = True
    np.testing.assert_array_equal(to_image, np.where(inside, 0, weight))
    np.testing.assert_array_equal(to_fill, np.where(inside, weight, 0))


def test_a_box_to_erase_is_drawn_like_one_to_crop() -> None:
    """Whose distribution is that of torchvision's RandomErasing with these ranges."""
    key = jax.random.key(3)
    box = T.erase_params(key, image_size=(20, 30))
    options = {"scale": (0.02, 1 / 3), "ratio": (0.3, 3.3)}
    crop = T.resized_crop_params(key, image_size=(20, 30), **options)
    for got, expected in zip(box, crop, strict=True):
        np.testing.assert_array_equal(got, expected)


def _pixel_boxes(params, size: tuple[int, int]) -> np.ndarray:
    """Return drawn boxes as whole pixels (top, left, bottom, right)."""
    first = np.asarray(params.top_left, np.float64)
    edges = np.concatenate([first, first + np.asarray(params.extent)], axis=1)
    pixels = edges * np.tile(size, 2)
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)
    return pixels.round().astype(int)


def test_cutout_is_a_square_about_any_pixel_cut_off_at_the_border() -> None:
    """As DeVries and Taylor's code clips it; every pixel is a centre equally often."""
    keys, size, length = jax.random.split(jax.random.key(4), 8_000), (8, 10), 4
    draw = functools.partial(T.cutout_params, image_size=size, size=length)
    boxes = _pixel_boxes(jax.jit(jax.vmap(draw))(keys), size)
    allowed = {}
    for y in range(size[0]):
        for x in range(size[1]):
            top, bottom = np.clip([y - length // 2, y + length // 2], 0, size[0])
            left, right = np.clip([x - length // 2, x + length // 2], 0, size[1])
            allowed[int(top), int(left), int(bottom), int(right)] = 0
    assert len(allowed) == size[0] * size[1]
    for box in map(tuple, boxes.tolist()):
        allowed[box] += 1
    assert stats.chisquare(list(allowed.values())).pvalue > 1e-3


def test_cutout_fills_the_pixels_of_its_box() -> None:
    image = jnp.ones((32, 32, 3))
    apply = jax.jit(functools.partial(T.random_cutout, size=(9, 12), fill=0))
    for seed in range(4):
        erased, params = apply(jax.random.key(seed), image)
        top, left, bottom, right = _pixel_boxes(
            jax.tree.map(lambda leaf: leaf[None], params), (32, 32)
        )[0]
        expected = np.ones((32, 32, 3))
        expected[top:bottom, left:right] = 0
        np.testing.assert_array_equal(erased, expected)


# --- CutMix


def test_the_weight_of_cutmix_is_the_share_of_pixels() -> None:
    first, second = (
        jnp.zeros((3, 11, 9, 1), jnp.uint8),
        jnp.ones((3, 11, 9, 1), jnp.uint8),
    )
    apply = jax.jit(T.random_cutmix)
    for seed in range(8):
        mixed, params = apply(jax.random.key(seed), first, second)
        assert mixed.dtype == jnp.uint8
        np.testing.assert_allclose(1 - mixed.mean((1, 2, 3)), params.weight, atol=1e-6)


def _torchvision_cutmix(rng, height: int, width: int, alpha: float):
    """The rule of torchvision's CutMix: the box and the share that is left."""
    share = rng.beta(alpha, alpha)
    x, y = rng.integers(width), rng.integers(height)
    half = 0.5 * math.sqrt(1 - share)
    half_width, half_height = int(half * width), int(half * height)
    left, right = max(x - half_width, 0), min(x + half_width, width)
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    return (
        top,
        left,
        bottom,
        right,
        1 - (right - left) * (bottom - top) / height / width,
    )


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_boxes_of_cutmix_are_drawn_as_torchvision_does(alpha: float) -> None:
    size, rng = (40, 30), np.random.default_rng(5)
    keys = jax.random.split(jax.random.key(6), 10_000)
    draw = functools.partial(T.cutmix_params, image_size=size)
    params = jax.jit(jax.vmap(lambda key, a: draw(key, alpha=a), (0, None)))(
        keys, alpha
    )
    got = np.concatenate([_pixel_boxes(params, size), params.weight[:, None]], axis=1)
    expected = [_torchvision_cutmix(rng, *size, alpha) for _ in keys]
    for ours, theirs in zip(got.T, np.array(expected).T, strict=True):
        assert stats.ks_2samp(ours.round(5), theirs.round(5)).pvalue > 1e-3


def test_labels_are_mixed_by_the_same_share() -> None:
    labels = jax.nn.one_hot(jnp.array([0, 2]), 3)
    images = jnp.zeros((2, 8, 8, 3))

    @jax.jit
    def mix(key):
        params = T.random_cutmix(key, images, images[::-1])[1]
        return T.mixup(labels, labels[::-1], params.weight), params

    mixed, params = mix(jax.random.key(7))
    w = float(params.weight)
    np.testing.assert_allclose(mixed, [[w, 0, 1 - w], [1 - w, 0, w]], atol=1e-6)


# --- Padding


@pytest.mark.parametrize("border", ["edge", "constant", "reflect"])
@pytest.mark.parametrize("padding", [3, (2, 9)])
def test_padding_is_that_of_numpy(border: str, padding) -> None:
    """With more padding than pixels, too, and one value for each channel."""
    image, fill = _image(10, (2, 5, 6, 3)), (0.5, 1.5, -2.0)
    down, across = np.broadcast_to(padding, 2)
    widths = [(0, 0), (down, down), (across, across), (0, 0)]
    mode = {"edge": {"mode": "edge"}, "reflect": {"mode": "reflect"}}
    padded = np.pad(image, widths, **mode.get(border, {"constant_values": np.nan}))
    padded = np.where(np.isnan(padded), np.float32(fill), padded)
    options = {"padding": padding, "border": border, "size": (4, 6)}
    options |= {"fill": fill} if border == "constant" else {}
    apply = jax.jit(lambda at: T.pad_and_crop(jnp.array(image), at, **options))
    for y, x in ((0, 0), (down, across), (2 * down + 1, 2 * across)):
        got = apply(jnp.array([y, x]))
        np.testing.assert_array_equal(got, padded[:, y : y + 4, x : x + 6])


def test_padding_keeps_integers_and_the_size_of_the_image() -> None:
    image = jnp.arange(60, dtype=jnp.uint8).reshape(4, 5, 3)

    @jax.jit
    def both(key):
        out, params = T.random_pad_and_crop(key, image, padding=2)
        maps = [T.crop_coords(params.top_left - 2, (4, 5))]
        return out, params, T.geometric_chain(image, maps)

    out, params, sampled = both(jax.random.key(0))
    assert out.shape == image.shape
    assert out.dtype == jnp.uint8
    y, x = params.top_left
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="edge")
    np.testing.assert_array_equal(out, padded[y : y + 4, x : x + 5])
    np.testing.assert_array_equal(out, sampled)


def test_every_place_in_the_padded_image_is_equally_likely() -> None:
    keys = jax.random.split(jax.random.key(8), 9_000)
    draw = functools.partial(T.pad_and_crop_params, image_size=5, padding=(2, 1))
    places = np.asarray(jax.vmap(draw)(keys).top_left)
    counts = np.bincount(places @ [3, 1], minlength=15)
    assert len(counts) == 15
    assert stats.chisquare(counts).pvalue > 1e-3


# --- Resizing


@pytest.mark.parametrize(("height", "width"), [(13, 22), (20, 31), (13, 40), (50, 60)])
def test_resizing_is_that_of_pillow(height: int, width: int) -> None:
    """Enlarged, shrunk with antialiasing, and one of each; Pillow's 32-bit floats."""
    image = _image(11, (20, 31, 2))
    planes = [
        np.asarray(Image.fromarray(image[..., c]).resize((width, height), 2))
        for c in range(2)
    ]
    resize = functools.partial(T.resize, size=(height, width))
    resized = jax.jit(resize)(jnp.array(image))
    np.testing.assert_allclose(resized, np.stack(planes, axis=-1), atol=1e-5)


def test_resizing_without_antialiasing_is_that_of_opencv() -> None:
    image = _image(12, (20, 31, 3))
    for size in ((9, 12), (41, 33)):
        expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        resize = functools.partial(T.resize, size=size, antialias=False)
        resized = jax.jit(resize)(jnp.array(image))
        np.testing.assert_allclose(resized, expected, atol=1e-5)
        chain = functools.partial(T.geometric_chain, maps=[T.resize_coords(size)])
        np.testing.assert_array_equal(jax.jit(chain)(jnp.array(image)), resized)


@pytest.mark.parametrize("image_size", [(300, 400), (400, 300), (37, 111), (64, 64)])
@pytest.mark.parametrize("side", [17, 64, 256])
def test_the_shorter_side_is_that_of_torchvision(image_size, side: int) -> None:
    short, long = sorted(image_size)
    expected = sorted((side, int(side * long / short)))
    shape = jax.eval_shape(
        lambda image: T.resize(image, side, keep_ratio=True),
        jnp.zeros((*image_size, 1)),
    ).shape
    assert sorted(shape[:2]) == expected
    assert (shape[0] < shape[1]) == (image_size[0] < image_size[1])
    assert T.resize_coords(side, keep_ratio=True).out_size(image_size) == shape[:2]


def test_a_kept_ratio_covers_the_size() -> None:
    for size, expected in (
        ((10, 10), (10, 20)),
        ((10, 30), (15, 30)),
        ((7, 2), (7, 14)),
    ):
        resized = T.resize_coords(size, keep_ratio=True).out_size((30, 60))
        assert resized == expected


@pytest.mark.parametrize(
    ("size", "corner"), [((3, 4), (2, 2)), (8, (0, 0)), (5, (1, 1))]
)
def test_the_centre_is_cut_out(size, corner) -> None:
    image = _image(13, (2, 8, 8, 1))
    height, width = np.broadcast_to(size, 2)
    expected = image[:, corner[0] :, corner[1] :][:, :height, :width]
    maps = [T.center_crop_coords(size)]
    both = jax.jit(
        lambda image: (T.center_crop(image, size), T.geometric_chain(image, maps))
    )
    for cut in both(jnp.array(image)):
        np.testing.assert_array_equal(cut, expected)
