r"""Chapter 4 on STL-10: AlexNet on 64 px crops (Tables 4.1 and 4.2).

Paper: Jenni, Jin and Favaro, CVPR 2020. Thesis, linear classifiers on conv1 ... conv5:
Rot + Warp + LCI 59.2 69.7 71.9 73.1 73.7 %; Table 4.1, LCI alone, conv5 at 96 px: 76.2 %.
Expected hours: not run (312,500 steps of 384 views of 64 px; one modern GPU).

    jaxssl data prepare tfds:stl10
    jaxssl train --workdir=runs/stl10 --config=configs/transformations_stl10.py
    jaxssl train --workdir=runs/stl10-probe --config=configs/probe_stl10.py \
        --config.init_from.classifier=runs/stl10

A variant is a row and a source, as in ``configs/transformations_stl10.py:rot_warp,paper``.
Rows of Table 4.2: ``warp``, ``lci``, ``rot``, ``warp_lci``, ``rot_warp``, ``rot_lci``,
``rot_warp_lci`` (default). Rows of Table 4.1, each LCI alone: ``patch_32``, ``patch_40``,
``patch_56``, ``frozen`` (give ``--config.init_from.inpainter=runs/...``),
``no_adversary``, ``no_autoencoding``. Sources: ``paper`` is what the thesis says,
``released`` (default) what the author's code does.
"""

from ml_collections import ConfigDict

from jaxssl.builders import common, feature_evals
from jaxssl.builders.transformations import build_experiment
from jaxssl.config import checks, section
from jaxssl.config.compute import ComputeConfig
from jaxssl.distributed.mesh import MeshConfig
from jaxssl.evals.pretext import PretextConfig
from jaxssl.experiment import Experiment
from jaxssl.methods import transformations
from jaxssl.models.alexnet import alexnet
from jaxssl.train.config import TrainConfig

ROTATIONS = ("rot90", "rot180", "rot270")
ROWS = {
    "warp": {"classes": ("none", "warp")},
    "lci": {"classes": ("none", "lci")},
    "rot": {"classes": ("none", *ROTATIONS)},
    "warp_lci": {"classes": ("none", "warp", "lci")},
    "rot_warp": {"classes": ("none", *ROTATIONS, "warp")},
    "rot_lci": {"classes": ("none", *ROTATIONS, "lci")},
    "rot_warp_lci": {"classes": ("none", *ROTATIONS, "warp", "lci")},
    "patch_32": {"classes": ("none", "lci"), "patch_size": 32},
    "patch_40": {"classes": ("none", "lci"), "patch_size": 40},
    "patch_56": {"classes": ("none", "lci"), "patch_size": 56},
    "frozen": {"classes": ("none", "lci"), "inpainter": "frozen"},
    "no_adversary": {"classes": ("none", "lci"), "lambda_classifier": 0.0},
    "no_autoencoding": {"classes": ("none", "lci"), "patch_autoencoding": False},
}
"""Rows of Tables 4.2 and 4.1: what each changes in ``config.method``."""

SOURCE = {
    "paper": {
        "border": 2,
        "noise_std": 1.0,
        "warp_points": "grid",
        "warp_magnitude": 0.1,
        "tilt": 0.0,
        "critic_patches": 1,
    },
    "released": {
        "border": 3,
        "noise_std": 0.1,
        "warp_points": "free",
        "warp_magnitude": 1 / 16,
        "tilt": 0.07,
        "tilted": "alternate",
        "critic_patches": 2,
    },
}
"""Where the thesis and the author's code differ (docs/deviations.md)."""

CRITIC_RATES = {"paper": 2e-4, "released": 8e-4}
"""Learning rate of D (Sec. 4.4; released code)."""

EPOCHS, IMAGES, BATCH = 200, 100_000, 64  # Sec. 4.4.1


def get_config(variant: str = "rot_warp_lci,released") -> ConfigDict:
    """Return the settings of one row."""
    row, source = checks.split_variant(variant, row=ROWS, source=SOURCE)
    config = ConfigDict({"seed": 123})
    config.data = {"name": "tfds:stl10", "data_dir": ""}
    config.method = section.defaults(
        transformations.Config,
        canvas_size=80,
        crop_size=64,  # Sec. 4.4.1
        patch_size=48,  # Sec. 4.4.1
        warp_grid=4,
        lambda_border=50.0,  # Sec. 4.2.1
        lambda_autoencode=50.0,  # Sec. 4.2.4
        lambda_classifier=1.0,  # Sec. 4.2
        **SOURCE[source],
    )
    config.method.update(ROWS[row])
    config.model = {"width": 1.0, "groups": 2, "fc_features": 4096, "padding": "SAME"}
    config.inpainter = {"depth": 48, "num_layers": 4}
    config.critic = {"depth": 64, "num_stages": 3}
    config.optim = {  # Sec. 4.4
        "classifier": {
            "kind": "adamw",
            "learning_rate": 3e-4,
            "final_rate": 1e-3,  # 3e-7 in the end.
            "b1": 0.5,
            "b2": 0.99,
            "weight_decay": 1e-4,
            "decay_times_rate": False,
        },
        "inpainter": {"kind": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999},
        "critic": {
            "kind": "adam",
            "learning_rate": CRITIC_RATES[source],
            "b1": 0.5,
            "b2": 0.999,
        },
    }
    config.train = section.defaults(
        TrainConfig, num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = feature_evals.default_sections(crop_size=64)
    config.eval.pretext = section.defaults(PretextConfig)
    config.init_from = {"inpainter": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    unlabelled, train, test = common.load_splits(config, "unlabelled", "train", "test")
    network = section.bind(alexnet, config, "model")
    return build_experiment(
        config, network, train=unlabelled, labelled=train, test=test
    )
