"""Image transforms as pure functions: jit, vmap and grad work through all of them.

A random transform is three functions: ``x_params(key)`` draws, ``x(image, ...)``
applies, ``random_x(key, image)`` does both and returns the parameters as well. Images
are ``(..., H, W, C)``; parameters are shared over the leading axes; batches come from
`jax.vmap` or `batched`. Geometric transforms keep the dtype, uint8 included.
Coordinates are (y, x) with pixel centres at integers. Needs only jax and NumPy.
"""

from jaxssl.transforms.compose import batched
from jaxssl.transforms.crops import (
    CropParams,
    crop,
    crop_coords,
    crop_params,
    random_crop,
)
from jaxssl.transforms.freewarp import (
    FreeWarpParams,
    free_warp,
    free_warp_coords,
    free_warp_flow,
    free_warp_params,
    random_free_warp,
)
from jaxssl.transforms.geometric import (
    FlipParams,
    Rot90Params,
    RotateParams,
    all_rotations,
    hflip,
    hflip_coords,
    hflip_params,
    random_hflip,
    random_rot90,
    random_rotate,
    random_vflip,
    rot90,
    rot90_coords,
    rot90_params,
    rotate,
    rotate_coords,
    rotate_params,
    vflip,
    vflip_coords,
    vflip_params,
)
from jaxssl.transforms.patches import (
    border_mask,
    erase_center,
    extract_patch,
    paste_patch,
)
from jaxssl.transforms.sampling import CoordMap, bilinear_sample, geometric_chain
from jaxssl.transforms.time import (
    KINDS,
    max_kappa,
    periodic_indices,
    random_indices,
    speed_indices,
    take_frames,
    temporal_indices,
    warp_indices,
)
from jaxssl.transforms.warp import (
    WarpParams,
    random_warp,
    warp,
    warp_coords,
    warp_flow,
    warp_params,
    warp_points,
)

__all__ = [
    "KINDS",
    "CoordMap",
    "CropParams",
    "FlipParams",
    "FreeWarpParams",
    "Rot90Params",
    "RotateParams",
    "WarpParams",
    "all_rotations",
    "batched",
    "bilinear_sample",
    "border_mask",
    "crop",
    "crop_coords",
    "crop_params",
    "erase_center",
    "extract_patch",
    "free_warp",
    "free_warp_coords",
    "free_warp_flow",
    "free_warp_params",
    "geometric_chain",
    "hflip",
    "hflip_coords",
    "hflip_params",
    "max_kappa",
    "paste_patch",
    "periodic_indices",
    "random_crop",
    "random_free_warp",
    "random_hflip",
    "random_indices",
    "random_rot90",
    "random_rotate",
    "random_vflip",
    "random_warp",
    "rot90",
    "rot90_coords",
    "rot90_params",
    "rotate",
    "rotate_coords",
    "rotate_params",
    "speed_indices",
    "take_frames",
    "temporal_indices",
    "vflip",
    "vflip_coords",
    "vflip_params",
    "warp",
    "warp_coords",
    "warp_flow",
    "warp_indices",
    "warp_params",
    "warp_points",
]
