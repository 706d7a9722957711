"""Template of a commented shooting plan, written by `sdd capture plan`."""

from __future__ import annotations

_TEXT = """\
# Shot list for `sdd capture run plan.toml`. Every key: docs/tethering.md. An unknown key is an error.

[camera]
driver = "gphoto2"            # any camera libgphoto2 supports; "virtual" rehearses without one
# model = "Nikon"             # part of the name, where several cameras are connected
# port = "usb:001,005"        # see: sdd capture cameras

[camera.settings]             # set once, by the camera's own names: sdd capture cameras --settings
capturetarget = "Memory card" # a frame on the card can be fetched again after a lost connection
# imagequality = "NEF (Raw)"  # Nikon; Canon: imageformat = "RAW"
# autofocus = "Off"           # with autofocus on, many cameras refuse to shoot

[session]
out = "session"               # folder of the frames and of session.jsonl, relative to this file
scenes = {scenes:<22}# scene-0001 ... as in [defaults]; on a terminal you are asked before each
repeats = 1                   # number of times that each frame is taken
settle_s = 1.0                # pause after a change of settings or focus
timer_s = 0.0                 # self-timer before every single frame
mirror_up = false             # the camera's own exposure delay (mirror up first)
timeout_s = 30.0              # longest wait for a busy camera, a setting or a frame
retries = 3                   # attempts to restore a lost connection
exif = "warn"                 # a frame whose EXIF contradicts the settings: "warn", "strict" or "off"

[check]                       # after each shot; on a terminal you are asked whether to repeat the scene
max_clipped_fraction = 0.05   # more saturated pixels: over-exposed
max_exposure_ev = 0.5         # larger difference of brightness within a pair
min_sharpness_gain = 1.05     # smaller gain in fine detail: the sharp frame is hardly sharper

[defaults]                    # the frames of every scene that does not say otherwise
kind = "{kind}"
{pair}
# [[scene]]                   # one table for each scene that differs, or has a name of its own
# name = "bookshelf"
# note = "tripod low, focus on the third spine"
# apertures = ["f/4", "f/16"]
"""
_APERTURE = """\
apertures = ["f/2.8", "f/16"] # the largest number is the sharp frame, the others are blurred ones
shutter = "1/100"             # at the first aperture; the others get the time of equal exposure
# iso = 100
"""
_FOCUS = """\
focus_steps = [0, 40]         # focus drive, from where the lens stands; the first frame is the sharp one
# aperture = "f/2.8"
# shutter = "1/100"
# iso = 100
"""


def render_template(scenes: int, kind: str) -> str:
    """The plan for a number of scenes; `kind` is `aperture` or `focus`."""
    return _TEXT.format(scenes=scenes, kind=kind, pair=_FOCUS if kind == "focus" else _APERTURE)
