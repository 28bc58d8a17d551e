"""Training an audio codec on raw sound: samples, spectra, the quantiser's commitment, and a discriminator if asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from videolm.data.example import Source
from videolm.media import Audio
from videolm.metrics import code_usage, snr
from videolm.tokenizers.audio.protocol import AudioTokenizer
from videolm.tokenizers.losses.sound_discriminators import DiscriminatorConfig
from videolm.tokenizers.losses.spectral import magnitudes, spectral_distance
from videolm.train.adversarial import AdversarialTraining, Weight, with_whole_weights
from videolm.train.engine import Engine, EngineConfig
from videolm.train.log import Log
from videolm.train.loop import to_device, train
from videolm.train.optimizer import OptimizerConfig


class AudioTraining(AdversarialTraining):
    """The `audio_training:` section of a recipe."""

    batch: Annotated[int, Field(ge=1)] = 16
    """Sounds a batch and process."""
    seconds: Annotated[float, Field(gt=0)] = 2.0
    """Cut at random out of each, where it is longer."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    l1: Weight = 10.0
    """Weight of the mean distance of samples."""
    spectral: Weight = 1.0
    """Weight of `spectral_distance`."""
    windows: tuple[Annotated[int, Field(ge=16, le=8192)], ...] = (2048, 512, 128)
    """Samples of its windows."""
    commitment: Weight = 0.25
    discriminator: DiscriminatorConfig | None = None
    """Of the adversarial terms, where they are wanted."""
    features: Weight = 10.0
    """Weight of the distance of the discriminator's features."""
    validation_sounds: Annotated[int, Field(ge=1)] = 64

    def weights(self, step: int) -> dict[str, float]:
        """The weight of each loss term at `step`."""
        weights = {"l1": self.l1, "spectral": self.spectral, "commitment": self.commitment}
        if self.discriminator is not None and (more := self.adversarial_weights(step)):
            weights |= {**more, "features": self.features}
        return weights


class Objective(nn.Module):
    """The codec with its loss, as the engine calls it: a batch is (sounds (b, n), weights of the terms)."""

    def __init__(self, tokenizer: AudioTokenizer, config: AudioTraining):
        super().__init__()
        self.tokenizer, self.windows = tokenizer, config.windows
        self.adversary = None if config.discriminator is None else config.discriminator.make()

    def forward(self, batch: tuple[Tensor, dict[str, float]]) -> tuple[Tensor, dict[str, Tensor]]:
        sounds, weights = batch
        out = self.tokenizer(sounds.to(next(self.parameters()).dtype))
        terms = {
            "l1": (out.audio.float() - sounds).abs().mean(),
            "spectral": spectral_distance(out.audio, sounds, self.windows),
            **out.losses,
        }
        if self.adversary is not None and "discriminator" in weights:
            terms |= self.adversary(out.audio, sounds, weights)
        loss = torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()
        return loss, {name: terms[name].detach() for name in weights}


def draw_sounds(
    source: Source[Audio], tokenizer: AudioTokenizer, rng: np.random.Generator, size: int, seconds: float
) -> Tensor:
    """`size` stretches (b, n) of the sounds of a source, of whole codec frames, drawn with `rng`."""
    samples = max(1, tokenizer.frames(round(seconds * tokenizer.sample_rate))) * tokenizer.stride
    drawn = []
    for index in rng.integers(len(source), size=size):
        audio = source[int(index)].media.converted(tokenizer.sample_rate, 1)
        start = int(rng.integers(max(1, len(audio) - samples + 1)))
        drawn.append(audio.fitted(max(len(audio), samples)).to_tensor()[0, start : start + samples])
    return torch.stack(drawn)


def train_audio_tokenizer(
    tokenizer: AudioTokenizer,
    source: Source[Audio],
    validation: Source[Audio],
    config: AudioTraining,
    engine_config: EngineConfig,
    *,
    folder: Path,
    seed: int,
) -> dict[str, float]:
    """Train in place. Returns the last validation: SNR in dB, and of the first level codes in use and perplexity."""
    if config.discriminator is not None:
        engine_config = with_whole_weights(engine_config)
    held_source = validation if len(validation) else source
    rng = np.random.default_rng([seed, 1])
    held = draw_sounds(held_source, tokenizer, rng, config.validation_sounds, config.seconds)

    def batches(step: int, engine: Engine) -> list[Any]:
        made = []
        for micro in range(engine_config.accumulate):
            rng = np.random.default_rng([seed, 5, step, micro, engine.rank])
            sounds = draw_sounds(source, tokenizer, rng, config.batch, config.seconds)
            made.append((sounds.to(engine.device), config.weights(step)))
        return made

    @torch.inference_mode()
    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        weights = next(tokenizer.parameters())
        parts = [tokenizer.encode(to_device(part, tokenizer).to(weights)) for part in held.split(config.batch)]
        audio = torch.cat([tokenizer.decode(part).float().cpu() for part in parts])
        codes = torch.cat(parts).cpu()
        log.picture(step, "reconstructions", spectrograms([held[:4], audio[:4]]))
        for index in range(min(4, len(held))):
            log.sound(step, f"decoded/{index}", audio[index].clamp(-1, 1), tokenizer.sample_rate)
        usage = code_usage(codes[:, 0], tokenizer.codebook_size)
        return {"snr": float(snr(audio.view(1, -1), held.view(1, -1))), **usage}  # of all: some are silent

    return train(
        Objective(tokenizer, config),
        name="audio tokenizer",
        folder=folder,
        config=config,
        engine_config=engine_config,
        batches=batches,
        validate=validate,
        gather=True,
        seed=seed,
    )


def spectrograms(rows: Sequence[Tensor], window: int = 512) -> np.ndarray:
    """Sounds as a picture (H, W, 3) uint8: a row for each (b, n), low pitches below, -80 dB is black and 0 white."""
    strips = []
    for sounds in rows:
        levels = (20 * magnitudes(sounds, window).clamp_min(1e-4).log10() + 80) / 80  # (b, frequencies, frames)
        strips.append(torch.cat(list(levels.flip(1)), dim=1))
    grey = (torch.cat(strips).clamp(0, 1) * 255).to(torch.uint8).numpy()
    return np.repeat(grey[..., None], 3, axis=-1)
