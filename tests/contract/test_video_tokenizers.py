"""What every registered video tokenizer promises (`videolm/tokenizers/protocol.py`), on random weights in float64.

A new tokenizer is tested by a line in `CASES`.
"""

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.component import CONFIG_FILE, WEIGHTS_FILE
from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.tokenizers.layers.stream import Stream
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.tokenizers.quantize.fsq import FSQ
from videolm.tokenizers.video.c_vivit import CViViT
from videolm.tokenizers.video.cosmos import Cosmos


def preset(name: str, **changes: Any) -> dict[str, Any]:
    return read_yaml(str(files("videolm.configs") / "tokenizer" / f"{name}.yaml")) | changes


EMU3 = {
    "codebook_size": 512,
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [1],
    "hidden_size": 32,
}
PAPER = {"base_channels": 8, "norm_groups": 4, "encoder_blocks": 1, "decoder_blocks": 1}
CASES: dict[str, dict[str, Any]] = {
    "magvit_v2 tiny": preset("magvit_v2_tiny"),
    "magvit_v2 small": preset("magvit_v2_small", base_channels=24),
    "magvit_v2 at paper shape": preset("magvit_v2", **PAPER),
    "magvit_v2 with FSQ": preset("magvit_v2_tiny", quantizer={"name": "fsq", "levels": [8, 8, 8]}),
    "magvit_v2 with VQ": preset("magvit_v2_tiny", quantizer={"name": "vq", "codebook_size": 500, "dim": 6}),
    "c_vivit tiny": preset("c_vivit_tiny"),
    "c_vivit with LFQ": preset("c_vivit_tiny", quantizer={"name": "lfq", "bits": 9}, temporal_patch=4),
    "magvit tiny": preset("magvit_tiny", frames=8),
    "emu3": {"name": "emu3", "model": EMU3},
    "cosmos": {"name": "cosmos"},
    "open_magvit2": {"name": "open_magvit2", "channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "bits": 9},
}


@pytest.fixture(scope="module", params=CASES)
def tokenizer(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cosmos_programs: Callable[..., tuple[Path, Path]],
) -> VideoTokenizer:
    kind = VIDEO_TOKENIZERS.get(CASES[request.param]["name"])
    torch.manual_seed(0)
    if kind is Cosmos:
        return Cosmos.from_files(*cosmos_programs(tmp_path_factory.mktemp("programs"), torch.float64))
    made = kind(parse(kind.Settings, CASES[request.param])).eval()
    for name, weight in made.named_parameters():
        if "modulate" in name:  # zero at the start: the adaptive norms would not be tested
            torch.nn.init.normal_(weight, std=0.3)
    with torch.no_grad():  # latents of untrained weights lie close together, within the reach of few codes
        if hasattr(made.encoder, "project"):
            next(made.encoder.project.parameters()).mul_(10)
    return made.double().requires_grad_(False)


def make_clip(tokenizer: VideoTokenizer, latents: int = 4, seed: int = 0, batch: int = 1) -> Tensor:
    side = tokenizer.spatial_stride
    frames = tokenizer.frames(latents)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, 2 * side, 3 * side, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.fixture(scope="module")
def video(tokenizer: VideoTokenizer) -> Tensor:
    return make_clip(tokenizer, batch=4)


@pytest.fixture(scope="module")
def codes(tokenizer: VideoTokenizer, video: Tensor) -> Tensor:
    return tokenizer.encode(video)


def test_every_registered_tokenizer_is_here() -> None:
    assert {case["name"] for case in CASES.values()} == set(VIDEO_TOKENIZERS)


def test_the_grid_is_the_shape_of_the_codes(tokenizer: VideoTokenizer) -> None:
    for latents in (1, 2, 4):
        clip = make_clip(tokenizer, latents, batch=2)
        codes = tokenizer.encode(clip)
        grid = tokenizer.grid(*clip.shape[2:])
        assert codes.shape == (2, *grid) and grid == (latents, 2, 3)
        assert codes.dtype == torch.int64 and codes.min() >= 0 and codes.max() < tokenizer.codebook_size
        assert tokenizer.decode(codes).shape == clip.shape


def test_codes_of_random_weights_tell_clips_apart(tokenizer: VideoTokenizer, codes: Tensor) -> None:
    """Else nothing below could fail."""
    assert len(codes.unique()) >= codes.numel() // 3
    assert (tokenizer.encode(make_clip(tokenizer, seed=1, batch=4)) != codes).float().mean() > 0.5


def test_no_code_depends_on_a_later_frame(tokenizer: VideoTokenizer, video: Tensor, codes: Tensor) -> None:
    if not tokenizer.causal:
        pytest.skip("not a causal tokenizer")
    other = make_clip(tokenizer, seed=1, batch=4)
    for frame in range(video.shape[2]):
        changed = video.clone()
        changed[:, :, frame] = other[:, :, frame]
        holder = -(-frame // tokenizer.temporal_stride)  # the latent frame that holds it
        differs = tokenizer.encode(changed) != codes
        assert not differs[:, :holder].any(), f"frame {frame} changed a code of an earlier latent frame"
        assert differs[:, holder].any(), f"frame {frame} changed nothing: this test could not fail"


def test_codes_of_the_first_frames_begin_those_of_the_clip(
    tokenizer: VideoTokenizer, video: Tensor, codes: Tensor
) -> None:
    if not tokenizer.causal:
        pytest.skip("not a causal tokenizer")
    for latents in range(1, codes.shape[1] + 1):
        start = video[:, :, : tokenizer.frames(latents)]
        assert torch.equal(tokenizer.encode(start), codes[:, :latents])


def test_an_image_has_the_codes_of_a_first_frame(tokenizer: VideoTokenizer, video: Tensor, codes: Tensor) -> None:
    if not (tokenizer.first_frame_alone and tokenizer.causal):
        pytest.skip("the first frame does not stand alone, or sees later ones")
    assert torch.equal(tokenizer.encode(video[:, :, :1]), codes[:, :1])


def test_a_still_has_the_same_codes_at_every_time(tokenizer: VideoTokenizer, video: Tensor) -> None:
    """So a language model has nothing to learn where nothing moves."""
    if not tokenizer.trainable:
        pytest.skip("pads as its makers chose")
    if isinstance(tokenizer, CViViT):
        pytest.skip("reads its first frame with weights of its own")
    codes = tokenizer.encode(video[:, :, :1].expand_as(video))
    assert torch.equal(codes, codes[:, :1].expand_as(codes))


def test_a_flat_ground_has_the_same_code_at_every_place(tokenizer: VideoTokenizer, video: Tensor) -> None:
    if not tokenizer.trainable:
        pytest.skip("pads as its makers chose")
    colour = torch.tensor([0.5, -0.25, 0.125], dtype=torch.float64).view(1, 3, 1, 1, 1)
    codes = tokenizer.encode(colour.expand(1, 3, *video.shape[2:]).contiguous())
    assert torch.equal(codes, codes[:, :, :1, :1].expand_as(codes))


def test_the_first_codes_decode_to_the_first_frames(tokenizer: VideoTokenizer, codes: Tensor) -> None:
    """The decoder is causal too: frames can be shown while later ones are drawn."""
    if not tokenizer.causal:
        pytest.skip("not a causal tokenizer")
    whole = tokenizer.decode(codes)
    assert whole.std() > 0.05
    for latents in range(1, codes.shape[1]):
        frames = tokenizer.frames(latents)
        torch.testing.assert_close(tokenizer.decode(codes[:, :latents]), whole[:, :, :frames])
        later = codes.clone()
        later[:, latents:] = codes[:, latents:].roll(1, -1)
        changed = tokenizer.decode(later)
        torch.testing.assert_close(changed[:, :, :frames], whole[:, :, :frames])
        assert not torch.allclose(changed[:, :, frames:], whole[:, :, frames:])


def test_clips_of_a_batch_do_not_touch_one_another(tokenizer: VideoTokenizer, video: Tensor, codes: Tensor) -> None:
    decoded = tokenizer.decode(codes)
    for index in (0, 2):
        alone = slice(index, index + 1)
        assert torch.equal(tokenizer.encode(video[alone]), codes[alone])
        torch.testing.assert_close(tokenizer.decode(codes[alone]), decoded[alone])


def test_the_training_pass_is_encode_and_decode(tokenizer: VideoTokenizer, video: Tensor, codes: Tensor) -> None:
    if not tokenizer.trainable:
        with pytest.raises(UserError, match=f"{tokenizer.config.name} is used as it is"):
            tokenizer(video)
        return
    out = tokenizer(video.requires_grad_())
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.video, tokenizer.decode(codes))
    assert bool(out.losses) != isinstance(tokenizer.quantizer, FSQ)  # it alone needs none
    assert all(torch.isfinite(term) for term in out.losses.values())
    (gradient,) = torch.autograd.grad(out.video.square().sum(), video)
    video.requires_grad_(False)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0  # it passes the quantiser


def test_with_frozen_codes_training_reaches_decoding_alone(
    tokenizer: VideoTokenizer, video: Tensor, codes: Tensor
) -> None:
    if not tokenizer.trainable:
        pytest.skip("is not trained here")
    trained = copy.deepcopy(tokenizer).requires_grad_(True)
    trained.freeze_codes()
    for weight in trained.parameters():
        if weight.requires_grad:
            weight.data.mul_(0.5)
    assert torch.equal(trained.encode(video), codes)
    assert not torch.allclose(trained.decode(codes), tokenizer.decode(codes))
    trained(video).video.square().sum().backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in trained.parameters())


def test_saved_and_loaded_it_gives_the_same_codes(
    tokenizer: VideoTokenizer, video: Tensor, codes: Tensor, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "made" / "here")
    again = type(tokenizer).from_pretrained(tmp_path / "made" / "here", dtype=torch.float64)
    assert again.config == tokenizer.config and not again.training
    # read through float32: so are these weights, and the ones drawn in float32 are exact
    assert torch.equal(again.encode(video), codes)
    torch.testing.assert_close(again.decode(codes), tokenizer.decode(codes))


def test_saved_in_half_precision(tokenizer: VideoTokenizer, video: Tensor, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "whole", torch.float32)
    if not (tmp_path / "whole" / WEIGHTS_FILE).exists():
        pytest.skip("keeps no weights of its own")
    tokenizer.save_pretrained(tmp_path / "half", torch.float16)
    sizes = [(tmp_path / name / WEIGHTS_FILE).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    again = type(tokenizer).from_pretrained(tmp_path / "half")
    assert next(again.parameters()).dtype == torch.float32
    assert (again.encode(video.float()) == tokenizer.encode(video)).float().mean() > 0.8


def test_sizes_and_lengths_that_do_not_fit(tokenizer: VideoTokenizer) -> None:
    side, frames = tokenizer.spatial_stride, tokenizer.frames(2)
    with pytest.raises(UserError, match=f"multiples of {side}"):
        tokenizer.grid(frames, side, side + 1)
    with pytest.raises(UserError, match=f"multiples of {side}"):
        tokenizer.encode(torch.zeros(1, 3, frames, side + 1, side))
    with pytest.raises(UserError, match=f"{frames + 1} frames do not fit"):
        tokenizer.encode(torch.zeros(1, 3, frames + 1, side, side))
    for wrong in ((0, side, side), (frames, 0, side), (frames, side, -side)):
        with pytest.raises(UserError):
            tokenizer.grid(*wrong)


PLANS = {
    "frame by frame": lambda length: [1] * length,
    "all at once": lambda length: [length],
    "uneven": lambda length: [2, 5, 1, 3] * length,
}


@pytest.mark.parametrize("plan", PLANS)
def test_any_plan_of_chunks_gives_the_codes_of_one_pass(
    tokenizer: VideoTokenizer, video: Tensor, codes: Tensor, plan: str
) -> None:
    chunks = cut(video, PLANS[plan](video.shape[2]), dim=2)
    for most in (1, 3):
        stream = tokenizer.stream_encoder(most)
        parts = [part for chunk in chunks if (part := stream.push(chunk)) is not None]
        if (rest := stream.finish()) is not None:
            parts.append(rest)
        assert torch.equal(torch.cat(parts, 1), codes)
    if tokenizer.causal and tokenizer.block is not None:  # codes come as soon as their frames are there
        stream = tokenizer.stream_encoder()
        first = stream.push(video[:, :, : tokenizer.frames(1)])
        assert first is not None and torch.equal(first, codes[:, :1])


@pytest.mark.parametrize("plan", PLANS)
def test_any_plan_of_chunks_gives_the_frames_of_one_pass(tokenizer: VideoTokenizer, codes: Tensor, plan: str) -> None:
    for most in (1, 3):
        stream = tokenizer.stream_decoder(most)
        parts = [stream.push(chunk) for chunk in cut(codes, PLANS[plan](codes.shape[1]), dim=1)]
        whole = torch.cat([part for part in [*parts, stream.finish()] if part is not None], 2)
        torch.testing.assert_close(whole, tokenizer.decode(codes))


def test_streams_of_clips_that_do_not_fit(tokenizer: VideoTokenizer, video: Tensor) -> None:
    def whole(stream: Stream, value: Tensor) -> None:
        stream.push(value)
        stream.finish()

    stream = tokenizer.stream_encoder()
    stream.push(video[:, :, : tokenizer.frames(1) + 1])
    with pytest.raises(UserError, match="1 after a length that fits|2 frames do not fit"):
        stream.finish()
    with pytest.raises(UserError, match="does not go on from"):
        stream.push(video[:, :, :1, :-1])
    with pytest.raises(UserError, match="pixels must lie in"):
        whole(tokenizer.stream_encoder(), torch.full_like(video, 255.0))
    with pytest.raises(UserError, match="multiples of"):
        whole(tokenizer.stream_encoder(), video[..., :-1])
    with pytest.raises(UserError, match="another tokenizer's"):
        whole(tokenizer.stream_decoder(), torch.full((1, tokenizer.block or 1, 1, 1), tokenizer.codebook_size))


def cut(value: Tensor, lengths: list[int], dim: int) -> list[Tensor]:
    """Chunks of these lengths along an axis, as far as it goes."""
    chunks, start = [], 0
    for length in lengths:
        if start < value.shape[dim]:
            chunks.append(value.narrow(dim, start, min(length, value.shape[dim] - start)))
            start += length
    return chunks


def test_a_tokenizer_of_clips_starts_where_that_of_pictures_ended(tokenizer: VideoTokenizer, video: Tensor) -> None:
    """On a still: see `VideoTokenizer.inflate`."""
    if not tokenizer.trainable:
        with pytest.raises(UserError, match="is used as it is"):
            tokenizer.inflate(tokenizer)
        return
    torch.manual_seed(1)
    image = type(tokenizer)(tokenizer.config.image()).double()
    made = copy.deepcopy(tokenizer)
    if isinstance(tokenizer, CViViT):  # what attention over time adds to its own value is apart from inflation
        for module in (image, made):
            module.encoder.temporal, module.decoder.temporal = torch.nn.ModuleList(), torch.nn.ModuleList()
            module.encoder.temporal.forward = module.decoder.temporal.forward = lambda x, past: x
    made.inflate(image)
    still = video[:, :, :1].expand_as(video)
    codes, of_picture = made.encode(still), image.encode(video[:, :, :1])
    assert torch.equal(codes, of_picture.expand_as(codes))
    decoded = made.decode(codes)
    torch.testing.assert_close(decoded, image.decode(of_picture).expand_as(decoded))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda video: video[0], "a video tensor is float"),
        (lambda video: video[:, :1], "a video tensor is float"),
        (lambda video: (video * 127).byte(), "not torch.uint8"),
        (lambda video: (video + 1) * 127.5, "pixels must lie in"),
        (lambda video: video * torch.nan, "pixels must lie in"),
        (lambda video: video / 0, "pixels must lie in"),
        (lambda video: video[:0], "a video tensor is float"),
        (lambda video: video[:, :, :0], "a video tensor is float"),
    ],
)
def test_pixels_that_are_none(tokenizer: VideoTokenizer, video: Tensor, change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tokenizer.encode(change(video))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda codes: codes[0], "codes are integers"),
        (lambda codes: codes.float(), "codes are integers"),
        (lambda codes: codes[:, :0], "codes are integers"),
        (lambda codes: codes - codes.min() - 1, r"got \[-1, "),
        (lambda codes: codes + 2**31, "another tokenizer's"),
    ],
)
def test_codes_that_are_none(tokenizer: VideoTokenizer, codes: Tensor, change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tokenizer.decode(change(codes))


def test_the_last_code_is_one_and_the_next_is_none(tokenizer: VideoTokenizer) -> None:
    size = tokenizer.codebook_size
    tokenizer.decode(torch.full((1, 1, 1, 1), size - 1))
    with pytest.raises(UserError, match=rf"codes must lie in \[0, {size}\)"):
        tokenizer.decode(torch.full((1, 1, 1, 1), size))


def test_folders_that_hold_no_model(tokenizer: VideoTokenizer, tmp_path: Path) -> None:
    kind = type(tokenizer)

    def fails(said: str) -> None:
        with pytest.raises(UserError) as error:
            kind.from_pretrained(tmp_path)
        assert said in str(error.value) and "\n" not in str(error.value)

    fails(f"{CONFIG_FILE} is missing")
    tokenizer.save_pretrained(tmp_path)
    if not (tmp_path / WEIGHTS_FILE).exists():
        pytest.skip("keeps no weights of its own")
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    weights = (tmp_path / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes(weights[:100])
    fails("fetch or save the model again")
    (tmp_path / WEIGHTS_FILE).unlink()
    fails(f"{WEIGHTS_FILE} is missing")
    torch.save({}, tmp_path / "pytorch_model.bin")
    fails("pickled weights (pytorch_model.bin), which are never loaded")
    (tmp_path / WEIGHTS_FILE).write_bytes(weights)
    other = {"quantizer": {"name": "lfq", "bits": 13}, "bits": 13, "model": EMU3 | {"codebook_size": 13}}
    key = next(key for key in other if key in config)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {key: other[key]}))
    fails(f"does not fit its {CONFIG_FILE}")
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {f"{key}_": 3}))
    fails(f"unknown key '{key}_'; did you mean '{key}'?")
    (tmp_path / CONFIG_FILE).write_text("{")
    fails("cannot read")
