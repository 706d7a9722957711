"""The layouts that `sdd export` writes, as a table: the path of each frame; a new layout is a new row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportLayout:
    """An exported layout, its folders as templates with `{split}`.

    Attributes:
        frame_pattern: Its folders, in a few words.
        blur: Folder of the blurred frames.
        sharp: Folder of the sharp ones.
        valid: Folder of the masks of pairs that have invalid pixels.
        patches: Parent of the two folders of training patches, which have the names of those of the frames.
        suffix: Suffix of the files.
        archive: Whether one tar a shard is written instead of folders.
    """

    frame_pattern: str
    blur: str = ""
    sharp: str = ""
    valid: str = "{split}/valid"
    patches: str = "{split}_patches"
    suffix: str = ".png"
    archive: bool = False

    def frame_path(self, role: str, split: str, name: str) -> str:
        """The path of a frame; `role` is `blur`, `sharp` or `valid`."""
        folder: str = getattr(self, role).format(split=split)
        return f"{folder}/{name}{self.suffix}"

    def patch_path(self, role: str, split: str, name: str) -> str:
        """The path of a patch."""
        last = getattr(self, role).rpartition("/")[2]
        return f"{self.patches.format(split=split)}/{last}/{name}{self.suffix}"


EXPORT_LAYOUTS: dict[str, ExportLayout] = {
    "sdd": ExportLayout("train|val|test/{blur,gt}", "{split}/blur", "{split}/gt"),
    "dpdd": ExportLayout(
        "train_c|val_c|test_c/{source,target}",
        "{split}_c/source",
        "{split}_c/target",
        valid="{split}_c/valid",
        patches="patch/{split}_c",
    ),
    "png": ExportLayout("train|val|test/{blur,sharp}", "{split}/blur", "{split}/sharp"),
    "tiff": ExportLayout("train|val|test/{blur,sharp}", "{split}/blur", "{split}/sharp", suffix=".tif"),
    "webdataset": ExportLayout("one tar a shard: KEY.blur.png, KEY.json, KEY.sharp.png", archive=True),
}
