"""Fixtures that train the tiny config, `tests/train/tiny.py`."""

import importlib.util
import io
import os
from pathlib import Path

import jax
import pytest

from jaxssl.checkpoint import store as checkpoints
from jaxssl.distributed import mesh as meshes
from jaxssl.run import config_file
from jaxssl.train import config as train_config
from jaxssl.train import loop, process_settings, state_init
from tests.train import processes

TINY = Path(__file__).parent / "train" / "tiny.py"


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    """Compile each program once, whichever test or process of this session needs it."""
    folder = tmp_path_factory.mktemp("xla")
    os.environ["JAXSSL_CACHE"] = str(folder)
    process_settings.use_compilation_cache()
    return folder


@pytest.fixture(scope="session")
def run(cache_folder):
    """Run the tiny config in several processes."""

    def go(workdir, count, *words, **options):
        return processes.run(workdir, count, *words, cache=cache_folder, **options)

    return go


@pytest.fixture(scope="session")
def tiny():
    spec = importlib.util.spec_from_file_location("tiny_config", TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def mesh():
    return meshes.make_mesh(meshes.MeshConfig(data=1))


@pytest.fixture
def fit(tiny):
    """Train the tiny task in a folder; keyword arguments go to ``train``."""

    def run(workdir, *, task=None, source=None, words=(), **changes):
        chosen = config_file.load(str(TINY), words)
        source = source or tiny.make_source()
        model = chosen.config.model
        task = task or tiny.make_task(nan_at=model.nan_at, nan_for=model.nan_for)
        settings = train_config.TrainConfig(
            **{**chosen.config.train.to_dict(), **changes.pop("c", {})}
        )
        options = {
            "layout": meshes.MeshConfig(data=1),
            "recipe": chosen,
            "stream": io.StringIO(),
            **changes,
        }
        return loop.train(task, source, settings, seed=3, workdir=workdir, **options)

    return run


@pytest.fixture
def abstract(tiny, mesh):
    """Shapes of the tiny task's state."""

    def make(**changes):
        task, source = tiny.make_task(**changes), tiny.make_source()
        spec = state_init.make_spec(source, batch_size=8, max_bad_records=0)
        return state_init.make_abstract(task, spec, mesh)

    return make


@pytest.fixture
def newest(abstract):
    """Read the newest good checkpoint of a folder."""

    def read(workdir):
        step, _ = checkpoints.find_newest(workdir)
        return checkpoints.restore(workdir, step, abstract())

    return read


@pytest.fixture(scope="session")
def bits():
    """Turn a state into comparable bytes."""

    def read(state):
        return [
            (x.dtype, x.shape, x.tobytes())
            for x in map(jax.device_get, jax.tree.leaves(state))
        ]

    return read
