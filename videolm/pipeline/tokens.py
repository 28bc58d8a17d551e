"""Token files: films, pictures and sounds of any length and size as codes, and back; films in flat memory.

    film ──► chunks of frames ──► stream encoder ──► codes ──► NAME.safetensors
    NAME.safetensors ──► codes ──► stream decoder ──► chunks of frames ──► film

A film is padded to what the tokenizer takes: its last frame is repeated, and its right and lower edge go on as they are
there. The file keeps the true length and size, to which what is decoded is cut, and the tokenizer's fingerprint, since
codes mean nothing to another one.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from videolm.component import Component
from videolm.config import Config, parse
from videolm.errors import UserError
from videolm.files import atomic_path, check_writable
from videolm.media import (
    Audio,
    Fit,
    Image,
    Video,
    probe,
    read_audio,
    read_image,
    video_chunks,
    write_audio,
    write_frames,
    write_image,
)
from videolm.media.clip import Pixels
from videolm.media.read import MAX_BYTES
from videolm.shapes import TokenGrid
from videolm.tokenizers.audio.protocol import AudioTokenizer
from videolm.tokenizers.layers.stream import Stream
from videolm.tokenizers.protocol import VideoTokenizer

SUFFIX = ".safetensors"
CODES, ABOUT = "codes", "videolm_tokens"
LATENTS = 4
"""Latent frames that are coded at a time."""

Count = Annotated[int, Field(ge=1)]


class TokenInfo(Config):
    """What a token file says of its codes."""

    tokenizer: str
    """Its name in `VIDEO_TOKENIZERS`."""
    fingerprint: str
    """Of its weights."""
    frames: Count
    """Of the film, without padding. One frame is a picture."""
    height: Count
    """Of the film in pixels, without padding."""
    width: Count
    """Of the film in pixels, without padding."""
    fps: Annotated[float, Field(gt=0)]


class SoundTokenInfo(Config):
    """What a token file says of a sound's codes."""

    tokenizer: str
    """Its name in `AUDIO_TOKENIZERS`."""
    fingerprint: str
    """Of its weights."""
    samples: Count
    """Of the sound, without padding."""
    sample_rate: Count
    """Of the tokenizer."""


@torch.inference_mode()
def tokenize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    tokenizer: VideoTokenizer,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    overwrite: bool = False,
    on_frames: Callable[[int], object] = lambda count: None,
) -> tuple[TokenInfo, TokenGrid]:
    """Write the codes of a film or a picture to a token file.

    Args:
        target: the token file, `.safetensors`.
        fps, size, fit: what the film is brought to first, see `read_video`; by default it keeps its own.
        on_frames: called with the number of frames that were read, chunk by chunk.

    Raises:
        UserError: a source that cannot be read (see `read_video`), or a target that cannot be written.
    """
    target = _target(target, overwrite)
    encoder = tokenizer.stream_encoder(LATENTS)
    kept = bytearray()
    frames, shape, rate = 0, (0, 0), 0.0
    clip: Tensor | None = None
    for video in _read(source, tokenizer.temporal_stride * LATENTS, fps, size, fit):
        frames, shape, rate = frames + len(video), (video.height, video.width), video.fps
        clip = padded(video.to_tensor()[None].to(_device(tokenizer)), tokenizer.spatial_stride)
        _gather(kept, encoder.push(clip))
        on_frames(len(video))
    assert clip is not None  # a file without frames was refused
    filled = _fitting(frames, tokenizer)
    if filled > frames:
        _gather(kept, encoder.push(clip[:, :, -1:].expand(-1, -1, filled - frames, -1, -1)))
    _gather(kept, encoder.finish())
    grid = tokenizer.grid(filled, *clip.shape[3:])
    codes = torch.frombuffer(kept, dtype=torch.int32).view(grid)
    name, fingerprint = tokenizer.config.name, tokenizer.fingerprint()
    height, width = shape
    info = TokenInfo(tokenizer=name, fingerprint=fingerprint, frames=frames, height=height, width=width, fps=rate)
    _write(codes, info, target)
    return info, grid


@torch.inference_mode()
def tokenize_sound(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    tokenizer: AudioTokenizer,
    *,
    overwrite: bool = False,
) -> SoundTokenInfo:
    """Write the codes of a sound file, or of a film's sound, to a token file; silence fills its last codec frame.

    Raises `UserError` for a source that cannot be read (see `read_audio`), or a target that cannot be written.
    """
    target = _target(target, overwrite)
    audio = read_audio(source, rate=tokenizer.sample_rate)
    whole = audio.fitted(-(-len(audio) // tokenizer.stride) * tokenizer.stride)
    sound = whole.to_tensor().to(_device(tokenizer))
    coded = _streamed(tokenizer.stream_encoder(), sound, 2) if tokenizer.streams else tokenizer.encode(sound)
    codes = coded[0].to("cpu", torch.int32)
    name, fingerprint = tokenizer.config.name, tokenizer.fingerprint()
    info = SoundTokenInfo(
        tokenizer=name, fingerprint=fingerprint, samples=len(audio), sample_rate=tokenizer.sample_rate
    )
    _write(codes, info, target)
    return info


def read_tokens(path: str | os.PathLike[str]) -> tuple[Tensor, TokenInfo | SoundTokenInfo]:
    """The codes of a token file, (t, h, w) int64 of a film or (q, t) of a sound, and what it says of them.

    Raises `UserError` when the file is missing, broken, too large, or no token file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no token file {path}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} has more than the {MAX_BYTES / 2**30:g} GiB of one token file")
    try:
        with safe_open(path, "pt") as file:
            about = (file.metadata() or {}).get(ABOUT)
            codes = file.get_tensor(CODES) if CODES in list(file.keys()) else None
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}; make it again with `videolm tokenize`") from error
    if about is None or codes is None:
        raise UserError(f"{path} is no token file: `videolm tokenize` writes them")
    try:
        said = json.loads(about)
    except ValueError as error:
        raise UserError(f"{path} is broken: what it says of its codes is no JSON") from error
    info: TokenInfo | SoundTokenInfo
    if isinstance(said, dict) and "samples" in said:
        info, axes = parse(SoundTokenInfo, said, source=str(path)), "(q, t)"
    else:
        info, axes = parse(TokenInfo, said, source=str(path)), "(t, h, w)"
    if codes.dtype != torch.int32 or codes.ndim != axes.count(",") + 1 or not codes.numel():
        raise UserError(f"{path} is broken: codes are int32 {axes}, not {codes.dtype} {tuple(codes.shape)}")
    return codes.long(), info


@torch.inference_mode()
def detokenize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    tokenizer: VideoTokenizer,
    *,
    overwrite: bool = False,
    on_frames: Callable[[int], object] = lambda count: None,
) -> TokenInfo:
    """Decode a token file to a film (`.mp4`), or to a picture (`.png`) where it holds one frame.

    Args:
        target: the file to write, its suffix one of these.
        on_frames: called with the number of frames that were decoded, chunk by chunk.

    Raises:
        UserError: a file that `read_tokens` refuses; codes of another tokenizer; a target that cannot be written.
    """
    codes, info = read_tokens(source)
    if not isinstance(info, TokenInfo):
        raise UserError(f"{source} holds a sound: an audio tokenizer decodes it")
    _check_fingerprint(info, tokenizer, source)
    grid = tokenizer.grid(_fitting(info.frames, tokenizer), *(_up(s, tokenizer) for s in (info.height, info.width)))
    if codes.shape != grid:
        raise UserError(f"{source} is broken: {info.frames} frames have codes {tuple(grid)}, not {tuple(codes.shape)}")
    tokenizer.check_codes(codes[None])
    frames = itertools.islice(_decoded(codes, info, tokenizer, on_frames), info.frames)
    if info.frames == 1:
        write_image(Image(next(frames)), target, overwrite=overwrite)
    else:
        write_frames(frames, info.fps, target, overwrite=overwrite)
    return info


@torch.inference_mode()
def detokenize_sound(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    tokenizer: AudioTokenizer,
    *,
    overwrite: bool = False,
) -> SoundTokenInfo:
    """Decode a token file of a sound to a `.wav` or `.flac` of its true length.

    Raises `UserError` for a file that `read_tokens` refuses, codes of a film or of another tokenizer, and a target that
    cannot be written.
    """
    codes, info = read_tokens(source)
    if not isinstance(info, SoundTokenInfo):
        raise UserError(f"{source} holds a film: a video tokenizer decodes it")
    _check_fingerprint(info, tokenizer, source)
    tokenizer.check_codes(codes[None])
    batch = codes[None].to(_device(tokenizer))
    decoded = _streamed(tokenizer.stream_decoder(), batch, 1) if tokenizer.streams else tokenizer.decode(batch)
    audio = decoded.float().clamp(-1, 1).cpu()
    if audio.shape[1] < info.samples:
        raise UserError(f"{source} is broken: its codes are of {audio.shape[1]} samples, not {info.samples}")
    write_audio(Audio(audio[:, : info.samples].numpy(), info.sample_rate), target, overwrite=overwrite)
    return info


def _streamed(stream: Stream, whole: Tensor, dim: int) -> Tensor:
    """What a stream makes of all of something, in its own chunks, put together along `dim`."""
    parts = [stream.push(whole), stream.finish()]
    return torch.cat([part for part in parts if part is not None], dim)


def _write(codes: Tensor, info: Config, target: Path) -> None:
    with atomic_path(target) as path:
        save_file({CODES: codes.contiguous()}, path, {ABOUT: info.model_dump_json()})
        path.chmod(0o644)  # safetensors' own files are readable by their owner alone


def _check_fingerprint(info: TokenInfo | SoundTokenInfo, tokenizer: Component, source: object) -> None:
    own = tokenizer.fingerprint()
    if info.fingerprint != own:
        raise UserError(
            f"{source} was made with another tokenizer ({info.tokenizer} {info.fingerprint}, this one is "
            f"{tokenizer.config.name} {own}): name the model it was made with"
        )


def _read(
    source: str | os.PathLike[str], frames: int, fps: float | None, size: tuple[int, int] | None, fit: Fit
) -> Iterator[Video]:
    """A film in chunks, or a picture as one frame."""
    if probe(source).kind == "image":
        yield Video(read_image(source, size=size, fit=fit).pixels[None], fps or 1.0)
    else:
        yield from video_chunks(source, frames=frames, fps=fps, size=size, fit=fit)


def _decoded(
    codes: Tensor, info: TokenInfo, tokenizer: VideoTokenizer, on_frames: Callable[[int], object]
) -> Iterator[Pixels]:
    decoder = tokenizer.stream_decoder(LATENTS)
    chunks = [*codes[None].to(_device(tokenizer)).split(LATENTS, 1), None]
    left = info.frames  # more are decoded where the film was padded
    for chunk in chunks:
        video = decoder.finish() if chunk is None else decoder.push(chunk)
        if video is not None:
            pixels = Video.from_tensor(video[0, :, :, : info.height, : info.width].float(), info.fps).frames
            on_frames(min(len(pixels), left))
            left -= min(len(pixels), left)
            yield from np.ascontiguousarray(pixels)


def _target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    path = check_writable(path, overwrite)
    if path.suffix != SUFFIX:
        raise UserError(f"cannot write {path}: a token file is written as {SUFFIX}")
    return path


def _fitting(frames: int, tokenizer: VideoTokenizer) -> int:
    """The least number of frames, `frames` or more, that the tokenizer takes."""
    stride, first = tokenizer.temporal_stride, 1 if tokenizer.first_frame_alone else 0
    return first + -(-(frames - first) // stride) * stride


def _up(side: int, tokenizer: VideoTokenizer) -> int:
    return -(-side // tokenizer.spatial_stride) * tokenizer.spatial_stride


def padded(clip: Tensor, stride: int) -> Tensor:
    """(b, c, f, H, W) with both sides made a multiple of `stride`."""
    height, width = (-side % stride for side in clip.shape[3:])
    return F.pad(clip, (0, width, 0, height, 0, 0), mode="replicate") if height or width else clip


def _gather(kept: bytearray, codes: Tensor | None) -> None:
    """Keep the codes, which alone grow with the film, in one buffer: many small ones fragment the memory."""
    if codes is not None:
        kept += codes.to("cpu", torch.int32).numpy().tobytes()


def _device(tokenizer: Component) -> torch.device:
    return next(tokenizer.parameters()).device
