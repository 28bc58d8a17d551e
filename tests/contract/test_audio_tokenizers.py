"""What every registered audio tokenizer promises (`tokenizers/audio/protocol.py`), on random weights in float64.

A new tokenizer is tested by a line in `CASES`.
"""

import importlib
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.tokenizers.audio.pretrained import Dac, Encodec, Mimi, PretrainedCodec
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS, AudioTokenizer


def preset(name: str, **changes: Any) -> dict[str, Any]:
    return read_yaml(str(files("videolm.configs") / "audio_tokenizer" / f"{name}.yaml")) | changes


# Small ones of the real classes, with random weights: 24 kHz, frames of 40 samples; 16 kHz and 40; 24 kHz and 320.
ENCODEC = {
    "num_filters": 4,
    "hidden_size": 8,
    "num_lstm_layers": 1,
    "upsampling_ratios": [5, 4, 2],
    "codebook_size": 16,
}
DAC = {"encoder_hidden_size": 4, "downsampling_ratios": [2, 4, 5], "decoder_hidden_size": 32, "n_codebooks": 4}
MIMI = {
    "num_filters": 4,
    "hidden_size": 16,
    "upsampling_ratios": [5, 4, 4],
    "frame_rate": 150.0,
    "num_quantizers": 4,
    "codebook_size": 16,
    "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "upsample_groups": 16,
    "intermediate_size": 16,
}
CASES: dict[str, dict[str, Any]] = {
    "soundstream tiny": preset("soundstream_tiny"),
    "soundstream small": preset("soundstream_small"),
    "soundstream at paper shape": preset("soundstream", widths=[4, 8, 8, 12, 16]),
    "encodec": {"name": "encodec", "levels": 3, "model": ENCODEC},
    "dac": {"name": "dac", "levels": 3, "model": DAC},
    "mimi": {"name": "mimi", "levels": 3, "model": MIMI},
}


@pytest.fixture(scope="module", params=CASES)
def tokenizer(request: pytest.FixtureRequest) -> AudioTokenizer:
    kind = AUDIO_TOKENIZERS.get(CASES[request.param]["name"])
    torch.manual_seed(0)
    made = kind(parse(kind.Settings, CASES[request.param])).train()
    if isinstance(made, PretrainedCodec):
        for name, value in made.state_dict().items():
            if value.is_floating_point() and value.ndim > 1:  # tables are empty at the start
                value.copy_(torch.randn_like(value) * (0.3 if "quantizer" in name else value[0].numel() ** -0.5))
    else:
        made(make_sound(made, 400, batch=4).float())  # k-means lays the tables where latents are
    return made.eval().double().requires_grad_(False)


def make_sound(tokenizer: AudioTokenizer, frames: int, seed: int = 0, batch: int = 1, more: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    samples = frames * tokenizer.stride + more
    return torch.rand(batch, samples, generator=generator, dtype=torch.float64) * 2 - 1


def test_every_registered_tokenizer_is_tested() -> None:
    needed_elsewhere = {"encodec_package"}  # which cannot be loaded here: below
    assert {case["name"] for case in CASES.values()} == set(AUDIO_TOKENIZERS) - needed_elsewhere


def test_shapes(tokenizer: AudioTokenizer) -> None:
    for more in (0, 1, tokenizer.stride - 1):  # past the last whole frame
        sound = make_sound(tokenizer, 7, batch=2, more=more)
        codes = tokenizer.encode(sound)
        assert codes.shape == (2, tokenizer.levels, 7)
        assert codes.dtype == torch.int64
        assert tokenizer.frames(sound.shape[1]) == 7
        assert tokenizer.decode(codes).shape == (2, 7 * tokenizer.stride)
    assert len(codes.unique()) > 4


def test_later_samples_do_not_matter(tokenizer: AudioTokenizer) -> None:
    if not tokenizer.causal:
        pytest.skip("says that it looks ahead")
    sound, other = make_sound(tokenizer, 12), make_sound(tokenizer, 12, seed=1)
    codes = tokenizer.encode(sound)
    audio = tokenizer.decode(codes)
    for kept in (1, 5, 11):
        changed = other.clone()
        changed[:, : kept * tokenizer.stride] = sound[:, : kept * tokenizer.stride]
        new = tokenizer.encode(changed)
        assert torch.equal(new[..., :kept], codes[..., :kept])
        assert kept == 11 or not torch.equal(new[..., kept:], codes[..., kept:])
        heard = slice(0, kept * tokenizer.stride)
        torch.testing.assert_close(tokenizer.decode(new)[:, heard], audio[:, heard], rtol=0, atol=1e-12)


@pytest.mark.parametrize("plan", [[1], [7, 1, 300], [2000], [64, 640]])
def test_streams(tokenizer: AudioTokenizer, plan: list[int]) -> None:
    if isinstance(tokenizer, PretrainedCodec):
        for stream in (tokenizer.stream_encoder, tokenizer.stream_decoder):
            with pytest.raises(UserError, match="as a whole"):
                stream()
        return
    sound = make_sound(tokenizer, 12, batch=2, more=5)
    codes = tokenizer.encode(sound)
    encoder, found, start = tokenizer.stream_encoder(), [], 0
    plan = [max(1, size * tokenizer.stride // 40) for size in plan]
    while start < sound.shape[1]:
        for size in plan:
            part = sound[:, start : start + size]
            if part.shape[1] and (out := encoder.push(part)) is not None:
                found.append(out)
            start += size
    assert torch.equal(torch.cat(found, dim=-1), codes)
    decoder = tokenizer.stream_decoder()
    audio = torch.cat([out for part in codes.split(5, -1) if (out := decoder.push(part)) is not None], dim=-1)
    torch.testing.assert_close(audio, tokenizer.decode(codes), rtol=0, atol=1e-12)


def test_fewer_levels_decode(tokenizer: AudioTokenizer) -> None:
    codes = tokenizer.encode(make_sound(tokenizer, 6))
    assert tokenizer.decode(codes[:, :1]).shape == tokenizer.decode(codes).shape


def test_save_and_load(tokenizer: AudioTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path, torch.float64)
    sound = make_sound(tokenizer, 5)
    assert torch.equal(again.encode(sound), tokenizer.encode(sound))
    assert again.fingerprint() == tokenizer.fingerprint()


def test_bad_sound(tokenizer: AudioTokenizer) -> None:
    sound = make_sound(tokenizer, 3)
    for wrong, message in (
        (sound[0], "a sound is float"),
        (sound[None], "a sound is float"),
        (sound.long(), "a sound is float"),
        (sound[:0], "a sound is float"),
        (sound[:, : tokenizer.stride - 1], "less than a codec frame"),
        (sound * 30000, r"samples must lie in \[-1, 1\]"),
        (torch.where(sound > 0.5, torch.nan, sound), r"samples must lie in \[-1, 1\]"),
    ):
        with pytest.raises(UserError, match=message):
            tokenizer.encode(wrong)


def test_bad_codes(tokenizer: AudioTokenizer) -> None:
    codes = tokenizer.encode(make_sound(tokenizer, 3))
    for wrong, message in (
        (codes[0], "codes are integers"),
        (codes.float(), "codes are integers"),
        (codes[..., :0], "codes are integers"),
        (torch.cat([codes, codes], dim=1), f"up to {tokenizer.levels} levels"),
        (codes + tokenizer.codebook_size, "another tokenizer's"),
        (codes - tokenizer.codebook_size, "another tokenizer's"),
    ):
        with pytest.raises(UserError, match=message):
            tokenizer.decode(wrong)


def test_papers_grid() -> None:
    """VideoPoet: 2.125 seconds are 106 frames of 4 levels of 1,024 codes, 5.125 seconds 256."""
    kind = AUDIO_TOKENIZERS.get("soundstream")
    made = kind.without_weights(parse(kind.Settings, preset("soundstream")))
    assert (made.sample_rate, made.stride, made.levels, made.codebook_size) == (16000, 320, 4, 1024)
    assert (made.frames(34000), made.frames(82000)) == (106, 256)


@pytest.mark.parametrize(("kind", "small"), [(Encodec, ENCODEC), (Dac, DAC), (Mimi, MIMI)])
def test_codecs_of_transformers(kind: type[PretrainedCodec], small: dict[str, Any], tmp_path: Path) -> None:
    """What the library saved is loaded, and gives the codes and the sound that it gives there."""
    torch.manual_seed(0)
    model = kind.Model(kind.ModelConfig(**small)).eval()
    for name, value in model.state_dict().items():
        if ("codebook" in name or "embed" in name) and value.is_floating_point() and value.ndim > 1:
            value.copy_(torch.randn_like(value))
    model.save_pretrained(tmp_path / "theirs")
    codec = kind.from_hub(tmp_path / "theirs", levels=2)
    sound = make_sound(codec, 9).float()
    with torch.inference_mode():
        codes = codec.encode(sound)
        best = {"bandwidth": model.config.target_bandwidths[-1]} if kind is Encodec else {}  # else its lowest
        theirs = model(sound[:, None], **best)
        assert torch.equal(codes, theirs.audio_codes.reshape(1, -1, 9)[:, :2])
        full = kind.from_hub(tmp_path / "theirs", levels=codec._own_levels())
        audio = full.decode(full.encode(sound))
    wanted = theirs.audio_values.flatten()
    torch.testing.assert_close(audio[0, : len(wanted)], wanted[: audio.shape[1]], atol=1e-5, rtol=1e-4)
    codec.save_pretrained(tmp_path / "ours")
    assert torch.equal(kind.from_pretrained(tmp_path / "ours").encode(sound), codes)
    with pytest.raises(UserError, match="levels, not 99"):
        kind.from_hub(tmp_path / "theirs", levels=99)
    with pytest.raises(UserError, match="cannot load the codec"):
        kind.from_hub(tmp_path / "nothing")
    with pytest.raises(UserError, match="train a soundstream"):
        codec(sound)


def test_encodec_of_48_khz_is_refused() -> None:
    with pytest.raises(UserError, match="take the one of 24 kHz"):
        Encodec(Encodec.Settings(model=ENCODEC | {"normalize": True}))


def test_the_package_encodec_gives_its_own_codes_and_sound(tmp_path: Path) -> None:
    kind = AUDIO_TOKENIZERS.get("encodec_package")
    try:
        importlib.import_module("encodec")
    except (ImportError, OSError) as error:
        pytest.skip(f"the package encodec cannot be loaded: {error}")
    torch.manual_seed(0)
    codec = kind(kind.Settings(levels=4)).eval()
    sound = make_sound(codec, 75).float()
    with torch.inference_mode():
        codes = codec.encode(sound)
        codec.model.set_target_bandwidth(3.0)
        ((theirs, _),) = codec.model.encode(sound[:, None])
        assert torch.equal(codes, theirs)
        assert torch.equal(codec.decode(codes), codec.model.decode([(theirs, None)])[:, 0])
    codec.save_pretrained(tmp_path)
    assert torch.equal(kind.from_pretrained(tmp_path).encode(sound), codes)


def test_without_the_package_encodec_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encodec", None)
    kind = AUDIO_TOKENIZERS.get("encodec_package")
    with pytest.raises(UserError, match="or take 'encodec', the same model by transformers"):
        kind(kind.Settings())
