"""From a recipe to something that can run: its settings checked, its objects built."""

import functools
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxssl import trees
from jaxssl.config import checks, section
from jaxssl.data import pipeline
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.experiment import Experiment
from jaxssl.run import config_file
from jaxssl.train import config as train_config
from jaxssl.train import state_init
from jaxssl.types import Batch


class Setup(NamedTuple):
    """A recipe, checked and built.

    Attributes:
      seed: of the run.
      train: the section ``train``.
      mesh: the section ``mesh``.
      experiment: what the file's ``build`` returned.
      batches: the input pipeline, in the experiment's order.
    """

    seed: int
    train: train_config.TrainConfig
    mesh: meshes.MeshConfig
    experiment: Experiment
    batches: pipeline.Pipeline

    def spec(self) -> Batch:
        """Return the shapes of a global batch; reads one record.

        Raises:
          UserError: more records than ``train.max_bad_records`` cannot be read.
        """
        return state_init.make_spec(
            self.experiment.train_set,
            batch_size=self.train.batch_size,
            max_bad_records=self.train.max_bad_records,
        )


def set_up(chosen: config_file.Recipe) -> Setup:
    """Check what every config has, then build the experiment.

    Raises:
      UserError: a section is missing or wrong, or ``build`` refuses the values.
    """
    config = chosen.config
    for name, kind in (("seed", int), ("train", ConfigDict), ("mesh", ConfigDict)):
        if not isinstance(config.get(name), kind):
            what = "an integer" if kind is int else "a section"
            raise UserError(f"config.{name} is missing or not {what} in {chosen.file}.")
    for name, value in trees.flatten(config.to_dict()).items():
        path = name.startswith("init_from.") or name.endswith("data_dir")
        if path and isinstance(value, str):
            checks.local_path(f"config.{name}", value)
    if not 0 <= config.seed < 2**32:
        raise UserError(f"config.seed is {config.seed!r}; give 0 to 2**32 - 1.")
    given: Any = config
    train = section.from_config(
        train_config.TrainConfig, given.train, where="config.train"
    )
    mesh = section.from_config(meshes.MeshConfig, given.mesh, where="config.mesh")
    built = config_file.build(chosen)
    if not isinstance(built, Experiment):
        raise UserError(
            f"build() of {chosen.file} returned {type(built).__name__}; "
            "it must return a jaxssl.experiment.Experiment."
        )
    batches = functools.partial(pipeline.batches, order=built.order)
    return Setup(config.seed, train, mesh, built, batches)
