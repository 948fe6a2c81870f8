"""Say where data are, and check the names that lead to them."""

import os
from pathlib import Path

from jaxssl.errors import UserError
from jaxssl.text import printable


def show(path: Path | str) -> str:
    """Return a path, safe to print; of a relative one it says relative to what."""
    if os.path.isabs(path):
        return printable(path)
    return f"{printable(path)} (relative to {printable(Path.cwd())})"


def check_split(split: str) -> None:
    """Raise unless a split is a name: it leads into no other folder.

    Raises:
      UserError: the name is empty, or holds a separator of folders or a control
        character.
    """
    if (
        split in ("", ".", "..")
        or "/" in split
        or "\\" in split
        or (printable(split) != split)
    ):
        raise UserError(
            f"split is '{printable(split)}'; it must be the name of a split, such as "
            "train: no path."
        )
