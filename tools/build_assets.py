"""Make the embedded images of ``jaxssl/data/assets`` from two Debian packages.

The packages are used as containers; nothing is installed::

    apt-get download dataset-fashion-mnist lomiri-wallpapers-16.04
    for p in *.deb; do dpkg-deb -x $p unpacked; done
    python tools/build_assets.py unpacked

The result depends on the packages alone (and, byte for byte, on Pillow's encoders): a
balanced subset of Fashion-MNIST as two PNG contact sheets, ten photos as JPEG, the
licences and attributions taken from the packages' copyright files, and ``SHA256SUMS``.
Photos under share-alike licences are refused.
"""

import hashlib
import io
import logging
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from jaxssl.data import idx
from jaxssl.errors import UserError
from jaxssl.types import Int, Shaped, UInt8

PHOTOS = (
    "Picture_0B_by_freespace",
    "Picture_1A_by_freespace",
    "Wine_by_Jakkub_Mede",
    "aitzgorri_by_Aitzol_Berasategi",
    "friends_by_Aitzol_Berasategi",
    "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi",
    "seeding_by_Clements_Engelhardt",
    "sunset_by_Aitzol_Berasategi",
    "umang_by_Abhishek_Mudgal",
)
LICENSES = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}
PER_CLASS = {"train": 1000, "test": 200}
COLUMNS = 100
LONG_SIDE = 640
QUALITY = 85
PACKAGES = ("dataset-fashion-mnist", "lomiri-wallpapers-16.04")

Stanza = dict[str, str]


def balanced(
    labels: Shaped[np.ndarray, " n"], per_class: int, *, seed: int
) -> Int[np.ndarray, " m"]:
    """Choose ``per_class`` indices of each of the ten classes, class by class in turn.

    Row i of the result has class ``i % 10``, so every prefix whose length is a multiple
    of ten is balanced too and the labels need no file.
    """
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    by_class = [order[labels[order] == k][:per_class] for k in range(10)]
    return np.stack(by_class, axis=1).reshape(-1)


def contact_sheet(images: UInt8[np.ndarray, "n h w"]) -> bytes:
    """Encode images as one grey PNG, ``COLUMNS`` to a row."""
    n, h, w = images.shape
    grid = images.reshape(n // COLUMNS, COLUMNS, h, w).transpose(0, 2, 1, 3)
    buffer = io.BytesIO()
    sheet = Image.fromarray(grid.reshape(n // COLUMNS * h, COLUMNS * w))
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def small_photo(path: Path) -> bytes:
    """Encode the photo at ``path`` as a JPEG whose long side is 640 pixels."""
    with Image.open(path) as photo:
        scale = LONG_SIDE / max(photo.size)
        size = (round(photo.width * scale), round(photo.height * scale))
        small = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def read_copyright(path: Path) -> list[Stanza]:
    """Split a Debian copyright file into its stanzas."""
    stanzas = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        fields = re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", block, re.MULTILINE)
        stanzas.append({name: value.strip() for name, value in fields})
    return stanzas


def license_text(stanzas: list[Stanza], name: str) -> str:
    """Return the full text of the licence called ``name``."""
    for stanza in stanzas:
        first, _, body = stanza.get("License", "").partition("\n")
        if first.strip() == name and body:
            lines = [re.sub(r"^ ?", "", line).rstrip() for line in body.split("\n")]
            return "\n".join("" if line == "." else line for line in lines)
    raise UserError(f"No text of the licence {name} in the copyright files.")


def photo_license(stanzas: list[Stanza], name: str) -> tuple[str, str]:
    """Return (author, licence) of the photo called ``name``.

    Raises:
      UserError: the package names no licence, or one that is not in ``LICENSES``.
    """
    for stanza in stanzas:
        if stanza.get("Files", "").endswith(f"/{name}.jpg"):
            if stanza["License"] not in LICENSES:
                raise UserError(f"{name} is under {stanza['License']}; not embedded.")
            return stanza["Copyright"], stanza["License"]
    raise UserError(f"{name} is not in the package's copyright file.")


def attribution(wallpapers: list[Stanza]) -> str:
    """Return the text that credits every embedded file."""
    lines = [
        "# Attribution",
        "",
        "`fashion_mnist_train.png`, `fashion_mnist_test.png`: a balanced subset of",
        "Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist,",
        "Copyright 2017 Zalando SE, MIT (Expat) licence. Changes: 1,000 and 200 images",
        "of each class chosen, put on contact sheets; pixels unchanged.",
        "",
        "The photos come from the wallpapers of Ubuntu Touch 16.04,",
        "https://gitlab.com/ubports/development/core/lomiri-wallpapers (Debian package",
        f"`{PACKAGES[1]}`). Changes: scaled to a long side of {LONG_SIDE} pixels and",
        f"encoded again as JPEG, quality {QUALITY}. No endorsement is implied.",
        "",
        "| file | author | licence |",
        "|---|---|---|",
    ]
    for name in PHOTOS:
        author, licence = photo_license(wallpapers, name)
        lines.append(f"| `{name}.jpg` | {author} | [{licence}]({LICENSES[licence]}) |")
    return "\n".join(lines) + "\n"


def build(unpacked: Path) -> dict[str, bytes]:
    """Make every embedded file.

    Args:
      unpacked: the folder into which both packages were unpacked (it holds ``usr``).

    Returns:
      File name to contents, ``SHA256SUMS`` included.

    Raises:
      UserError: a package is missing, with the commands that fetch it.
    """
    share = unpacked / "usr" / "share"
    documents = [share / "doc" / package / "copyright" for package in PACKAGES]
    if not all(path.is_file() for path in documents):
        raise UserError(
            f"{unpacked} does not hold the unpacked packages. Run: apt-get download "
            f"{' '.join(PACKAGES)}; then for each file: dpkg-deb -x FILE {unpacked}"
        )
    fashion, wallpapers = (read_copyright(path) for path in documents)
    files = {
        "ATTRIBUTION.md": attribution(wallpapers).encode(),
        "LICENSES.txt": "\n".join(
            f"{'=' * 72}\n{title}\n{'=' * 72}\n\n{license_text(stanzas, name)}\n"
            for title, stanzas, name in [
                ("Fashion-MNIST: MIT (Expat), 2017 Zalando SE", fashion, "Expat"),
                ("Photos: CC-BY-4.0", wallpapers, "CC-BY-4.0"),
                ("Photo `seeding`: CC0-1.0", wallpapers, "CC0-1.0"),
            ]
        ).encode(),
    }
    for seed, (split, count) in enumerate(PER_CLASS.items()):
        images, labels = idx.read_split(share / "datasets" / "fashion-mnist", split)
        chosen = images[balanced(labels, count, seed=seed)]
        files[f"fashion_mnist_{split}.png"] = contact_sheet(chosen)
    for name in PHOTOS:
        files[f"{name}.jpg"] = small_photo(share / "backgrounds" / f"{name}.jpg")
    sums = [f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in sorted(files)]
    return files | {"SHA256SUMS": "".join(sums).encode()}


def main(arguments: list[str]) -> int:
    """Write the embedded files from the folder of unpacked packages."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        files = build(Path(arguments[0] if arguments else "unpacked"))
    except UserError as error:
        logging.error("%s", error)
        return 2
    folder = Path(__file__).parent.parent / "jaxssl" / "data" / "assets"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        logging.info("%9d %s", len(content), name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
