"""One row shape a batch (AGD, VideoPoet 4.2) against rows of all tasks padded to the longest, in one run.

    python benchmarks/agd.py [--layers 6 --width 256 --tokens 3200 --rounds 5]

Both train the same trunk forward and backward on the mixture of `shapesworld/table2/all`, with as many rows of each
task as its weight says. Padded batches need a mask, since each row has a prefix and an end of its own; AGD's need none.
The figure is tokens a second, padding not counted.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videolm.model import attention
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.pipeline.folder import find_audio_tokenizer, find_tokenizer
from videolm.progress import quiet_libraries
from videolm.sequence import Layout, lay_out
from videolm.train.recipe import load_recipe
from videolm.vocabulary import Vocabulary


def layouts_of(recipe_name: str) -> tuple[list[Layout], np.ndarray, Vocabulary]:
    """The rows of a recipe's mixture, their shares of the rows drawn, and the vocabulary."""
    recipe = load_recipe(recipe_name)
    tokenizer, audio = find_tokenizer("shipped"), find_audio_tokenizer("shipped")
    tasks = recipe.task_set
    sizes = {"visual_size": tokenizer.codebook_size, "audio_levels": audio.levels, "audio_size": audio.codebook_size}
    vocabulary = Vocabulary(**sizes).with_specials(tasks.specials)
    layouts = [lay_out(variant, tasks, vocabulary, tokenizer.grid, audio.grid) for variant in tasks.variants()]
    names = [layout.variant.task.name for layout in layouts]
    steps = np.array([recipe.weights[name] / names.count(name) for name in names])
    rows = steps / np.array([layout.length for layout in layouts])  # a batch of AGD holds equal tokens
    return layouts, rows / rows.sum(), vocabulary


def dense(prefixes: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """(b, 1, n, n) bool: what each position of rows with these prefixes and lengths attends to."""
    place = torch.arange(longest)
    seen = (place[None, :, None] >= place[None, None, :]) | (place[None, None, :] < prefixes[:, None, None])
    return (seen & (place[None, None, :] < lengths[:, None, None]))[:, None]


def step(model: PrefixLM, ids: Tensor, positions: Tensor, prefix: int) -> float:
    """Seconds of the trunk forward and backward."""
    began = time.perf_counter()
    model.zero_grad()
    x = model.embedding(ids)
    model.transformer(x, positions, prefix).square().mean().backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=3200, help="positions a batch, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    quiet_libraries()
    layouts, shares, vocabulary = layouts_of("shapesworld/table2/all")
    lm = LMConfig(hidden_size=args.width, num_layers=args.layers, num_heads=args.width // 64)
    sizes = ("special_size", "visual_size", "audio_levels", "audio_size")
    model = PrefixLM(PrefixLMConfig(lm, **{name: getattr(vocabulary, name) for name in sizes}, text_size=128))
    longest = max(layout.length for layout in layouts)
    rng = np.random.default_rng(0)
    masked, maskless = [], attention.prefix_attention
    alone = {layout: [] for layout in range(len(layouts))}
    useful = []
    for _ in range(args.rounds):
        for index, layout in enumerate(layouts):
            size = max(1, args.tokens // layout.length)
            ids = torch.zeros(size, layout.length, dtype=torch.long)
            alone[index].append(step(model, ids, layout.positions, layout.prefix) / (size * layout.length))
        size = max(1, args.tokens // longest)
        drawn = [layouts[i] for i in rng.choice(len(layouts), size, p=shares)]
        mask = dense(torch.tensor([d.prefix for d in drawn]), torch.tensor([d.length for d in drawn]), longest)
        attention.prefix_attention = lambda q, k, v, prefix, mask=mask: F.scaled_dot_product_attention(q, k, v, mask)
        positions = torch.zeros(longest, 3, dtype=torch.long)
        masked.append(step(model, torch.zeros(size, longest, dtype=torch.long), positions, 0) / (size * longest))
        attention.prefix_attention = maskless
        useful.append(sum(d.length for d in drawn) / (size * longest))
    tokens = shares * np.array([layout.length for layout in layouts])
    tokens /= tokens.sum()
    agd = float(sum(share * np.median(alone[i]) for i, share in enumerate(tokens)))
    expected = float(shares @ np.array([layout.length for layout in layouts])) / longest
    padded = float(np.median(masked)) / expected
    found = {
        "agd_tokens_per_second": 1 / agd,
        "padded_tokens_per_second": 1 / padded,
        "gain": padded / agd,
        "padding": 1 - expected,
        "gain_by_padding_alone": 1 / expected,
        "gain_by_masks_and_lengths": float(np.median(masked)) / agd,
    }
    print(json.dumps(found) if args.json else "\n".join(f"{name:28} {value:.3g}" for name, value in found.items()))


if __name__ == "__main__":
    main()
