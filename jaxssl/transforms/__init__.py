"""Image transforms as pure functions: jit, vmap and grad work through all of them.

A random transform is three functions: ``x_params(key)`` draws, ``x(image, ...)``
applies, ``random_x(key, image)`` does both and returns the parameters as well. Images
are ``(..., H, W, C)``; parameters are shared over the leading axes; batches come from
`jax.vmap` or `batched`. Geometric transforms keep the dtype, uint8 included.
Coordinates are (y, x) with pixel centres at integers. Needs only jax and NumPy.
"""

import inspect

from jaxssl.transforms.adapters import grain_map as grain_map
from jaxssl.transforms.blur import BlurParams as BlurParams
from jaxssl.transforms.blur import gaussian_blur as gaussian_blur
from jaxssl.transforms.blur import gaussian_blur_params as gaussian_blur_params
from jaxssl.transforms.blur import random_gaussian_blur as random_gaussian_blur
from jaxssl.transforms.clips import TemporalParams as TemporalParams
from jaxssl.transforms.clips import temporal_batch as temporal_batch
from jaxssl.transforms.clips import temporal_params as temporal_params
from jaxssl.transforms.color import FactorParams as FactorParams
from jaxssl.transforms.color import GrayscaleParams as GrayscaleParams
from jaxssl.transforms.color import brightness as brightness
from jaxssl.transforms.color import brightness_params as brightness_params
from jaxssl.transforms.color import contrast as contrast
from jaxssl.transforms.color import contrast_params as contrast_params
from jaxssl.transforms.color import grayscale as grayscale
from jaxssl.transforms.color import grayscale_params as grayscale_params
from jaxssl.transforms.color import normalize as normalize
from jaxssl.transforms.color import random_brightness as random_brightness
from jaxssl.transforms.color import random_contrast as random_contrast
from jaxssl.transforms.color import random_grayscale as random_grayscale
from jaxssl.transforms.color import random_saturation as random_saturation
from jaxssl.transforms.color import saturation as saturation
from jaxssl.transforms.color import saturation_params as saturation_params
from jaxssl.transforms.compose import batched as batched
from jaxssl.transforms.compose import chain as chain
from jaxssl.transforms.compose import maybe as maybe
from jaxssl.transforms.crops import CropParams as CropParams
from jaxssl.transforms.crops import crop as crop
from jaxssl.transforms.crops import crop_coords as crop_coords
from jaxssl.transforms.crops import crop_params as crop_params
from jaxssl.transforms.crops import random_crop as random_crop
from jaxssl.transforms.features import damage as damage
from jaxssl.transforms.features import drop_mask as drop_mask
from jaxssl.transforms.features import local_average as local_average
from jaxssl.transforms.features import upsample_mask as upsample_mask
from jaxssl.transforms.freewarp import FreeWarpParams as FreeWarpParams
from jaxssl.transforms.freewarp import free_warp as free_warp
from jaxssl.transforms.freewarp import free_warp_coords as free_warp_coords
from jaxssl.transforms.freewarp import free_warp_flow as free_warp_flow
from jaxssl.transforms.freewarp import free_warp_params as free_warp_params
from jaxssl.transforms.freewarp import random_free_warp as random_free_warp
from jaxssl.transforms.geometric import FlipParams as FlipParams
from jaxssl.transforms.geometric import Rot90Params as Rot90Params
from jaxssl.transforms.geometric import RotateParams as RotateParams
from jaxssl.transforms.geometric import all_rotations as all_rotations
from jaxssl.transforms.geometric import hflip as hflip
from jaxssl.transforms.geometric import hflip_coords as hflip_coords
from jaxssl.transforms.geometric import hflip_params as hflip_params
from jaxssl.transforms.geometric import random_hflip as random_hflip
from jaxssl.transforms.geometric import random_rot90 as random_rot90
from jaxssl.transforms.geometric import random_rotate as random_rotate
from jaxssl.transforms.geometric import random_vflip as random_vflip
from jaxssl.transforms.geometric import rot90 as rot90
from jaxssl.transforms.geometric import rot90_coords as rot90_coords
from jaxssl.transforms.geometric import rot90_params as rot90_params
from jaxssl.transforms.geometric import rotate as rotate
from jaxssl.transforms.geometric import rotate_coords as rotate_coords
from jaxssl.transforms.geometric import rotate_params as rotate_params
from jaxssl.transforms.geometric import vflip as vflip
from jaxssl.transforms.geometric import vflip_coords as vflip_coords
from jaxssl.transforms.geometric import vflip_params as vflip_params
from jaxssl.transforms.hue import HueParams as HueParams
from jaxssl.transforms.hue import hue as hue
from jaxssl.transforms.hue import hue_params as hue_params
from jaxssl.transforms.hue import random_hue as random_hue
from jaxssl.transforms.jitter import ColorJitterParams as ColorJitterParams
from jaxssl.transforms.jitter import color_jitter as color_jitter
from jaxssl.transforms.jitter import color_jitter_params as color_jitter_params
from jaxssl.transforms.jitter import random_color_jitter as random_color_jitter
from jaxssl.transforms.labels import LabelNoiseParams as LabelNoiseParams
from jaxssl.transforms.labels import MixupParams as MixupParams
from jaxssl.transforms.labels import label_noise as label_noise
from jaxssl.transforms.labels import label_noise_params as label_noise_params
from jaxssl.transforms.labels import mixup as mixup
from jaxssl.transforms.labels import mixup_params as mixup_params
from jaxssl.transforms.labels import random_label_noise as random_label_noise
from jaxssl.transforms.labels import random_mixup as random_mixup
from jaxssl.transforms.labels import smooth_labels as smooth_labels
from jaxssl.transforms.multiview import flip_pose as flip_pose
from jaxssl.transforms.multiview import foreground_mask as foreground_mask
from jaxssl.transforms.multiview import median_background as median_background
from jaxssl.transforms.multiview import remove_background as remove_background
from jaxssl.transforms.multiview import substitute_background as substitute_background
from jaxssl.transforms.pairs import PAIRS as PAIRS
from jaxssl.transforms.pairs import ViewPairParams as ViewPairParams
from jaxssl.transforms.pairs import view_pair_batch as view_pair_batch
from jaxssl.transforms.pairs import view_pair_params as view_pair_params
from jaxssl.transforms.pairs import view_pairs as view_pairs
from jaxssl.transforms.patches import border_mask as border_mask
from jaxssl.transforms.patches import erase_center as erase_center
from jaxssl.transforms.patches import extract_patch as extract_patch
from jaxssl.transforms.patches import paste_patch as paste_patch
from jaxssl.transforms.pretext import TRANSFORMATIONS as TRANSFORMATIONS
from jaxssl.transforms.pretext import TransformationParams as TransformationParams
from jaxssl.transforms.pretext import ViewParams as ViewParams
from jaxssl.transforms.pretext import rotation_batch as rotation_batch
from jaxssl.transforms.pretext import stack_transformations as stack_transformations
from jaxssl.transforms.pretext import transformation_batch as transformation_batch
from jaxssl.transforms.pretext import transformation_params as transformation_params
from jaxssl.transforms.pretext import transformation_views as transformation_views
from jaxssl.transforms.resized import ResizedCropParams as ResizedCropParams
from jaxssl.transforms.resized import random_resized_crop as random_resized_crop
from jaxssl.transforms.resized import resized_crop as resized_crop
from jaxssl.transforms.resized import resized_crop_coords as resized_crop_coords
from jaxssl.transforms.resized import resized_crop_params as resized_crop_params
from jaxssl.transforms.sampling import CoordMap as CoordMap
from jaxssl.transforms.sampling import bilinear_sample as bilinear_sample
from jaxssl.transforms.sampling import geometric_chain as geometric_chain
from jaxssl.transforms.tiles import JigsawParams as JigsawParams
from jaxssl.transforms.tiles import PixelPermutationParams as PixelPermutationParams
from jaxssl.transforms.tiles import jigsaw as jigsaw
from jaxssl.transforms.tiles import jigsaw_params as jigsaw_params
from jaxssl.transforms.tiles import pixel_permutation as pixel_permutation
from jaxssl.transforms.tiles import pixel_permutation_params as pixel_permutation_params
from jaxssl.transforms.tiles import random_jigsaw as random_jigsaw
from jaxssl.transforms.tiles import random_pixel_permutation as random_pixel_permutation
from jaxssl.transforms.tiles import tile as tile
from jaxssl.transforms.tiles import untile as untile
from jaxssl.transforms.time import KINDS as KINDS
from jaxssl.transforms.time import max_kappa as max_kappa
from jaxssl.transforms.time import periodic_indices as periodic_indices
from jaxssl.transforms.time import random_indices as random_indices
from jaxssl.transforms.time import speed_indices as speed_indices
from jaxssl.transforms.time import take_frames as take_frames
from jaxssl.transforms.time import temporal_indices as temporal_indices
from jaxssl.transforms.time import warp_indices as warp_indices
from jaxssl.transforms.warp import WarpParams as WarpParams
from jaxssl.transforms.warp import random_warp as random_warp
from jaxssl.transforms.warp import warp as warp
from jaxssl.transforms.warp import warp_coords as warp_coords
from jaxssl.transforms.warp import warp_flow as warp_flow
from jaxssl.transforms.warp import warp_params as warp_params
from jaxssl.transforms.warp import warp_points as warp_points

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    name
    for name, value in list(globals().items())
    if not name.startswith("_") and not inspect.ismodule(value)
]
