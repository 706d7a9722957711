"""Deblurring networks: any module `B -> D` or `B -> [D_0, D_1, …]`, final output first."""

from __future__ import annotations

from jdrl.networks.build import build_network, check_weights, load_published, match_weights, reach_px, restore
from jdrl.networks.catalogue import BUILT_IN, network_names
from jdrl.networks.guidance import Guide, GuidedNetwork, add_guide, unwrap_guide
from jdrl.networks.localised import LocalisedNetwork, localise
from jdrl.networks.nafnet import NAFNet
from jdrl.networks.unet import UNet

__all__ = [
    "BUILT_IN",
    "Guide",
    "GuidedNetwork",
    "LocalisedNetwork",
    "NAFNet",
    "UNet",
    "add_guide",
    "build_network",
    "check_weights",
    "load_published",
    "localise",
    "match_weights",
    "network_names",
    "reach_px",
    "restore",
    "unwrap_guide",
]
