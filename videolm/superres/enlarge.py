"""Small clips as large ones by plain interpolation: what super-resolution has to be better than, and may begin with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videolm.tokenizers.protocol import VideoTokenizer


def enlarged(clips: Tensor) -> Tensor:
    """Clips (b, 3, f, H, W) in [-1, 1] at twice their height and width, by bicubic interpolation."""
    frames = clips.movedim(1, 2)
    large = F.interpolate(frames.flatten(0, 1), scale_factor=2, mode="bicubic", align_corners=False)
    return large.unflatten(0, frames.shape[:2]).movedim(2, 1).clamp(-1, 1)


class Enlarge:
    """Codes of small clips (b, t, h, w) to the codes (b, t, 2 h, 2 w) of what they show, enlarged."""

    def __init__(self, tokenizer: VideoTokenizer):
        self.tokenizer = tokenizer

    @torch.inference_mode()
    def __call__(self, codes: Tensor) -> Tensor:
        """On the device of `codes`; each clip alone, so that it is the same in any batch."""
        weights = next(self.tokenizer.parameters())
        found = []
        for own in codes:
            shown = self.tokenizer.decode(own[None].to(weights.device)).float().clamp(-1, 1)
            found.append(self.tokenizer.encode(enlarged(shown).to(weights)))
        return torch.cat(found).to(codes.device)
