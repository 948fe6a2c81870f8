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

from jaxssl import builders, sections
from jaxssl.config.checks import choice
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

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
    choice("variant", variant, VARIANTS)
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict(
        {"name": "fashion_on_photos", "size": 40, "preset": "demo", "seed": 0}
    )
    config.method = sections.method(
        classes=("none", *VARIANTS[variant]),
        canvas_size=40,
        crop_size=32,
        patch_size=24,
        border=2,
    )
    config.model = ConfigDict(SMALL_ALEXNET)
    config.inpainter = ConfigDict({"depth": 16, "num_layers": 4})
    config.critic = ConfigDict({"depth": 16, "num_stages": 3})
    config.optim = sections.optim(
        learning_rate=3e-3, b1=0.9, decay_times_rate=True, critic_rate=2e-3
    )
    config.optim.inpainter.learning_rate = 1e-3
    config.train = sections.train(
        num_steps=1200, batch_size=32, save_every=300, eval_every=300
    )
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.recognition_evals(crop_size=32)
    config.init_from = ConfigDict({"inpainter": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    grey, only = (
        builders.load_splits(ConfigDict({**config.data, "background": name}), "test")[0]
        for name in ("grey", "only")
    )
    return builders.recognition(
        config,
        lambda num_classes: alexnet(num_classes, **config.model),
        train=train,
        labelled=train,
        test=test,
        shortcut={
            "composite": test,
            "grey": grey,
            "background_only": only,
        },
    )
