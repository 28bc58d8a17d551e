"""Files to read: made here frame by frame, so that what they hold is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest


@pytest.fixture
def greys() -> Callable[[int], np.ndarray]:
    """Frames (f, 32, 48, 3) whose brightness says which frame it is; `which_frames` reads it."""
    return lambda count: np.broadcast_to(
        (10 + 4 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, 32, 48, 3)
    ).copy()


@pytest.fixture
def which_frames() -> Callable[[np.ndarray], list[int]]:
    return lambda frames: [round((frame.mean() - 10) / 4) for frame in frames]


@pytest.fixture
def quarters() -> np.ndarray:
    """(48, 64, 3): red, green over blue, white."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:] = (255, 0, 0), (0, 255, 0)
    picture[24:, :32], picture[24:, 32:] = (0, 0, 255), (255, 255, 255)
    return picture


@pytest.fixture
def layout() -> Callable[[np.ndarray], str]:
    """What `quarters` has become: its colours row by row, "RG/BW" when it is upright."""
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W", (0, 0, 0): "-"}

    def read(picture: np.ndarray) -> str:
        height, width = picture.shape[:2]
        rows = [
            "".join(names[tuple(int(v > 127) for v in picture[y, x])] for x in (width // 4, 3 * width // 4))
            for y in (height // 4, 3 * height // 4)
        ]
        return "/".join(rows)

    return read


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Write a film that `write_video` would not: any times, codec, rotation, pixel shape, colour tags."""

    def write(
        frames: np.ndarray,
        name: str = "film.mp4",
        *,
        rate: int = 25,
        times: Sequence[float] | None = None,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
        matrix: Sequence[int] | None = None,
        before: Callable[[Any], None] = lambda stream: None,
        **reformat: Any,
    ) -> Path:
        path = tmp_path / name
        tick = Fraction(1, 1000)
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=rate, options=options or {"crf": "1"})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
            if times is not None:
                stream.codec_context.time_base = tick
            if matrix is not None:
                stream.set_display_matrix(matrix)
            before(stream)
            for index, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt, **reformat)
                if times is None:
                    frame.pts, frame.time_base = index, Fraction(1, rate)
                else:
                    frame.pts, frame.time_base = round(times[index] * 1000), tick
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
