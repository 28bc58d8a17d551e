"""Emu3's video tokenizer (arXiv 2409.18869, 2.2; Apache-2.0), with the network of `transformers`.

    video -> convolutions and attention in each frame -> convolutions over time, 4 to 1 -> nearest of 32,768 codes

    tokenizer = Emu3.from_hub("BAAI/Emu3-VisionTokenizer")
    tokenizer.save_pretrained("emu3")       # our own folder, which knows what it holds

In time it is causal: each of its convolutions pads in front alone, and its norms take no statistic over time. No frame
stands alone: it codes groups of 4, and a picture as 4 times itself. So here a clip begins with its first frame so many
times, which gives that frame the code that it has as a picture, and 1 + 4 k frames are 1 + k latent frames. Of the
first group the first frame is shown, as `transformers` shows a picture. All else is what one pass of `transformers`
over the frames gives, and any way of cutting a clip into chunks gives the same. (Emu3's own example codes each group
of 4 frames apart.)
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Emu3VQVAE, Emu3VQVAEConfig
from transformers.models.emu3.modeling_emu3 import Emu3VQVAEConv3d
from transformers.utils import cached_file

from videolm.config import Config
from videolm.errors import UserError
from videolm.tokenizers.layers.causal import begins
from videolm.tokenizers.layers.stream import Past
from videolm.tokenizers.quantize.vq import VQConfig
from videolm.tokenizers.video.borrowed import Borrowed, refuse_config

SETTINGS = {
    "ch": "base_channels",
    "ch_mult": "channel_multiplier",
    "z_channels": "latent_channels",
    "double_z": "double_latent",
}
"""Settings of the tokenizer as BAAI published it, and what `transformers` calls them; others have one name."""
SAME = (
    "codebook_size",
    "embed_dim",
    "in_channels",
    "out_channels",
    "temporal_downsample_factor",
    "num_res_blocks",
    "attn_resolutions",
)
NAMES = (
    (r"^(\w+)\.mid\.attn_1\.norm\.", r"\1.middle_block.attn_norm."),
    (r"^(\w+)\.mid\.", r"\1.middle_block."),
    (r"^encoder\.down\.", "encoder.down_block.down."),
    (r"^decoder\.up\.", "decoder.up_block.up."),
    (r"\.attn\.(\d+)\.norm\.", r".attn_norms.\1."),
    (r"\.(attn_1|attn\.\d+)\.([qkv])\.", r".\1.\2_proj."),
    (r"\.(attn_1|attn\.\d+)\.proj_out\.", r".\1.out_proj."),
)
"""Patterns in names of its weights, in this order, and what takes their place."""


class Emu3Config(Config):
    """What Emu3's tokenizer is made from."""

    name: Literal["emu3"] = "emu3"
    model: dict[str, Any] = {}
    """Its `Emu3VQVAEConfig` of `transformers`; what is left out is the library's default, the published one."""


class Clip:
    """The past of the clip at hand, for layers that a network of `transformers` calls without it."""

    past: Past | None = None


class TimeConv(nn.Module):
    """The network's convolution over time, which goes on from the chunk before."""

    def __init__(self, theirs: Emu3VQVAEConv3d, clip: Clip):
        super().__init__()
        self.conv, self.clip = theirs.conv, clip
        *self.around, self.before, _ = theirs.padding

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w), as wide and high after."""
        past = self.clip.past
        x = F.pad(x, (*self.around, self.before if begins(past) else 0, 0))
        if past is not None:
            x = past.join(self, x, keep=self.before, dim=2)
        found: Tensor = self.conv(x)
        return found


def _with_past(module: nn.Module, clip: Clip) -> nn.Module:
    """A network with a `TimeConv` in place of each of its convolutions over time."""
    if isinstance(module, Emu3VQVAEConv3d):
        return TimeConv(module, clip)
    for name, child in module.named_children():
        setattr(module, name, _with_past(child, clip))
    return module


class Encoder(nn.Module):
    """Video (b, 3, f, H, W) to latents (b, k, t, h, w)."""

    def __init__(self, model: Emu3VQVAE):
        super().__init__()
        self.clip, self.stride = Clip(), int(model.config.temporal_downsample_factor)
        self.network = _with_past(model.encoder, self.clip)
        self.project = _with_past(model.quant_conv, self.clip)

    def forward(self, video: Tensor, past: Past | None = None) -> Tensor:
        self.clip.past = past
        if begins(past):
            video = torch.cat([video[:, :, :1].expand(-1, -1, self.stride - 1, -1, -1), video], 2)
        frames = self.network(rearrange(video, "b c f H W -> b f c H W").contiguous())
        latents: Tensor = self.project(rearrange(frames, "b t c h w -> b c t h w"))
        return latents


class Decoder(nn.Module):
    """Vectors (b, k, t, h, w) to video."""

    def __init__(self, model: Emu3VQVAE):
        super().__init__()
        self.clip, self.stride = Clip(), int(model.config.temporal_downsample_factor)
        self.project = _with_past(model.post_quant_conv, self.clip)
        self.network = _with_past(model.decoder, self.clip)

    def forward(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        self.clip.past = past
        latents = (rearrange(x, "b c t h w -> b t c h w").contiguous() for x in (self.project(vectors), vectors))
        video = rearrange(self.network(*latents), "(b f) c H W -> b c f H W", b=len(vectors))
        return torch.cat([video[:, :, :1], video[:, :, self.stride :]], 2) if begins(past) else video


class Emu3(Borrowed):
    """See the module docstring."""

    Settings = Emu3Config
    causal: ClassVar[bool] = True
    first_frame_alone: ClassVar[bool] = True

    def __init__(self, config: Emu3Config):
        super().__init__(config)
        theirs = Emu3VQVAEConfig(**config.model)
        model = Emu3VQVAE(theirs)
        self.temporal_stride = int(theirs.temporal_downsample_factor)
        self.spatial_stride = 2 ** (len(theirs.channel_multiplier) - 1)
        table = VQConfig(
            codebook_size=theirs.codebook_size, dim=theirs.embed_dim, l2_normalized=False, update="gradient"
        )
        self.quantizer = table.make()
        self.encoder, self.decoder = Encoder(model), Decoder(model)

    @classmethod
    def from_hub(cls, name: str | Path) -> Self:
        """Load by a hub name or from a folder: the tokenizer as BAAI published it, or an `Emu3VQVAE` that
        `transformers` saved. Reads `config.json` and `model.safetensors`.

        Raises `UserError` when it cannot be had, or is another model.
        """
        try:
            found = {file: cached_file(str(name), file) for file in ("config.json", "model.safetensors")}
            about = json.loads(Path(str(found["config.json"])).read_text())
            weights = load_file(str(found["model.safetensors"]))
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"cannot load Emu3's tokenizer {name}: {str(error).splitlines()[0]}") from error
        kind = about.get("model_type")
        if kind == "Emu3VisionVQ":
            about = {SETTINGS.get(key, key): value for key, value in about.items() if key in (*SETTINGS, *SAME)}
            levels = Emu3VQVAEConfig(**about)
            about["hidden_size"] = levels.base_channels * levels.channel_multiplier[-1]  # of attention
            weights = {_renamed(key): _flat(key, value) for key, value in weights.items()}
        elif kind != "emu3_vqgan":
            raise UserError(f"{name} is a {kind}, not Emu3's tokenizer: name BAAI/Emu3-VisionTokenizer or a copy of it")
        tokenizer = cls(Emu3Config(model=about))
        tokenizer._take(weights)
        return tokenizer.eval()

    def _take(self, weights: dict[str, Tensor]) -> None:
        """The weights of an `Emu3VQVAE`, by their names there."""
        ours = {"quantizer.table": weights.pop("quantize.embedding.weight", torch.empty(0))}
        for theirs, own in (
            ("encoder.", "encoder.network."),
            ("quant_conv.", "encoder.project."),
            ("decoder.", "decoder.network."),
            ("post_quant_conv.", "decoder.project."),
        ):
            ours |= {own + key.removeprefix(theirs): value for key, value in weights.items() if key.startswith(theirs)}
        rest = {key: value for key, value in self.quantizer.state_dict(prefix="quantizer.").items() if key not in ours}
        try:
            self.load_state_dict(ours | rest)
        except RuntimeError as error:
            raise refuse_config("Emu3's tokenizer", error) from error


def _renamed(name: str) -> str:
    """
    >>> _renamed("decoder.up.3.attn.1.proj_out.weight")
    'decoder.up_block.up.3.attn.1.out_proj.weight'
    >>> _renamed("encoder.mid.attn_1.norm.bias")
    'encoder.middle_block.attn_norm.bias'
    """
    for pattern, new in NAMES:
        name = re.sub(pattern, new, name)
    return name


def _flat(name: str, weight: Tensor) -> Tensor:
    """Attention's maps are convolutions of one pixel there, and matrices here."""
    maps = re.search(r"\.(attn_1|attn\.\d+)\.([qkv]|proj_out)\.weight$", name)
    return weight.flatten(1) if maps else weight
