"""From a recipe to something that can run: its settings checked, its objects built."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxssl import trees
from jaxssl.config import checks, fields, section
from jaxssl.data import listing, pipeline, registry
from jaxssl.data.source import Source
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.experiment import Experiment
from jaxssl.run import config_file, watched
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
      defaults: of the settings that were read, by their path. A stored run that lacks
        one of them was trained with its default.
      sources: the data sets that ``build`` opened by name, as ``folder train``.
      unread: settings and sections of the config that nothing read.
    """

    seed: int
    train: train_config.TrainConfig
    mesh: meshes.MeshConfig
    experiment: Experiment
    batches: pipeline.Pipeline
    defaults: Mapping[str, Any]
    sources: Mapping[str, Source]
    unread: Sequence[str] = ()

    def fingerprints(self) -> dict[str, str]:
        """Return those of the data sets that are not the training set itself."""
        return {
            name: source.fingerprint
            for name, source in self.sources.items()
            if source is not self.experiment.train_set
        }

    def left_out(self) -> list[str]:
        """Return a line for each data set of which files or folders are left out."""
        lines = []
        for source in self.sources.values():
            if left_out := listing.left_out_of(source):
                reasons = listing.describe(left_out)
                lines.append(
                    f"{source.name}: left out {reasons}; jaxssl data doctor names each"
                )
        return lines

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
    config = watched.watch(chosen.config)
    seed = fields.convert(config.get("seed"), fields.Seed, "config.seed")
    for name, value in trees.flatten(chosen.config.to_dict()).items():
        path = name.startswith("init_from.") or name.endswith(("data_dir", ".file"))
        if path and isinstance(value, str):
            checks.local_path(f"config.{name}", value)
    with section.recorded() as defaults, registry.opened() as sources:
        train = section.read(train_config.TrainConfig, config, "train")
        mesh = section.read(meshes.MeshConfig, config, "mesh")
        built = config_file.build(chosen._replace(config=config))
    if not isinstance(built, Experiment):
        raise UserError(
            f"build() of {chosen.file} returned {type(built).__name__}; "
            "it must return a jaxssl.experiment.Experiment."
        )
    batches = functools.partial(pipeline.batches, order=built.order)
    unread = watched.find_unread(config)
    return Setup(seed, train, mesh, built, batches, defaults, sources, unread)
