"""What every video tokenizer offers, so that a config can swap them (`docs/architecture.md`, contracts).

Tokenizers know nothing of vocabularies or offsets: their codes run from 0 to `codebook_size - 1`.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from videolm.component import Component
from videolm.errors import UserError
from videolm.registry import Registry
from videolm.shapes import TokenGrid, latent_frames, pixel_frames
from videolm.tokenizers.layers.stream import Past, Stream
from videolm.tokenizers.quantize.quantizer import Quantizer


class Reconstruction(NamedTuple):
    """A training pass: the clip through the bottleneck and back, its codes, and the quantiser's loss terms."""

    video: Tensor  # (b, c, f, H, W)
    codes: Tensor  # (b, t, h, w)
    losses: dict[str, Tensor]


class VideoTokenizer(Component):
    """Clips (b, 3, f, H, W) in [-1, 1] <-> codes (b, t, h, w) int64.

    A tokenizer says its strides and has `encoder`, `quantizer` and `decoder`; the rest is here.

    Attributes:
        temporal_stride: frames a latent frame stands for.
        spatial_stride: pixels on a side that a latent position stands for.
        causal: the codes of the first 1 + temporal_stride * k frames do not depend on later frames.
        first_frame_alone: the first latent frame stands for one frame; an image is a clip of one frame.
        block: latent frames that are coded together, apart from those before and after, where it is not causal; None:
            a clip is coded as a whole, causal or not, so a stream holds all of it and gives its result at the end.
        trainable: it can be trained here; else it is used as it is.
        encoder: video and past -> latents (b, quantizer.dim, t, h, w).
        decoder: vectors (b, quantizer.dim, t, h, w) and past -> video.
    """

    temporal_stride: int
    spatial_stride: int
    causal: ClassVar[bool]
    first_frame_alone: ClassVar[bool]
    block: int | None = 1
    trainable: ClassVar[bool] = True
    encoder: torch.nn.Module
    quantizer: Quantizer
    decoder: torch.nn.Module

    @property
    def codebook_size(self) -> int:
        """Codes lie in [0, codebook_size)."""
        return self.quantizer.codebook_size

    @abstractmethod
    def inflate(self, image: Self) -> None:
        """Start from a trained tokenizer of pictures, made from `config.image()`.

        A still then has the codes that the picture has there, at every time, and comes back as the picture does.
        """

    def grid(self, frames: int, height: int, width: int) -> TokenGrid:
        """The latent grid of a clip. Raises `UserError` for a size or length that does not fit."""
        side, stride = self.spatial_stride, self.temporal_stride
        if height % side or width % side or min(height, width) < 1:
            raise UserError(f"{width}x{height} pixels do not fit: both sides must be multiples of {side}")
        if self.first_frame_alone:
            return TokenGrid(latent_frames(frames, stride), height // side, width // side)
        if frames < 1 or frames % stride:
            below = max(1, frames // stride) * stride
            raise UserError(
                f"{frames} frames do not fit the tokenizer, which takes multiples of {stride}; "
                f"use {below} or {below + stride}"
            )
        return TokenGrid(frames // stride, height // side, width // side)

    def frames(self, latents: int) -> int:
        """Frames that so many latent frames stand for: what `decode` gives."""
        return pixel_frames(latents, self.temporal_stride) if self.first_frame_alone else latents * self.temporal_stride

    def encode(self, video: Tensor) -> Tensor:
        """(b, 3, f, H, W) in [-1, 1] -> (b, t, h, w) codes."""
        self.check_video(video)
        self.grid(*video.shape[2:])
        return self._encode(video)

    def decode(self, codes: Tensor) -> Tensor:
        """(b, t, h, w) codes -> (b, 3, f, H, W), close to [-1, 1] (a decoder may overshoot)."""
        self.check_codes(codes)
        return self._decode(codes)

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """What `decode` does after looking codes up: (b, t, h, w, dim), which need not be any code's, to a video."""
        return self._decode_vectors(vectors)

    def forward(self, video: Tensor) -> Reconstruction:
        """The differentiable round trip used in training."""
        latents = self.encoder(video).movedim(1, -1)
        vectors, codes, losses = self.quantizer(latents)
        return Reconstruction(self.decoder(vectors.movedim(-1, 1)), codes, losses)

    def stream_encoder(self, most: int = 4) -> Stream:
        """Chunks (b, 3, f, H, W) of any length in, codes (b, t, h, w) out: in all those that `encode` gives the clip.

        At most `most` latent frames are coded at a time, so that memory does not grow with a chunk. Where the tokenizer
        is not causal it is a block of latent frames.
        """

        def run(video: Tensor, past: Past) -> Tensor:
            self.check_video(video)
            self.grid(self.frames(1), *video.shape[3:])
            codes = self._encode(video, past)
            past.time += codes.shape[1]
            return codes

        stride = self.temporal_stride
        if self.block is None:
            return Stream(lambda video, past: self.encode(video), dim=2, out_dim=1, unit=sys.maxsize, rest=1)
        if self.causal:
            return Stream(run, dim=2, out_dim=1, unit=stride, first=self.frames(1), most=most)
        return Stream(run, dim=2, out_dim=1, unit=self.block * stride, rest=stride)

    def stream_decoder(self, most: int = 4) -> Stream:
        """Chunks of codes (b, t, h, w) in, frames (b, 3, f, H, W) out: in all those that `decode` gives."""

        def run(codes: Tensor, past: Past) -> Tensor:
            self.check_codes(codes)
            video = self._decode(codes, past)
            past.time += codes.shape[1]
            return video

        if self.block is None:
            return Stream(lambda codes, past: self.decode(codes), dim=1, out_dim=2, unit=sys.maxsize, rest=1)
        return Stream(run, dim=1, out_dim=2, unit=self.block, rest=1, most=most if self.causal else 1)

    def freeze_codes(self) -> None:
        """Let only what decodes train from here on, so that a clip's codes stay what they are."""
        self.encoder.requires_grad_(False)
        self.quantizer.freeze()

    def _encode(self, video: Tensor, past: Past | None = None) -> Tensor:
        return self.quantizer.codes(self.encoder(video, past).movedim(1, -1))

    def _decode(self, codes: Tensor, past: Past | None = None) -> Tensor:
        return self._decode_vectors(self.quantizer.vectors(codes), past)

    def _decode_vectors(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        return self.decoder(vectors.movedim(-1, 1).to(next(self.decoder.parameters()).dtype), past)

    @classmethod
    def registered_name(cls) -> str:
        """Its name in `VIDEO_TOKENIZERS`."""
        return str(cls.Settings.model_fields["name"].default)

    @classmethod
    def check_trainable(cls) -> None:
        """Raise `UserError` where it is not `trainable`."""
        if not cls.trainable:
            name = cls.registered_name()
            raise UserError(f"{name} is used as it is: train a magvit_v2 instead, or name a folder of it as pretrained")

    def check_video(self, video: Tensor) -> None:
        """Raise `UserError` unless `video` is (b, 3, f, H, W), not empty, finite and in [-1, 1]."""
        if video.ndim != 5 or video.shape[1] != 3 or not video.is_floating_point() or not video.numel():
            raise UserError(
                f"a video tensor is float (b, 3, frames, height, width), not {video.dtype} {tuple(video.shape)}"
            )
        low, high = float(video.min()), float(video.max())
        if not (low >= -1.01 and high <= 1.01):  # catches NaN too
            raise UserError(f"pixels must lie in [-1, 1], got [{low:g}, {high:g}]; Video.to_tensor() scales them")

    def check_codes(self, codes: Tensor) -> None:
        """Raise `UserError` unless `codes` is (b, t, h, w), not empty, of integers in [0, codebook_size)."""
        if codes.ndim != 4 or codes.is_floating_point() or not codes.numel():
            raise UserError(f"codes are integers (b, t, h, w), not {codes.dtype} {tuple(codes.shape)}")
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise UserError(f"codes must lie in [0, {self.codebook_size}), got [{low}, {high}]: another tokenizer's?")


VIDEO_TOKENIZERS: Registry[type[VideoTokenizer]] = Registry(
    "video tokenizer",
    {
        "magvit_v2": "videolm.tokenizers.video.magvit_v2:MagvitV2",
        "c_vivit": "videolm.tokenizers.video.c_vivit:CViViT",
        "magvit": "videolm.tokenizers.video.magvit:Magvit",
        "emu3": "videolm.tokenizers.video.emu3:Emu3",
        "cosmos": "videolm.tokenizers.video.cosmos:Cosmos",
        "open_magvit2": "videolm.tokenizers.video.open_magvit2:OpenMagvit2",
    },
)
