"""RMSProp, the optimizer of the hinge-loss baseline (Geometric GAN) of chapter 7."""

import dataclasses

import optax

from jaxssl.config import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMSPropConfig:
    """RMSProp at a constant rate; defaults other than the rate are those of optax.

    Attributes:
      learning_rate: the rate.
      decay: share of the running mean of squared gradients that stays at each step.
      momentum: of the updates, after they were divided; 0 for none.
      eps: added to the mean of squared gradients before the root is taken.
    """

    learning_rate: float = fields.number(2e-4, above=0, at_most=1e6)
    decay: float = fields.number(0.9, at_least=0, below=1)
    momentum: float = fields.number(0.0, at_least=0, below=1)
    eps: float = fields.number(1e-8, above=0, at_most=1000)

    __post_init__ = fields.validate


def rmsprop(config: RMSPropConfig) -> optax.GradientTransformation:
    """Return RMSProp at a constant rate."""
    return optax.rmsprop(
        config.learning_rate,
        decay=config.decay,
        eps=config.eps,
        momentum=config.momentum or None,
    )
