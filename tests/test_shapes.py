"""Frames and latent frames. The figures are VideoPoet's: 17 frames are 5 latent ones, 41 are 11 (3.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolm.errors import UserError
from videolm.shapes import Format, TokenGrid, latent_frames, pixel_frames

strides = st.integers(1, 16)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (17, 5), (41, 11)])
def test_paper_lengths(frames: int, latents: int) -> None:
    assert latent_frames(frames, 4) == latents
    assert pixel_frames(latents, 4) == frames


@given(latents=st.integers(1, 1000), stride=strides)
def test_there_and_back(latents: int, stride: int) -> None:
    assert latent_frames(pixel_frames(latents, stride), stride) == latents


@given(frames=st.integers(-20, 300), stride=strides)
def test_every_length_fits_or_names_the_ones_beside_it(frames: int, stride: int) -> None:
    try:
        assert pixel_frames(latent_frames(frames, stride), stride) == frames
    except UserError as error:
        words = str(error).split()
        below, above = int(words[-3]), int(words[-1])
        assert latent_frames(below, stride) + 1 == latent_frames(above, stride)
        assert below < frames < above if frames > 0 else below == 1


@pytest.mark.parametrize(("frames", "said"), [(16, "use 13 or 17"), (18, "use 17 or 21"), (0, "use 1 or 5")])
def test_a_length_that_does_not_fit(frames: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        latent_frames(frames, 4)


def test_grids_and_formats_count_and_show() -> None:
    assert TokenGrid(5, 16, 16).tokens == 1280
    assert str(Format(17, 224, 128)) == "17x224x128"
