"""The section ``train`` of a config: how long a run is, and what it does how often."""

import dataclasses

from jaxssl.config import checks
from jaxssl.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The section ``train`` of a config.

    Attributes:
      num_steps: length of the run; schedules depend on it.
      batch_size: rows of a batch over all devices and processes.
      save_every: steps between two checkpoints; the last step is always saved.
      log_every: steps between two records of metrics, which are means over them.
      eval_every: steps between two online evaluations; also before and after all.
      keep_checkpoints: how many newest checkpoints stay on disk, at least 2.
      num_workers: processes that read data; 0 reads in this one.
      max_bad_records: unreadable records that a process skips, of those that it reads
        from its start on, before the run stops.
    """

    num_steps: int
    batch_size: int
    save_every: int = 1000
    log_every: int = 50
    eval_every: int = 1000
    keep_checkpoints: int = 3
    num_workers: int = 0
    max_bad_records: int = 10

    def __post_init__(self):
        """Check the values."""
        checks.positive(
            self, "num_steps", "batch_size", "save_every", "log_every", "eval_every"
        )
        if self.keep_checkpoints < 2:
            raise UserError(
                f"keep_checkpoints is {self.keep_checkpoints}; it must be at least 2, "
                "so that a good one is left if the newest gets damaged."
            )
        for field in ("num_workers", "max_bad_records"):
            if getattr(self, field) < 0:
                raise UserError(
                    f"{field} is {getattr(self, field)}; it must be 0 or more."
                )
