"""Our video tokenizers against `magvit2-pytorch` 0.5.1 and `phenaki-pytorch` 0.5.0, at equal grids and parameters.

Claim: there and back 3.7 and 1.7 times as fast, a training step 4.3 and 1.9 times; 15% and 45% of the memory that 129
frames add to imports and weights; a higher PSNR after the same time of training on the same clips; and no code that
depends on a later frame.
Run, in an environment of its own, for the peers ask for torchvision, whose PyPI build does not go with a CPU's torch:

    python -m venv peers && peers/bin/pip install torch==2.13.0 '.[train]'
    peers/bin/pip install --no-deps magvit2-pytorch==0.5.1 phenaki-pytorch==0.5.0
    peers/bin/pip install accelerate beartype ema-pytorch gateloop-transformer kornia lion-pytorch pytorch-warmup \
        pytorch-custom-utils taylor-series-linear-attention vector-quantize-pytorch x-transformers \
        opencv-python-headless
    peers/bin/python benchmarks/tokenizer_peers.py [speed] [memory] [quality] [properties] [--seconds 240]

torchvision is replaced by an empty stand-in while they are imported: they use it for files and for VGG, which is left
out here, as are the discriminators on both sides. Threads: --threads, 1. Times are medians of rounds that go through
all in turn. Memory is the peak of a process of its own, our clips coming and going in chunks, theirs whole, for they
know no other way. Quality: each is trained for as many steps as fill the time, ours by our recipes' settings, theirs
by AdamW at two rates with a cosine to zero; PSNR is on 64 ShapesWorld clips that none has seen.
"""

import argparse
import importlib
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import MagicMock

import torch
from tokenizer_properties import COLUMNS, cells, draw
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer  # noqa: F401  # before the stand-in, which it would find

from videolm.data.example import Source
from videolm.data.sources import ShapesWorldData
from videolm.metrics import psnr
from videolm.shapes import Format
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.video.c_vivit import CViViT, CViViTConfig
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config
from videolm.train.engine import EngineConfig
from videolm.train.optimizer import OptimizerConfig
from videolm.train.tokenizer import Objective, TokenizerTraining, draw_clips, reconstruct, train_tokenizer

LAYERS = (
    *("residual", "compress_space", ("consecutive_residual", 2), "compress_space", ("consecutive_residual", 2)),
    *("linear_attend_space", "compress_space", ("consecutive_residual", 2), "attend_space", "compress_time"),
    *(("consecutive_residual", 2), "compress_time", ("consecutive_residual", 2), "attend_time"),
)
"""Of magvit2-pytorch's own example: 8x in space, 4x in time."""
RATES = (3e-4, 1e-3)
"""Of theirs."""
PARTS = ("models", "transforms", "utils", "datasets")
"""Of torchvision."""
HELD, BATCH, MEMORY_FRAMES = 64, 8, 129
TRAINING = TokenizerTraining(
    optimizer=OptimizerConfig(name="muon", lr=1e-3, muon_lr=0.02, betas=(0.9, 0.99), weight_decay=1e-4)
)


class VGG16_Weights(Enum):
    """A default argument of magvit2-pytorch, of a type that its checks ask for."""

    DEFAULT = 0


class Magvit2Pytorch(nn.Module):
    """magvit2-pytorch behind what this script asks; its pixels are in [0, 1]."""

    causal, first_frame_alone, block = True, True, 1

    def __init__(self, **settings: Any):
        super().__init__()
        from magvit2_pytorch.magvit2_pytorch import VideoTokenizer as Theirs

        self.model = Theirs(layers=LAYERS, use_gan=False, perceptual_loss_weight=0.0, **settings)
        self.model.discr = None  # made in any case

    def frames(self, latents: int) -> int:
        return 1 + 4 * (latents - 1)

    def encode(self, video: Tensor) -> Tensor:
        return self.model.tokenize((video + 1) / 2)

    def decode(self, codes: Tensor) -> Tensor:
        return 2 * self.model.decode_from_code_indices(codes) - 1

    def loss(self, video: Tensor) -> Tensor:
        return self.model((video + 1) / 2, return_loss=True)[0]


class PhenakiPytorch(nn.Module):
    """phenaki-pytorch's C-ViViT behind what this script asks; its pixels are in [0, 1]."""

    causal, first_frame_alone, block = True, True, 1

    def __init__(self, **settings: Any):
        super().__init__()
        from phenaki_pytorch.cvivit import CViViT as Theirs

        self.model = Theirs(temporal_patch_size=2, patch_size=8, use_vgg_and_gan=False, **settings)
        self.model.vq.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: Any, made: tuple[Tensor, Tensor, Tensor]) -> None:
        self.quantizer_loss = made[2].sum()  # left out by its forward pass where there is no VGG

    def frames(self, latents: int) -> int:
        return 1 + 2 * (latents - 1)

    def encode(self, video: Tensor) -> Tensor:
        return self.model((video + 1) / 2, return_only_codebook_ids=True)

    def decode(self, codes: Tensor) -> Tensor:
        return 2 * self.model.decode_from_codebook_indices(codes.flatten(1)) - 1  # (b, t, h, w) it cannot take

    def loss(self, video: Tensor) -> Tensor:
        return self.model((video + 1) / 2) + self.quantizer_loss


def magvit_v2(**settings: Any) -> MagvitV2:
    return MagvitV2(MagvitV2Config(**settings))


def c_vivit(**settings: Any) -> CViViT:
    return CViViT(CViViTConfig(**settings))


FOLDED = {"multipliers": (1, 2), "temporal_down": (False,), "patch": (4, 4), "kernels": "factorized", "norm_groups": 0}
"""The layout of our presets for a CPU: patches of pixels as channels, factorised kernels."""
LFQ10, VQ8192 = {"name": "lfq", "bits": 10}, {"name": "vq", "codebook_size": 8192, "dim": 32}
FULL: dict[str, tuple[Format, dict[str, Callable[[], nn.Module]]]] = {
    "MAGVIT-v2": (
        Format(17, 128, 128),
        {
            "magvit2-pytorch": lambda: Magvit2Pytorch(image_size=128, init_dim=64, max_dim=512, codebook_size=1024),
            "ours": lambda: magvit_v2(base_channels=510, encoder_blocks=3, decoder_blocks=3, quantizer=LFQ10, **FOLDED),
            "ours, the paper's layers": lambda: magvit_v2(base_channels=92, norm_groups=4, quantizer=LFQ10),
        },
    ),
    "C-ViViT": (
        Format(11, 128, 128),
        {
            "phenaki-pytorch": lambda: PhenakiPytorch(
                dim=512, codebook_size=8192, image_size=128, spatial_depth=4, temporal_depth=4
            ),
            "ours": lambda: c_vivit(quantizer=VQ8192),
        },
    ),
}
"""At the peers' sizes: their own example, and the paper's."""
HALF = {
    "MAGVIT-v2": (
        FULL["MAGVIT-v2"][0],
        {
            "magvit2-pytorch": lambda: FULL["MAGVIT-v2"][1]["magvit2-pytorch"]().bfloat16(),
            "ours": lambda: FULL["MAGVIT-v2"][1]["ours"]().bfloat16(),
        },
    ),
    "C-ViViT": (
        FULL["C-ViViT"][0],
        {
            "phenaki-pytorch, float32": FULL["C-ViViT"][1]["phenaki-pytorch"],  # it does not run in bfloat16
            "ours": lambda: FULL["C-ViViT"][1]["ours"]().bfloat16(),
        },
    ),
}
"""The same in bfloat16."""
SMALL: dict[str, tuple[Format, dict[str, Callable[[], nn.Module]]]] = {
    "MAGVIT-v2": (
        Format(17, 64, 64),
        {
            "magvit2-pytorch": lambda: Magvit2Pytorch(image_size=64, init_dim=12, max_dim=80, codebook_size=4096),
            "ours": lambda: magvit_v2(
                base_channels=110, encoder_blocks=1, decoder_blocks=2, quantizer={"name": "lfq", "bits": 12}, **FOLDED
            ),
        },
    ),
    "C-ViViT": (
        Format(17, 64, 64),
        {
            "phenaki-pytorch": lambda: PhenakiPytorch(
                dim=192, codebook_size=4096, image_size=64, spatial_depth=2, temporal_depth=2, heads=6, dim_head=32
            ),
            "ours": lambda: c_vivit(
                hidden_size=192,
                num_heads=6,
                mlp_size=768,
                spatial_layers=2,
                temporal_layers=2,
                window=9,
                quantizer={"name": "fsq", "levels": (8, 8, 8, 8)},
            ),
        },
    ),
}
"""Small enough to learn something in minutes; 4,096 codes each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="speed memory quality properties (default: all)")
    parser.add_argument("--seconds", type=float, default=240, help="of training, for quality")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # a process of its own, for its memory
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    import_peers()
    if args.measure:
        print(json.dumps(peak(*args.measure)))
        return
    sections = {"speed": speed, "memory": memory, "quality": quality, "properties": properties}
    for name in args.sections or sections:
        sections[name](args)


def import_peers() -> None:
    """Both packages, with an empty torchvision while they are read."""
    empty = MagicMock()
    empty.models.VGG16_Weights = VGG16_Weights
    names = {"torchvision": empty} | {f"torchvision.{name}": getattr(empty, name) for name in PARTS}
    sys.modules.update(names)
    for package in ("magvit2_pytorch.magvit2_pytorch", "phenaki_pytorch.cvivit"):
        importlib.import_module(package)
    for name in names:
        del sys.modules[name]


def made(build: Callable[[], nn.Module]) -> Any:
    torch.manual_seed(0)
    return build().eval()


def millions(model: nn.Module) -> float:
    return sum(weight.numel() for weight in model.parameters()) / 1e6


def speed(args: argparse.Namespace) -> None:
    """Frames a second of encoding and decoding, and seconds of a training step."""
    sizes = [("float32", *each) for each in FULL.items()] + [("bfloat16", *each) for each in HALF.items()]
    for precision, title, (shape, builds) in sizes:
        models = {name: made(build) for name, build in builds.items()}
        clip = draw_clips(world(shape), generator(), 1)
        times: dict[str, dict[str, list[float]]] = {name: {"there": [], "there and back": []} for name in models}
        grids = {}
        with torch.inference_mode():
            for _ in range(args.rounds + 1):
                for name, model in models.items():
                    given = clip.to(next(model.parameters()).dtype)
                    began = time.perf_counter()
                    codes = model.encode(given)
                    middle = time.perf_counter()
                    grids[name] = tuple(codes.shape[1:])
                    model.decode(codes)
                    whole = time.perf_counter() - began
                    times[name]["there"].append(middle - began)
                    times[name]["there and back"].append(whole)
        steps = training_steps(models, clip, args.rounds)
        grid = "x".join(map(str, next(iter(grids.values()))))
        print(f"\n{title}, {shape} to {grid}, frames a second, {precision}, {args.threads} thread(s)\n")
        print("| | parameters | encode | there and back | ratio | training step, s | ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        theirs = next(iter(models))
        rate = {name: {what: shape.frames / median(each[1:]) for what, each in t.items()} for name, t in times.items()}
        for name, model in models.items():
            ratio = rate[name]["there and back"] / rate[theirs]["there and back"]
            step = steps[name]
            cells = (f"{millions(model):.1f}M", f"{rate[name]['there']:.2f}", f"{rate[name]['there and back']:.2f}")
            print("|", " | ".join([name, *cells, f"{ratio:.2f}", f"{step:.2f}", f"{steps[theirs] / step:.2f}"]), "|")
        assert len(set(grids.values())) == 1, grids


def training_steps(models: dict[str, Any], clip: Tensor, rounds: int) -> dict[str, float]:
    """Seconds of forward, backward and AdamW on one clip: a median each, in turn."""
    objectives = {name: objective(model) for name, model in models.items()}
    rules = {name: torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, loss in objectives.items():
            models[name].train()
            given = clip.to(next(models[name].parameters()).dtype)
            began = time.perf_counter()
            loss(given).backward()
            rules[name].step()
            rules[name].zero_grad()
            times[name].append(time.perf_counter() - began)
    return {name: median(each[1:]) for name, each in times.items()}


def objective(model: Any) -> Callable[[Tensor], Tensor]:
    """A model's loss of a batch of clips."""
    if not isinstance(model, VideoTokenizer):
        return model.loss
    ours = Objective(model, TRAINING)
    return lambda clips: ours((clips, TRAINING.weights(0)))[0]


def memory(args: argparse.Namespace) -> None:
    """The peak of a process that encodes and decodes a long clip."""
    print(f"\nPeak memory on {MEMORY_FRAMES} frames of 128x128, GB (nothing: a process that has only imported all)\n")
    print("| | encode | ratio | there and back | ratio |\n| --- | --- | --- | --- | --- |")
    found: dict[str, list[float]] = {}
    for title, (_, builds) in FULL.items():
        theirs = next(iter(builds))
        for name in ["nothing", *builds]:
            found[name] = [measured(args, title, name, what) for what in ("encode", "both")]
            ratios = [mine / other for mine, other in zip(found[name], found.get(theirs, found[name]), strict=True)]
            cells = [f"{value:.2f} | {ratio:.2f}" for value, ratio in zip(found[name], ratios, strict=True)]
            print(f"| {title}: {name} |", " | ".join(cells), "|", flush=True)


def measured(args: argparse.Namespace, *what: str) -> float:
    command = [sys.executable, __file__, "--threads", str(args.threads), "--measure", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@torch.inference_mode()
def peak(title: str, name: str, what: str) -> float:
    """GB that this process has come to."""
    shape = Format(MEMORY_FRAMES, 128, 128)
    if name != "nothing":
        model = made(FULL[title][1][name])
        clip = draw_clips(world(shape), generator(), 1)
        if isinstance(model, VideoTokenizer):
            encoder, decoder = model.stream_encoder(), model.stream_decoder()
            for part in [*clip.split(16, 2), None]:
                codes = encoder.finish() if part is None else encoder.push(part)
                if codes is not None and what == "both":
                    decoder.push(codes)
        else:
            codes = model.encode(clip)
            if what == "both":
                model.decode(codes)
    status = Path("/proc/self/status").read_text()  # getrusage has the peak of the parent in it, which may be larger
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20  # type: ignore[index]


def quality(args: argparse.Namespace) -> None:
    """PSNR after the same time of training."""
    for title, (shape, builds) in SMALL.items():
        source, held = world(shape), draw_clips(world(shape, seed=1000), generator(), HELD)
        print(f"\n{title}, {shape}, {args.seconds:g} s of training each, {args.threads} thread(s)\n")
        print("| | parameters | steps of 8 clips | seconds | PSNR |\n| --- | --- | --- | --- | --- |")
        for name, build in builds.items():
            rates = [None] if name == "ours" else RATES
            for rate in rates:
                model = made(build)
                steps, seconds = (
                    train_ours(model, source, shape, args.seconds)
                    if rate is None
                    else train(model, source, args.seconds, rate)
                )
                model.eval()
                cells = (f"{millions(model):.2f}M", str(steps), f"{seconds:.0f}", f"{score(model, held):.2f}")
                label = name if rate is None else f"{name}, AdamW {rate:g}"
                print("|", " | ".join([label, *cells]), "|", flush=True)


def train(model: Any, source: Source, limit: float, rate: float) -> tuple[int, float]:
    """AdamW with a warm-up and a cosine by the clock: (steps, seconds)."""
    rule = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    model.train()
    began, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < limit:
        loss = model.loss(draw_clips(source, generator(steps), BATCH))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in rule.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / 100) * (1 + math.cos(math.pi * spent / limit)) / 2
        rule.step()
        rule.zero_grad()
        steps += 1
    return steps, spent


def train_ours(model: VideoTokenizer, source: Source, shape: Format, limit: float) -> tuple[int, float]:
    """By the project's own training, for as many steps as fill the time: (steps, seconds)."""

    def run(steps: int) -> float:
        config = TRAINING.model_copy(update={"steps": steps, "validate_every": steps, "validation_clips": 2})
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            held = world(shape, seed=1000)
            train_tokenizer(model, [source], [held], config, EngineConfig(), folder=Path(folder), seed=0, fps=8.0)
            return time.perf_counter() - began

    start = {name: value.clone() for name, value in model.state_dict().items()}
    few, more = run(5), run(25)
    model.load_state_dict(start)
    steps = int((limit - few) / ((more - few) / 20))
    return steps, run(steps)


@torch.inference_mode()
def score(model: Any, held: Tensor) -> float:
    """PSNR in dB, a mean over the clips."""
    values = []
    for clips in held.split(8):
        if isinstance(model, VideoTokenizer):
            back = reconstruct(model, clips)[0]
        else:
            back = model.decode(model.encode(clips)).clamp(-1, 1)
        values.append(psnr(back, clips))
    return float(torch.cat(values).mean())


def properties(args: argparse.Namespace) -> None:
    """What each keeps of its word, on random weights: codes that differ of those compared."""
    print("\n| | precision |", *(f"{name} |" for name in COLUMNS), "clips from codes |")
    print("| --- | --- |", *("--- |" for _ in COLUMNS), "--- |")
    for _, builds in SMALL.values():
        for name, build in builds.items():
            model = made(build).double()
            try:
                found = cells(model)
            except RuntimeError:  # float32 inside
                model = model.float()
                found = cells(model)
            print("|", " | ".join([name, *found, decodes(model)]), "|", flush=True)


@torch.inference_mode()
def decodes(model: Any) -> str:
    """Whether codes alone give a clip."""
    clips = draw(model.frames(4)).to(next(model.parameters()).dtype)[:1]
    try:
        back = model.decode(model.encode(clips))
    except (RuntimeError, AttributeError, AssertionError, ValueError, TypeError) as error:
        return f"no: {type(error).__name__}"
    return "yes" if back.shape == clips.shape else f"no: {tuple(back.shape)}"


def world(shape: Format, seed: int = 0) -> Source:
    """ShapesWorld's clips."""
    return ShapesWorldData(seed=seed, clips=100_000).open("video", shape, 8.0, "train")


def generator(*seed: int) -> Any:
    import numpy as np

    return np.random.default_rng([7, *seed])


if __name__ == "__main__":
    main()
