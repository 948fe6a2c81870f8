"""Name the leaves of a pytree and the values of a nested mapping."""

from collections.abc import Mapping
from typing import Any

import jax


def describe(tree: Any) -> dict[str, list]:
    """Return ``{path: [dtype, shape]}`` for the leaves of a pytree, abstract or not."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            str(leaf.dtype),
            list(leaf.shape),
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def describe_leaf(leaf: list | None) -> str:
    """Return a value of `describe` as text: ``float32[3, 4]``; None is ``absent``."""
    return "absent" if leaf is None else f"{leaf[0]}{leaf[1]}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted name: ``train.batch_size``.

    An empty mapping is a value, too.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat.update(
            flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
        )
    return flat
