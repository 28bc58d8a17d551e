"""`videolm borrow`: published files into a folder that the other commands take."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Emu3VQVAE, Emu3VQVAEConfig, MimiConfig, MimiModel

from videolm.cli.main import main
from videolm.media import Video, write_video
from videolm.pipeline.folder import find_audio_tokenizer, find_tokenizer, outline
from videolm.tokenizers.video.open_magvit2 import OpenMagvit2

KINDS = ("emu3", "cosmos", "open_magvit2")


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, cosmos_programs: Callable[..., tuple[Path, Path]]
) -> dict[str, list[str]]:
    """What each kind takes, small and with random weights."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    settings = {"base_channels": 32, "channel_multiplier": [1, 1], "attn_resolutions": [1], "hidden_size": 32}
    Emu3VQVAE(Emu3VQVAEConfig(codebook_size=64, num_res_blocks=1, **settings)).save_pretrained(folder / "emu3")
    made = OpenMagvit2(OpenMagvit2.Settings(channels=32, multipliers=(1, 2, 2), blocks=1, bits=9))
    torch.save({"state_dict": made.state_dict()}, folder / "video.ckpt")
    return {
        "emu3": [str(folder / "emu3")],
        "cosmos": [str(path) for path in cosmos_programs(folder)],
        "open_magvit2": [str(folder / "video.ckpt")],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_borrowed_tokenizer_is_one_for_the_other_commands(
    kind: str, published: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "borrowed")
    assert main(["borrow", kind, *published[kind], "--out", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == kind
    assert sorted(path.name for path in tmp_path.iterdir()) == ["borrowed"]
    tokenizer = find_tokenizer(folder)
    assert outline(folder).grid(9, 16, 16) == tokenizer.grid(9, 16, 16)
    measure = ["evaluate", "tokenizer", "--model", folder, "--format", "9x32x32", "--samples", "2", "--json"]
    assert main(measure) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == tokenizer.fingerprint()
    # Neither length nor height fits.
    frames = np.random.default_rng(0).integers(0, 256, (11, 18, 16, 3), dtype=np.uint8)
    write_video(Video(frames, 8.0), tmp_path / "clip.mp4")
    assert main(["tokenize", str(tmp_path / "clip.mp4"), "--model", folder, "--out", str(tmp_path)]) == 0
    back = ["detokenize", str(tmp_path / "clip.safetensors"), "--model", folder, "--out", str(tmp_path / "back")]
    assert main([*back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 11


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_not_trained(
    kind: str, published: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "borrowed")
    assert main(["borrow", kind, *published[kind], "--out", folder]) == 0
    assert "untested with real weights" in capsys.readouterr().err
    given = ["--tokenizer", f"{{pretrained: {folder}}}", "--decoder_training", "{steps: 1}"]
    assert main(["train", "shapesworld/tokenizer_tiny", *given, "--out", str(tmp_path / "run")]) == 2
    assert f"{kind} is used as it is" in capsys.readouterr().err


def test_a_tokenizer_of_sounds_comes_the_same_way(tmp_path: Path) -> None:
    small = {"num_filters": 4, "hidden_size": 16, "upsampling_ratios": [5, 4, 4], "frame_rate": 150.0}
    small |= {"codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "upsample_groups": 16, "codebook_size": 16}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    config = MimiConfig(**small, **layers, num_quantizers=4, intermediate_size=16)
    MimiModel(config).save_pretrained(tmp_path / "theirs")
    assert main(["borrow", "mimi", str(tmp_path / "theirs"), "--levels", "3", "--out", str(tmp_path / "mimi")]) == 0
    assert find_audio_tokenizer(tmp_path / "mimi").levels == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vidtok", "x", "--out", "new"], "invalid choice: 'vidtok'"),
        (["cosmos", "encoder.jit", "--out", "new"], "cosmos takes ENCODER.jit DECODER.jit, not 1 names"),
        (["emu3", "x", "--levels", "3", "--out", "new"], "of a tokenizer of sounds"),
        (["mimi", "x", "--levels", "0", "--out", "new"], "1 or more"),
        (["emu3", "x", "--out", "."], "exists already"),
        (["emu3", "./none", "--out", "new"], "cannot load Emu3's tokenizer ./none"),
        (["open_magvit2", "none.ckpt", "--out", "new"], "cannot load the checkpoint none.ckpt"),
        (["cosmos", "none.jit", "none.jit", "--out", "new"], "cannot read none.jit"),
    ],
)
def test_mistakes_are_said_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["borrow", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
