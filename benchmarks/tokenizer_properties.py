"""What each video tokenizer keeps of its word, as a table: causality, prefixes, pictures, chunks.

Claim: with random weights in float64 no code differs; with trained weights in float32 at most 1 in 10,000 does.
Run: python benchmarks/tokenizer_properties.py [FOLDER_OF_A_TRAINED_TOKENIZER_OR_MODEL ...]

later frames: codes of the latent frames before a changed one that change. prefix: codes of the first frames alone
against those of the clip. picture: the first frame's codes as a picture. chunks: codes of frames that come 1, 3 or 7 at
a time.
"""

import sys
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from videolm import shapesworld
from videolm.config import parse, read_yaml
from videolm.media import Video
from videolm.pipeline.folder import find_tokenizer
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer

PRESETS = ("magvit_v2_tiny", "magvit_v2_small", "c_vivit_tiny", "c_vivit_small", "magvit_tiny")
CLIPS, SIDE = 16, 64
COLUMNS = ("later frames", "prefix", "picture", "chunks")


def main(trained: list[str]) -> None:
    """Print a row a tokenizer, in codes that differ of those compared."""
    print("| tokenizer | precision |", *(f"{name} |" for name in COLUMNS))
    print("| --- | --- |", *("--- |" for _ in COLUMNS))
    for preset in PRESETS:
        torch.manual_seed(0)
        settings = read_yaml(str(files("videolm.configs") / "tokenizer" / f"{preset}.yaml"))
        kind = VIDEO_TOKENIZERS.get(settings["name"])
        report(f"{preset}, random", kind(parse(kind.Settings, settings)).double().eval())
    for folder in trained:
        tokenizer = find_tokenizer(folder)
        report(f"{tokenizer.config.name}, trained", tokenizer)


def report(name: str, tokenizer: VideoTokenizer) -> None:
    """One row of the table."""
    print("|", " | ".join([name, *cells(tokenizer)]), "|", flush=True)


@torch.inference_mode()
def cells(tokenizer: Any) -> list[str]:
    """Precision and codes that differ, on ShapesWorld clips of as many frames as four blocks have; "–": not promised.

    Args:
        tokenizer: one of ours, or another's behind as much of the protocol as is asked for here.
    """
    clips = draw(tokenizer.frames(4 * (tokenizer.block or 1)))
    clips = clips.to(next(tokenizer.parameters()).dtype)
    codes = tokenizer.encode(clips)
    found = [later_frames(tokenizer, clips, codes), prefix(tokenizer, clips, codes)] if tokenizer.causal else ["–", "–"]
    found.append(share(tokenizer.encode(clips[:, :, :1]), codes[:, :1]) if tokenizer.first_frame_alone else "–")
    found.append(chunks(tokenizer, clips, codes) if hasattr(tokenizer, "stream_encoder") else "–")
    return [str(clips.dtype).removeprefix("torch."), *found]


def draw(frames: int) -> Tensor:
    """ShapesWorld clips (CLIPS, 3, frames, SIDE, SIDE)."""
    whole = 1 + 4 * -(-(frames - 1) // 4)
    scenes = [shapesworld.draw_scene(1000, index) for index in range(CLIPS)]
    return torch.stack([Video(shapesworld.render(s, whole, (SIDE, SIDE))[:frames], 8.0).to_tensor() for s in scenes])


def later_frames(tokenizer: Any, clips: Tensor, codes: Tensor) -> str:
    """Change every frame after a latent frame: the codes up to it must stay."""
    before, after = [], []
    for latents in range(1, codes.shape[1]):
        changed = clips.clone()
        changed[:, :, tokenizer.frames(latents) :] = clips[:, :, tokenizer.frames(latents) :].roll(1, 0)
        before.append(codes[:, :latents])
        after.append(tokenizer.encode(changed)[:, :latents])
    return share(torch.cat(after, 1), torch.cat(before, 1))


def prefix(tokenizer: Any, clips: Tensor, codes: Tensor) -> str:
    """Codes of the first frames alone."""
    lengths = range(1, codes.shape[1])
    alone = [tokenizer.encode(clips[:, :, : tokenizer.frames(latents)]) for latents in lengths]
    return share(torch.cat(alone, 1), torch.cat([codes[:, :latents] for latents in lengths], 1))


def chunks(tokenizer: VideoTokenizer, clips: Tensor, codes: Tensor) -> str:
    """Codes of the clip as it comes in chunks."""
    made = []
    for length in (1, 3, 7):
        stream = tokenizer.stream_encoder()
        parts = [*map(stream.push, clips.split(length, 2)), stream.finish()]
        made.append(torch.cat([part for part in parts if part is not None], 1))
    return share(torch.cat(made, 1), torch.cat([codes] * len(made), 1))


def share(one: Tensor, other: Tensor) -> str:
    """How many codes differ, of how many."""
    return f"{int((one != other).sum())} of {one.numel():,}"


if __name__ == "__main__":
    main(sys.argv[1:])
