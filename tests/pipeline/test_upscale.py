"""Upscaling: any size and length, tiles and chunks that fit one another, from files and from what was generated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm import VideoLM
from videolm.cli.main import main
from videolm.errors import UserError
from videolm.media import Audio, Image, Video, probe, read_image, read_video, write_image, write_video
from videolm.pipeline import upscale
from videolm.pipeline.upscale import Upscaler
from videolm.superres.decode import Filled, fill

PROMPT = "a small red circle moves right on a white background"


@pytest.fixture(scope="module")
def model(upscaling_model: Path) -> VideoLM:
    return VideoLM.from_pretrained(upscaling_model)


def noise(frames: int, height: int = 32, width: int = 32) -> Video:
    return Video(np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8), 8.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(1, 32, 32), (17, 32, 32), (18, 40, 56), (40, 33, 70), (5, 96, 16)])
def test_clips_of_any_size_and_length(model: VideoLM, shape: tuple[int, int, int]) -> None:
    clip = noise(*shape)
    drawn = {"num_inference_steps": 2, "temperature": 1.0}
    large = model.upscale(clip, PROMPT, generator=seeded(), **drawn)
    assert large.frames.shape == (shape[0], 2 * shape[1], 2 * shape[2], 3) and large.fps == clip.fps
    again = model.upscale(clip, PROMPT, generator=seeded(), **drawn)
    assert np.array_equal(large.frames, again.frames)
    other = model.upscale(clip, PROMPT, generator=seeded(1), **drawn)
    assert not np.array_equal(large.frames, other.frames)


def test_steps_are_as_many_as_are_told(model: VideoLM) -> None:
    for frames, height, width in ((1, 32, 32), (17, 32, 32), (18, 32, 32), (33, 40, 70), (34, 64, 64)):
        taken = list[None]()
        larger = Upscaler(model.tokenizer, model.stages(2, 2), on_step=lambda taken=taken: taken.append(None))
        made = list(larger(noise(frames, height, width).frames, seeded()))
        assert len(made) == frames and larger.steps(frames, height, width) == len(taken)


def test_a_clip_of_one_tile_is_what_its_codes_show(model: VideoLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coded, filled in and decoded at once: tiles change nothing there."""
    clip = noise(17)
    low = model.tokenizer.encode(clip.to_tensor()[None])[0]
    given = []

    def known(model: object, codes: torch.Tensor, hidden: torch.Tensor, *rest: object) -> Filled:
        given.append((codes.shape, bool(hidden.all()), rest[2]))
        return Filled(torch.arange(codes.numel()).view(codes.shape) % 7, None)

    monkeypatch.setattr(upscale, "fill", known)
    large = model.upscale(clip, generator=seeded())
    ((shape, hidden, seen),) = given
    assert shape == (5, 8, 8) and hidden and torch.equal(seen, low)
    with torch.inference_mode():
        whole = model.tokenizer.decode(torch.arange(320).view(1, 5, 8, 8) % 7).clamp(-1, 1)[0]
    assert np.array_equal(large.frames, Video.from_tensor(whole, 8.0).frames)


def test_tiles_and_chunks_begin_with_what_their_neighbours_have(
    model: VideoLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def known(model: object, codes: torch.Tensor, hidden: torch.Tensor, *rest: object) -> Filled:
        made = torch.where(hidden, torch.full_like(codes, 1 + len(seen)), codes)
        seen.append((codes.clone(), hidden.clone(), made))
        return Filled(made, None)

    monkeypatch.setattr(upscale, "fill", known)
    model.upscale(noise(20, 32, 48), generator=seeded())  # 8 x 12 codes: two tiles; two chunks
    (_, first, _), (left, second, _), (_, later, _), _ = seen
    assert first.all()
    assert not second[:, :, :2].any() and second[:, :, 2:].all() and (left[:, :, :4] == 1).all()
    assert not later[0].any() and later[1:].all()  # the frame that the chunk before ended in


def test_pixels_of_tiles_fade_into_one_another(model: VideoLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two tiles show two greys, no step is larger than a fade's."""
    shades = iter([-0.5, 0.5])

    def grey(vectors: torch.Tensor) -> torch.Tensor:
        _, t, h, w, _ = vectors.shape
        return torch.full((1, 3, model.tokenizer.frames(t), 8 * h, 8 * w), next(shades))

    monkeypatch.setattr(model.tokenizer, "decode_vectors", grey)
    larger = Upscaler(model.tokenizer, model.stages(2))
    frames = larger._decode(larger.stages[0], torch.zeros(1, 8, 12, 12))
    assert frames.shape == (1, 64, 96, 3)
    line = frames[0, 0, :, 0].astype(int)
    assert line[0] == 64 and line[-1] == 191 and np.diff(line).min() >= 0 and np.diff(line).max() <= 128 // 32 + 1


def test_what_is_expected_is_shown_where_it_was_drawn(model: VideoLM) -> None:
    """In a second chunk the frame that the first ended in is as it was, all others are softer than codes."""
    hard, soft = (
        [*Upscaler(model.tokenizer, model.stages(2, 2, temperature=0, expected=on))(noise(20).frames, seeded())]
        for on in (False, True)
    )
    assert len(soft) == len(hard) == 20 and not any(map(np.array_equal, hard, soft))
    stage = model.stages(2, 1, expected=True)[0]
    larger, low = Upscaler(model.tokenizer, [stage]), torch.zeros(2, 4, 4, dtype=torch.long)
    first = torch.rand(1, 3, 1, 64, 64, generator=seeded()) * 2 - 1
    vectors = larger._fill(stage, low, first, None, seeded())
    own = model.tokenizer.quantizer.vectors(model.tokenizer.encode(first)[0])
    assert torch.equal(vectors[:1], own)
    assert not torch.equal(vectors[1:], model.tokenizer.quantizer.vectors(model.tokenizer.quantizer.codes(vectors[1:])))


def test_what_is_generated_is_upscaled_from_its_codes(model: VideoLM) -> None:
    small = model(PROMPT, generator=seeded(3))
    large = model(PROMPT, generator=seeded(3), upscale=2)
    assert large.frames.shape == (1, 17, 64, 64, 3) and large.tokens == small.tokens
    both = model([PROMPT, "a star"], generator=[seeded(3), seeded(4)], upscale=2, num_inference_steps=2)
    alone = model("a star", generator=[seeded(4)], upscale=2, num_inference_steps=2)
    assert np.array_equal(both.frames[1:], alone.frames)
    still = model("a red circle", task="text_to_image", upscale=2, generator=seeded())
    assert still.frames.shape == (1, 1, 64, 64, 3)
    chain = model(PROMPT, task=["text_to_image", "image_to_video"], upscale=2, generator=seeded())
    assert chain.frames.shape == (1, 17, 64, 64, 3)
    first, second = model.batch([{"prompt": PROMPT, "upscale": 2, "generator": seeded(3)}, {"prompt": PROMPT}])
    assert np.array_equal(first.frames, large.frames) and second.frames.shape == small.frames.shape


def test_what_cannot_be_is_said(model: VideoLM, tiny_model: Path) -> None:
    for factor, said in ((3, "doubles"), (0, "doubles"), (4, "to 2 times, not 4")):
        with pytest.raises(UserError, match=said):
            model(PROMPT, upscale=factor)
    with pytest.raises(UserError, match="has no super-resolution: train one"):
        VideoLM.from_pretrained(tiny_model)(PROMPT, upscale=2)
    with pytest.raises(UserError, match="leave upscale out"):
        model(PROMPT, upscale=2, stream=True)
    with pytest.raises(UserError, match="upscale what comes out of it"):
        next(model.story([(PROMPT, 2.0)], upscale=2))
    codes = model.tokenizer.encode(noise(17).to_tensor()[None])[0]
    for clip, given in ((noise(18), codes), (noise(17), codes[:3])):
        with pytest.raises(ValueError, match="not those of a clip of one chunk"):
            model.upscale(clip, codes=given, num_inference_steps=1)
    with pytest.raises(UserError, match="steps"):
        model.upscale(noise(1), num_inference_steps=0)
    assert model(PROMPT, upscale=1, generator=seeded()).frames.shape == (1, 17, 32, 32, 3)


def test_from_the_command_line(upscaling_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A film keeps its rate and sound; a picture is a picture."""
    film, still, model = tmp_path / "film.mp4", tmp_path / "still.png", ["--model", str(upscaling_model)]
    tone = np.sin(np.arange(16000 * 3) * 0.1, dtype=np.float32)[None]
    write_video(Video(noise(24, 40, 56).frames, 12.0), film, audio=Audio(tone, 16000))
    write_image(Image(noise(1, 34, 50).frames[0]), still)
    capsys.readouterr()
    out = tmp_path / "large.mp4"
    assert main(["upscale", str(film), "--prompt", PROMPT, "--out", str(out), "--json", *model]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["width"], told["height"], told["fps"]) == (24, 112, 80, 12.0)
    info = probe(out)
    assert (info.width, info.height, info.channels) == (112, 80, 1) and info.fps == pytest.approx(12)
    part = ["--seconds", "0.5", "--size", "32x16", "--fps", "8", "--steps", "2", "--distrust", "0.1"]
    assert main(["upscale", str(film), "--out", str(out), "--force", *part, *model]) == 0
    assert read_video(out).frames.shape == (4, 32, 64, 3)
    assert main(["upscale", str(still), "--out", str(tmp_path / "large.png"), "--factor", "2", *model]) == 0
    assert read_image(tmp_path / "large.png").pixels.shape == (68, 100, 3)
    out = tmp_path / "made.mp4"
    wanted = ["--upscale", "2", "--upscale-steps", "2", "--out", str(out), "--json"]
    capsys.readouterr()
    assert main(["generate", "--prompt", PROMPT, *wanted, *model]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["width"], told["height"]) == (64, 64) == (probe(out).width, probe(out).height)


def test_each_part_of_a_story_is_told_of_its_own_scene(
    model: VideoLM, upscaling_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of 17 frames go on from each other's last: they have their middles at frames 8, 24 and 40."""
    told = list[torch.Tensor]()

    def heard(*given: Any) -> Filled:
        told.append(torch.empty(0) if given[6] is None else given[6])
        return fill(*given)

    write_video(noise(16, 32, 32), film := tmp_path / "film.mp4")
    prompts = tmp_path / "scenes.txt"
    prompts.write_text(f"2\t{PROMPT}\n2\ta star\n")
    monkeypatch.setattr(upscale, "fill", heard)
    out = tmp_path / "story.mp4"
    words = ["story", "--prompts", str(prompts), "--video", str(film), "--upscale", "2", "--upscale-steps", "1"]
    assert main([*words, "--out", str(out), "--model", str(upscaling_model)]) == 0
    assert read_video(out).frames.shape == (48, 64, 64, 3)
    texts = [model.encode_prompt(prompt)[0][0] for prompt in (PROMPT, "a star")]
    assert not told[0].numel() and told[1].equal(texts[0]) and told[2].equal(texts[1]) and len(told) == 3
    words = ["generate", "--prompt", PROMPT, "--seconds", "3", "--upscale", "2", "--upscale-steps", "1"]
    assert main([*words, "--out", str(out), "--force", "--model", str(upscaling_model)]) == 0
    assert read_video(out).frames.shape == (24, 64, 64, 3) and told[4].equal(texts[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["FILM", "--out", "x.gif"], "a film is written as .mp4"),
        (["STILL", "--out", "x.mp4"], "a picture is written as .png or"),
        (["FILM", "--out", "FILM"], "exists already"),
        (["nowhere.mp4"], "nowhere.mp4"),
        (["FILM", "--factor", "8"], "to 2 times, not 8"),
        (["FILM", "--seconds", "0"], "more than 0"),
        (["FILM", "--distrust", "2"], "distrust"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    said: str,
    upscaling_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"FILM": "film.mp4", "STILL": "still.png"}
    write_video(noise(3), files["FILM"])
    write_image(Image(noise(1).frames[0]), files["STILL"])
    assert main(["upscale", *(files.get(word, word) for word in words), "--model", str(upscaling_model)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("videolm: error: ") and said in error
