"""The section ``train`` of a config: how long a run is, and what it does how often."""

import dataclasses

from jaxssl.config import fields

NEVER = 2**63 - 1
"""More steps or records than any run has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The section ``train`` of a config.

    Attributes:
      num_steps: length of the run; schedules depend on it.
      batch_size: rows of a batch over all devices and processes.
      save_every: steps between two checkpoints; the last step is always saved.
      log_every: steps between two records of metrics, which are means over them.
      eval_every: steps between two online evaluations; also before and after all.
      keep_checkpoints: how many newest checkpoints stay on disk, at least 2, so that a
        good one is left if the newest gets damaged.
      num_workers: processes that read data; 0 reads in this one.
      max_bad_records: unreadable records that a process skips, of those that it reads
        from its start on, before the run stops.
    """

    num_steps: int = fields.count()
    batch_size: int = fields.count()
    save_every: int = fields.number(1000, at_least=1, at_most=NEVER)
    log_every: int = fields.number(50, at_least=1, at_most=NEVER)
    eval_every: int = fields.number(1000, at_least=1, at_most=NEVER)
    keep_checkpoints: int = fields.count(3, at_least=2)
    num_workers: int = fields.number(0, at_least=0, at_most=1024)
    max_bad_records: int = fields.number(10, at_least=0, at_most=NEVER)

    __post_init__ = fields.validate
