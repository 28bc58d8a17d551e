import numpy as np
import pytest

from videolm.errors import UserError
from videolm.media import Video, contact_sheet
from videolm.media.sheet import FONT_SIZE, GAP


def test_frames_are_evenly_spaced_and_enlarged_by_whole_factors(greys):
    sheet = contact_sheet([("a clip", Video(greys(33), 8))], frames=5, height=64).pixels
    top = GAP + FONT_SIZE + GAP
    assert sheet.shape == (top + 64 + 2 * GAP, GAP + 5 * (96 + GAP), 3)
    shown = [sheet[top, GAP + index * (96 + GAP), 0] for index in range(5)]
    assert shown == [10 + 4 * index for index in (0, 8, 16, 24, 32)]
    assert (sheet[top : top + 64, GAP : GAP + 96] == 10).all()  # 32 rows, twice each, and no smoothing
    assert (sheet[:top] < 128).any()  # the label


def test_rows_of_unlike_clips(greys):
    large = Video(np.full((3, 300, 400, 3), 50, np.uint8), 25)
    rows = [("small", Video(greys(9), 8)), ("one frame", Video(greys(1), 8)), ("large, reduced", large)]
    sheet = contact_sheet(rows, frames=4, height=100)
    assert sheet.width == 2 * GAP + 4 * 192 + 3 * GAP  # the small clip, at four times its size of 32 by 48
    assert sheet.height == GAP + 2 * 128 + 100 + 3 * (FONT_SIZE + 3 * GAP)


def test_long_labels_are_wrapped(greys):
    clip = Video(greys(3), 8)
    label = "a small red circle moves right on a white background " * 8
    once, wrapped = contact_sheet([("short", clip)]), contact_sheet([(label, clip)])
    assert wrapped.width == once.width and wrapped.height > once.height + 3 * FONT_SIZE
    assert (wrapped.pixels[:, -2:] == 255).all()
    assert contact_sheet([("", clip)]).height == once.height
    contact_sheet([("Ünïcode → 猫 " + "x" * 500, clip)])


@pytest.mark.parametrize("wrong", [{"rows": []}, {"frames": 0}, {"height": 0}])
def test_empty_sheets(greys, wrong):
    with pytest.raises(UserError, match="1 or more"):
        contact_sheet(**{"rows": [("a", Video(greys(2), 8))], **wrong})
