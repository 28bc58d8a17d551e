import numpy as np
import pytest

from videolm.errors import UserError
from videolm.media.fit import check_fit, place


def columns(height: int, width: int) -> np.ndarray:
    """Each pixel holds its column and its row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 200)], axis=-1).astype(np.uint8)


def test_no_size_and_the_same_size_change_nothing():
    pixels = columns(20, 30)
    assert place(pixels, None, "crop") is pixels
    for fit in ("crop", "letterbox"):
        np.testing.assert_array_equal(place(pixels, (20, 30), fit), pixels)


def test_crop_cuts_both_sides_equally():
    wide = place(columns(20, 60), (20, 20), "crop")
    assert wide[0, :, 0].tolist() == list(range(20, 40)) and wide[:, 0, 1].tolist() == list(range(20))
    tall = place(columns(60, 20), (20, 20), "crop")
    assert tall[:, 0, 1].tolist() == list(range(20, 40))


def test_crop_fills_and_keeps_proportions():
    shrunk = place(columns(40, 120), (20, 20), "crop")
    np.testing.assert_allclose(shrunk[10, :, 0], 40 + 2 * np.arange(20) + 0.5, atol=1)
    np.testing.assert_allclose(shrunk[:, 10, 1], 2 * np.arange(20) + 0.5, atol=1)
    assert (shrunk[..., 2] == 200).all()


def test_letterbox_shows_all_between_black_bars():
    boxed = place(columns(20, 40), (40, 40), "letterbox")
    assert not boxed[:10].any() and not boxed[30:].any()
    np.testing.assert_array_equal(boxed[10:30], columns(20, 40))
    pillar = place(columns(40, 20), (40, 40), "letterbox")
    assert not pillar[:, :10].any() and not pillar[:, 30:].any() and (pillar[:, 10:30, 2] == 200).all()


def test_cover_fills_and_keeps_what_sticks_out():
    wide = place(columns(20, 60), (10, 10), "cover")
    assert wide.shape == (10, 30, 3)
    np.testing.assert_array_equal(wide[:, 10:20], place(columns(20, 60), (10, 10), "crop"))
    assert place(columns(60, 20), (20, 20), "cover", pixel_aspect=3).shape == (20, 20, 3)
    with pytest.raises(UserError, match="no more than 67,108,864 pixels"):
        place(np.zeros((1, 9000, 3), np.uint8), (100, 100), "cover")


def test_shrinking_averages_so_nothing_flickers():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(place(stripes, (8, 8), "crop")[:, 1:-1].astype(int)) <= 2


def test_pixels_that_are_not_square():
    pixels = columns(20, 20)
    assert place(pixels, None, "crop", pixel_aspect=2).shape == (20, 40, 3)
    cropped = place(pixels, (20, 20), "crop", pixel_aspect=2)  # the middle half, drawn twice as wide
    np.testing.assert_allclose(cropped[0, :, 0], 5 + np.arange(20) / 2 - 0.25, atol=1)
    boxed = place(pixels, (20, 20), "letterbox", pixel_aspect=2)
    assert not boxed[:5].any() and not boxed[15:].any() and (boxed[5:15, :, 2] == 200).all()


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 999), (999, 1), (7, 13)])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 64)])
def test_odd_shapes(shape, size, fit):
    assert place(np.full((*shape, 3), 90, np.uint8), size, fit).shape == (*size, 3)


@pytest.mark.parametrize(
    ("size", "fit", "said"),
    [
        ((64,), "crop", "height, width"),
        ((0, 64), "crop", "above 0"),
        ((64.0, 64), "crop", "whole"),
        ((9000, 9000), "crop", "67,108,864"),
        (None, "stretch", "letterbox"),
    ],
)
def test_wrong_sizes_and_fits(size, fit, said):
    with pytest.raises(UserError, match=said):
        check_fit(size, fit)
