"""Draw docs/images/transformations.png from the embedded data and jaxssl.transforms.

python docs/make_figures.py
"""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from PIL import Image

from jaxssl import data
from jaxssl import transforms as T  # noqa: N812
from jaxssl.data import fashion_on_photos

IMAGES = Path(__file__).parent / "images"
SIDE = 144
PATCH, BORDER = 86, 5
"""The proportions of STL-10: a patch of 48 and a border of 3 on a canvas of 80."""


def panels(image, *, seed: int) -> dict[str, np.ndarray]:
    """Return an image under every transformation of chapter 4, by title.

    Args:
      image: uint8 (side, side, 3).
      seed: of the warp, of the patch's place and of its noise.
    """
    image = jnp.asarray(image)
    warp_key, place_key, noise_key = jax.random.split(jax.random.key(seed), 3)
    place = jax.random.randint(place_key, (2,), 0, SIDE - PATCH + 1)
    hole = PATCH - 2 * BORDER
    noise = jax.random.normal(noise_key, (hole, hole, 3))
    noise = jnp.clip(127.5 + 60 * noise, 0, 255).astype(jnp.uint8)
    patch = T.erase_center(T.extract_patch(image, place, PATCH), noise, BORDER)
    shown = {
        "none": image,
        "rot90": T.rot90(image, 1),
        "rot180": T.rot90(image, 2),
        "rot270": T.rot90(image, 3),
        "warp": T.random_warp(warp_key, image)[0],
        "lci, before filling": T.paste_patch(image, patch, place),
    }
    return {title: np.asarray(x) for title, x in shown.items()}


def rows() -> list[dict[str, np.ndarray]]:
    """Return the figure's two rows: a photo, and a garment on a photo."""
    photo = Image.open(
        io.BytesIO(fashion_on_photos.asset("friends_by_Aitzol_Berasategi.jpg"))
    ).convert("RGB")
    square = photo.resize((SIDE, SIDE), box=(80, 90, 330, 340))
    garments = data.load("fashion_on_photos", split="train", size=SIDE, num_train=20)
    return [panels(np.array(square), seed=3), panels(garments[16]["image"], seed=5)]


def draw() -> bytes:
    """Return the figure as PNG of 256 colours."""
    shown = rows()
    figure = matplotlib.figure.Figure(figsize=(9.0, 3.15), dpi=110)
    axes = figure.subplots(2, len(shown[0]))
    for line, row in zip(axes, shown, strict=True):
        for axis, (title, image) in zip(line, row.items(), strict=True):
            axis.imshow(image)
            axis.set_axis_off()
            if row is shown[0]:
                axis.set_title(title, fontsize=10)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.92, wspace=0.04, hspace=0.04)
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256).save(
        packed, format="png", optimize=True
    )
    return packed.getvalue()


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "transformations.png").write_bytes(draw())
