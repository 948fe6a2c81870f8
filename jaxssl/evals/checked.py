"""An evaluation with a check of its settings that costs nothing."""

from collections.abc import Callable
from typing import NamedTuple

from jaxssl.types import Eval, EvalResult, TrainState


class CheckedEval(NamedTuple):
    """An evaluation, and what can be known of its settings before it runs.

    Attributes:
      run: the evaluation.
      check: raises a UserError where the settings cannot be followed; ``jaxssl
        evaluate`` calls it before the first of all evaluations runs.
    """

    run: Eval
    check: Callable[[], None]

    def __call__(self, state: TrainState) -> EvalResult:
        """Run the evaluation."""
        return self.run(state)
