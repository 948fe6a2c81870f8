"""SGD with momentum as chapter 8 uses it, and the fall of its learning rate."""

import dataclasses
import itertools

import optax

from jaxssl.config import fields
from jaxssl.errors import UserError
from jaxssl.optim import masks

SCHEDULES = ("constant", "staircase", "boundaries", "cosine", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGDConfig:
    """SGD with momentum; its decay is part of the gradient (section 8.4).

    Attributes:
      learning_rate: the first rate. Thesis: 0.1 for Inception, 0.01 for CifarNet.
      schedule: ``staircase`` multiplies the rate by ``factor`` every ``interval`` steps
        (thesis: 0.95 after each epoch), ``boundaries`` does so at shares of the run
        (PreAct-ResNet-18: 0.1 at half and three quarters), ``cosine`` and ``linear``
        fall to ``final_rate`` (VOC: linear to 0), ``constant`` does not.
      factor: of ``staircase`` and ``boundaries``.
      interval: of ``staircase``, in steps. An epoch of the released code is 50,000
        images in batches of 64, all k mini-batches together: 781.
      boundaries: of ``boundaries``, rising, in (0, 1).
      final_rate: of ``cosine`` and ``linear``, as a share of the first rate.
      momentum: of the gradients after the weighting.
      nesterov: look ahead; neither the thesis nor the code does.
      weight_decay: times the kernels, added to the gradient after the weighting and
        before the momentum. Released code: 5e-4; the thesis gives none.
    """

    learning_rate: float = fields.number(0.1, above=0, at_most=1e6)
    schedule: str = fields.choice("staircase", SCHEDULES)
    factor: float = fields.number(0.95, above=0, at_most=1e6)
    interval: int = fields.count(781)
    boundaries: tuple[float, ...] = fields.number((0.5, 0.75), above=0, below=1)
    final_rate: float = fields.number(0.0, at_least=0, at_most=1)
    momentum: float = fields.number(0.9, at_least=0, below=1)
    nesterov: bool = False
    weight_decay: float = fields.number(5e-4, at_least=0, at_most=1e6)

    def __post_init__(self) -> None:
        """Raise UserError where no training is possible."""
        fields.validate(self)
        if not all(a < b for a, b in itertools.pairwise(self.boundaries)):
            raise UserError(f"boundaries is {self.boundaries}; it must rise strictly.")


def sgd(config: SGDConfig, num_steps: int) -> optax.GradientTransformation:
    """Return SGD whose rate falls over ``num_steps``.

    Args:
      config: rate, momentum and decay.
      num_steps: length of the run.
    """
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=masks.only_kernels),
        optax.sgd(
            learning_rate(config, num_steps=num_steps),
            momentum=config.momentum,
            nesterov=config.nesterov,
        ),
    )


def learning_rate(config: SGDConfig, *, num_steps: int) -> optax.Schedule:
    """Return the rate as a function of the step.

    Args:
      config: how it falls.
      num_steps: length of the run; ``cosine`` and ``linear`` end there.
    """
    first = config.learning_rate
    if config.schedule == "staircase":
        return optax.exponential_decay(
            first, config.interval, config.factor, staircase=True
        )
    if config.schedule == "boundaries":
        steps = {round(share * num_steps): config.factor for share in config.boundaries}
        return optax.piecewise_constant_schedule(first, steps)
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(first, num_steps, config.final_rate)
    if config.schedule == "linear":
        last = first * config.final_rate
        return optax.linear_schedule(first, last, num_steps)
    return optax.constant_schedule(first)
