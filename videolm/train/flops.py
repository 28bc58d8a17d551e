"""Floating-point operations of a training pass, by the convention that MFU is told in (arXiv 2204.02311, appendix B).

Products of matrices alone count: 2 operations a weight and position forward, 2 backward for the gradient of what comes
in and 2 for the weight's own. Of attention all n x n scores count, those behind a causal mask too. Nothing counts again
that is computed again.
"""

from __future__ import annotations

import math
from collections import Counter

from torch import nn

from videolm.model.loss import LinearCrossEntropy
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout
from videolm.shapes import TokenGrid
from videolm.superres.model import MaskedModel
from videolm.tokenizers.text.t5 import TextEncoder


def row_flops(lm: PrefixLM, text: TextEncoder | None, layout: Layout, text_length: int) -> int:
    """Operations of a row, forward and backward, whose text has its full length.

    Args:
        lm: may be on the meta device.
        text: the encoder, where it is trained too.
    """
    length = layout.length
    scored = Counter[str]()
    for span in layout.outputs:
        scored[span.kind] += span.length
    told = text_length if layout.text else 0
    total = sum(_linear(each) * length for each in _maps(lm.transformer))
    total += told * sum(_linear(each, comes_in=text is not None) for each in _maps(lm.text_proj))
    for name, child in lm.head.named_modules():
        if isinstance(child, nn.Linear | LinearCrossEntropy):
            of = {"whole": sum(scored.values())}.get(name, scored[name.removeprefix("whole.")])
            total += _linear(child) * (of if name.startswith("whole") else scored["visual"])
    config = lm.config
    both = layout.prefix if 1 < layout.prefix < length else 0  # positions that a second call is for
    total += config.num_hidden_layers * 12 * config.hidden_size * (length**2 + both**2)
    if text is not None:
        encoder = text.encoder.config
        total += told * sum(_linear(each) for each in _maps(text.encoder))
        total += encoder.num_layers * 12 * encoder.num_heads * encoder.d_kv * told**2
    return total


def masked_row_flops(model: MaskedModel, grid: TokenGrid, text_length: int) -> float:
    """Operations of a clip of this grid, forward and backward, whose text has its full length and whose codes are all
    hidden. Places past the edge that windows are filled up with do not count."""
    config, codes, total = model.config, grid.tokens, 0.0
    for name, each in model.named_modules():
        if isinstance(each, nn.Linear):
            keys = name.endswith(("k_proj", "v_proj"))
            of_text, of_low = "text_attention" in name and keys, "low_attention" in name and keys
            places = text_length if of_text or name == "text_proj" else codes // 4 if of_low else codes
            total += places * _linear(each, comes_in=not name.endswith(("text_proj", "enlarged_proj")))
    for window in (each.within(grid) for each in config.windows):
        seen = math.prod(window) * (1.25 if config.low else 1) + text_length
        total += config.num_layers / len(config.windows) * 12 * config.hidden_size * codes * seen
    return total


def _maps(module: nn.Module) -> list[nn.Linear]:
    return [each for each in module.modules() if isinstance(each, nn.Linear)]


def _linear(each: nn.Linear | LinearCrossEntropy, comes_in: bool = True) -> int:
    """Operations a position: the gradient of what comes in and that of the weight are made where they are wanted."""
    return 2 * each.weight.numel() * (1 + comes_in + each.weight.requires_grad)
