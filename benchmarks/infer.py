"""Inference: seams against the whole frame, memory and time, for every network.

`python benchmarks/infer.py` prints, for narrow copies of all networks with random weights, how far tiles are from the
whole frame. `--memory` prints, for the published widths, the tile that is chosen by default and what it takes;
`--whole unet` what a frame of 4096x2160 takes, which is half an hour of one core. `--speed --networks default` prints
CPU seconds a megapixel, with and without windows, in both precisions, and how far their answers are apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

# A script's own folder comes first otherwise, and there benchmarks/jdrl.py would hide the package `jdrl`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fresh_process import resident_mb
from jdrl.checkpoints.arguments import checkpoint_path
from jdrl.checkpoints.deblurrer import PUBLISHED_WINDOW_PX, Deblurrer, of_checkpoint
from jdrl.config import DeblurConfig
from jdrl.inference.deblur import deblur, deblur_files
from jdrl.inference.tiles import choose_tiling
from jdrl.networks import BUILT_IN, LocalisedNetwork, build_network, localise, restore
from jdrl.networks.memory import peak_bytes
from sdd_toolkit.imaging.encoding import Encoding

NARROW: dict[str, dict[str, object]] = {
    "unet": {"width": 16},
    "nafnet": {"width": 16},
    "restormer": {"width": 16},
    "mprnet": {"width": 16, "unet_growth": 8, "orsnet_growth": 6},
    "ifan": {"width": 16},
}
SHALLOW: dict[str, dict[str, object]] = {
    "nafnet": {"encoder_blocks": [1, 1, 1, 1]},
    "nafnet64": {"encoder_blocks": [1, 1, 1, 1]},
    "restormer": {"blocks": [1, 1, 1, 1], "refinement_blocks": 1},
    "mprnet": {"orsnet_blocks": 1},
}
"""For the memory: one block a level takes a fraction of the time, and leaves what is held at once as it is."""
FRAME = (2160, 4096)


def picture(height: int, width: int) -> Tensor:
    """(3, H, W) of 1/f noise, darker on the right: averages differ across it."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    noise = np.random.default_rng(0).standard_normal((3, height, width))
    image = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(height, width))
    image = (0.5 + 0.2 * image / image.std()).clip(0, 1)
    image[..., width // 2 :] *= 0.5
    return torch.from_numpy(image).float()


def randomise(network: nn.Module, image: Tensor) -> nn.Module:
    """Noise of the scale that keeps a layer's variance, seeded by names; a residual of 0.1, much for deblurring."""
    for name, parameter in network.named_parameters():
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(parameter.shape)
        fan_in = parameter[0].numel() if parameter.dim() >= 2 else 1
        centre = 1.0 if name.endswith(("weight", "temperature")) else 0.0
        value = noise / np.sqrt(fan_in) if fan_in > 1 else centre + 0.1 * noise
        parameter.data = torch.from_numpy(value).float()
    last = [module for name, module in network.named_modules() if name in ("ending", "output", "tail", "out_res.0")]
    network.train()  # IFAN clips its answer otherwise
    with torch.inference_mode():
        residual = restore(network, image[None])[0][0] - image
    for parameter in (parameter for module in last for parameter in module.parameters()):
        parameter.data = parameter.data * (0.1 / float(residual.std()))
    return network.eval()


def seams(names: list[str], height: int, width: int, tile: int, window: int) -> None:
    image = picture(height, width)
    print(f"{height}x{width}, tiles of {tile} px, windows of {window} px; differences to the whole frame in 1/255")
    print(f"{'':24s}{'overlap px':>12s}{'largest':>12s}{'mean':>12s}{'as it was':>12s}")
    for name in (name for name in names if name in NARROW):
        network = randomise(build_network(name, **NARROW[name]), image[:, :256, :256])
        local = localise(network, window)
        _, overlap = choose_tiling(local, DeblurConfig(tile=tile))
        whole, tiled = (deblur(local, image, tile=side, overlap=overlap) for side in (0, tile))
        # Statistics of every tile alone, and an overlap of 128 px.
        plain, before = (deblur(network, image, tile=side, overlap=min(128, tile // 2)) for side in (0, tile))
        difference = (whole - tiled).abs() * 255
        was = float((plain - before).abs().max()) * 255
        print(f"{name:24s}{overlap:12d}{difference.max():12.4f}{difference.mean():12.6f}{was:12.2f}", flush=True)


def memory(names: list[str]) -> None:
    empty, full = child("nothing", 64, 64), child("nothing", *FRAME)
    print("tile: what a process that deblurs one tile from file to file takes at most; frame: with 4096x2160 around it")
    print(f"{'':24s}{'tile px':>12s}{'overlap px':>12s}{'estimate MB':>12s}{'tile MB':>12s}{'frame MB':>12s}")
    for name in names:
        with torch.device("meta"):
            local = localise(build_network(name).eval(), PUBLISHED_WINDOW_PX)
        tile, overlap = choose_tiling(local, DeblurConfig(device="cpu"))
        estimate = (peak_bytes(local, tile, tile) or 0) / 1e6
        peak = child(name, tile, tile)
        whole = peak + (full - empty) * (1 - tile * tile / (FRAME[0] * FRAME[1]))
        print(f"{name:24s}{tile:12d}{overlap:12d}{estimate:12.0f}{peak:12.0f}{whole:12.0f}", flush=True)


def child(name: str, height: int, width: int) -> float:
    """Peak MB of a process that deblurs one photograph."""
    command = [sys.executable, __file__, "--child", name, "--size", f"{width}x{height}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def speed(names: list[str], height: int, width: int) -> None:
    image, megapixels = picture(height, width), height * width / 1e6
    print(f"{height}x{width}, {torch.get_num_threads()} threads; CPU s a megapixel, and bfloat16 against float32")
    print(f"{'':24s}{'M weights':>12s}{'float32':>12s}{'no windows':>12s}{'bfloat16':>12s}{'apart dB':>12s}")
    for name in names:
        network = load_named(name)
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        tile, overlap = choose_tiling(network, DeblurConfig(device="cpu"))
        bare = network.network if isinstance(network, LocalisedNetwork) else network
        answers, spent = [], []
        for runs, bfloat16 in ((network, False), (bare, False), (network, True)):
            start = time.process_time()
            answers.append(deblur(runs, image, tile=tile, overlap=overlap, bfloat16=bfloat16))
            spent.append((time.process_time() - start) / megapixels)
        apart = -10 * float(torch.log10((answers[0] - answers[2]).square().mean() + 1e-12))
        print(f"{name:24s}{count:12.2f}{spent[0]:12.2f}{spent[1]:12.2f}{spent[2]:12.2f}{apart:12.1f}", flush=True)


def load_named(name: str) -> nn.Module:
    """A network of the catalogue with new weights, the default network, or that of a checkpoint's path."""
    if name in BUILT_IN:
        return localise(build_network(name), PUBLISHED_WINDOW_PX).eval()
    return of_checkpoint(checkpoint_path(name)).network


def deblur_one(name: str, height: int, width: int, options: dict[str, object]) -> tuple[float, float]:
    """Peak MB of this process and CPU seconds."""
    network = Nothing() if name == "nothing" else localise(build_network(name, **options), PUBLISHED_WINDOW_PX)
    deblurrer = Deblurrer(network.eval(), Encoding.SRGB16, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65536, (height, width, 3)).astype(np.uint16))
        start = time.process_time()
        # The tile of the published depth, whatever the depth here.
        tile = 0 if options else None
        _, failures = deblur_files(deblurrer, [path], Path(folder), DeblurConfig(tile=tile, device="cpu"))
        assert not failures, failures
        spent = time.process_time() - start
    return resident_mb("VmHWM"), spent


class Nothing(nn.Module):
    """A network without work: the cost of reading, tiling and writing remains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, blurred: Tensor) -> Tensor:
        return blurred * self.weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="768x256", help="of the frame for the seams, WxH")
    parser.add_argument("--tile", type=int, default=448)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--networks", default=",".join(BUILT_IN))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--whole", default="", metavar="NETWORK")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = (int(side) for side in options.size.split("x"))
    if options.child:
        print(deblur_one(options.child, height, width, SHALLOW.get(options.child, {}))[0])
    elif options.whole:
        peak, seconds = deblur_one(options.whole, *FRAME, {})
        print(f"{options.whole}, 4096x2160, whole from file to file: {peak:.0f} MB at most, {seconds:.0f} CPU s")
    elif options.speed:
        speed(options.networks.split(","), height, width)
    elif options.memory:
        memory(options.networks.split(","))
    else:
        seams(options.networks.split(","), height, width, options.tile, options.window)


if __name__ == "__main__":
    main()
