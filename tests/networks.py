"""The networks that the contract suite runs over: one line each.

A value makes a small network and the shape of one of its inputs.
"""

from jaxssl.models.alexnet import alexnet, original_alexnet
from jaxssl.models.cifarnet import cifarnet
from jaxssl.models.convnet import convnet
from jaxssl.models.critic import critic
from jaxssl.models.inception import inception
from jaxssl.models.inpainter import inpainter
from jaxssl.models.mlp import mlp
from jaxssl.models.preact_resnet import preact_resnet18
from jaxssl.models.resnet import resnet

TINY = {"width": 0.125, "fc_features": 16, "init": "he", "stem_kernel": 5}

NETWORKS = {
    "alexnet": lambda: (alexnet(6, **TINY), (32, 32, 3)),
    "alexnet_valid": lambda: (alexnet(6, padding="VALID", **TINY), (64, 64, 3)),
    "alexnet_trunk": lambda: (alexnet(None, **TINY), (32, 32, 3)),
    "alexnet_original": lambda: (
        original_alexnet(6, width=0.125, fc_features=16),
        (67, 67, 3),
    ),
    "cifarnet": lambda: (cifarnet(10, width=0.125), (16, 16, 3)),
    "convnet": lambda: (convnet(10, channels=(4, 8), features=16), (10, 10, 3)),
    "critic": lambda: (critic(num_stages=2, depth=8), (16, 16, 6)),
    "inception": lambda: (inception(10, width=0.125), (13, 13, 3)),
    "inpainter": lambda: (inpainter(depth=8, num_layers=4), (16, 16, 3)),
    "mlp": lambda: (mlp(10, features=(16, 8), dropout=0.5), (6, 6, 3)),
    "mlp_plain": lambda: (mlp(10, features=(16,), norm=False), (6, 6, 1)),
    "preact_resnet18": lambda: (preact_resnet18(10, width=8), (16, 16, 3)),
    "resnet18": lambda: (resnet(18, 10, stem="small", width=8), (16, 16, 3)),
    "resnet50": lambda: (resnet(50, 10, width=8), (32, 32, 3)),
}
