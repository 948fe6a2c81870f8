"""Every shipped config at test size: on generated images, few rows, small where it can.

``jaxssl verify`` runs over all of them in the slow suite.
"""

ALEXNET = ["--config.model.width=0.125", "--config.model.fc_features=16"]
TRUNK = ["--config.model.width=0.125"]
RESNET = ["--config.model.depth=18", "--config.model.width=8"]
RANDOM = ["--config.init_from.classifier=random"]


def generated(name, rows):
    """Return the overrides for a config's data set and the rows of a batch."""
    return [
        f"--config.data.name=generated:{name}",
        f"--config.train.batch_size={rows}",
    ]


def online(images):
    """Return the overrides that make the probes during training cheap."""
    return [f"--config.eval.online.num_images={images}"]


RECOGNITION = [
    *ALEXNET,
    "--config.inpainter.depth=4",
    "--config.critic.depth=4",
    *online(24),
    "--config.eval.online.shots=1",
]
LABELS = [*online(16)]

SMALL = {
    "classify_cifar10.py:inception,bilevel": [*generated("cifar10", 64), *LABELS],
    "classify_cifar10.py:cifarnet,ghost": [*generated("cifar10", 64), *LABELS],
    "classify_cifar10.py:preact_resnet18,mixup": [*generated("cifar10", 16), *LABELS],
    "classify_fashion_mnist.py:mlp,bilevel": LABELS,
    "classify_fashion_on_photos.py": [
        "--config.train.batch_size=16",
        *online(24),
        "--config.eval.online.shots=1",
    ],
    "classify_imagenet2012.py:sgd": [
        *generated("imagenet2012", 8),
        *ALEXNET,
        *LABELS,
    ],
    "classify_resnet34_stl10.py": [
        *generated("stl10", 8),
        *RESNET,
        *online(24),
        "--config.eval.online.shots=1",
    ],
    "classify_voc2007.py:bilevel": [*generated("voc/2007", 32), *ALEXNET, *LABELS],
    "probe_celeb_a.py": [*generated("celeb_a", 8), *TRUNK, *RANDOM],
    "probe_fashion_on_photos.py": ["--config.train.batch_size=16", *RANDOM],
    "probe_imagenet2012.py": [*generated("imagenet2012", 8), *TRUNK, *RANDOM],
    "probe_places365.py": [*generated("places365_small", 8), *TRUNK, *RANDOM],
    "probe_stl10.py": [*generated("stl10", 8), *TRUNK, *RANDOM],
    "transformations_celeb_a.py": [*generated("celeb_a", 16), *RECOGNITION],
    "transformations_fashion_on_photos.py:rot_warp_lci": [
        "--config.train.batch_size=16",
        *online(24),
        "--config.eval.online.shots=1",
    ],
    "transformations_imagenet2012.py": [*generated("imagenet2012", 16), *RECOGNITION],
    "transformations_resnet34_stl10.py": [
        *generated("stl10", 8),
        *RESNET,
        "--config.inpainter.depth=4",
        "--config.critic.depth=4",
        *online(24),
        "--config.eval.online.shots=1",
    ],
    "transformations_stl10.py": [*generated("stl10", 16), *RECOGNITION],
    "../tests/toys/gan.py": [],
    "../tests/toys/clips.py": [],
    "../tests/toys/poses.py": [],
}
