r"""Chapter 4 on Fashion-on-Photos, sized for two CPU cores: rotations and warps.

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


SMALL_ALEXNET = {
    "width": 0.25,
    "groups": 1,
    "stem_kernel": 5,
    "stem_stride": 2,
    "fc_features": 256,
    "init": "he",
    "bn_momentum": 0.95,
}
"""0.56 million parameters; endpoints of 16, 8, 4, 4 and 4 pixels at crops of 32."""


def get_config(variant: str = "rot_warp") -> ConfigDict:
    """Return the settings of one row of Table 4.2, CPU size."""
    checks.choice("variant", variant, VARIANTS)
    config = ConfigDict({"seed": 0})
    config.data = {"name": "fashion_on_photos", "size": 40, "preset": "demo", "seed": 0}
    config.method = section.defaults(
        transformations.Config,
        classes=("none", *VARIANTS[variant]),
        canvas_size=40,
        crop_size=32,
        patch_size=24,
        border=2,  # Sec. 4.4; where it and the released code differ: deviations.md
        noise_std=0.1,
        warp_points="grid",
        warp_grid=4,
        warp_magnitude=0.1,
        tilt=0.07,
        tilted="random",
        lambda_border=50.0,
        lambda_autoencode=50.0,
        lambda_classifier=1.0,
        critic_patches=2,
    )
    config.model = SMALL_ALEXNET
    config.inpainter = {"depth": 16, "num_layers": 4}
    config.critic = {"depth": 16, "num_stages": 3}
    config.optim = {
        "classifier": {
            "kind": "adamw",
            "learning_rate": 3e-3,
            "final_rate": 1e-3,
            "b1": 0.9,
            "b2": 0.99,
            "weight_decay": 1e-4,
            "decay_times_rate": True,
        },
        "inpainter": {"kind": "adam", "learning_rate": 1e-3, "b1": 0.5, "b2": 0.999},
        "critic": {"kind": "adam", "learning_rate": 2e-3, "b1": 0.5, "b2": 0.999},
    }
    config.train = section.defaults(
        TrainConfig, num_steps=1200, batch_size=32, save_every=300, eval_every=300
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = feature_evals.default_sections(crop_size=32)
    config.eval.pretext = section.defaults(PretextConfig)
    config.init_from = {"inpainter": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "test")
    (grey,) = common.load_splits(config, "test", background="grey")
    (only,) = common.load_splits(config, "test", background="only")
    return build_experiment(
        config,
        section.bind(alexnet, config, "model"),
        train=train,
        labelled=train,
        test=test,
        shortcut={"composite": test, "grey": grey, "background_only": only},
    )
