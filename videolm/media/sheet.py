"""A contact sheet: clips as rows of frames in one picture, to be looked at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from videolm.errors import UserError
from videolm.media.clip import Image, Pixels, Video
from videolm.media.fit import place

GAP = 4
MIN_WIDTH = 320  # room for a label above a single small frame
FONT_SIZE = 14


def contact_sheet(rows: Sequence[tuple[str, Video]], *, frames: int = 8, height: int = 128) -> Image:
    """One row for each (label, clip): the label, wrapped, above frames evenly spaced from first to last.

    Args:
        rows: labels and clips; the clips may differ in size, rate and length.
        frames: frames shown of each clip; a shorter clip shows all it has.
        height: of a frame, in pixels. Smaller frames are enlarged to it or just above, by a whole factor and
            without smoothing, so that every pixel a model made is seen; larger ones are reduced to it.

    Returns:
        A picture on white.

    Raises:
        UserError: no rows, or `frames` or `height` below 1.
    """
    if not rows or frames < 1 or height < 1:
        raise UserError(f"{len(rows)} clips, frames={frames}, height={height}: wanted each to be 1 or more")
    strips = [_strip(clip, frames, height) for _, clip in rows]
    width = max(MIN_WIDTH, *(strip.shape[1] + 2 * GAP for strip in strips))
    font = PIL.ImageFont.load_default(FONT_SIZE)
    labels = ["\n".join(_wrap(label, font, width - 2 * GAP)) for label, _ in rows]
    line = FONT_SIZE + GAP
    tops, total = [], GAP
    for label, strip in zip(labels, strips, strict=True):
        tops.append(total)
        total += line * (label.count("\n") + 1) + strip.shape[0] + 2 * GAP
    sheet = PIL.Image.new("RGB", (width, total), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for top, label, strip in zip(tops, labels, strips, strict=True):
        for index, text in enumerate(label.split("\n")):
            draw.text((GAP, top + index * line), text, fill="black", font=font)
        sheet.paste(PIL.Image.fromarray(strip), (GAP, top + line * (label.count("\n") + 1)))
    return Image(np.array(sheet))


def _strip(clip: Video, frames: int, height: int) -> Pixels:
    """(H, W, 3): chosen frames side by side, with white between."""
    chosen = np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int)
    cells = clip.frames[chosen]
    if clip.height > height:
        size = (height, max(1, round(clip.width * height / clip.height)))
        cells = np.stack([place(frame, size, "crop") for frame in cells])
    else:
        factor = -(-height // clip.height)
        cells = cells.repeat(factor, axis=1).repeat(factor, axis=2)
    spaced = np.pad(cells, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(spaced), axis=1)[:, :-GAP]


def _wrap(text: str, font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of `text` no wider than `width` pixels; a word that is wider than a line is broken."""
    columns = max(1, len(text))
    while columns > 1 and any(font.getlength(line) > width for line in textwrap.wrap(text, columns)):
        columns -= 1
    return textwrap.wrap(text, columns) or [""]
