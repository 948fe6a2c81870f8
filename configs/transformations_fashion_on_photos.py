"""Chapter 4 on Fashion-on-Photos, sized for two CPU cores: rotations and warps.

Paper: Jenni, Jin and Favaro, CVPR 2020 (thesis chapter 4). The data are embedded in the
package: garments of Fashion-MNIST on crops of photos, synthetic, 10 labels, 40 pixels.
Their numbers are not comparable with the thesis' STL-10 (Table 4.2).

    jaxssl train --workdir=runs/demo \
        --config=configs/transformations_fashion_on_photos.py
    jaxssl evaluate --workdir=runs/demo
    jaxssl report --workdir=runs/demo

About two minutes on two cores. Variants: ``rot_warp`` (default), ``rot`` (RotNet),
``warp``, ``lci``, ``warp_lci``, ``rot_lci``, ``rot_warp_lci``; what they reach is in
``experiments/results/table_4_2_cpu.json``. Other classes:
``--config.method.classes="('none', 'rot180')"``.
"""

from ml_collections import ConfigDict

from jaxssl import builders
from jaxssl.data import sources
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet
from jaxssl.settings import choice

ROTATIONS = ("rot90", "rot180", "rot270")
VARIANTS = {
    "rot_warp": (*ROTATIONS, "warp"),
    "rot": ROTATIONS,
    "warp": ("warp",),
    "lci": ("lci",),
    "warp_lci": ("warp", "lci"),
    "rot_lci": (*ROTATIONS, "lci"),
    "rot_warp_lci": (*ROTATIONS, "warp", "lci"),
}
"""Rows of Table 4.2; each also tells the untransformed images."""


def get_config(variant: str = "rot_warp") -> ConfigDict:
    """Return the settings of one row of Table 4.2, CPU size."""
    choice("variant", variant, VARIANTS)
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict({"size": 40, "preset": "demo", "seed": 0})
    config.method = ConfigDict(
        {
            "classes": ("none", *VARIANTS[variant]),
            "canvas_size": 40,
            "crop_size": 32,
            "patch_size": 24,
            "border": 2,
            "noise_std": 0.1,
            "warp_points": "grid",
            "warp_grid": 4,
            "warp_magnitude": 0.1,
            "tilt": 0.07,
            "tilted": "random",
            "patch_autoencoding": True,
            "lambda_border": 50.0,
            "lambda_autoencode": 50.0,
            "lambda_classifier": 1.0,
            "critic_patches": 2,
            "inpainter": "joint",
        }
    )
    config.model = ConfigDict(
        {
            "width": 0.25,
            "groups": 1,
            "stem_kernel": 5,
            "stem_stride": 2,
            "fc_features": 256,
            "init": "he",
            "bn_momentum": 0.95,
        }
    )
    config.inpainter = ConfigDict({"depth": 16, "num_layers": 4})
    config.critic = ConfigDict({"depth": 16, "num_stages": 3})
    config.optim = ConfigDict(
        {
            "classifier": {
                "learning_rate": 3e-3,
                "final_rate": 1e-3,
                "b1": 0.9,
                "b2": 0.99,
                "weight_decay": 1e-4,
                "decay_times_rate": True,
            },
            "inpainter": {"learning_rate": 1e-3, "b1": 0.5, "b2": 0.999},
            "critic": {"learning_rate": 2e-3, "b1": 0.5, "b2": 0.999},
        }
    )
    config.train = ConfigDict(
        {
            "num_steps": 1200,
            "batch_size": 32,
            "save_every": 300,
            "log_every": 50,
            "eval_every": 300,
            "keep_checkpoints": 2,
            "num_workers": 0,
            "max_bad_records": 0,
        }
    )
    config.mesh = ConfigDict({"data": -1})
    config.eval = builders.eval_section(crop_size=32)
    config.init_from = ConfigDict({"inpainter": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""

    def load(split, **options):
        return sources.load("fashion_on_photos", split=split, **config.data, **options)

    train, test = load("train"), load("test")
    return builders.recognition(
        config,
        lambda num_classes: alexnet(num_classes, **config.model),
        train=train,
        labelled=train,
        test=test,
        shortcut={
            "composite": test,
            "grey": load("test", background="grey"),
            "background_only": load("test", background="only"),
        },
    )
