"""What a config's ``build`` returns: a task with its data and its evaluations."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxssl.data.order import Order
from jaxssl.data.source import Source
from jaxssl.types import Eval, Task


class Experiment(NamedTuple):
    """All that the command line needs to train, evaluate and report one run.

    Attributes:
      task: what is trained.
      train_set: where mini-batches come from.
      evals: what ``jaxssl evaluate`` runs, by name.
      online_evals: cheap ones that run during training, every ``train.eval_every``
        steps.
      init_from: player to the workdir of another run; that run's newest checkpoint
        gives the player its first parameters and statistics.
      heads: player to `Network.head`, the layers that ``init_from`` may leave behind.
      order: which records make up each step; by default every record once an epoch.
      minibatches: how many a step takes one after the other; devices should be able to
        share each of them evenly.
    """

    task: Task
    train_set: Source
    evals: Mapping[str, Eval]
    online_evals: Mapping[str, Eval]
    init_from: Mapping[str, str]
    order: Order | None = None
    minibatches: int = 1
    heads: Mapping[str, tuple[str, ...]] = {}
