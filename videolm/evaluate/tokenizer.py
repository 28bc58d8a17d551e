"""A video tokenizer alone, by what comes back of true clips: reconstruction is the ceiling of generation.

source ──► clips ──► encode ──► codes ──► decode ──► clips again ──► PSNR, SSIM, [the judge]
                     (timed)      └─► usage (timed)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from videolm import shapesworld
from videolm.config import parse
from videolm.data.example import Source
from videolm.data.sources import FolderData, ShapesWorldData, ShapesWorldSource
from videolm.errors import UserError
from videolm.media import Image, Video, contact_sheet
from videolm.metrics import check_ssim, code_usage, psnr, ssim
from videolm.progress import progress
from videolm.shapes import Format
from videolm.tokenizers.protocol import VideoTokenizer


@dataclass(frozen=True, eq=False)
class TokenizerReport:
    """What `evaluate_tokenizer` found."""

    scores: dict[str, float]
    """Means over the clips: psnr (dB), ssim, codes_used, perplexity, the judge's shares on ShapesWorld, samples."""
    speed: dict[str, float]
    """encode_fps and decode_fps: frames a second. They alone differ from one run to the next."""
    indices: list[int]
    """The source's examples that were measured, in order."""
    psnr: list[float]
    """dB of each."""
    codes: Tensor
    """(n, t, h, w) of each."""


def open_source(
    path: str | None, shape: Format, fps: float, *, samples: int, seed: int, held_out: float = 0.0
) -> Source:
    """Clips to measure on: every window of a file or of a folder's, or without one `samples` clips of ShapesWorld.

    A shape of one frame gives pictures.

    Args:
        held_out: of files, only this share at the end of each, which a `data.validation_share` as large kept from
            training; 0: all of each.

    Raises:
        UserError: a path that is missing or without such clips; a shape that ShapesWorld does not have; files of which
            too little is held out for one clip, and ShapesWorld, of which nothing is.
    """
    stream = "image" if shape.frames == 1 else "video"
    if path is not None:
        data = parse(FolderData, {"path": path, "validation_share": held_out})
        source = data.open(stream, shape, fps, "validation" if held_out else "train")
        if not len(source):
            raise UserError(f"{held_out:g} of no file in {path} has {shape.frames} frames at {fps:g} a second")
        return source
    if held_out:
        raise UserError("ShapesWorld's clips are all drawn anew: a share that is held out goes with files of your own")
    world = ShapesWorldData(seed=seed, clips=samples).open(stream, shape, fps, "train")
    try:
        world[0]
    except ValueError as error:
        raise UserError(f"ShapesWorld has no clips of {shape}: {error}") from error
    return world


@torch.inference_mode()
def evaluate_tokenizer(
    tokenizer: VideoTokenizer,
    source: Source,
    *,
    samples: int | None = None,
    seed: int = 0,
    batch: int = 32,
    with_ssim: bool = True,
) -> TokenizerReport:
    """Measure a tokenizer on clips of a source, on the device it is on.

    Args:
        source: its clips, all of one size and length, are the truth. ShapesWorld's are also read by the judge.
        samples: clips drawn from it without repetition; all of them where there are no more, or none is said.
        seed: of the draw.
        batch: clips a batch.
        with_ssim: False leaves SSIM out, which needs `torchmetrics`.

    Raises:
        UserError: clips that do not fit the tokenizer or are too small for SSIM; `torchmetrics` is missing.
    """
    indices = choose(len(source), samples, seed)
    weights = next(tokenizer.parameters())
    judged, captions, quality, similarity, used = [], [], [], [], []
    seconds = {"encode": 0.0, "decode": 0.0}
    frames = 0
    with progress(len(indices), "reconstruct", "clip") as bar:
        for start in range(0, len(indices), batch):
            examples = [source[index] for index in indices[start : start + batch]]
            clips = torch.stack([example.media.to_tensor() for example in examples]).to(weights.device)
            if with_ssim:
                check_ssim(*clips.shape[-2:])
            given = clips.to(weights.dtype)
            if not start:
                tokenizer.decode(tokenizer.encode(given))  # the first pass, which is slower, is not timed
            codes, encoding = _timed(tokenizer.encode, given)
            decoded, decoding = _timed(tokenizer.decode, codes)
            decoded = decoded.float().clamp(-1, 1)
            seconds["encode"] += encoding
            seconds["decode"] += decoding
            frames += clips.shape[0] * clips.shape[2]
            quality.append(psnr(decoded, clips).cpu())
            used.append(codes.cpu())
            if with_ssim:
                similarity.append(ssim(decoded, clips).cpu())
            if isinstance(source, ShapesWorldSource):
                captions += [example.captions[0] for example in examples]
                judged += [shapesworld.judge(Video.from_tensor(clip, source.fps).frames) for clip in decoded]
            bar.update(len(examples))
    each, codes = torch.cat(quality), torch.cat(used)
    scores = {
        "psnr": float(each.mean()),
        **({"ssim": float(torch.cat(similarity).mean())} if similarity else {}),
        **code_usage(codes, tokenizer.codebook_size),
        **(shapesworld.score(judged, captions) if judged else {}),
        "samples": len(indices),
    }
    speed = {f"{name}_fps": frames / spent for name, spent in seconds.items()}
    return TokenizerReport(scores, speed, indices, each.tolist(), codes)


def choose(length: int, samples: int | None, seed: int) -> list[int]:
    """`samples` of `length` indices without repetition, in order; all where there are no more.

    >>> choose(3, 5, seed=0), len(choose(100, 5, seed=0))
    ([0, 1, 2], 5)
    """
    if samples is None or samples >= length:
        return list(range(length))
    return sorted(np.random.default_rng(seed).choice(length, samples, replace=False).tolist())


@torch.inference_mode()
def comparison(report: TokenizerReport, tokenizer: VideoTokenizer, source: Source) -> Image:
    """The worst, the median and the best clip by PSNR, each above its reconstruction."""
    order = np.argsort(report.psnr)
    places = {"worst": order[0], "median": order[(len(order) - 1) // 2], "best": order[-1]}
    device = next(tokenizer.parameters()).device
    rows = []
    for name, place in places.items():
        clip = source[report.indices[place]].media
        decoded = tokenizer.decode(report.codes[place : place + 1].to(device))[0]
        rows.append((f"{name} of {len(order)}: clip {report.indices[place]}", clip))
        rows.append((f"its reconstruction, {report.psnr[place]:.2f} dB", Video.from_tensor(decoded, clip.fps)))
    return contact_sheet(rows)


def _timed(call: Callable[[Tensor], Tensor], value: Tensor) -> tuple[Tensor, float]:
    """What `call` makes of `value`, and in how many seconds."""
    _finish(value.device)
    started = perf_counter()
    made = call(value)
    _finish(value.device)
    return made, perf_counter() - started


def _finish(device: torch.device) -> None:
    """Wait for an accelerator, which works on after a call has returned."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
