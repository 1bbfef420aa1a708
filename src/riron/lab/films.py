"""Moving pictures as files: GIF, a page without foreign hosts, or MP4 where ffmpeg is found."""

import base64
import io
import os
import shutil
import subprocess
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .files import replacing, write_text

SUFFIXES = (".gif", ".html", ".mp4")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>body {{ margin: 0 }} .riron-run {{ font: 15px system-ui, sans-serif; max-width: 45rem; margin: 1rem auto }}
.riron-run img {{ width: 100% }} .riron-run input {{ width: calc(100% - 6rem); vertical-align: middle }}
.riron-run button {{ width: 5rem }}</style></head>
<body>{player}</body></html>
"""
PLAYER = """<div class="riron-run"><img alt="{title}" src="{last}">
<div><button type="button">Pause</button> <input type="range" min="0" max="{top}" value="0" aria-label="time"></div>
<script>(function () {{
  const box = document.currentScript.parentNode, frames = {frames};
  const [picture, button, slider] = ["img", "button", "input"].map((tag) => box.querySelector(tag));
  let playing = true;
  const show = () => {{ picture.src = frames[slider.value]; }};
  const pause = (stop) => {{ playing = !stop; button.textContent = stop ? "Play" : "Pause"; }};
  slider.oninput = () => {{ pause(true); show(); }};
  button.onclick = () => {{ if (!playing && +slider.value === {top}) slider.value = 0; pause(playing); }};
  setInterval(() => {{
    if (!playing) return;
    if (+slider.value === {top}) return pause(true);
    slider.value = +slider.value + 1; show();
  }}, {pause});
  show();
}})();</script></div>
"""


@dataclass(frozen=True, repr=False)
class Animation:
    """Frames of a run; `save` writes them, and a notebook shows them."""

    frames: list[Image.Image]  # all on one palette
    frames_per_second: float
    title: str

    def save(self, path: str | os.PathLike) -> Path:
        """Writes a .gif, .html or .mp4 file.

        Raises: InputError for another suffix, a folder that is not there, or .mp4 without ffmpeg.
        """
        target = check_path(path)
        if target.suffix.lower() == ".html":
            write_text(target, PAGE.format(title=escape(self.title), player=self._repr_html_()))
            return target
        with replacing(target) as temporary:
            if target.suffix.lower() == ".gif":
                self._write_gif(temporary)
            else:
                self._write_mp4(temporary)
        return target

    def _write_gif(self, path: Path) -> None:
        pause = round(1000 / self.frames_per_second)
        pauses = [pause] * (len(self.frames) - 1) + [2000]  # rest on the last frame
        first, *others = self.frames
        first.save(path, format="GIF", save_all=True, append_images=others, duration=pauses, loop=0)

    def _write_mp4(self, path: Path) -> None:
        command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "image2pipe", "-framerate", str(self.frames_per_second)]
        command += ["-i", "-", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4", str(path)]
        pictures = b"".join(as_png(frame) for frame in self.frames)
        done = subprocess.run(command, input=pictures, capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
            raise InputError(f"ffmpeg could not write the film: it said {said[-1]}", do="write a .gif or .html file")

    def _repr_html_(self) -> str:
        sources = ["data:image/png;base64," + base64.b64encode(as_png(frame)).decode("ascii") for frame in self.frames]
        listed = "[" + ",".join(f'"{source}"' for source in sources) + "]"
        pause = round(1000 / self.frames_per_second)
        parts = {"title": escape(self.title, quote=True), "last": sources[-1], "top": len(sources) - 1}
        return PLAYER.format(**parts, frames=listed, pause=pause)

    def __repr__(self) -> str:
        return f"<riron.Animation {self.title}: {len(self.frames)} frames>"


def check_path(path: str | os.PathLike) -> Path:
    """The path, if its suffix says a format that can be written here."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"'{target.name}' does not end in a format for moving pictures", do=f"use {', '.join(SUFFIXES)}"
        )
    if target.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise InputError("an .mp4 file needs ffmpeg, which is not installed here", do="write a .gif or .html file")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder '{target.parent}' to write '{target.name}' into", do="make it first")
    return target


def on_one_palette(pictures: list[Image.Image]) -> list[Image.Image]:
    """The pictures with the colours of the last one, so that nothing flickers; its background stays white."""
    found = pictures[-1].quantize(96, dither=Image.Dither.NONE).getpalette() or []
    colours = np.array(found, np.uint8).reshape(-1, 3)
    colours[(colours >= 244).all(axis=1)] = 255  # nearest colours are looked up coarsely: no near-white beside white
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.tobytes())
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def as_png(picture: Image.Image) -> bytes:
    """One frame as PNG."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
