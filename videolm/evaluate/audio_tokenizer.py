"""How much of a sound comes back through an audio tokenizer, and how fast."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from videolm import shapesworld
from videolm.data.example import Source
from videolm.data.sources import ShapesWorldSource
from videolm.evaluate.tokenizer import choose
from videolm.media import Audio
from videolm.metrics import code_usage, snr
from videolm.progress import progress
from videolm.tokenizers.audio.protocol import AudioTokenizer

SEMITONE = 0.5
"""Semitones that a tone may be off."""
BURST = 0.02
"""Seconds that a burst may be off."""


@torch.inference_mode()
def evaluate_audio_tokenizer(
    tokenizer: AudioTokenizer, source: Source[Audio], *, samples: int | None = None, seed: int = 0, batch: int = 32
) -> dict[str, float]:
    """Means over sounds of a source.

    "snr" in dB, over all samples of all sounds; "codes_used" and "perplexity" of the first level; "realtime", seconds
    of sound coded and decoded in a second; "samples". On ShapesWorld what his judge hears: "pitch", the share of sounds
    whose tone is within half a semitone; "bursts", of those that bounce, the share whose every burst is within 20 ms;
    "shape" and "motion", the share that sounds the same as the true one.

    Args:
        samples: sounds drawn from it without repetition; all of them where there are no more, or none is said.
        seed: of the draw.
    """
    indices = choose(len(source), samples, seed)
    weights = next(tokenizer.parameters())
    true: list[Tensor] = []
    heard: list[Tensor] = []
    codes: list[Tensor] = []
    spent = 0.0
    with progress(len(indices), "reconstruct", "sound") as bar:
        for start in range(0, len(indices), batch):
            media = [
                source[index].media.converted(tokenizer.sample_rate, 1) for index in indices[start : start + batch]
            ]
            length = tokenizer.frames(min(map(len, media))) * tokenizer.stride
            sounds = torch.stack([sound.to_tensor()[0, :length] for sound in media])
            began = perf_counter()
            coded = tokenizer.encode(sounds.to(weights))
            decoded = tokenizer.decode(coded).float().clamp(-1, 1).cpu()
            spent += perf_counter() - began
            true, heard, codes = [*true, *sounds], [*heard, *decoded], [*codes, coded[:, 0].cpu().flatten()]
            bar.update(len(media))
    before, after = (torch.cat(each).view(1, -1) for each in (true, heard))
    scores = {
        "snr": float(snr(after, before)),
        **code_usage(torch.cat(codes), tokenizer.codebook_size),
        "samples": float(len(indices)),
        "realtime": before.shape[1] / tokenizer.sample_rate / spent,
    }
    if isinstance(source, ShapesWorldSource):
        pairs = zip(true, heard, strict=True)
        scores |= _judged([(one.numpy(), other.numpy()) for one, other in pairs], tokenizer.sample_rate)
    return scores


def _judged(pairs: list[tuple[np.ndarray, np.ndarray]], rate: int) -> dict[str, float]:
    judged = [(shapesworld.judge_sound(one, rate), shapesworld.judge_sound(other, rate)) for one, other in pairs]
    pitch = [
        made.pitch is not None and abs(12 * np.log2(made.pitch / truth.pitch)) < SEMITONE
        for truth, made in judged
        if truth.pitch is not None
    ]
    bursts = [
        len(truth.bursts) == len(made.bursts)
        and all(abs(one - other) <= BURST for one, other in zip(truth.bursts, made.bursts, strict=True))
        for truth, made in judged
        if truth.bursts
    ]
    shares = {
        "pitch": pitch,
        "bursts": bursts,
        "shape": [truth.shape == made.shape for truth, made in judged],
        "motion": [truth.motion == made.motion for truth, made in judged],
    }
    return {name: float(np.mean(share)) for name, share in shares.items() if share}
