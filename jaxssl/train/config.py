"""The section ``train`` of a config: how long a run is, and what it does how often."""

import dataclasses

from jaxssl.config import fields


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

    num_steps: int = fields.number(at_least=1)
    batch_size: int = fields.number(at_least=1)
    save_every: int = fields.number(1000, at_least=1)
    log_every: int = fields.number(50, at_least=1)
    eval_every: int = fields.number(1000, at_least=1)
    keep_checkpoints: int = fields.number(3, at_least=2)
    num_workers: int = fields.number(0, at_least=0)
    max_bad_records: int = fields.number(10, at_least=0)

    __post_init__ = fields.validate
