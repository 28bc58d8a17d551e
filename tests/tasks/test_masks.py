"""What each mask hides, drawn."""

import pytest
import torch

from videolm.tasks import masks
from videolm.tasks.masks import hide

PICTURES = {
    "inpainting_central": ["........", "..####..", "..####..", "........"],
    "outpainting_central": ["########", "##....##", "##....##", "########"],
    "outpainting_vertical": ["########", "........", "........", "########"],
    "outpainting_horizontal": ["##....##"] * 4,
    "inpainting_dynamic": ["####...."] * 4,
    "outpainting_dynamic": ["....####"] * 4,
}


def drawn(mask: torch.Tensor) -> list[str]:
    return ["".join("#" if hidden else "." for hidden in row) for row in mask]


@pytest.mark.parametrize("name", PICTURES)
def test_first_frame(name: str) -> None:
    mask = getattr(masks, name)(5, 4, 8, False)
    assert mask.shape == (5, 4, 8)
    assert mask.dtype == torch.bool
    assert drawn(mask[0]) == PICTURES[name]


@pytest.mark.parametrize("name", ["inpainting_dynamic", "outpainting_dynamic"])
def test_what_moves(name: str) -> None:
    mask, back = (getattr(masks, name)(5, 4, 8, backwards) for backwards in (False, True))
    assert [drawn(frame)[0] for frame in mask if name.startswith("in")] in (
        [],
        ["####....", ".####...", "..####..", "...####.", "....####"],
    )
    assert torch.equal(mask.flip(0), back)
    assert getattr(masks, name)(1, 4, 8, False).sum() == 16


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (30, 34)])
def test_half_of_each_side(name: str, size: tuple[int, int]) -> None:
    share = getattr(masks, name)(17, *size, False).float().mean()
    wanted = 0.75 if name == "outpainting_central" else 0.25 if name == "inpainting_central" else 0.5
    assert float(share) == pytest.approx(wanted, abs=0.04)


def test_hidden_pixels_are_grey() -> None:
    video = torch.ones(2, 3, 5, 4, 8)
    hidden = hide(video, masks.inpainting_central(5, 4, 8, False))
    assert hidden[0, 0, 0].tolist()[1] == [1, 1, 0, 0, 0, 0, 1, 1]
    assert (video == 1).all()
