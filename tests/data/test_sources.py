"""Sources: examples by index, captions found, validation kept apart."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from videolm import shapesworld
from videolm.config import parse
from videolm.data.layouts.folder import FolderData
from videolm.data.look import look
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.media import Audio, Image, Video, write_audio, write_image, write_video
from videolm.shapes import Format

SHAPE = Format(5, 32, 32)


@pytest.fixture
def folder(tmp_path: Path, numbered: Callable[[int], Video]) -> Path:
    write_video(numbered(20), tmp_path / "long.mp4")
    write_video(numbered(5), tmp_path / "short.mp4")
    write_video(numbered(3), tmp_path / "too_short.mp4")
    write_image(Image(np.full((32, 32, 3), 9, np.uint8)), tmp_path / "still.png")
    return tmp_path


def test_shapesworld_examples_are_the_worlds_own_and_splits_differ() -> None:
    data = ShapesWorldData(seed=5, clips=10)
    source = data.open("video", Format(17, 32, 32), 8.0, "train")
    scene = shapesworld.draw_scene(5, 3)
    assert np.array_equal(source[3].media.frames, shapesworld.render(scene, 17, (32, 32)))
    assert source[3].captions == shapesworld.captions(scene)
    held = data.open("video", Format(17, 32, 32), 8.0, "validation")
    assert not np.array_equal(held[3].media.frames, source[3].media.frames)


def test_frames_that_are_not_1_and_4k_are_the_first_of_a_clip_that_is() -> None:
    """16 frames, as 3D-VQ takes them, are those of the clip of 17."""
    cut, whole = (ShapesWorldData().open("video", Format(f, 32, 32), 8.0, "train")[2].media for f in (16, 17))
    assert np.array_equal(cut.frames, whole.frames[:16])


def test_one_file_is_a_source_too(folder: Path) -> None:
    source = FolderData(path=str(folder / "long.mp4"), validation_share=0, stride=1000).open(
        "video", SHAPE, 8.0, "train"
    )
    assert len(source) == 1 and int(source[0].media.frames[-1].mean() / 4 + 0.5) == 4


def test_pictures_are_one_frame_with_the_caption_less_its_motion() -> None:
    example = ShapesWorldData().open("image", Format(1, 32, 32), 8.0, "train")[0]
    assert example.media.frames.shape == (1, 32, 32, 3)
    assert example.captions == shapesworld.image_captions(shapesworld.draw_scene(1, 0))


def test_a_folder_gives_every_window_and_keeps_the_ends_for_validation(
    folder: Path, number: Callable[[np.ndarray], int]
) -> None:
    data = FolderData(path=str(folder), validation_share=0.25)
    train, held = (data.open("video", SHAPE, 8.0, split) for split in ("train", "validation"))
    # 20 frames: 15 to train on (11 windows of 5), 5 held (1 window); 5 frames: too short to split, 1 window
    assert (len(train), len(held)) == (12, 1)
    first = [number(train[index].media.frames[0]) for index in range(11)]
    assert first == list(range(11))
    assert number(held[0].media.frames[0]) == 15


def test_stride_spaces_the_windows(folder: Path) -> None:
    data = FolderData(path=str(folder), stride=5, validation_share=0)
    assert len(data.open("video", SHAPE, 8.0, "train")) == 4 + 1


def test_pictures_of_a_folder_come_from_stills_and_frames(folder: Path) -> None:
    source = FolderData(path=str(folder), validation_share=0).open("image", Format(1, 32, 32), 8.0, "train")
    assert len(source) == 20 + 5 + 3 + 1


def test_captions_are_found_in_tables_and_beside_the_clips(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "long.mp4", "caption": "one"}) + "\n")
    (folder / "metadata.csv").write_text("file_name,caption\nlong.mp4,two\n")
    (folder / "short.txt").write_text("three\n")
    source = FolderData(path=str(folder), validation_share=0, stride=20).open("video", SHAPE, 8.0, "train")
    assert [example.captions for example in source] == [("one", "two"), ("three",)]
    assert FolderData(path=str(folder / "short.mp4")).open("video", SHAPE, 8.0, "train")[0].captions == ("three",)


@pytest.mark.parametrize("line", ['{"file_name": "a.mp4"}', "not json", "[1]"])
def test_a_broken_caption_table_is_named(folder: Path, line: str) -> None:
    (folder / "metadata.jsonl").write_text(line)
    with pytest.raises(UserError, match=r"metadata\.jsonl: every line needs the texts 'file_name' and 'capt"):
        FolderData(path=str(folder)).open("video", SHAPE, 8.0, "train")


def test_a_folder_without_clips_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no clips in .*: wanted films \(mp4, mov, ...\), pictures"):
        FolderData(path=str(tmp_path)).open("video", SHAPE, 8.0, "train")
    with pytest.raises(UserError, match="does not exist; set it with --data.path"):
        FolderData(path=str(tmp_path / "missing")).open("video", SHAPE, 8.0, "train")


def test_the_first_view_is_the_window_and_each_further_one_is_always_the_same(tmp_path: Path) -> None:
    wide = np.broadcast_to(np.linspace(20, 230, 128)[None, None, :, None], (9, 64, 128, 3)).astype(np.uint8)
    write_video(Video(wide, 8.0), tmp_path / "ramp.mp4")
    (tmp_path / "ramp.txt").write_text("it grows light to the right")
    data = FolderData(path=str(tmp_path), validation_share=0, views=20)
    source, again = (data.open("video", SHAPE, 8.0, "train") for _ in range(2))
    plain = data.model_copy(update={"views": 1}).open("video", SHAPE, 8.0, "train")
    assert len(source) == 5 * 20
    assert abs(source[2].media.frames.astype(int) - plain[2].media.frames).max() < 8
    views = [source[2 + 5 * view] for view in range(20)]
    assert all(np.array_equal(view.media.frames, again[2 + 5 * i].media.frames) for i, view in enumerate(views))
    assert len({view.media.frames.tobytes() for view in views}) == 20
    assert [bool(view.captions) for view in views] == [True] + 19 * [False]
    lightest = max(view.media.frames.max() for view in views)
    assert lightest > plain[2].media.frames.max() + 20  # the sides that are cut from the window are seen too


def test_views_are_for_training_alone(tmp_path: Path, numbered: Callable[[int], Video]) -> None:
    write_video(numbered(20), tmp_path / "long.mp4")
    data = FolderData(path=str(tmp_path), validation_share=0.5, views=30)
    train, held = (data.open("video", SHAPE, 8.0, split) for split in ("train", "validation"))
    assert (len(train), len(held)) == (6 * 30, 6)


@pytest.mark.parametrize("size", [(32, 32), (16, 32), (24, 16)])
def test_a_look_is_a_part_in_any_of_sixteen_ways(size: tuple[int, int]) -> None:
    """Red grows to the right, green downwards, blue in time."""
    frames = np.empty((5, 60, 90, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.linspace(0, 240, 90)[None, None, :], np.linspace(0, 240, 60)[None, :, None]
    frames[..., 2] = np.linspace(0, 240, 5)[:, None, None]
    ways = set()
    for seed in range(200):
        seen = look(frames, size, np.random.default_rng(seed))
        assert seen.shape == (5, *size, 3) and seen.dtype == np.uint8
        corner, below, beside = (seen[0, y, x, :2].astype(int) for y, x in ((0, 0), (-1, 0), (0, -1)))
        slopes = below - corner, beside - corner
        down, right = (int(abs(slope).argmax()) for slope in slopes)
        assert {down, right} == {0, 1} and all(abs(slope).max() > 25 for slope in slopes)
        later = int(seen[-1, 0, 0, 2]) - int(seen[0, 0, 0, 2])
        ways.add((down, *(slope[axis] > 0 for slope, axis in zip(slopes, (down, right), strict=True)), later > 0))
    assert len(ways) == 16


def test_shapesworld_sounds_as_its_clips_look() -> None:
    config = ShapesWorldData(seed=3, clips=10)
    heard, seen = (config.open(stream, Format(17, 32, 32), 8.0, "train") for stream in ("audio", "video"))
    for index in range(3):
        scene = shapesworld.draw_scene(3, index)
        assert np.array_equal(heard[index].media.samples[0], shapesworld.sound(scene))
        assert heard[index].captions == seen[index].captions
    assert len(config.open("audio", Format(16, 32, 32), 8.0, "train")[0].media) == 32000
    with pytest.raises(UserError, match="sounds at 8 frames a second"):
        config.open("audio", Format(17, 32, 32), 12.0, "train")


@pytest.fixture
def sounding(tmp_path: Path) -> Path:
    """A film of three seconds whose brightness and loudness tell the second, one that is silent, and a picture."""
    frames = np.repeat(np.array([40, 120, 200], np.uint8), 8)[:, None, None, None]
    clip = Video(np.broadcast_to(frames, (24, 32, 32, 3)).copy(), 8.0)
    level = np.repeat([0.2, 0.4, 0.8], 16000) * np.sin(np.arange(48000) / 5)
    write_video(clip, tmp_path / "a.mp4", audio=Audio.from_array(level, 16000))
    write_video(clip, tmp_path / "silent.mp4")
    write_image(Image(clip.frames[0]), tmp_path / "picture.png")
    (tmp_path / "a.txt").write_text("it gets louder")
    return tmp_path


def test_windows_of_a_folder_sound(sounding: Path) -> None:
    config = FolderData(path=str(sounding), validation_share=0, stride=8)
    heard = config.open("audio", Format(5, 32, 32), 8.0, "train")
    assert [len(example.media) for example in (heard[0], heard[1], heard[2])] == [10000] * 3
    assert len(heard) == 3
    loud = [np.abs(heard[index].media.samples[0, 1000:9000]).max() for index in range(3)]
    assert np.allclose(loud, [0.2, 0.4, 0.8], atol=0.1)
    assert heard[0].captions == ("it gets louder",)
    plain = config.open("video", Format(5, 32, 32), 8.0, "train")
    assert len(plain) == 6  # the silent one too
    both = FolderData(path=str(sounding), validation_share=0, stride=8, sound=True)
    seen = both.open("video", Format(5, 32, 32), 8.0, "train")
    assert len(seen) == len(heard)
    assert np.allclose([seen[index].media.frames.mean() for index in range(3)], [40, 120, 200], atol=4)


def test_folder_of_sounds(tmp_path: Path) -> None:
    for index in range(2):
        write_audio(Audio.from_array(np.full(32000, 0.1 + 0.1 * index), 16000), tmp_path / f"{index}.flac")
    config = FolderData(path=str(tmp_path), stride=4, sample_rate=8000, validation_share=0)
    heard = config.open("audio", Format(9, 32, 32), 8.0, "train")
    assert len(heard) == 2 * 2
    assert len(heard[3].media) == 9000
    assert heard[3].media.samples.mean() == pytest.approx(0.2, abs=0.01)
    with pytest.raises(UserError, match="no training clips"):
        config.open("video", Format(9, 32, 32), 8.0, "train")


def test_the_streams_of_shapesworld_belong_together_by_index() -> None:
    data, shape = ShapesWorldData(seed=5, clips=10), Format(17, 32, 32)
    source = {name: data.open(name, shape, 8.0, "train") for name in ("video", "styled", "structure", "audio", "story")}
    scene = shapesworld.draw_scene(5, 3)
    assert source["video"].scene(3) == scene
    style = source["styled"].style(3)
    assert np.array_equal(source["styled"][3].media.frames, shapesworld.render_style(scene, style, 17, (32, 32)))
    assert source["styled"][3].captions[0] == shapesworld.in_style(shapesworld.caption(scene), style)
    assert np.array_equal(source["structure"][3].media.frames, shapesworld.render_structure(scene, 17, (32, 32)))
    assert np.array_equal(source["audio"][3].media.samples[0], shapesworld.sound(scene))
    labels = {source[name][3].label for name in ("video", "styled", "structure", "audio")}
    assert labels == {f"{scene.objects[0].shape} {scene.objects[0].motion}"}
    with pytest.raises(UserError, match="ShapesWorld has no 'smell'"):
        data.open("smell", shape, 8.0, "train")


def test_a_story_window_goes_on_with_a_scene_under_its_caption() -> None:
    """Its first five frames end a scene, or are later by as many frames of the next one as are told of."""
    source = ShapesWorldData(seed=5, clips=40).open("story", Format(17, 32, 32), 8.0, "train")
    late = []
    for index in range(40):
        window = source.window(index)
        assert window.story == shapesworld.draw_story(5, index) and window.scene > 0
        film = shapesworld.render_story(window.story, 17, (32, 32))
        begin = 16 * window.scene - 4 + window.late
        assert np.array_equal(film[begin : begin + 17], source[index].media.frames)
        assert source[index].captions == shapesworld.captions(window.story.scenes[window.scene])
        late.append(window.late)
    assert {0, 4, 12} < set(late) <= set(range(13))  # where a scene begins, and where a call goes on with it
    assert source.captions()[:3] == list(source[0].captions)


def test_distinct_scenes_differ_in_what_their_pictures_show() -> None:
    data = ShapesWorldData(seed=5, clips=64, validation_clips=8, distinct=True)
    source = data.open("image", Format(1, 32, 32), 8.0, "train")
    assert len({source[index].captions[0] for index in range(64)}) == 64
    video = data.open("video", Format(17, 32, 32), 8.0, "train")
    assert video.scene(63) == source.scene(63)
    with pytest.raises(UserError, match="distinct allows 300 clips at most"):
        parse(ShapesWorldData, {"clips": 301, "distinct": True})


def test_footage_is_its_own_target_and_its_folder_its_class(tmp_path: Path, numbered: Callable[[int], Video]) -> None:
    (tmp_path / "Archery").mkdir()
    write_video(numbered(9), tmp_path / "Archery" / "a.mp4")
    data = FolderData(path=str(tmp_path), validation_share=0)
    clip = data.open("video", SHAPE, 8.0, "train")[2]
    assert clip.label == "Archery"
    for stream in ("styled", "story"):
        assert np.array_equal(data.open(stream, SHAPE, 8.0, "train")[2].media.frames, clip.media.frames)
    with pytest.raises(UserError, match="needs a depth estimator: set data.depth_model"):
        data.open("structure", SHAPE, 8.0, "train")
    with pytest.raises(UserError, match="clips have no 'smell'"):
        data.open("smell", SHAPE, 8.0, "train")
