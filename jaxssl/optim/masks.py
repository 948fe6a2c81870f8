"""Which parameters decay: masks for the ``mask`` arguments of optax.

A layer is the innermost dict of the parameter tree. Names are those of flax: ``kernel``
and ``bias`` of convolutions and dense layers, ``scale`` and ``bias`` of norms.
"""

from typing import Any

import jax

from jaxssl.types import Params


def all_but_norm(params: Params) -> Any:
    """Mark everything but the scales and shifts of norm layers.

    This is the decay of chapter 4: biases of convolutions and dense layers do decay.
    A norm is known by its layer: it has no weights, only ``scale`` and ``bias``.

    Args:
      params: nested dicts of parameters.

    Returns:
      The same tree of booleans, true where the parameter decays.
    """
    return _mark(params, norm=False)


def _mark(tree: Any, *, norm: bool) -> Any:
    if not isinstance(tree, dict):
        return not norm
    norm = bool(tree) and set(tree) <= {"scale", "bias"}
    return {name: _mark(branch, norm=norm) for name, branch in tree.items()}


def only_kernels(params: Params) -> Any:
    """Mark the kernels: neither biases nor norms decay.

    This is the decay of chapter 8 (released code: variables named ``weights``).

    Args:
      params: nested dicts of parameters.

    Returns:
      The same tree of booleans, true where the parameter decays.
    """
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
