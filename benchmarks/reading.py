"""Random pairs of windows, from every profile and both layouts, against PNG, WebDataset, LMDB and a memory map.

`python benchmarks/reading.py [--pairs 3] [--size 1944x1296] [--windows 120] [--window 512] [--rounds 5]
[--encoding srgb8] [--photographs DIR] [--workers 0,2] [--seed 0]`

Content: virtual pairs with sensor noise, and, where DIR is there, photographs of it, side by side, blurred by a disc
and with noise. The same windows at random places from every form, everything in the page cache: decoding is measured,
not the disk. A form is checked to give equal pixels, then all are read in turn, `rounds` times; the best round counts.

Frames: the window is cut from whole stored frames. Patches: exactly these windows were stored before. CPU ms is that of
one process; x PNG compares it and the bytes on disk with PNG files of the patches (of the frames for forms of frames;
their rate too is compared with that of PNG patches, the stricter one). WebDataset is read in order.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import lmdb
import numpy as np
import webdataset
from numpy.typing import NDArray

from capture.virtual.config import SimulateConfig
from capture.virtual.stage import Series
from capture.virtual.stage import simulate_pairs as shoot
from sdd_toolkit.frames.reading import read_full, read_white_balance
from sdd_toolkit.imaging.encoding import Encoding, encode
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.records import FileRef, FrameMeta, PairKind, PairRecord, ShardInfo
from sdd_toolkit.shards.codecs import Profile
from sdd_toolkit.shards.index import TRANSFER, Index, ShardHeader, write_index
from sdd_toolkit.shards.patch_reader import PatchReader
from sdd_toolkit.shards.patch_writer import write_patches
from sdd_toolkit.shards.reader import ShardReader
from sdd_toolkit.shards.schema import PackedPair, Patch
from sdd_toolkit.shards.writer import write_shard
from sdd_toolkit.storage.files import sha256_of

Pixels = NDArray[Any]
Both = tuple[Pixels, Pixels]
Window = tuple[int, int, int]
SHARD = "train-00000-of-00001.h5"
PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "natural"
SIDES = ("blur", "sharp")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to keep the pairs: how to read window number n, the bytes it takes, and how many reads suffice."""

    read: Callable[[int], Both]
    disk_bytes: int
    reads: int


def virtual_pairs(raw: Path, camera: SimulateConfig, pairs: int, seed: int, encoding: Encoding) -> list[Both]:
    shoot(raw, camera, Series(scenes=pairs, seed=seed), executor="local:2" if pairs > 1 else "serial")
    both = []
    for scene in sorted(raw.glob("scene-*")):
        balance = read_white_balance(scene / "sharp.dng")
        blur, sharp = (encode(read_full(scene / name, balance), encoding) for name in ("blur.dng", "sharp.dng"))
        both.append((blur, sharp))
    return both


def photographs(folder: Path, encoding: Encoding, seed: int) -> list[Both]:
    """Two pairs, each of six photographs side by side; the blurred frame has noise of 1/255, the sharp one its own."""
    images = [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob("kodak_*.png"))[:12]]
    images = [image if image.shape[0] < image.shape[1] else np.rot90(image) for image in images]
    draw = np.random.default_rng(seed)
    both = []
    for number in range(len(images) // 6):
        six = images[6 * number : 6 * number + 6]
        sharp = np.concatenate([np.concatenate(six[side : side + 3]) for side in (0, 3)], 1).astype(np.float32)
        radius = 4 + 2 * number
        rows, columns = np.mgrid[-radius - 1 : radius + 2, -radius - 1 : radius + 2]
        disc = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
        blur = cv2.filter2D(sharp, -1, (disc / disc.sum()).astype(np.float32)) + draw.normal(0, 1, sharp.shape)
        top = 255 if encoding is Encoding.SRGB8 else 65535
        fine = sharp if top == 255 else sharp + draw.normal(0, 0.25, sharp.shape)
        kind = np.uint8 if top == 255 else np.uint16
        blur, fine = (np.clip(np.rint(image * (top / 255)), 0, top).astype(kind) for image in (blur, fine))
        both.append((blur, fine))
    return both


def pack_pairs(
    folder: Path, images: list[Both], profile: Profile, encoding: Encoding, windows: list[Window], side: int
) -> Path:
    """A folder with one shard of all pairs, as `sdd pack` lays it out; its patches are the windows."""
    folder.mkdir()
    pairs = []
    for number, (blur, sharp) in enumerate(images):
        size = blur.shape[:2]
        flow = np.zeros((-(-size[0] // FLOW_FACTOR), -(-size[1] // FLOW_FACTOR), 2), np.float32)
        nowhere = FileRef("none.dng", 0, "")
        name, scene = f"pair-{number}", f"scene-{number}"
        record = PairRecord(name, scene, PairKind.FOCUS, nowhere, nowhere, FrameMeta(), FrameMeta())
        mine = [Patch(name, top, left, 1.0, 1.0) for which, top, left in windows if which == number]
        pairs.append((PackedPair(name, blur, sharp, np.ones(size, np.bool_), flow, record), mine))
    ids, patches = write_shard(folder / SHARD, ShardHeader("train", encoding, side, profile.codec), pairs)
    shard = ShardInfo(SHARD, "train", ids, patches, (folder / SHARD).stat().st_size, sha256_of(folder / SHARD))
    scenes = {"train": tuple(pair.record.scene for pair, _ in pairs)}
    about = (TRANSFER[encoding], side, profile.codec, "", "")
    write_index(folder, Index("reading", encoding, *about, scenes, (shard,)))
    return folder


def from_shard(folder: Path, windows: list[Window], side: int) -> Form:
    reader = ShardReader(folder)

    def read(number: int) -> Both:
        which, top, left = windows[number]
        return reader.read_images(f"pair-{which}", top, left, side, side)

    return Form(read, (folder / SHARD).stat().st_size, len(windows))


def from_patches(folder: Path, reads: int) -> Form:
    reader = PatchReader(folder)
    return Form(reader.read_images, sum(shard.bytes for shard in reader.index.shards), reads)


def from_png_frames(folder: Path, images: list[Both], windows: list[Window], side: int) -> Form:
    folder.mkdir()
    for number, pair in enumerate(images):
        for name, image in zip(SIDES, pair, strict=True):
            cv2.imwrite(str(folder / f"{number}-{name}.png"), image[..., ::-1])

    def read(number: int) -> Both:
        which, top, left = windows[number]
        rows, columns = slice(top, top + side), slice(left, left + side)
        blur, sharp = (read_png(folder / f"{which}-{name}.png")[rows, columns] for name in SIDES)
        return blur, sharp

    return Form(read, sum(path.stat().st_size for path in folder.iterdir()), max(1, len(windows) // 10))


def from_png_patches(folder: Path, cut: list[Both]) -> Form:
    folder.mkdir()
    for number, pair in enumerate(cut):
        for name, image in zip(SIDES, pair, strict=True):
            cv2.imwrite(str(folder / f"{number:06d}.{name}.png"), image[..., ::-1])

    def read(number: int) -> Both:
        blur, sharp = (read_png(folder / f"{number:06d}.{name}.png") for name in SIDES)
        return blur, sharp

    return Form(read, sum(path.stat().st_size for path in folder.iterdir()), len(cut))


def from_webdataset(path: Path, png: Path, count: int) -> Form:
    with webdataset.TarWriter(str(path)) as tar:
        for number in range(count):
            files = {f"{name}.png": (png / f"{number:06d}.{name}.png").read_bytes() for name in SIDES}
            tar.write({"__key__": f"{number:06d}", **files})

    def samples() -> Any:
        return iter(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))

    stream = {"next": 0, "samples": samples()}

    def read(number: int) -> Both:
        if number != stream["next"]:
            stream.update(samples=samples())
        sample = next(stream["samples"])
        stream["next"] = (number + 1) % count
        if not stream["next"]:
            stream.update(samples=samples())
        blur, sharp = (decoded_png(sample[f"{name}.png"]) for name in SIDES)
        return blur, sharp

    return Form(read, path.stat().st_size, count)


def from_lmdb(folder: Path, cut: list[Both], png: Path | None) -> Form:
    stored = lmdb.open(str(folder), map_size=1 << 34, lock=False)
    with stored.begin(write=True) as transaction:
        for number, pair in enumerate(cut):
            for name, image in zip(SIDES, pair, strict=True):
                key = f"{number:06d}.{name}"
                transaction.put(key.encode(), (png / f"{key}.png").read_bytes() if png else image.tobytes())
    shape, dtype = cut[0][0].shape, cut[0][0].dtype
    reading = stored.begin(buffers=True)

    def read(number: int) -> Both:
        values = [reading.get(f"{number:06d}.{name}".encode()) for name in SIDES]
        blur, sharp = (
            decoded_png(value) if png else np.frombuffer(value, dtype).reshape(shape).copy() for value in values
        )
        return blur, sharp

    return Form(read, (folder / "data.mdb").stat().st_size, len(cut))


def from_memmap(path: Path, images: list[Both], windows: list[Window], side: int) -> Form:
    """One flat file, frame after frame, the obvious format."""
    places, at = [], 0
    with path.open("wb") as stream:
        for pair in images:
            for image in pair:
                places.append((at, image.shape))
                at += stream.write(image.tobytes())
    maps = [np.memmap(path, images[0][0].dtype, "r", offset, shape) for offset, shape in places]

    def read(number: int) -> Both:
        which, top, left = windows[number]
        rows, columns = slice(top, top + side), slice(left, left + side)
        blur, sharp = (np.array(maps[2 * which + side_of][rows, columns]) for side_of in (0, 1))
        return blur, sharp

    return Form(read, path.stat().st_size, len(windows))


def read_png(path: Path) -> Pixels:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


def decoded_png(content: Any) -> Pixels:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


def measure_forms(forms: dict[str, Form], rounds: int) -> dict[str, tuple[float, float]]:
    """Best pairs per second, and fewest CPU ms a pair, of all forms read in turn."""
    best = dict.fromkeys(forms, (0.0, float("inf")))
    for _ in range(rounds):
        for name, form in forms.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for number in range(form.reads):
                form.read(number)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            rate, ms = best[name]
            best[name] = max(rate, form.reads / wall), min(ms, cpu / form.reads * 1e3)
    return best


def all_forms(
    folder: Path, images: list[Both], windows: list[Window], side: int, encoding: Encoding
) -> tuple[dict[str, Form], dict[str, Form]]:
    """(of frames, of patches); the first of each are PNG files."""
    cut = [tuple(image[t : t + side, x : x + side].copy() for image in images[which]) for which, t, x in windows]
    frames = {"PNG frames": from_png_frames(folder / "png-frames", images, windows, side)}
    patches = {"PNG patches": from_png_patches(folder / "png", cut)}
    for profile in Profile:
        shards = pack_pairs(folder / profile.value, images, profile, encoding, windows, side)
        frames[f"frames, {profile.value}"] = from_shard(shards, windows, side)
        write_patches(shards, folder / f"{profile.value}-patches")
        patches[f"patches, {profile.value}"] = from_patches(folder / f"{profile.value}-patches", len(windows))
    frames["memmap of frames"] = from_memmap(folder / "frames.raw", images, windows, side)
    patches["WebDataset of PNG"] = from_webdataset(folder / "patches.tar", folder / "png", len(windows))
    patches["LMDB of PNG"] = from_lmdb(folder / "png.lmdb", cut, folder / "png")
    patches["LMDB of raw pixels"] = from_lmdb(folder / "raw.lmdb", cut, None)
    single = [(number, 0, 0) for number in range(len(cut))]
    patches["memmap of patches"] = from_memmap(folder / "patches.raw", cut, single, side)
    for name, form in {**frames, **patches}.items():
        for number in range(form.reads):
            for found, expected in zip(form.read(number), cut[number], strict=True):
                assert np.array_equal(found, expected), name
    return frames, patches


def loaders(folder: Path, windows: list[Window], workers: int, rounds: int) -> dict[str, float]:
    """Pairs per second of torch loaders with so many workers, batches of 8, each after an epoch to get going."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from jdrl.data.datasets import PatchDataset, PatchStream

    class PngDataset(Dataset[dict[str, Any]]):
        def __len__(self) -> int:
            return len(windows)

        def __getitem__(self, number: int) -> dict[str, Any]:
            files = {name: read_png(folder / "png" / f"{number:06d}.{name}.png") for name in SIDES}
            return {name: torch.from_numpy(image).permute(2, 0, 1) for name, image in files.items()}

    how: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    if workers:
        how["multiprocessing_context"] = "fork"
    streams: dict[str, Any] = {"PNG patches": DataLoader(PngDataset(), batch_size=8, shuffle=True, **how)}
    for profile in Profile:
        data = PatchDataset(folder / profile.value)
        streams[f"frames, {profile.value}"] = PatchStream(data, 8, workers=workers, start="fork", drop_last=False)
    best = dict.fromkeys(streams, 0.0)
    for turn in range(rounds + 1):
        for name, stream in streams.items():
            started = time.perf_counter()
            count = sum(len(batch["blur"]) for batch in stream)
            if turn:
                best[name] = max(best[name], count / (time.perf_counter() - started))
    return best


def show(kind: str, images: list[Both], options: argparse.Namespace) -> None:
    side, encoding = options.window, Encoding(options.encoding)
    draw = np.random.default_rng(options.seed)
    windows: list[Window] = []
    for number in sorted(draw.integers(0, len(images), options.windows).tolist()):
        height, width = images[number][0].shape[:2]
        windows.append((number, int(draw.integers(0, height - side + 1)), int(draw.integers(0, width - side + 1))))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        frames, patches = all_forms(folder, images, windows, side, encoding)
        found = measure_forms({**frames, **patches}, options.rounds)
        png = found["PNG patches"][1]
        print(f"\n{kind}: {len(images)} pairs, {len(windows)} windows of 2x{side}x{side}x3 {encoding.value}")
        print(f"{'':24s}{'pairs/s':>10s}{'CPU ms/pair':>13s}{'x PNG rate':>12s}{'MB':>9s}{'x PNG size':>12s}")
        for forms in (frames, patches):
            size = next(iter(forms.values())).disk_bytes
            for name, form in forms.items():
                rate, ms = found[name]
                line = f"{name:24s}{rate:>10.0f}{ms:>13.2f}{png / ms:>12.2f}"
                print(f"{line}{form.disk_bytes / 1e6:>9.1f}{form.disk_bytes / size:>12.3f}", flush=True)
        counts = [int(count) for count in options.workers.split(",")]
        columns = [loaders(folder, windows, count, options.rounds) for count in counts]
        print(f"{'torch DataLoader':24s}" + "".join(f"{f'{count} workers':>12s}" for count in counts) + "   pairs/s")
        for name in columns[0]:
            print(f"{'loader, ' + name:24s}" + "".join(f"{column[name]:>12.0f}" for column in columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="virtual pairs to store")
    parser.add_argument("--size", default="1944x1296", help="WxH of the virtual frames")
    parser.add_argument("--windows", type=int, default=120)
    parser.add_argument("--window", type=int, default=512, help="edge of a window in px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoding", default="srgb8", choices=[each.value for each in Encoding])
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in options.size.split("x"))
    camera = SimulateConfig(width=width, height=height, pixel_pitch_um=min(100.0, 36000 / width))
    encoding = Encoding(options.encoding)
    with tempfile.TemporaryDirectory() as scratch:
        images = virtual_pairs(Path(scratch) / "raw", camera, options.pairs, options.seed, encoding)
    show("virtual", images, options)
    if len(sorted(options.photographs.glob("kodak_*.png"))) >= 6:
        show("photographs", photographs(options.photographs, encoding, options.seed), options)


if __name__ == "__main__":
    main()
