import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from videolm.errors import UserError
from videolm.media import Image, Video

LEVELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint8), "(4, 4, 3)"),
        (np.zeros((2, 4, 4, 1), np.uint8), "(2, 4, 4, 1)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "(0, 4, 4, 3)"),
        (np.zeros((2, 4, 0, 3), np.uint8), "(2, 4, 0, 3)"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_frames_are_checked(frames, said):
    with pytest.raises(UserError) as error:
        Video(frames, 8)
    assert said in str(error.value)


@pytest.mark.parametrize("fps", [0, -8, math.nan, math.inf, None, "fast"])
def test_fps_is_checked(fps):
    with pytest.raises(UserError, match="fps"):
        Video(LEVELS, fps)


def test_fps_may_be_any_number_type():
    assert [Video(LEVELS, fps).fps for fps in (8, np.float32(12.5), Fraction(30000, 1001))] == [8.0, 12.5, 30000 / 1001]


def test_what_a_clip_says_of_itself():
    clip = Video(np.zeros((12, 30, 40, 3), np.uint8), 8)
    assert (len(clip), clip.height, clip.width, clip.duration) == (12, 30, 40, 1.5)
    picture = Image(np.zeros((30, 40, 3), np.uint8))
    assert (picture.height, picture.width) == (30, 40)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_of_a_said_range(low, high, dtype):
    floats = LEVELS.astype(dtype) / 255 * (high - low) + low
    value_range = None if (low, high) == (0, 1) else (low, high)
    np.testing.assert_array_equal(Video.from_array(floats, 8, value_range).frames, LEVELS)
    np.testing.assert_array_equal(Image.from_array(floats[0], value_range).pixels, LEVELS[0])


def test_rounding_is_forgiven():
    floats = np.array([-0.0009, 1.0009, 0.5], np.float32).reshape(1, 1, 1, 3)
    assert Video.from_array(floats, 8).frames.ravel().tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("array", "value_range", "said"),
    [
        (LEVELS.astype(np.float32), None, "value_range"),
        (LEVELS / 127.5 - 1, None, "value_range"),
        (LEVELS / 100.0, (-1, 1), "value_range"),
        (np.full((1, 2, 2, 3), np.nan), None, "NaN"),
        (np.full((1, 2, 2, 3), np.inf), None, "infinite"),
        (LEVELS.astype(np.int64), None, "int64"),
        (LEVELS, (-1, 1), "uint8"),
        (LEVELS / 255, (1, 0), "lower first"),
    ],
)
def test_values_outside_the_range_are_an_error(array, value_range, said):
    with pytest.raises(UserError, match=said):
        Video.from_array(array, 8, value_range)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensor_round_trip(dtype):
    clip = Video(np.concatenate([LEVELS, LEVELS[:, ::-1], LEVELS[..., ::-1]]), 8)
    tensor = clip.to_tensor()
    assert tensor.shape == (3, 3, 16, 16) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert (tensor.min(), tensor.max()) == (-1, 1)
    np.testing.assert_array_equal(Video.from_tensor(tensor.to(dtype), 8).frames, clip.frames)


def test_an_image_is_a_clip_of_one_frame():
    picture = Image(LEVELS[0])
    tensor = picture.to_tensor()
    assert tensor.shape == (3, 1, 16, 16)
    np.testing.assert_array_equal(Image.from_tensor(tensor).pixels, picture.pixels)
    np.testing.assert_array_equal(Video.from_tensor(tensor, 8).frames[0], picture.pixels)
    with pytest.raises(UserError, match="2 frames"):
        Image.from_tensor(torch.zeros(3, 2, 8, 8))


def test_what_a_model_overshoots_is_clamped():
    tensor = torch.tensor([-1.2, 1.2, 0.0], dtype=torch.bfloat16).reshape(3, 1, 1, 1).requires_grad_()
    assert Video.from_tensor(tensor, 8).frames.ravel().tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.full((3, 1, 2, 2), math.nan), "NaN"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 4, 8, 8), "(1, 3, 4, 8, 8)"),
        (torch.zeros(4, 3, 8, 8), "(4, 3, 8, 8)"),
    ],
)
def test_tensors_are_checked(tensor, said):
    with pytest.raises(UserError) as error:
        Video.from_tensor(tensor, 8)
    assert said in str(error.value)
