"""Emu3's tokenizer against the network of `transformers`, and both ways its files are named."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from videolm.errors import UserError
from videolm.tokenizers.video.emu3 import Emu3

SMALL: dict[str, Any] = {
    "codebook_size": 512,
    "base_channels": 32,
    "channel_multiplier": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [1],
    "hidden_size": 64,
}


@pytest.fixture(scope="module")
def theirs() -> Emu3VQVAE:
    torch.manual_seed(0)
    model = Emu3VQVAE(Emu3VQVAEConfig(**SMALL)).eval()
    for name, value in model.state_dict().items():  # as after training: norms that are not trivial
        if "running_mean" in name:
            value.normal_(std=0.1)
        elif "running_var" in name:
            value.uniform_(0.5, 1.5)
    model.quant_conv.conv.weight.data.mul_(10)  # latents that reach many codes
    return model


@pytest.fixture(scope="module")
def tokenizer(theirs: Emu3VQVAE, tmp_path_factory: pytest.TempPathFactory) -> Emu3:
    folder = tmp_path_factory.mktemp("emu3") / "theirs"
    theirs.save_pretrained(folder)
    return Emu3.from_hub(folder)


@pytest.fixture(scope="module")
def video() -> Tensor:
    return torch.rand(2, 3, 9, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.inference_mode()
def test_a_clip_has_the_codes_and_frames_that_transformers_gives_it(
    theirs: Emu3VQVAE, tokenizer: Emu3, video: Tensor
) -> None:
    assert (tokenizer.temporal_stride, tokenizer.spatial_stride, tokenizer.codebook_size) == (4, 2, 512)
    frames = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], 2).transpose(1, 2)
    wanted = torch.stack(theirs.encode(frames, image_sizes=torch.tensor([[8, 12]] * 2)).image_tokens)
    assert len(wanted.unique()) > 25
    codes = tokenizer.encode(video)
    assert codes.shape == (2, 3, 4, 6)
    assert (codes == wanted).float().mean() > 0.99  # the nearest code may be a near tie
    decoded = theirs.decode(codes).transpose(1, 2)
    torch.testing.assert_close(tokenizer.decode(codes)[:, :, 1:], decoded[:, :, 4:], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_picture_is_what_it_is_there(theirs: Emu3VQVAE, tokenizer: Emu3, video: Tensor) -> None:
    wanted = torch.stack(theirs.encode(video[:, :, 0], image_sizes=torch.tensor([[8, 12]] * 2)).image_tokens)
    codes = tokenizer.encode(video[:, :, :1])
    assert (codes[:, 0] == wanted).float().mean() > 0.99
    torch.testing.assert_close(tokenizer.decode(codes)[:, :, 0], theirs.decode(codes[:, 0]), atol=1e-5, rtol=1e-4)


def test_the_files_that_baai_published_are_named_otherwise(tokenizer: Emu3, video: Tensor, tmp_path: Path) -> None:
    """Names and shapes as their code has them: attention is of convolutions, its norm inside it."""

    def published(name: str) -> str:
        name = name.replace("quantizer.table", "quantize.embedding.weight")
        name = re.sub(r"^(encoder|decoder)\.network\.", r"\1.", name)
        name = name.replace("encoder.project.", "quant_conv.").replace("decoder.project.", "post_quant_conv.")
        name = name.replace("middle_block.attn_norm.", "mid.attn_1.norm.").replace("middle_block.", "mid.")
        name = name.replace("down_block.down.", "down.").replace("up_block.up.", "up.")
        name = re.sub(r"attn_norms\.(\d+)\.", r"attn.\1.norm.", name)
        return re.sub(r"\.([qkv])_proj\.", r".\1.", name).replace(".out_proj.", ".proj_out.")

    named = {published(name): value for name, value in tokenizer.state_dict().items() if "quantizer." not in name}
    named["quantize.embedding.weight"] = tokenizer.quantizer.table
    for name, value in named.items():
        named[name] = (
            value[..., None, None] if re.search(r"\.([qkv]|proj_out)\.weight$", name) else value
        ).contiguous()
    assert "encoder.down.1.attn.0.q.weight" in named and "decoder.mid.attn_1.norm.norm_layer.weight" in named
    save_file(named, tmp_path / "model.safetensors")
    about = {
        "model_type": "Emu3VisionVQ",
        "ch": 32,
        "ch_mult": [1, 2],
        "z_channels": 4,
        "double_z": False,
        "dropout": 0.0,
        "auto_map": {"AutoModel": "modeling_emu3visionvq.Emu3VisionVQModel"},
        **{key: SMALL[key] for key in ("codebook_size", "num_res_blocks", "attn_resolutions")},
    }
    (tmp_path / "config.json").write_text(json.dumps(about))
    again = Emu3.from_hub(tmp_path)
    assert torch.equal(again.encode(video), tokenizer.encode(video))
    assert again.fingerprint() == tokenizer.fingerprint()


def test_what_is_not_emu3s_tokenizer(tokenizer: Emu3, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load Emu3's tokenizer"):
        Emu3.from_hub(tmp_path)
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="is a llama, not Emu3's tokenizer"):
        Emu3.from_hub(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "emu3_vqgan", **SMALL}))
    with pytest.raises(UserError, match="not the files of Emu3's tokenizer"):
        Emu3.from_hub(tmp_path)


def test_at_paper_size() -> None:
    made = Emu3.without_weights(Emu3.Settings())
    assert (made.temporal_stride, made.spatial_stride, made.codebook_size) == (4, 8, 32768)
    assert made.grid(17, 128, 128) == (5, 16, 16)
