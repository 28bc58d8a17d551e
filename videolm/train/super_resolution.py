"""Training the masked transformer on pairs of token shards: clips, and the same clips at half the size.

A step hides some of a clip's codes, as many as MAGVIT's cosine schedule says, and asks for them. The small clip's codes
are noised, and the model told how much; they and the text are left out now and then, so that guidance has something to
lead away from (VideoPoet 3.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from videolm.data.shards import Shard, TokenData, embedded
from videolm.errors import UserError
from videolm.generate.sampling import draw
from videolm.media import Video, contact_sheet
from videolm.metrics import psnr
from videolm.model.loss import Scores
from videolm.pipeline.folder import Parts
from videolm.sequence import lay_out
from videolm.shapes import TokenGrid
from videolm.superres.decode import MaskedSampling, fill, hidden_share
from videolm.superres.enlarge import Enlarge
from videolm.superres.model import MaskedModel
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.train.engine import Engine, EngineConfig
from videolm.train.flops import masked_row_flops
from videolm.train.log import Log, Work
from videolm.train.loop import TrainingConfig, to_device, train
from videolm.train.optimizer import OptimizerConfig

PAIR = CLIP, SMALL = "video", "video.half"
"""Sources of token shards."""
Share = Annotated[float, Field(ge=0, le=1)]
Even = Annotated[int, Field(ge=2, multiple_of=2)]
Redraw = Callable[[Tensor, "Texts", torch.Generator], Tensor]
"""Codes (b, t, h, w) of small clips and their texts to codes that the language model draws in their places."""


class MaskedTraining(TrainingConfig):
    """The `super_resolution_training:` section of a recipe."""

    stage: Annotated[int, Field(ge=1, le=4)] = 1
    """1: from the recipe's formats to twice their height and width; 2: from there on."""
    steps: Annotated[int, Field(ge=1)] = 10000
    batch: Annotated[int, Field(ge=1)] = 8
    """Clips a batch and process."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3)
    text_dropout: Share = 0.1
    """Share of rows trained without their text."""
    low_dropout: Share = 0.1
    """Share of rows trained without the small clip, independently."""
    noise: Share = 0.5
    """Up to this share of a small clip's codes are drawn anew, at a rate drawn evenly for each row."""
    real: Share = 0.0
    """Share of rows whose new codes are what the language model draws there, having seen the true ones before them, in
    place of any: nearer to what it will be given in use."""
    pictures: Share = 0.1
    """Share of the batches that are of first frames alone."""
    parts: Share = 0.0
    """Share of the batches that are of parts of clips, each around a code that is not the clip's commonest: where most
    of a clip is plain ground they have more of what is to be learnt. They are as many more as they are smaller."""
    part: tuple[Even, Even] = (8, 8)
    """Height and width of these parts, in codes of the large clip."""
    shown: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss at codes that are not hidden, beside 1 at those that are; MAGVIT's is 1 (its eq. 4)."""
    validation_clips: Annotated[int, Field(ge=1)] = 64
    samples: Annotated[int, Field(ge=1)] = 4
    """Held-out clips made at every validation, whose PSNR is told."""


class Texts(NamedTuple):
    """Embeddings (b, m, d) of captions and where there is a token (b, m)."""

    embeddings: Tensor
    mask: Tensor


class Pairs(NamedTuple):
    """A batch: what `MaskedModel` is called with."""

    codes: Tensor
    hidden: Tensor
    low: Tensor
    rate: Tensor
    texts: Texts
    places: Tensor
    """(m,) of the hidden codes in the batch."""
    others: Tensor
    """(n,) of those that are seen."""
    enlarged: Tensor | None

    @classmethod
    def of(
        cls,
        codes: Tensor,
        hidden: Tensor,
        low: Tensor,
        rate: Tensor,
        texts: Texts,
        enlarged: Tensor | None = None,
    ) -> Pairs:
        places, others = (mask.flatten().nonzero()[:, 0] for mask in (hidden, ~hidden))
        return cls(codes, hidden, low, rate, texts, places, others, enlarged)


class PairSource:
    """Pairs by step, from (seed, step, rank) alone.

    Args:
        data: shards with `CLIP` and `SMALL`, of one or several formats and data sets.
        redraw: draws codes as the language model does; needed where `config.real` is not 0.
        enlarge: for models that are shown the small clip enlarged.
    """

    def __init__(
        self,
        data: Sequence[TokenData],
        config: MaskedTraining,
        codebook_size: int,
        seed: int,
        redraw: Redraw | None = None,
        enlarge: Enlarge | None = None,
    ):
        self.data, self.config, self.size, self.seed = data, config, codebook_size, seed
        self.redraw, self.enlarge = redraw, enlarge
        weights = np.array([each.weight for each in data])
        self._shares = weights / weights.sum()
        self._numbers = [each.examples((CLIP, SMALL)) for each in data]

    def at(self, step: int, micro: int = 0, rank: int = 0) -> Pairs:
        """The batch of a step. All ranks have clips of one data set and format."""
        config = self.config
        same, own = (np.random.default_rng([self.seed, step, micro, *more]) for more in ((), (rank,)))
        which = int(same.choice(len(self.data), p=self._shares))
        alone, cut = same.random() < config.pictures, same.random() < config.parts
        _, h, w = self.data[which].shards[CLIP].grid
        part = (min(h, config.part[0]), min(w, config.part[1])) if cut else (h, w)
        count = config.batch * h * w // (part[0] * part[1])
        codes, low, texts = self.read(which, own.choice(self._numbers[which], count), own)
        keep_text, keep_low = own.random((2, count)) >= np.array([[config.text_dropout], [config.low_dropout]])
        rate = torch.from_numpy(own.random(count) * config.noise).float()
        generator = torch.Generator().manual_seed(int(own.integers(2**62)))
        noised = self._noised(low, texts, rate, own.random(count) < config.real, generator)
        if alone:
            codes, noised = codes[:, :1], noised[:, :1]
        if cut:
            codes, noised = around(codes, noised, part, generator)
        enlarged = None if self.enlarge is None else self.enlarge(noised)
        hidden = hide(codes, torch.rand(count, generator=generator), generator)
        shown = torch.from_numpy(keep_low)[:, None, None, None]
        mask = texts.mask & torch.from_numpy(keep_text)[:, None]
        return Pairs.of(codes, hidden, torch.where(shown, noised, -1), rate, texts._replace(mask=mask), enlarged)

    def held(self, count: int) -> list[Pairs]:
        """Batches of so many clips as they are in use: nothing left out or noised, each hidden by its own share."""
        found = []
        for which, numbers in enumerate(self._numbers):
            rng, generator = np.random.default_rng([self.seed, which]), torch.Generator().manual_seed(self.seed)
            for start in range(0, min(count, len(numbers)), self.config.batch):
                codes, low, texts = self.read(which, numbers[start : start + self.config.batch][:count], rng)
                hidden = hide(codes, torch.rand(len(codes), generator=generator), generator)
                enlarged = None if self.enlarge is None else self.enlarge(low)
                found.append(Pairs.of(codes, hidden, low, torch.zeros(len(codes)), texts, enlarged))
        return found

    def read(self, which: int, numbers: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor, Texts]:
        """Codes of examples of a data set, of the small clips too, and one of the captions of each."""
        shards: Mapping[str, Shard] = self.data[which].shards
        large, small = (shards[source].read(numbers) for source in (CLIP, SMALL))
        assert large.embeddings is not None  # shards of pairs have them
        chosen = [texts[int(rng.random() * (len(texts) - 1))] if len(texts) > 1 else b"" for texts in large.embeddings]
        return large.codes, small.codes, Texts(*embedded(chosen, shards[CLIP].text_width))

    def _noised(
        self, low: Tensor, texts: Texts, rate: Tensor, real: NDArray[np.bool_], generator: torch.Generator
    ) -> Tensor:
        anew = torch.rand(low.shape, generator=generator) < rate[:, None, None, None]
        drawn = torch.randint(self.size, low.shape, generator=generator)
        if self.redraw is not None and real.any():
            rows = torch.from_numpy(real)
            drawn[rows] = self.redraw(low[rows], Texts(*(x[rows] for x in texts)), generator)
        return torch.where(anew, drawn, low)


def around(codes: Tensor, low: Tensor, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A part (height, width) of each of codes (b, t, h, w), and of the small ones (b, t, h / 2, w / 2) what lies below.

    In its middle, as far as the edges allow, is a place whose code is not the commonest, drawn evenly among these.
    """
    found = []
    for large, small in zip(codes, low, strict=True):
        busy = (large != large.flatten().mode().values).nonzero()[:, 1:]
        busy = busy if len(busy) else torch.tensor([[0, 0]])
        centre = busy[int(torch.randint(len(busy), (), generator=generator))]
        corner = (
            2 * (int((at - side // 2).clamp(0, whole - side)) // 2)
            for at, side, whole in zip(centre, size, large.shape[1:], strict=True)
        )
        top, left = corner
        part = large[:, top : top + size[0], left : left + size[1]]
        below = small[:, top // 2 : (top + size[0]) // 2, left // 2 : (left + size[1]) // 2]
        found.append((part, below))
    parts, below_all = zip(*found, strict=True)
    return torch.stack(parts), torch.stack(below_all)


def hide(codes: Tensor, at: Tensor, generator: torch.Generator) -> Tensor:
    """Which of codes (b, t, h, w) are hidden, evenly drawn: of each row the share that the schedule has at a point (b,)
    in [0, 1), rounded up (MAGVIT 3.1)."""
    count = codes[0].numel()
    wanted = (hidden_share(at) * count).ceil().clamp(1, count).long()
    ranks = torch.rand(len(codes), count, generator=generator).argsort(1).argsort(1)
    return (ranks < wanted[:, None]).view(codes.shape)


class Objective(nn.Module):
    """The model with its loss; a batch is `Pairs`."""

    def __init__(self, model: MaskedModel, shown: float):
        super().__init__()
        self.model, self.shown = model, shown

    def forward(self, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
        codes, hidden, low, rate, text, mask = (to_device(x, self.model) for x in (*pairs[:4], *pairs.texts))
        enlarged = None if pairs.enlarged is None else to_device(pairs.enlarged, self.model)
        prompt = low if self.model.config.low else None
        states = self.model(codes, hidden, prompt, rate, text, mask, enlarged).flatten(0, 3)

        def score(places: Tensor) -> Scores:
            where = to_device(places, self.model)
            return self.model.head.score(states[where], codes.flatten()[where])

        scores = score(pairs.places)
        logs = {"nll": scores.loss, "accuracy": scores.right.float().mean()}
        if not self.shown or not len(pairs.others):
            return scores.loss, logs
        seen = score(pairs.others)
        return scores.loss + self.shown * seen.loss, {**logs, "nll_shown": seen.loss}


def train_super_resolution(
    model: MaskedModel,
    tokenizer: VideoTokenizer,
    data: Sequence[TokenData],
    validation: Sequence[TokenData],
    config: MaskedTraining,
    engine_config: EngineConfig,
    *,
    sampling: MaskedSampling,
    fps: float,
    folder: Path,
    seed: int,
    redraw: Redraw | None = None,
) -> dict[str, float]:
    """Train in place; returns the last validation: nats a hidden code, and the PSNR of clips made from the small ones
    against what the true codes show.

    Args:
        tokenizer: decodes them.
        data, validation: token shards of both sizes, with text embeddings.
        redraw: see `PairSource`.
    """
    enlarge = Enlarge(tokenizer) if model.config.enlarged else None
    source, held = (
        PairSource(each, config, model.config.codebook_size, seed, redraw, enlarge) for each in (data, validation)
    )
    batches_held = held.held(config.validation_clips)

    def batches(step: int, engine: Engine) -> list[Pairs]:
        return [source.at(step, micro, engine.rank) for micro in range(engine_config.accumulate)]

    @torch.inference_mode()
    def validate(module: nn.Module, log: Log, step: int) -> dict[str, float]:
        nats = [float(module(pairs)[1]["nll"]) for pairs in batches_held]
        made, true = _samples(model, tokenizer, batches_held[0], config.samples, sampling, seed)
        pairs = [clip for pair in zip(made, true, strict=True) for clip in pair]
        names = itertools.cycle(["made", "true codes"])
        rows = [(name, Video.from_tensor(clip, fps)) for name, clip in zip(names, pairs, strict=False)]
        log.picture(step, "samples", contact_sheet(rows).pixels)
        return {"nll": float(np.mean(nats)), "psnr": float(psnr(made, true).mean())}

    def work(pairs: Pairs) -> Work:
        count, t, h, w = pairs.codes.shape
        told = pairs.texts.mask.shape[1]
        return Work(pairs.codes.numel(), count * masked_row_flops(model, TokenGrid(t, h, w), told))

    return train(
        Objective(model, config.shown),
        name="super-resolution",
        folder=folder,
        config=config,
        engine_config=engine_config,
        batches=batches,
        validate=validate,
        work=work,
        gather=True,
        seed=seed,
    )


def _samples(
    model: MaskedModel, tokenizer: VideoTokenizer, pairs: Pairs, count: int, sampling: MaskedSampling, seed: int
) -> tuple[Tensor, Tensor]:
    """Clips made from small ones, and what the true codes show."""
    made = []
    codes = pairs.codes[:count]
    for index, own in enumerate(codes):
        text = pairs.texts.embeddings[index][pairs.texts.mask[index]]
        low = to_device(pairs.low[index], model) if model.config.low else None
        everywhere = torch.ones_like(own, dtype=torch.bool)
        generator = torch.Generator().manual_seed(seed + index)
        start, text = to_device(own, model), to_device(text, model)
        everything = to_device(everywhere, model)
        enlarge = Enlarge(tokenizer)
        made.append(fill(model, start, everything, sampling, generator, low, text, enlarge=enlarge).codes)
    clips = (tokenizer.decode(to_device(x, tokenizer)).float().clamp(-1, 1).cpu() for x in (torch.stack(made), codes))
    first, second = clips
    return first, second


def redrawn_by(parts: Parts) -> Redraw:
    """What a model's language model draws in the place of each code of small clips, of its text-to-video rows, having
    seen the true ones before it."""
    task = next((task for task in parts.tasks.tasks if task.name == "text_to_video"), None)
    if task is None:
        raise UserError("real codes are drawn by text_to_video, which the language model does not know: set real to 0")
    lm, sampling, device = parts.lm, parts.sampling, parts.lm.device
    variants = [variant for variant in parts.tasks.variants() if variant.task is task]
    rows = [lay_out(variant, parts.tasks, parts.vocabulary, parts.tokenizer.grid) for variant in variants]
    layouts = {tuple(span.grid): (layout, span) for layout in rows for span in layout.outputs if span.source == CLIP}

    @torch.inference_mode()
    def redraw(low: Tensor, texts: Texts, generator: torch.Generator) -> Tensor:
        if tuple(low.shape[1:]) not in layouts:
            raise UserError(f"the language model has no clips of {tuple(low.shape[1:])} codes: set real to 0")
        layout, span = layouts[tuple(low.shape[1:])]
        assert layout.text is not None
        ids = layout.build({CLIP: low}).to(device)
        text, mask = texts.embeddings.to(device, lm.dtype), texts.mask.to(device)
        states = lm.hidden(ids, layout.positions.to(device), layout.prefix, text, mask, layout.text.start)
        before = states[:, span.start - 1 : span.stop - 1].flatten(0, 1)
        chosen: list[Tensor] = []
        for _ in range(lm.head.factors("visual")):
            logits = lm.head.logits(before, "visual", chosen)
            noise = -(-torch.rand(logits.shape, generator=generator).clamp_min(1e-20).log()).clamp_min(1e-20).log()
            chosen.append(draw(logits, sampling, noise.to(device) if sampling.temperature else None))
        return (lm.head.join(chosen, "visual") - span.ids.start).view(low.shape).cpu()

    return redraw
