"""Optimizers by kind: what ``optim.<player>.kind`` of a config may say."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optax

from jaxssl.config import checks, section
from jaxssl.errors import UserError
from jaxssl.optim import adam, rmsprop, sgd


class Optimizer(NamedTuple):
    """One kind of optimizer.

    Attributes:
      settings: the dataclass of its section.
      make: ``make(settings, num_steps)``, with the length of the run.
    """

    settings: type
    make: Callable[[Any, int], optax.GradientTransformation]


OPTIMIZERS = {
    "adam": Optimizer(adam.AdamConfig, lambda settings, _: adam.adam(settings)),
    "adamw": Optimizer(adam.AdamWConfig, adam.adamw),
    "rmsprop": Optimizer(
        rmsprop.RMSPropConfig, lambda settings, _: rmsprop.rmsprop(settings)
    ),
    "sgd": Optimizer(sgd.SGDConfig, sgd.sgd),
}


def make_optimizers(
    config: section.Section, players: Sequence[str], num_steps: int
) -> dict[str, optax.GradientTransformation]:
    """Return an optimizer for each player, of the kind that its section names.

    Args:
      config: the root of the config; ``optim.<player>`` holds ``kind`` and the settings
        of that kind.
      players: those that are trained; their names change nothing.
      num_steps: length of the run, for schedules.

    Returns:
      Player to optimizer.

    Raises:
      UserError: a kind is missing or unknown, or a setting is impossible.
    """
    optimizers = {}
    for player in players:
        path = f"optim.{player}"
        kind = section.find(config, path).get("kind")
        if kind is None:
            raise UserError(
                f"{path}.kind is missing; allowed: {', '.join(OPTIMIZERS)}."
            )
        checks.choice(f"{path}.kind", kind, OPTIMIZERS)
        settings = section.read(
            OPTIMIZERS[kind].settings, config, path, beside=("kind",)
        )
        optimizers[player] = OPTIMIZERS[kind].make(settings, num_steps)
    return optimizers
