"""Hidden files, and files and folders that operating systems, editors and downloads leave beside photographs, by name.

Every command that lists a folder leaves them out by this one rule and says so in its list of rejected files.
"""

from __future__ import annotations

_FOLDERS = {
    "__macosx": "archive data of macOS",
    "@eadir": "thumbnails of a Synology NAS",
    "@recycle": "a recycle bin",
    "@recently-snapshot": "snapshots of a NAS",
    "@tmp": "temporary files of a NAS",
    "#recycle": "a recycle bin",
    "#snapshot": "snapshots of a NAS",
    "$recycle.bin": "a recycle bin",
    "recycler": "a recycle bin",
    "system volume information": "data of Windows",
    "lost+found": "remains that a file system check found",
    "lost.dir": "remains that a file system check found",
}
_FILES = {
    "thumbs.db": "thumbnails of Windows",
    "ehthumbs.db": "thumbnails of Windows",
    "desktop.ini": "settings of Windows",
    "icon\r": "an icon of macOS",
}
_ENDINGS = {
    "~": "the backup of an editor",
    ".bak": "a backup",
    ".swp": "the swap file of an editor",
    ".tmp": "a temporary file",
    ".part": "an unfinished download",
    ".partial": "an unfinished copy",
    ".crdownload": "an unfinished download",
    ".download": "an unfinished download",
    ".filepart": "an unfinished upload",
    ".!sync": "an unfinished synchronisation",
    ".sync": "an unfinished synchronisation",
    ".icloud": "a file that is still in iCloud",
}


def system_file(name: str) -> str:
    """What a file is that is no photograph by its name, whatever its suffix; empty for any other file.

    Args:
        name: The file's name without its folder.

    Example:
        >>> system_file("._IMG_1.png"), system_file("Thumbs.db"), system_file("IMG_1.png")
        ('AppleDouble data of macOS', 'thumbnails of Windows', '')
    """
    lower = name.lower()
    if lower.startswith("._"):
        return "AppleDouble data of macOS"
    if lower.startswith("."):
        return "a hidden file"
    if lower.startswith("~$"):
        return "the lock file of an open document"
    ending = next((what for end, what in _ENDINGS.items() if lower.endswith(end)), "")
    return _FILES.get(lower, ending)


def system_folder(name: str) -> str:
    """What a folder is in which no photographs are searched; empty for any other folder.

    Args:
        name: The folder's name without its parents.

    Example:
        >>> system_folder("@eaDir"), system_folder(".ipynb_checkpoints"), system_folder("train")
        ('thumbnails of a Synology NAS', 'a hidden folder', '')
    """
    return "a hidden folder" if name.startswith(".") else _FOLDERS.get(name.lower(), "")
