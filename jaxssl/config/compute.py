"""The section ``compute`` of a config: types, recomputation, micro-batches."""

import dataclasses

from jaxssl.config import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """The section ``compute``: how a step is computed, for less memory or more speed.

    Attributes:
      dtype: of the maps inside of networks, ``float32`` or ``bfloat16``. Parameters,
        statistics, losses, gradients and optimizers are float32 in both.
      remat: compute norms, activations and pools a second time for the gradient instead
        of keeping them: less memory, more time, the same values.
      micro_batches: parts of the batch that go through the networks one after the
        other; the update is that of the mean gradient. Batch norm and mixup see one
        part at a time, so with them it is another training than with 1.
    """

    dtype: str = fields.choice("float32", ("float32", "bfloat16"))
    remat: bool = False
    micro_batches: int = fields.count(1)

    __post_init__ = fields.validate
