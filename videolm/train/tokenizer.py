"""Training a video tokenizer on raw clips, perhaps from a tokenizer of pictures on, and then perhaps its decoder alone.

    [pictures ──► its image tokenizer ──► inflation ──►] clips ──► tokenizer [──► its decoder]

The whole tokenizer learns by reconstruction, the quantiser's own losses and an annealed entropy term. A last stage may
go on with another reconstruction loss and the codes fixed: what it sharpens then costs the codes nothing.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from videolm.config import Config
from videolm.data.example import Source
from videolm.media import Video, contact_sheet
from videolm.metrics import code_usage, psnr
from videolm.tokenizers.losses.adversarial import balance
from videolm.tokenizers.losses.perceptual import I3D, LPIPS
from videolm.tokenizers.losses.video_discriminator import VideoDiscriminatorConfig
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.train.adversarial import AdversarialTraining, Weight, with_whole_weights
from videolm.train.engine import Engine, EngineConfig, rank
from videolm.train.log import Log
from videolm.train.loop import to_device, train
from videolm.train.optimizer import OptimizerConfig

Trained = Literal["image_tokenizer", "tokenizer", "decoder"]
SEEDS: dict[Trained, int] = {"tokenizer": 2, "decoder": 3, "image_tokenizer": 4}
"""So that each stage sees other clips; 1 is for validation."""
PERCEPTUAL: dict[str, type[LPIPS | I3D]] = {"lpips": LPIPS, "i3d": I3D}
"""The network of each perceptual term."""


class Finish(Config):
    """Other weights of the reconstruction terms for the last steps: what learns fastest need not end best."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Of the steps."""
    l1: Weight
    l2: Weight
    l4: Weight


class DecoderTraining(AdversarialTraining):
    """The `decoder_training:` section of a recipe: what reconstruction alone needs."""

    trains: ClassVar[Trained] = "decoder"

    batch: Annotated[int, Field(ge=1)] = 8
    """Clips a batch and process; of larger ones than the first size as many fewer."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    l1: Weight = 1.0
    l2: Weight = 5.0
    l4: Weight = 0.0
    """Weight of the mean fourth power of the error: it counts where a few pixels are far off, as at small corners."""
    lpips: Weight = 0.0
    """Weight of the frames' distance for LPIPS, whose weights are a file to fetch."""
    i3d: Weight = 0.0
    """Weight of the clips' distance for I3D, likewise."""
    finish: Finish | None = None
    """Weights of the pixels' terms from some step on."""
    discriminator: VideoDiscriminatorConfig | None = None
    """Of the adversarial terms, where they are wanted; their weights are those of MAGVIT's source, LeCam's apart."""
    adversarial: Weight = 0.1
    adaptive: bool = False
    """Multiply that weight at each step by what makes the term pull as hard as those of reconstruction."""
    lecam: Weight = 0.001
    r1: Weight = 10.0
    validation_clips: Annotated[int, Field(ge=1)] = 64

    def weights(self, step: int) -> dict[str, float]:
        """The weight of each loss term at `step`."""
        late = self.finish is not None and step >= (1 - self.finish.share) * self.steps
        now = self.finish if self.finish is not None and late else self
        weights = {"l1": now.l1, "l2": now.l2, "l4": now.l4, **self.perceptual_weights()}
        return weights if self.discriminator is None else weights | self.adversarial_weights(step)

    def perceptual_weights(self) -> dict[str, float]:
        """The weight of each perceptual term that is wanted."""
        return {name: weight for name, weight in (("lpips", self.lpips), ("i3d", self.i3d)) if weight}

    def check_files(self) -> None:
        """Raise `UserError`, which says which file goes where, when a perceptual term lacks its network's weights."""
        for name in self.perceptual_weights():
            PERCEPTUAL[name].file.find()


class TokenizerTraining(DecoderTraining):
    """The `tokenizer_training:` section of a recipe."""

    trains: ClassVar[Trained] = "tokenizer"

    commitment: Weight = 0.25
    codebook: Weight = 1.0
    """Weight of the distance of a table's entries to their latents, where the optimiser moves the table."""
    entropy: Weight = 0.1
    """Weight of the entropy term at the first step."""
    entropy_final: Weight = 0.003
    """Its weight once annealed; a small model should end low."""
    anneal: Annotated[float, Field(gt=0, le=1)] = 0.33
    """Share of the steps over which the entropy weight falls, linearly."""

    def weights(self, step: int) -> dict[str, float]:
        done = min(1.0, step / (self.anneal * self.steps))
        entropy = self.entropy + (self.entropy_final - self.entropy) * done
        return {**super().weights(step), "entropy": entropy, "commitment": self.commitment, "codebook": self.codebook}


class ImageTraining(TokenizerTraining):
    """The `image_training:` section of a recipe: the tokenizer of pictures that the one of clips is inflated from."""

    trains: ClassVar[Trained] = "image_tokenizer"

    batch: Annotated[int, Field(ge=1)] = 32
    """Pictures a batch and process."""


class Objective(nn.Module):
    """The tokenizer with its loss, as the engine calls it: a batch is (clips (b, 3, f, H, W), weights of the terms)."""

    def __init__(self, tokenizer: VideoTokenizer, config: DecoderTraining):
        super().__init__()
        self.tokenizer, self.adaptive = tokenizer, config.adaptive
        wanted = config.perceptual_weights()
        self.perceptual = {name: network.load() for name, network in PERCEPTUAL.items() if name in wanted}
        self.adversary = None if config.discriminator is None else config.discriminator.make()

    def forward(self, batch: tuple[Tensor, dict[str, float]]) -> tuple[Tensor, dict[str, Tensor]]:
        clips, weights = batch
        out = self.tokenizer(clips.to(next(self.parameters()).dtype))
        difference = out.video.float() - clips
        square = difference.square()
        rebuilt = {"l1": difference.abs().mean(), "l2": square.mean(), "l4": square.square().mean()}
        for name, network in self.perceptual.items():  # no parts of this module: neither trained nor saved
            rebuilt[name] = network.to(clips.device).distance(out.video, clips).mean()
        terms = {**rebuilt, **out.losses}
        logged: dict[str, Tensor] = {}
        if self.adversary is not None and "discriminator" in weights:
            terms |= self.adversary(out.video, clips, weights)
            if self.adaptive:
                pull = torch.stack([weights[name] * term for name, term in rebuilt.items()]).sum()
                logged["adaptive"] = balance(pull, terms["adversarial"], out.video)
                terms["adversarial"] = logged["adaptive"] * terms["adversarial"]
        used = [name for name in weights if name in terms]  # a quantiser has losses of its own
        loss = torch.stack([weights[name] * terms[name] for name in used]).sum()
        return loss, logged | {name: terms[name].detach() for name in used}


def draw_clips(source: Source, rng: np.random.Generator, size: int) -> Tensor:
    """`size` clips (b, 3, f, H, W) of a source, drawn with `rng`."""
    return torch.stack([source[int(index)].media.to_tensor() for index in rng.integers(len(source), size=size)])


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Clips through their codes: (reconstructions clamped to [-1, 1], codes)."""
    weights = next(tokenizer.parameters())
    codes = tokenizer.encode(clips.to(weights))
    return tokenizer.decode(codes).float().clamp(-1, 1), codes


def train_tokenizer(
    tokenizer: VideoTokenizer,
    sources: Sequence[Source],
    validation: Sequence[Source],
    config: DecoderTraining,
    engine_config: EngineConfig,
    *,
    folder: Path,
    seed: int,
    fps: float,
) -> dict[str, float]:
    """Train in place, all of it or with a plain `DecoderTraining` the decoder alone.

    Args:
        sources, validation: of clips of one size each; steps take them in turn.

    Returns the last validation: PSNR in dB, codes in use and their perplexity, means over the sizes.
    """
    if config.discriminator is not None:
        engine_config = with_whole_weights(engine_config)
    if config.trains == "decoder":
        tokenizer.freeze_codes()
    if not all(map(len, validation)) and rank() == 0:
        tqdm.write("nothing is kept from training: validation is on clips that it sees", sys.stderr)
    kept = []
    for source, of in zip(sources, validation, strict=True):
        rng = np.random.default_rng([seed, 1])
        kept.append(draw_clips(of if len(of) else source, rng, config.validation_clips))
    sizes = [max(1, config.batch * kept[0][0].numel() // clips[0].numel()) for clips in kept]

    def batches(step: int, engine: Engine) -> list[Any]:
        made, which = [], step % len(sources)
        for micro in range(engine_config.accumulate):
            rng = np.random.default_rng([seed, SEEDS[config.trains], step, micro, engine.rank])
            clips = draw_clips(sources[which], rng, sizes[which])
            made.append((clips.to(engine.device), config.weights(step)))
        return made

    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        rows: list[tuple[str, Video]] = []
        values: list[dict[str, float]] = []
        for held, size in zip(kept, sizes, strict=True):
            parts = [reconstruct(tokenizer, to_device(part, tokenizer)) for part in held.split(size)]
            video, codes = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
            pairs = [clip for index in range(min(4, len(held))) for clip in (held[index], video[index])]
            names = itertools.cycle(["clip", "decoded"])
            rows += [(name, Video.from_tensor(clip, fps)) for name, clip in zip(names, pairs, strict=False)]
            values.append({"psnr": float(psnr(video, held).mean()), **code_usage(codes, tokenizer.codebook_size)})
        log.picture(step, "reconstructions", contact_sheet(rows).pixels)
        return {name: sum(each[name] for each in values) / len(values) for name in values[0]}

    return train(
        Objective(tokenizer, config),
        name=config.trains.replace("_", " "),
        folder=folder,
        config=config,
        engine_config=engine_config,
        batches=batches,
        validate=validate,
        gather=True,
        seed=seed,
    )
