"""A tokenizer alone: the numbers are those of its own encode and decode, on the clips that were asked for."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from videolm import VideoLM, shapesworld
from videolm.component import CONFIG_FILE
from videolm.config import parse, read_yaml
from videolm.data.example import Source
from videolm.data.sources import FolderData
from videolm.errors import UserError
from videolm.evaluate.shapes import evaluate_reconstruction, scenes
from videolm.evaluate.tokenizer import choose, comparison, evaluate_tokenizer, fitted, open_source
from videolm.media import Video, write_video
from videolm.metrics import code_usage, frechet_distance, psnr, sharpness, ssim
from videolm.pipeline.folder import INDEX, TOKENIZER, find_tokenizer, load_tokenizer
from videolm.shapes import Format
from videolm.tokenizers.losses.perceptual import I3D, LPIPS
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.video.magvit import Magvit, MagvitConfig
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config

SHAPE = Format(5, 32, 32)
JUDGED = {"background", "colour", "shape", "size", "motion", "all_right", "found"}


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    torch.manual_seed(0)
    preset = read_yaml(str(files("videolm.configs") / "tokenizer" / "magvit_v2_tiny.yaml"))
    return MagvitV2(parse(MagvitV2Config, preset)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def world() -> Source:
    return open_source(None, SHAPE, 8.0, samples=7, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with 9 and 2 windows of 5 frames, and one that is too short."""
    path = tmp_path_factory.mktemp("clips")
    for index, frames in enumerate((13, 6, 4)):
        noise = np.random.default_rng(index).integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8)
        write_video(Video(noise, 8.0), path / f"{index}.mp4")
    return path


@torch.inference_mode()
def test_the_numbers_are_those_of_encode_and_decode(tokenizer: VideoTokenizer, world: Source) -> None:
    clips = torch.stack([world[index].media.to_tensor() for index in range(7)])
    codes = tokenizer.encode(clips)
    decoded = tokenizer.decode(codes).clamp(-1, 1)
    report = evaluate_tokenizer(tokenizer, world, batch=3)
    assert torch.equal(report.codes, codes)
    assert report.psnr == pytest.approx(psnr(decoded, clips).tolist(), rel=1e-5)
    assert report.scores["psnr"] == pytest.approx(float(psnr(decoded, clips).mean()), rel=1e-5)
    assert report.scores["ssim"] == pytest.approx(float(ssim(decoded, clips).mean()), rel=1e-4)
    assert code_usage(codes, tokenizer.codebook_size).items() <= report.scores.items()
    assert report.scores["samples"] == 7


def test_shapesworld_clips_are_true_ones_that_the_judge_reads(tokenizer: VideoTokenizer, world: Source) -> None:
    truths = [shapesworld.draw_scene(3, index) for index in range(7)]
    assert all(np.array_equal(world[i].media.frames, shapesworld.render(s, 5, (32, 32))) for i, s in enumerate(truths))
    assert evaluate_tokenizer(tokenizer, world).scores.keys() >= JUDGED
    held = open_source(None, SHAPE, 8.0, samples=9, seed=1000)
    assert [held[index].captions[0] for index in range(9)] == [shapesworld.caption(s) for s in scenes(9, "train", 1000)]


def test_a_shape_of_one_frame_is_pictures_which_have_no_motion(tokenizer: VideoTokenizer) -> None:
    source = open_source(None, Format(1, 32, 32), 8.0, samples=3, seed=0)
    assert evaluate_tokenizer(tokenizer, source).scores.keys() & JUDGED == JUDGED - {"motion"}


def test_windows_of_a_folder_are_drawn_once_each_and_not_judged(tokenizer: VideoTokenizer, folder: Path) -> None:
    source = open_source(str(folder), SHAPE, 8.0, samples=6, seed=0)
    assert len(source) == 11
    some = evaluate_tokenizer(tokenizer, source, samples=6, seed=5)
    assert len(set(some.indices)) == 6 and some.scores["samples"] == 6
    assert set(some.scores) == {"psnr", "ssim", "sharpness", "codes_used", "perplexity", "samples"}
    assert evaluate_tokenizer(tokenizer, source, samples=99).indices == list(range(11))
    assert evaluate_tokenizer(tokenizer, source, samples=6, seed=6).indices != some.indices


def test_of_files_the_part_kept_from_training_alone_may_be_measured(folder: Path) -> None:
    whole = open_source(str(folder), SHAPE, 8.0, samples=9, seed=0)
    data = FolderData(path=str(folder), validation_share=0.6)
    trained = data.open("video", SHAPE, 8.0, "train")
    kept = open_source(str(folder), SHAPE, 8.0, samples=9, seed=0, held_out=0.6)
    assert 0 < len(kept) < len(whole)
    shown = {frame.tobytes() for index in range(len(trained)) for frame in trained[index].media.frames}
    assert not any(frame.tobytes() in shown for index in range(len(kept)) for frame in kept[index].media.frames)


def test_where_nothing_is_kept_from_training(folder: Path) -> None:
    with pytest.raises(UserError, match=r"0.01 of no file in .* has 5 frames at 8 a second"):
        open_source(str(folder), SHAPE, 8.0, samples=9, seed=0, held_out=0.01)
    with pytest.raises(UserError, match="validation_share"):
        open_source(str(folder), SHAPE, 8.0, samples=9, seed=0, held_out=1.0)
    with pytest.raises(UserError, match="files of your own"):
        open_source(None, SHAPE, 8.0, samples=9, seed=0, held_out=0.5)


def test_the_same_seed_gives_the_same_scores(tokenizer: VideoTokenizer, folder: Path) -> None:
    source = open_source(str(folder), SHAPE, 8.0, samples=4, seed=0)
    first, again = (evaluate_tokenizer(tokenizer, source, samples=4, seed=1, batch=3) for _ in range(2))
    assert first.scores == again.scores
    assert first.speed.keys() == again.speed.keys() == {"encode_fps", "decode_fps"}
    assert all(rate > 0 for rate in first.speed.values())


@pytest.mark.parametrize(("length", "samples"), [(1, 1), (5, 5), (5, 9), (50, 20), (7, None)])
def test_a_draw_has_no_repetition(length: int, samples: int | None) -> None:
    drawn = choose(length, samples, seed=0)
    assert len(drawn) == min(length, samples or length) == len(set(drawn))
    assert drawn == sorted(drawn) and drawn[0] >= 0 and drawn[-1] < length


def test_every_window_may_be_drawn() -> None:
    assert {index for seed in range(60) for index in choose(11, 2, seed)} == set(range(11))


def test_lpips_rfvd_and_sharpness_are_those_of_what_comes_back(
    tokenizer: VideoTokenizer, random_vgg: None, random_i3d: None
) -> None:
    world = open_source(None, Format(13, 32, 32), 8.0, samples=5, seed=3)
    lpips, i3d = LPIPS.load(), I3D.load()
    scores = evaluate_tokenizer(tokenizer, world, batch=2, lpips=lpips, i3d=i3d).scores
    clips = torch.stack([world[index].media.to_tensor() for index in range(5)])
    decoded = tokenizer.decode(tokenizer.encode(clips)).clamp(-1, 1)
    assert scores["lpips"] == pytest.approx(float(lpips.distance(decoded, clips).mean()), rel=1e-4)
    assert scores["rfvd"] == pytest.approx(frechet_distance(i3d(clips), i3d(decoded)), rel=1e-3)
    assert scores["sharpness"] == pytest.approx(float(sharpness(decoded).mean() / sharpness(clips).mean()), rel=1e-4)


def test_clips_between_a_tokenizers_lengths_end_in_a_repeated_frame(tokenizer: VideoTokenizer) -> None:
    clips = torch.rand(2, 3, 6, 32, 32) * 2 - 1
    longer = fitted(tokenizer, clips)
    assert longer.shape[2] == 9 and torch.equal(longer[:, :, :6], clips)
    assert (longer[:, :, 6:] == clips[:, :, 5:]).all()
    assert torch.equal(fitted(tokenizer, longer), longer)
    world = open_source(None, Format(17, 32, 32), 8.0, samples=2, seed=3)
    blocks = parse(MagvitConfig, read_yaml(str(files("videolm.configs") / "tokenizer" / "magvit_tiny.yaml")))
    torch.manual_seed(0)
    other = Magvit(blocks).eval()  # of blocks of frames, where the first tokenizer's first frame stands alone
    reports = {name: evaluate_tokenizer(made, world) for name, made in (("one", tokenizer), ("two", other))}
    assert [len(report.psnr) for report in reports.values()] == [2, 2]
    sheet = comparison({"one": (reports["one"], tokenizer), "two": (reports["two"], other)}, world)
    assert sheet.height > comparison({"one": (reports["one"], tokenizer)}, world).height


def test_the_picture_shows_worst_median_and_best(tokenizer: VideoTokenizer, world: Source) -> None:
    report = evaluate_tokenizer(tokenizer, world)
    whole = comparison({"ours": (report, tokenizer)}, world)
    one = comparison({"ours": (evaluate_tokenizer(tokenizer, world, samples=1), tokenizer)}, world)
    assert whole.pixels.shape == one.pixels.shape  # three pairs, be it of one clip
    height = whole.height // 6  # a label above each row of frames
    order = np.argsort(report.psnr)
    for row, place in enumerate((order[0], order[3], order[-1])):
        frame = world[place].media.frames[0].repeat(4, axis=0).repeat(4, axis=1)
        strip = whole.pixels[2 * row * height : (2 * row + 1) * height]
        assert any(np.array_equal(strip[y : y + 128, 4:132], frame) for y in range(height - 127))


def test_the_reconstruction_row_of_a_model_is_its_tokenizers(tiny_model: Path) -> None:
    model = VideoLM.from_pretrained(tiny_model)
    row = evaluate_reconstruction(model, 5, seed=9)
    source = open_source(None, Format(17, 32, 32), 8.0, samples=5, seed=9)
    scores = evaluate_tokenizer(find_tokenizer(tiny_model), source, with_ssim=False).scores
    assert row == pytest.approx({"sharpness_ratio": scores.pop("sharpness"), **scores})


@pytest.mark.parametrize("shape", [Format(17, 24, 64), Format(1, 24, 24)])
def test_shapes_that_shapesworld_does_not_have(shape: Format) -> None:
    with pytest.raises(UserError, match=f"ShapesWorld has no clips of {shape}"):
        open_source(None, shape, 8.0, samples=2, seed=0)


def test_frames_smaller_than_the_window_are_refused(tokenizer: VideoTokenizer, folder: Path) -> None:
    source = open_source(str(folder), Format(5, 8, 16), 8.0, samples=2, seed=0)
    with pytest.raises(UserError, match="11x11 pixels or more, these have 16x8"):
        evaluate_tokenizer(tokenizer, source)
    assert "ssim" not in evaluate_tokenizer(tokenizer, source, with_ssim=False).scores


def test_a_tokenizer_is_found_in_a_model_and_on_its_own(
    tokenizer: VideoTokenizer, tiny_model: Path, tmp_path: Path
) -> None:
    clip = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    tokenizer.save_pretrained(tmp_path)
    assert torch.equal(find_tokenizer(tmp_path).encode(clip), tokenizer.encode(clip))
    inside = load_tokenizer(tiny_model).encode(clip)
    for name in (str(tiny_model), tiny_model / TOKENIZER):
        assert torch.equal(find_tokenizer(name).encode(clip), inside)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("other.txt", "", "holds neither a model .* nor a tokenizer"),
        (CONFIG_FILE, "{", "cannot read .*config.json"),
        (CONFIG_FILE, "[]", "names no video tokenizer; known: .*magvit_v2"),
        (CONFIG_FILE, '{"model_type": "t5"}', "names no video tokenizer"),
        (CONFIG_FILE, '{"name": "magvit_v3"}', "unknown video tokenizer 'magvit_v3'; did you mean 'magvit_v2'"),
        (CONFIG_FILE, '{"name": "magvit_v2", "multipliers": [1], "temporal_down": []}', "model.safetensors is missing"),
        (INDEX, "{}", "unknown video tokenizer"),
    ],
)
def test_folders_without_a_tokenizer(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said) as error:
        find_tokenizer(tmp_path)
    assert "\n" not in str(error.value)
