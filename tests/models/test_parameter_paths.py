"""Parameter trees are frozen in a golden file, so checkpoints never break silently.

Regenerate after an intended change, and say why in the commit:

    python tests/models/test_parameter_paths.py
"""

import json
import pathlib

import jax
import jax.numpy as jnp

from jaxssl.models.alexnet import alexnet, original_alexnet
from jaxssl.models.cifarnet import cifarnet
from jaxssl.models.critic import critic
from jaxssl.models.inception import inception
from jaxssl.models.inpainter import inpainter
from jaxssl.models.preact_resnet import preact_resnet18
from jaxssl.models.resnet import resnet

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "parameter_paths.json"
NETWORKS = {
    "alexnet": (alexnet(6), (1, 64, 64, 3)),
    "alexnet_original": (original_alexnet(20), (1, 227, 227, 3)),
    "cifarnet": (cifarnet(10), (1, 32, 32, 3)),
    "inception": (inception(10), (1, 29, 29, 3)),
    "preact_resnet18": (preact_resnet18(10), (1, 32, 32, 3)),
    "inpainter": (inpainter(), (1, 48, 48, 3)),
    "critic": (critic(), (1, 48, 48, 6)),
    "resnet18": (resnet(18, 10), (1, 64, 64, 3)),
    "resnet50": (resnet(50, 10), (1, 64, 64, 3)),
}


def paths():
    """Map network to path to shape, for parameters and statistics."""
    found = {}
    for name, (network, shape) in NETWORKS.items():
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        params, stats = jax.eval_shape(network.init, jax.random.key(0), x)
        leaves = jax.tree.leaves_with_path({"params": params, "stats": stats})
        found[name] = {
            jax.tree_util.keystr(path, simple=True, separator="/"): " x ".join(
                map(str, leaf.shape)
            )
            for path, leaf in leaves
        }
    return found


def test_parameter_paths_are_the_golden_ones():
    assert paths() == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(paths(), indent=1, sort_keys=True) + "\n")
