import hashlib

import numpy as np
import pytest
from PIL import Image

from jaxssl.data import fashion_on_photos, load
from jaxssl.errors import UserError

TINY = {"num_train": 60, "num_test": 60}
GOLDEN = "a1e1ccb20bc1a375e30e6c556c1bdceb3deb8909882739b29e4b88c4f929ace2"


def make(split="train", **options):
    return load("fashion_on_photos", split=split, **(TINY | options))


def test_the_same_seed_gives_the_same_bytes_for_ever():
    fashion_on_photos._build.cache_clear()
    first = make().arrays["image"].copy()
    fashion_on_photos._build.cache_clear()
    np.testing.assert_array_equal(first, make().arrays["image"])
    digest = hashlib.sha256(first.tobytes()).hexdigest()
    assert digest == GOLDEN, "the data changed: raise RECIPE and tell it in CHANGELOG"


def test_fewer_images_are_a_prefix_and_other_seeds_are_others():
    np.testing.assert_array_equal(
        make(num_train=7).arrays["image"], make().arrays["image"][:7]
    )
    assert (make(seed=1).arrays["image"] != make().arrays["image"]).mean() > 0.9
    prints = {make().fingerprint, make(seed=1).fingerprint, make(size=48).fingerprint}
    assert len(prints) == 3


def test_shapes_labels_and_names():
    source = make("test", size=64)
    assert source.arrays["image"].shape == (60, 64, 64, 3)
    assert source.spec["image"].shape == (64, 64, 3)
    assert np.bincount(source.arrays["label"]).tolist() == [6] * 10
    assert source.class_names[1] == "Trouser"
    assert source.record_name(3) == "fashion_on_photos/test[3]"


def test_presets_have_the_sizes_they_promise():
    for preset, (train, test) in fashion_on_photos.PRESETS.items():
        assert (train, test) == {"demo": (10_000, 2_000), "tiny": (4_000, 2_000)}[
            preset
        ]
    options = {"split": "test", "size": 16, "background": "grey", "preset": "tiny"}
    source = load("fashion_on_photos", **options)
    assert len(source) == 2_000
    assert np.bincount(source.arrays["label"]).tolist() == [200] * 10


def test_test_photos_are_never_train_photos():
    train, test = fashion_on_photos.PHOTOS["train"], fashion_on_photos.PHOTOS["test"]
    assert not set(train) & set(test)
    assert len(train) == 7
    assert {name.split("_")[0] for name in test} == {"Wine", "friends", "seeding"}


def test_each_split_uses_its_own_photos_only(monkeypatch):
    opened = []
    asset = fashion_on_photos.asset

    def spy(name):
        opened.append(name)
        return asset(name)

    monkeypatch.setattr(fashion_on_photos, "asset", spy)
    fashion_on_photos._build.cache_clear()
    make("test")
    photos = {name.split("_")[0] for name in opened if name.endswith(".jpg")}
    assert photos == {"Wine", "friends", "seeding"}
    assert "fashion_mnist_train.png" not in opened


def test_backgrounds_share_garments_and_crops():
    photo, grey, only = (
        make(background=b).arrays["image"].astype(int)
        for b in ("photo", "grey", "only")
    )
    # Where the garment leaves grey untouched, the photo is untouched too, but for the
    # rounding of an alpha near zero.
    bare = (grey == fashion_on_photos.GREY).all(-1)
    assert 0.3 < bare.mean() < 0.95
    assert np.abs(photo[bare] - only[bare]).max() <= 1
    assert (photo != only).any((1, 2, 3)).all()
    assert (grey[:, 0, 0] == fashion_on_photos.GREY).all()


def test_backgrounds_are_rarely_flat():
    flat = make("train", background="only").arrays["image"].std((1, 2, 3)) <= 20
    assert flat.mean() < 0.05


def bilinear(image: np.ndarray, side: int) -> np.ndarray:
    """Resize with a triangle filter, as wide as the reduction, one output at a time."""
    n = len(image)
    scale = n / side
    support = max(scale, 1.0)
    weights = np.zeros((side, n))
    for out in range(side):
        centre = (out + 0.5) * scale
        for k in range(n):
            weights[out, k] = max(0.0, 1 - abs((k + 0.5 - centre) / support))
        weights[out] /= weights[out].sum()
    return weights @ image @ weights.T


def test_a_composite_is_the_recipe_written_as_loops():
    garment = fashion_on_photos.garments("train")[0][4].astype(float)
    layout = fashion_on_photos.draw_layouts(5, split="train", seed=0)[4]
    background = make(background="only").arrays["image"][4]
    alpha = np.zeros((28, 28))
    for y in range(28):
        for x in range(28):
            around = [
                min(
                    3 * garment[min(max(y + dy, 0), 27), min(max(x + dx, 0), 27)] / 255,
                    1,
                )
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            alpha[y, x] = sum(around) / 9
    side = round((0.55 + 0.25 * layout.side) * 40)
    alpha, brightness = bilinear(alpha, side), bilinear(garment / 255, side)
    corner = [round(20 + (2 * s - 1) * 4 - side / 2) for s in layout.shift]
    corner = [min(max(c, 0), 40 - side) for c in corner]
    want = background.astype(float)
    for y in range(side):
        for x in range(side):
            for c in range(3):
                colour = 255 * brightness[y, x] * (0.25 + 0.75 * layout.tint[c])
                at = corner[0] + y, corner[1] + x, c
                want[at] = alpha[y, x] * colour + (1 - alpha[y, x]) * want[at]
    got = make().arrays["image"][4].astype(float)
    assert np.abs(got - want).max() <= 0.51


def test_a_background_is_a_crop_of_a_photo_scaled_and_mirrored():
    photo = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    )
    draws = np.tile([0.0, 0.5, 0.3, 0.5], (5, 1))
    layout = fashion_on_photos.Layout(draws, 0.6, 0.5, np.zeros(2), np.ones(3))
    got = fashion_on_photos.draw_background([photo], layout, size=40)
    # Side 1.75 * 40 = 70, top 0.3 * (360 - 70) = 87, left 0.5 * (640 - 70) = 285.
    crop = np.asarray(photo)[87 : 87 + 70, 285 : 285 + 70].astype(float)
    want = np.stack([bilinear(crop[..., c], 40) for c in range(3)], -1)
    # At its edge the filter reaches over the crop, into the rest of the photo.
    assert np.abs(got - want)[1:-1, 1:-1].max() <= 1
    flipped = layout._replace(flip=0.4)
    mirrored = fashion_on_photos.draw_background([photo], flipped, size=40)
    np.testing.assert_array_equal(mirrored[:, ::-1], got)


def test_a_flat_crop_is_drawn_again_at_most_four_times():
    flat = Image.new("RGB", (640, 360), (9, 9, 9))
    rough = Image.fromarray(
        np.random.default_rng(0).integers(0, 2, (360, 640, 3), dtype=np.uint8) * 255
    )
    draws = np.zeros((5, 4))
    draws[4, 0] = 0.9
    layout = fashion_on_photos.Layout(draws, 0.6, 0.5, np.zeros(2), np.ones(3))
    assert fashion_on_photos.draw_background([flat, rough], layout, size=40).std() > 20
    assert fashion_on_photos.draw_background([flat, flat], layout, size=40).std() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "valid"}, "split is 'valid'; allowed: train, test"),
        ({"background": "gray"}, "Did you mean 'grey'"),
        ({"preset": "huge"}, "allowed: demo, tiny"),
        ({"size": 15}, "allowed: 16 to 144"),
        ({"size": 145}, "allowed: 16 to 144"),
        ({"num_train": 10_001}, "num_train is 10001; allowed: 1 to 10000"),
        ({"num_train": 0}, "num_train is 0"),
        ({"siez": 40}, "no option 'siez'.*Did you mean 'size'"),
    ],
)
def test_impossible_options_say_what_is_allowed(options, words):
    with pytest.raises(UserError, match=words):
        load("fashion_on_photos", **({"split": "train"} | options))
