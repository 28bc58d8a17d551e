"""Codes of small clips as those of the clips enlarged."""

import torch
import torch.nn.functional as F

from videolm.superres.enlarge import Enlarge, enlarged
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config


def test_clips_are_enlarged_frame_by_frame() -> None:
    clips = torch.rand(2, 3, 5, 8, 12) * 2 - 1
    large = enlarged(clips)
    assert large.shape == (2, 3, 5, 16, 24) and large.abs().max() <= 1
    one = F.interpolate(clips[1, :, 3][None], scale_factor=2, mode="bicubic", align_corners=False)
    torch.testing.assert_close(large[1, :, 3], one[0].clamp(-1, 1))


def test_what_is_seen_is_of_what_the_small_codes_show_enlarged() -> None:
    torch.manual_seed(0)
    config = MagvitV2Config(base_channels=16, multipliers=(1, 1), temporal_down=(False,), patch=(4, 4), norm_groups=0)
    tokenizer = MagvitV2(config).eval()
    codes = torch.randint(tokenizer.codebook_size, (2, 3, 2, 3))
    found = Enlarge(tokenizer)(codes)
    assert found.shape == (2, 3, 4, 6, Enlarge.size(tokenizer)) and Enlarge.size(tokenizer) == 36 + 3 * 4 * 8 * 8
    assert not found.is_inference()  # what trains may keep it for the way back
    with torch.inference_mode():
        shown = enlarged(tokenizer.decode(codes[1:]).clamp(-1, 1))
        latents, vectors, pixels = found[1:].split([18, 18, 768], -1)
        assert torch.equal(tokenizer.quantizer.codes(latents), tokenizer.encode(shown))
        assert torch.equal(vectors, tokenizer.quantizer.vectors(tokenizer.encode(shown)))
    place = pixels.unflatten(-1, (3, 4, 8, 8))[0, :, 2, 5]  # (t, c, f, H, W)
    assert torch.equal(place[1], shown[0, :, 1:5, 16:24, 40:48])
    assert torch.equal(place[0], shown[0, :, :1, 16:24, 40:48].expand(-1, 4, -1, -1))
