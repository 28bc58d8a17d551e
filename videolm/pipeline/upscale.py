"""Clips at twice their height and width, and so on: chunk by chunk, each cut into tiles, in memory that neither grows.

    frames ──► codes ──► (fill in twice the grid) ──► codes ──► frames

A chunk is as long as the clips that the stage was trained on, and begins with the frame that the one before ended in,
whose codes are given. A tile begins with the codes that its neighbours have where they overlap, but for those at their
very edge, drawn without what lies beyond, which it draws again. So what is made goes on across both. Pixels of tiles
are faded into one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from videolm.errors import UserError
from videolm.media.clip import Pixels, Video
from videolm.pipeline.tokens import padded
from videolm.superres.decode import Stage, fill
from videolm.superres.enlarge import Enlarge
from videolm.superres.tiles import Tile, tiles
from videolm.tokenizers.protocol import VideoTokenizer

OVERLAP = 4
"""Codes that neighbouring tiles have in common."""
EDGE = 2
"""Those of them at a tile's end that the next tile draws again."""
MARGIN = 4
"""Codes around a part of a picture that is coded or enlarged apart."""

Text = Tensor | Callable[[int], Tensor | None] | None
"""(m, width), embeddings of the prompt's tokens; or those for the frame of a number."""


class Upscaler:
    """Stages of super-resolution, one after the other.

    Attributes:
        factor: of height and width.
    """

    def __init__(self, tokenizer: VideoTokenizer, stages: Sequence[Stage], on_step: Callable[[], None] | None = None):
        """
        Args:
            on_step: called after every step of filling in; `steps` says how many there are.
        """
        if not tokenizer.first_frame_alone:
            raise UserError(f"{tokenizer.config.name} does not code a first frame alone, which super-resolution needs")
        self.tokenizer, self.stages, self.on_step = tokenizer, list(stages), on_step
        self.factor = 2 ** len(self.stages)

    def steps(self, frames: int, height: int, width: int) -> int:
        """Steps that a clip takes."""
        count, side = 0, self.tokenizer.spatial_stride
        for stage in self.stages:
            chunk = self.tokenizer.frames(stage.model.config.grid.t)
            grid = 2 * -(-height // side), 2 * -(-width // side)
            count += (
                max(1, -(-(frames - 1) // max(1, chunk - 1))) * len(list(_tiles(stage, grid))) * stage.sampling.steps
            )
            height, width = 2 * height, 2 * width
        return count

    def __call__(
        self,
        frames: Iterable[Pixels],
        generator: torch.Generator,
        text: Text = None,
        codes: Tensor | None = None,
    ) -> Iterator[Pixels]:
        """Frames (H, W, 3) uint8 of one size to as many of `factor` times that, as they are made.

        Args:
            text: of the whole, or by frame; a chunk has that of its middle.
            codes: (t, h, w) of a clip that is one chunk at most, in place of coding its frames.
        """
        for stage in self.stages:
            frames, codes = self._doubled(stage, frames, generator, text, codes), None
        return iter(frames)

    @torch.inference_mode()
    def _doubled(
        self,
        stage: Stage,
        frames: Iterable[Pixels],
        generator: torch.Generator,
        text: Text,
        codes: Tensor | None,
    ) -> Iterator[Pixels]:
        last: Tensor | None = None
        start = 0
        for chunk in _chunks(frames, self.tokenizer.frames(stage.model.config.grid.t)):
            length, height, width = chunk.shape[:3]
            clip = padded(Video(chunk, 1.0).to_tensor()[None], self.tokenizer.spatial_stride)
            stride = self.tokenizer.temporal_stride
            missing = -(length - 1) % stride
            clip = torch.cat([clip, clip[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)
            grid = self.tokenizer.grid(*clip.shape[2:])
            if codes is not None and (last is not None or codes.shape != grid):
                raise ValueError(f"codes {tuple(codes.shape)} are not those of a clip of one chunk, {tuple(grid)}")
            low = self._encode(stage, clip) if codes is None else codes
            told = text(start + length // 2) if callable(text) else text
            vectors = self._fill(stage, low, last, told, generator)
            pixels = self._decode(stage, vectors)[:length, : 2 * height, : 2 * width]
            shown = padded(Video(pixels[-1:], 1.0).to_tensor()[None], 2 * self.tokenizer.spatial_stride)
            yield from pixels[0 if last is None else 1 :]
            last, start = shown, start + length - 1

    def _encode(self, stage: Stage, clip: Tensor) -> Tensor:
        """Codes (t, h, w) of a clip (1, 3, f, H, W), each part coded with a margin around it."""
        weights, side = next(self.tokenizer.parameters()), self.tokenizer.spatial_stride
        grid = self.tokenizer.grid(*clip.shape[2:])
        codes = torch.zeros(grid, dtype=torch.long, device=weights.device)
        for tile in tiles((grid.h, grid.w), stage.model.config.grid[1:], 0):
            wide = tile.wider(MARGIN, (grid.h, grid.w))
            rows, columns = wide.times(side)
            found = self.tokenizer.encode(clip[..., rows, columns].to(weights))[0]
            inside = tile.within(wide)
            codes[:, tile.rows, tile.columns] = found[:, inside.rows, inside.columns]
        return codes

    def _fill(
        self, stage: Stage, low: Tensor, first: Tensor | None, text: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Vectors (t, 2 h, 2 w, dim) of the clip at twice the size of `low` (t, h, w): what is decoded.

        Args:
            first: its first frame (1, 3, 1, H, W), if it is known.
        """
        t, h, w = low.shape
        codes = low.new_zeros(t, 2 * h, 2 * w)
        hidden = torch.ones_like(codes, dtype=torch.bool)
        if first is not None:
            codes[:1], hidden[:1] = self._encode(stage, first), False
        look_up = self.tokenizer.quantizer.vectors
        vectors, asked = look_up(codes), look_up if stage.sampling.expected else None
        for tile in _tiles(stage, (2 * h, 2 * w)):
            small = Tile(*(slice(side.start // 2, side.stop // 2) for side in tile))
            part, enlarge = (slice(None), tile.rows, tile.columns), self._enlarger(low, small)
            seen, given = (codes[part], hidden[part]), low[:, small.rows, small.columns]
            made = fill(stage.model, *seen, stage.sampling, generator, given, text, self.on_step, enlarge, asked)
            shown = look_up(made.codes) if made.expected is None else made.expected
            vectors[part] = torch.where(hidden[part][..., None], shown, vectors[part])
            codes[part] = made.codes
            sides = zip(tile, (2 * h, 2 * w), strict=True)
            sure = (slice(side.start, side.stop - (EDGE if side.stop < whole else 0)) for side, whole in sides)
            hidden[slice(None), *sure] = False
        return vectors

    def _enlarger(self, low: Tensor, tile: Tile) -> Callable[[Tensor], Tensor]:
        """What a model is shown of a tile of small codes (t, h, w), enlarged with what lies around it."""
        wide, enlarge = tile.wider(MARGIN, (low.shape[1], low.shape[2])), Enlarge(self.tokenizer)
        rows, columns = inside = tile.within(wide)

        def enlarged(own: Tensor) -> Tensor:
            whole = low[None, :, wide.rows, wide.columns].repeat(len(own), 1, 1, 1)
            whole[:, :, rows, columns] = own
            doubled = inside.times(2)
            return enlarge(whole)[:, :, doubled.rows, doubled.columns]

        return enlarged

    def _decode(self, stage: Stage, vectors: Tensor) -> Pixels:
        """Frames (f, H, W, 3) of vectors (t, h, w, dim), part by part, each faded into those before it."""
        side, (t, h, w) = self.tokenizer.spatial_stride, vectors.shape[:3]
        whole = np.zeros((self.tokenizer.frames(t), h * side, w * side, 3), np.uint8)
        for tile in _tiles(stage, (h, w)):
            clip = self.tokenizer.decode_vectors(vectors[None, :, tile.rows, tile.columns])[0]
            frames = Video.from_tensor(clip.float().clamp(-1, 1).cpu(), 1.0).frames
            rows, columns = tile.times(side)
            fade = _ramp(rows, OVERLAP * side)[:, None, None] * _ramp(columns, OVERLAP * side)[:, None]
            for there, made in zip(whole[:, rows, columns], frames, strict=True):  # a frame at a time: they are floats
                there[:] = (there + fade * (made.astype(np.float32) - there)).round().astype(np.uint8)
        return whole


def _tiles(stage: Stage, grid: tuple[int, int]) -> Iterator[Tile]:
    """Tiles of a stage's codes, beginning at even ones."""
    h, w = (side // 2 for side in stage.model.config.grid[1:])
    return (tile.times(2) for tile in tiles((grid[0] // 2, grid[1] // 2), (h, w), OVERLAP // 2))


def _ramp(span: slice, length: int) -> Pixels:
    """Weights of a tile's pixels over one axis: from 0 to 1 over what lies over the tile before."""
    if span.start == 0:
        return np.ones(span.stop, np.float32)
    return np.minimum(1, (np.arange(span.stop - span.start) + 0.5) / length).astype(np.float32)


def _chunks(frames: Iterable[Pixels], length: int) -> Iterator[Pixels]:
    """Frames (f, H, W, 3), at most `length`, each but the first beginning with the last one's last."""
    kept: list[Pixels] = []
    begun = False
    for frame in frames:
        kept.append(frame)
        if len(kept) == length:
            yield np.stack(kept)
            kept, begun = ([frame], True) if length > 1 else ([], True)
    if len(kept) > begun or (kept and not begun):
        yield np.stack(kept)
