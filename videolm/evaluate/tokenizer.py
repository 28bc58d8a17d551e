"""A video tokenizer alone, by what comes back of true clips: reconstruction is the ceiling of generation.

source ──► clips ──► encode ──► codes ──► decode ──► clips again ──► PSNR, SSIM, sharpness, [LPIPS], [rFVD], [the judge]
                     (timed)      └─► usage (timed)

A clip that does not fit a tokenizer's steps in time goes in with its last frame repeated, and what is made of the
repeated ones is left out: so that tokenizers of unlike steps are compared on the same clips.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
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
from videolm.metrics import check_ssim, code_usage, frechet_distance, psnr, sharpness, ssim
from videolm.progress import progress
from videolm.shapes import Format
from videolm.tokenizers.losses.perceptual import I3D, LPIPS
from videolm.tokenizers.protocol import VideoTokenizer


@dataclass(frozen=True, eq=False)
class TokenizerReport:
    """What `evaluate_tokenizer` found."""

    scores: dict[str, float]
    """Means over the clips: psnr (dB), ssim, lpips; rfvd, the Frechet video distance of the clips and what came back;
    sharpness, over that of the clips (below 1: blurred); codes_used, perplexity; the judge's shares on ShapesWorld;
    samples."""
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
    lpips: LPIPS | None = None,
    i3d: I3D | None = None,
) -> TokenizerReport:
    """Measure a tokenizer on clips of a source, on the device it is on.

    Args:
        source: its clips, all of one size and length, are the truth. ShapesWorld's are also read by the judge.
        samples: clips drawn from it without repetition; all of them where there are no more, or none is said.
        seed: of the draw.
        batch: clips a batch.
        with_ssim: False leaves SSIM out, which needs `torchmetrics`.
        lpips: measures LPIPS.
        i3d: measures rFVD.

    Raises:
        UserError: frames that do not fit the tokenizer or are too small for a measure, or clips too short or too few
            for one; `torchmetrics` is missing.
    """
    indices = choose(len(source), samples, seed)
    weights = next(tokenizer.parameters())
    judged, captions, used = [], [], []
    quality: dict[str, list[Tensor]] = defaultdict(list)  # of each measure, a tensor (b, ...) a batch
    seconds = {"encode": 0.0, "decode": 0.0}
    frames = 0
    with progress(len(indices), "reconstruct", "clip") as bar:
        for start in range(0, len(indices), batch):
            examples = [source[index] for index in indices[start : start + batch]]
            clips = torch.stack([example.media.to_tensor() for example in examples]).to(weights.device)
            if with_ssim:
                check_ssim(*clips.shape[-2:])
            given = fitted(tokenizer, clips).to(weights.dtype)
            if not start:
                tokenizer.decode(tokenizer.encode(given))  # the first pass, which is slower, is not timed
            codes, encoding = _timed(tokenizer.encode, given)
            decoded, decoding = _timed(tokenizer.decode, codes)
            decoded = decoded.float().clamp(-1, 1)[:, :, : clips.shape[2]]
            seconds["encode"] += encoding
            seconds["decode"] += decoding
            frames += clips.shape[0] * clips.shape[2]
            used.append(codes.cpu())
            quality["psnr"].append(psnr(decoded, clips).cpu())
            for name, seen in (("", clips), ("decoded ", decoded)):
                quality[name + "sharpness"].append(sharpness(seen).cpu())
                if i3d is not None:
                    quality[name + "features"].append(torch.cat([i3d(clip[None]) for clip in seen]).cpu())
            if with_ssim:
                quality["ssim"].append(ssim(decoded, clips).cpu())
            if lpips is not None:
                pairs = zip(decoded.split(1), clips.split(1), strict=True)
                quality["lpips"] += [lpips.distance(*pair).cpu() for pair in pairs]
            if isinstance(source, ShapesWorldSource):
                captions += [example.captions[0] for example in examples]
                judged += [shapesworld.judge(Video.from_tensor(clip, source.fps).frames) for clip in decoded]
            bar.update(len(examples))
    values, codes = {name: torch.cat(parts) for name, parts in quality.items()}, torch.cat(used)
    scores = {
        **{name: float(values[name].mean()) for name in ("psnr", "ssim", "lpips") if name in values},
        **({"rfvd": frechet_distance(values["features"], values["decoded features"])} if i3d is not None else {}),
        "sharpness": float(values["decoded sharpness"].mean() / values["sharpness"].mean().clamp_min(1e-12)),
        **code_usage(codes, tokenizer.codebook_size),
        **(shapesworld.score(judged, captions) if judged else {}),
        "samples": len(indices),
    }
    speed = {f"{name}_fps": frames / spent for name, spent in seconds.items()}
    return TokenizerReport(scores, speed, indices, values["psnr"].tolist(), codes)


def fitted(tokenizer: VideoTokenizer, clips: Tensor) -> Tensor:
    """Clips (b, 3, f, H, W) of as many frames as the tokenizer takes, the last one repeated."""
    latents = next(count for count in itertools.count(1) if tokenizer.frames(count) >= clips.shape[2])
    missing = tokenizer.frames(latents) - clips.shape[2]
    return torch.cat([clips, clips[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)


def choose(length: int, samples: int | None, seed: int) -> list[int]:
    """`samples` of `length` indices without repetition, in order; all where there are no more.

    >>> choose(3, 5, seed=0), len(choose(100, 5, seed=0))
    ([0, 1, 2], 5)
    """
    if samples is None or samples >= length:
        return list(range(length))
    return sorted(np.random.default_rng(seed).choice(length, samples, replace=False).tolist())


@torch.inference_mode()
def comparison(made: Mapping[str, tuple[TokenizerReport, VideoTokenizer]], source: Source) -> Image:
    """The worst, the median and the best clip by PSNR of the first, each above what the named ones make of it."""
    first = next(iter(made.values()))[0]
    order = np.argsort(first.psnr)
    places = {"worst": order[0], "median": order[(len(order) - 1) // 2], "best": order[-1]}
    rows = []
    for place_name, place in places.items():
        clip = source[first.indices[place]].media
        rows.append((f"{place_name} of {len(order)}: clip {first.indices[place]}", clip))
        for name, (report, tokenizer) in made.items():
            device = next(tokenizer.parameters()).device
            decoded = tokenizer.decode(report.codes[place : place + 1].to(device))[0, :, : len(clip)]
            rows.append((f"{name}: {report.psnr[place]:.2f} dB", Video.from_tensor(decoded, clip.fps)))
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
