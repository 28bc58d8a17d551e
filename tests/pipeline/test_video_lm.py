"""`VideoLM`: inputs, outputs, seeds, and folders that are not whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from videolm import VideoLM
from videolm.errors import UserError
from videolm.media import Image, Video
from videolm.pipeline.folder import model_folder, model_hash
from videolm.pipeline.job import Request

PROMPT = "a small red circle moves right on a white background"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> VideoLM:
    return VideoLM.from_pretrained(tiny_model)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(frames: int) -> Video:
    return Video(np.random.default_rng(0).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8), 8.0)


def test_outputs_come_in_the_shapes_of_diffusers(model: VideoLM) -> None:
    out = model(PROMPT, num_videos_per_prompt=2, generator=generator(0))
    assert out.variant.task.name == "text_to_video"
    assert out.frames.shape == (2, 17, 32, 32, 3)
    assert 0 <= out.frames.min() <= out.frames.max() <= 1
    assert (out.fps, out.tokens, len(out.videos)) == (8.0, 80, 2)
    assert model(PROMPT, output_type="pt", generator=generator(0)).frames.shape == (1, 17, 3, 32, 32)
    pictures = model(PROMPT, output_type="pil", generator=generator(0)).frames
    assert isinstance(pictures[0][16], PIL.Image.Image)
    assert isinstance(model(PROMPT, return_dict=False), tuple)


def test_one_seed_gives_one_clip_whatever_the_batch(model: VideoLM) -> None:
    together = model([PROMPT, "a star"], generator=[generator(1), generator(2)]).frames
    alone = model("a star", generator=[generator(2)]).frames
    assert np.array_equal(together[1:], alone)
    assert not np.array_equal(together[1:], model("a star", generator=[generator(3)]).frames)


def test_the_best_of_several_is_one_of_them_whatever_the_batch(model: VideoLM) -> None:
    prompts, seeds = [PROMPT, "a star"], [generator(1), generator(2)]
    job = model.job(prompt=prompts, generator=seeds, best_of=3)
    model.decode([job])
    best, drawn = job.output("np").frames, [row.seed for row in job.rows]
    assert len(best) == 2 and [drawn.index(row.seed) // 3 for row in job.kept] == [0, 1]
    assert np.array_equal(best[1:], model("a star", generator=[generator(2)], best_of=3).frames)
    together = model.batch(
        [{"prompt": each, "generator": [generator(i)], "best_of": 3} for i, each in ((1, PROMPT), (2, "a star"))]
    )
    assert np.array_equal(best, np.concatenate([out.frames for out in together]))


def test_what_is_streamed_is_drawn_once(model: VideoLM) -> None:
    """Frames are shown before it is known which of several is best; where that is asked for they come at the end."""
    parts = model.parts._replace(sampling=model.sampling.model_copy(update={"best_of": 2}))
    often = VideoLM(parts)
    streamed = np.stack([frame[0] for frame in often(PROMPT, stream=True, generator=generator(0))])
    assert np.array_equal(streamed, often(PROMPT, best_of=1, generator=generator(0)).frames[0])
    late = np.stack([frame[0] for frame in often(PROMPT, stream=True, best_of=2, generator=generator(0))])
    assert np.array_equal(late, often(PROMPT, generator=generator(0)).frames[0])


@pytest.mark.parametrize(
    ("inputs", "task"),
    [
        ({"prompt": PROMPT}, "text_to_video"),
        ({}, "unconditional_video"),
        ({"image": noise(1).frames[0]}, "image_to_video"),
        ({"prompt": PROMPT, "image": noise(1).frames[0]}, "image_to_video"),
        ({"video": noise(9)}, "frame_prediction"),
    ],
)
def test_the_task_follows_from_the_inputs(model: VideoLM, inputs: dict[str, object], task: str) -> None:
    assert model(**inputs, generator=generator(0)).variant.task.name == task  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [5, 9, 12])
def test_given_frames_begin_the_clip_unchanged(model: VideoLM, frames: int) -> None:
    clip = noise(frames)
    out = model(video=clip, generator=generator(0))
    assert out.given == (5 if frames < 9 else 9)
    assert np.array_equal(out.videos[0].frames[: out.given], clip.frames[: out.given])
    assert len(out.videos[0]) == 17


def test_pictures_are_taken_in_every_form(model: VideoLM, tmp_path: Path) -> None:
    pixels = noise(1).frames[0]
    PIL.Image.fromarray(pixels).save(tmp_path / "first.png")
    forms = [pixels, Image(pixels), PIL.Image.fromarray(pixels), tmp_path / "first.png", pixels.astype(float) / 255]
    clips = [model(image=form, generator=generator(0)).videos[0].frames for form in forms]
    assert all(np.array_equal(clip, clips[0]) for clip in clips)
    assert np.array_equal(clips[0][0], pixels)


def test_without_prompts_there_is_an_output_for_each_of_the_media(model: VideoLM) -> None:
    pixels = [noise(1).frames[0], noise(2).frames[1]]
    for form in (pixels, [PIL.Image.fromarray(each) for each in pixels]):
        both = model(image=form, generator=[generator(0), generator(1)]).videos
        assert [np.array_equal(clip.frames[0], each) for clip, each in zip(both, pixels, strict=True)] == [True, True]
    frames = [PIL.Image.fromarray(frame) for frame in noise(5).frames]
    assert len(model(video=frames, generator=generator(0)).videos) == 1  # pictures of one clip
    with pytest.raises(UserError, match="2 inputs were given for 3 prompts"):
        model([PROMPT] * 3, image=pixels)


def test_text_to_image_makes_one_frame(model: VideoLM) -> None:
    out = model(PROMPT, task="text_to_image")
    assert out.frames.shape == (1, 1, 32, 32, 3)


def test_frames_stream_out_as_they_are_decoded(model: VideoLM) -> None:
    whole = model([PROMPT, "a star"], generator=[generator(1), generator(2)])
    seen: list[int] = []
    stream = model(
        [PROMPT, "a star"],
        generator=[generator(1), generator(2)],
        stream=True,
        callback_on_step_end=lambda model, done, of, _: seen.append(done),
    )
    drawn = []
    frames = []
    for frame in stream:
        frames.append(frame)
        drawn.append(seen[-1])
    assert np.array_equal(np.stack(frames, 1), whole.frames)
    assert np.array_equal(stream.output.frames, whole.frames)
    assert drawn[0] < 40 and drawn == sorted(drawn) and drawn[-1] == 80
    clip = noise(9)
    given = model(video=clip, stream=True, output_type="pil", generator=generator(0))
    assert [np.array_equal(np.asarray(next(given)[0]), frame) for frame in clip.frames] == [True] * 9
    assert len(given.output.frames[0]) == 17


def test_calls_of_several_tasks_run_together(model: VideoLM) -> None:
    def requests() -> list[Request]:
        return [
            {"prompt": PROMPT, "task": "text_to_video", "generator": generator(1)},
            {"image": noise(1).frames[0], "generator": generator(2), "num_videos_per_prompt": 2},
            {"prompt": "a star", "task": "text_to_image", "generator": generator(3), "guidance_scale": 3.0},
            {"video": noise(9), "prompt": "a star", "generator": generator(4)},
        ]

    together = model.batch(requests())
    assert [out.variant.task.name for out in together] == [
        "text_to_video",
        "image_to_video",
        "text_to_image",
        "frame_prediction",
    ]
    for out, request in zip(together, requests(), strict=True):
        prompt = request.pop("prompt", None)
        assert np.array_equal(out.frames, model(prompt, **request).frames)


def test_prompts_are_taken_as_embeddings(model: VideoLM) -> None:
    whole = model([PROMPT, "a star"], negative_prompt="a square", guidance_scale=3, generator=generator(0)).frames
    embeds, mask = model.encode_prompt([PROMPT, "a star"])
    less, _ = model.encode_prompt("a square")
    given = {"prompt_embeds": embeds, "prompt_attention_mask": mask, "negative_prompt_embeds": less[0]}
    assert np.array_equal(model(**given, guidance_scale=3, generator=generator(0)).frames, whole)
    one = model(PROMPT, generator=generator(0)).frames
    assert np.array_equal(model(prompt_embeds=embeds[0, : int(mask[0].sum())], generator=generator(0)).frames, one)
    for wrong, message in (
        ({"prompt": PROMPT, "prompt_embeds": embeds}, "give one"),
        ({"prompt_embeds": embeds[..., :-1]}, "prompt embeddings are \\(b, m, "),
        ({"prompt_attention_mask": mask}, "goes with prompt_embeds"),
        ({"promt": PROMPT}, "unknown argument 'promt'; did you mean 'prompt'"),
    ):
        with pytest.raises(UserError, match=message):
            model(**wrong)  # type: ignore[call-overload]


def test_steps_are_reported(model: VideoLM) -> None:
    seen: list[tuple[int, int]] = []
    model(PROMPT, callback_on_step_end=lambda model, done, of, _: seen.append((done, of)))
    assert [of for _, of in seen] == [80] * len(seen) and seen[-1][0] == 80
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"task": "text_to_vidio", "prompt": "x"}, "unknown task 'text_to_vidio'; did you mean 'text_to_video'"),
        ({"task": "text_to_video"}, "text_to_video needs a prompt"),
        ({"task": "image_to_video"}, "image_to_video needs an image"),
        ({"task": "frame_prediction", "image": noise(1).frames[0]}, "frame_prediction needs a video"),
        ({"task": "text_to_video", "prompt": "x", "image": noise(1).frames[0]}, "text_to_video takes no image"),
        ({"prompt": "word " * 80}, "the prompt has .* tokens and the model takes 64; shorten it"),
        ({"prompt": "x", "num_frames": 41}, "text_to_video of this model has frames 17, not 41"),
        ({"prompt": "x", "height": 64, "width": 64}, "has size 32x32, not 64x64"),
        ({"prompt": "x", "height": 32}, "height and width go together"),
        ({"prompt": "x", "temperature": -1}, "temperature"),
        ({"prompt": "x", "output_type": "gif"}, "unknown output_type 'gif'"),
        ({"prompt": "x", "num_videos_per_prompt": 0}, "must be at least 1"),
        ({"prompt": "x", "generator": [generator(0)] * 2}, "2 generators were given for 1 clips"),
        ({"video": noise(3)}, "frame_prediction needs at least 5 frames at 8 a second, the video has 3"),
        ({"video": Video(noise(9).frames, 25.0)}, "the clip has 25 frames a second, this model 8"),
        ({"image": noise(1).frames[0] * 1.0}, "0"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(model: VideoLM, inputs: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        model(**inputs)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_model_saved_and_loaded_makes_the_same_clips(model: VideoLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "copy")
    copy = VideoLM.from_pretrained(tmp_path / "copy")
    assert copy.tasks == model.tasks
    assert copy.vocabulary == model.vocabulary
    assert np.array_equal(copy(PROMPT, generator=generator(4)).frames, model(PROMPT, generator=generator(4)).frames)
    with pytest.raises(UserError, match="exists already"):
        model.save_pretrained(tmp_path / "copy")


def damage_missing(folder: Path) -> None:
    (folder / "language_model" / "model.safetensors").unlink()


def damage_pickled(folder: Path) -> None:
    (folder / "video_tokenizer" / "model.safetensors").rename(folder / "video_tokenizer" / "model.pt")


def damage_cut(folder: Path) -> None:
    path = folder / "language_model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def damage_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def damage_vocabulary(folder: Path) -> None:
    path = folder / "vocabulary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "visual_size": 128}))


def damage_tasks(folder: Path) -> None:
    (folder / "tasks.json").unlink()


def damage_pieces(folder: Path) -> None:
    (folder / "text_encoder" / "spiece.model").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "language_model is not a complete model folder: model.safetensors is missing"),
        (damage_pickled, "video_tokenizer holds pickled weights .model.pt., which are never loaded"),
        (damage_cut, "cannot load .*language_model"),
        (damage_index, "cannot read .*model_index.json"),
        (damage_vocabulary, "the video tokenizer has 256 codes but the vocabulary 128 visual ids"),
        (damage_tasks, "tasks.json is missing"),
        (damage_pieces, "cannot load the text encoder"),
    ],
)
def test_a_damaged_model_folder_is_named(
    tiny_model: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        VideoLM.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        model_folder(tmp_path / "none")


def test_the_hash_names_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert model_hash(copy) == model_hash(tiny_model)
    (copy / "video_tokenizer" / "model.safetensors").write_bytes(b"other")
    assert model_hash(copy) != model_hash(tiny_model)
