"""Deblurring networks: any module `B -> D` or `B -> [D_0, D_1, …]`, first output final."""

from __future__ import annotations

from jdrl.networks.build import build_network, fitting, load_published, reach_px, restore
from jdrl.networks.catalogue import KNOWN, names
from jdrl.networks.guidance import Guide, GuidedNetwork, guided, unguided
from jdrl.networks.localised import Localised, localised
from jdrl.networks.nafnet import NAFNet
from jdrl.networks.unet import UNet

__all__ = [
    "KNOWN",
    "Guide",
    "GuidedNetwork",
    "Localised",
    "NAFNet",
    "UNet",
    "build_network",
    "fitting",
    "guided",
    "load_published",
    "localised",
    "names",
    "reach_px",
    "restore",
    "unguided",
]
