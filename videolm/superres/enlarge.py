"""Small clips as large ones by plain interpolation: what super-resolution has to be better than, and may begin with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from videolm.tokenizers.protocol import VideoTokenizer


def enlarged(clips: Tensor) -> Tensor:
    """Clips (b, 3, f, H, W) in [-1, 1] at twice their height and width, by bicubic interpolation."""
    frames = clips.movedim(1, 2)
    large = F.interpolate(frames.flatten(0, 1), scale_factor=2, mode="bicubic", align_corners=False)
    return large.unflatten(0, frames.shape[:2]).movedim(2, 1).clamp(-1, 1)


class Enlarge:
    """Codes of small clips (b, t, h, w) to what their tokenizer sees in the clips enlarged, (b, t, 2 h, 2 w, `size`).

    These are its latents, which tell how sure each code is, the vectors of the codes, and the pixels of the place.
    """

    def __init__(self, tokenizer: VideoTokenizer):
        self.tokenizer = tokenizer

    @staticmethod
    def size(tokenizer: VideoTokenizer) -> int:
        """Numbers a place."""
        return 2 * tokenizer.quantizer.dim + 3 * tokenizer.temporal_stride * tokenizer.spatial_stride**2

    @torch.no_grad()
    def __call__(self, codes: Tensor) -> Tensor:
        """Float32, on the device of `codes`; each clip alone, so that it is the same in any batch."""
        tokenizer, weights = self.tokenizer, next(self.tokenizer.parameters())
        found = []
        for own in codes:
            shown = tokenizer.decode(own[None].to(weights.device)).float().clamp(-1, 1)
            clip = enlarged(shown).to(weights)
            latents = tokenizer.encoder(clip).movedim(1, -1)
            vectors = tokenizer.quantizer.vectors(tokenizer.quantizer.codes(latents))
            found.append(torch.cat([latents, vectors.to(latents), self._pixels(clip)], -1).float())
        return torch.cat(found).to(codes.device)

    def _pixels(self, clip: Tensor) -> Tensor:
        """Of each place of a clip (1, 3, f, H, W); the first frame, which is a place in time alone, so many times."""
        frames, side = self.tokenizer.temporal_stride, self.tokenizer.spatial_stride
        whole = torch.cat([clip[:, :, :1].expand(-1, -1, frames - 1, -1, -1), clip], 2)
        return rearrange(whole, "b c (t f) (h p) (w q) -> b t h w (c f p q)", f=frames, p=side, q=side)
