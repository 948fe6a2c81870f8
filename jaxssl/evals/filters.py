"""The kernels of one layer, as an array for the report."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxssl.errors import UserError
from jaxssl.types import Eval, EvalResult, TrainState


def filters_eval(path: Sequence[str], *, name: str) -> Eval:
    """Return the kernels of one layer.

    Args:
      path: keys that lead to the kernel (h, w, c, d) in ``state.params``, the player
        first.
      name: what the array is called.

    Returns:
      An evaluation without metrics.
    """

    def run(state: TrainState) -> EvalResult:
        kernel = state.params
        for depth, key in enumerate(path):
            if not isinstance(kernel, dict) or key not in kernel:
                names = ", ".join(kernel) if isinstance(kernel, dict) else "one array"
                raise UserError(
                    f"filters: there is no {'/'.join(path)} in the parameters; "
                    f"{'/'.join(path[:depth]) or 'the state'} holds {names}."
                )
            kernel = kernel[key]
        return EvalResult({}, {name: np.asarray(jax.device_get(kernel))})

    return run
