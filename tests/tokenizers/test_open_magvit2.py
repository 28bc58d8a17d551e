"""Open-MAGVIT2's tokenizer: names and shapes of its checkpoint, the averaged weights, how frames are dropped."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from videolm.errors import UserError
from videolm.tokenizers.video.open_magvit2 import OpenMagvit2, Steered, Up

SMALL = OpenMagvit2.Settings(channels=32, multipliers=(1, 2, 2), blocks=2, bits=6)


def test_names_and_shapes_at_the_published_size() -> None:
    """As `configs/Open-MAGVIT2/gpu/ucf101_lfqfan_128_L.yaml` and its modules have them."""
    made = OpenMagvit2.without_weights(OpenMagvit2.Settings())
    assert (made.temporal_stride, made.spatial_stride, made.codebook_size) == (4, 8, 2**18)
    assert made.grid(17, 128, 128) == (5, 16, 16)
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    for name, shape in {
        "encoder.conv_in.conv_1.weight": (128, 3, 3, 3, 3),
        "encoder.down.0.downsample.conv_1.bias": (128,),
        "encoder.down.1.block.0.nin_shortcut.conv_1.weight": (256, 128, 1, 1, 1),
        "encoder.down.3.block.3.conv2.conv_1.weight": (512, 512, 3, 3, 3),
        "encoder.mid_block.3.norm2.bias": (512,),
        "encoder.conv_out.conv_1.weight": (18, 512, 1, 1, 1),
        "decoder.conv_in.conv_1.bias": (512,),
        "decoder.adaptive.2.gamma.weight": (512, 18),
        "decoder.adaptive.0.beta.weight": (256, 18),
        "decoder.up.3.upsample.conv1.conv_1.weight": (4096, 512, 3, 3, 3),
        "decoder.up.1.upsample.conv1.conv_1.weight": (1024, 256, 3, 3, 3),
        "decoder.up.0.block.0.nin_shortcut.conv_1.weight": (128, 256, 1, 1, 1),
        "decoder.conv_out.conv_1.bias": (3,),
    }.items():
        assert shapes.pop(name) == shape, name
    for name in (
        "encoder.conv_in.conv_1.bias",
        "encoder.down.0.block.0.conv1.conv_1.bias",
        "decoder.adaptive.0.gn.bias",
    ):
        assert name not in shapes
    assert not any(name.startswith(("encoder.down.3.downsample", "decoder.up.0.upsample")) for name in shapes)


def saved(path: Path, made: OpenMagvit2, averaged: bool) -> None:
    state: dict[str, Tensor] = {name: value * 0 if averaged else value for name, value in made.state_dict().items()}
    if averaged:
        state |= {"model_ema." + name.replace(".", ""): value for name, value in made.state_dict().items()}
        state |= {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int)}
    state["loss.discriminator.main.0.weight"] = torch.zeros(2)
    torch.save({"state_dict": state}, path)


@pytest.mark.parametrize("averaged", [True, False])
def test_a_checkpoint_is_read(averaged: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = OpenMagvit2(SMALL).eval()
    saved(tmp_path / "video.ckpt", made, averaged)
    again = OpenMagvit2.from_checkpoint(tmp_path / "video.ckpt")
    assert again.config == SMALL and not again.training
    assert again.fingerprint() == made.fingerprint()


def test_what_is_no_such_checkpoint(tmp_path: Path) -> None:
    def fails(said: str) -> None:
        with pytest.raises(UserError, match=said) as error:
            OpenMagvit2.from_checkpoint(tmp_path / "video.ckpt")
        assert "\n" not in str(error.value)

    fails("cannot load the checkpoint")
    (tmp_path / "video.ckpt").write_bytes(b"none")
    fails("cannot load the checkpoint")
    torch.save({"state_dict": {}, "callback": Path("x")}, tmp_path / "video.ckpt")  # a Python object
    fails("cannot load the checkpoint")
    torch.save({"state_dict": {"encoder.conv_in.weight": torch.zeros(1)}}, tmp_path / "video.ckpt")
    fails("not the files of Open-MAGVIT2's video tokenizer")


def test_of_the_first_two_frames_the_first_stays() -> None:
    """Channels are (frame, row, column, channel), the first the slowest."""
    up = Up(1, (2, 2, 2))
    up.conv1 = torch.nn.Identity()  # type: ignore[assignment]
    x = torch.arange(16.0).view(1, 2, 8, 1, 1).transpose(1, 2)  # frame t holds 8 t to 8 t + 7
    frames = up(x)[0, 0]
    assert frames.tolist() == [[[0, 1], [2, 3]], [[8, 9], [10, 11]], [[12, 13], [14, 15]]]
    assert up(x[:, :, :1])[0, 0].tolist() == [[[0, 1], [2, 3]]]


def test_the_norm_is_steered_by_the_signs_of_the_whole_clip() -> None:
    torch.manual_seed(0)
    norm, x = Steered(3, 32), torch.randn(2, 32, 3, 4, 4)
    signs = torch.randn(2, 3, 2, 2, 2).sign()
    scale = norm.gamma((signs.flatten(2).var(-1) + 1e-6).sqrt())
    shift = norm.beta(signs.flatten(2).mean(-1))
    wanted = torch.nn.functional.group_norm(x, 32, eps=1e-6) * scale.view(2, 32, 1, 1, 1) + shift.view(2, 32, 1, 1, 1)
    torch.testing.assert_close(norm(x, signs), wanted)
    assert norm(x, signs[..., :1, :1, :1]).isfinite().all()
