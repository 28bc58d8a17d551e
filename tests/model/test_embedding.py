"""Ids to vectors: every id has one, and text goes where it should."""

import pytest
import torch

from videolm.model.embedding import TokenEmbedding, place_text


@pytest.mark.parametrize("visual", [64, 50, 1000])
@pytest.mark.parametrize("audio", [0, 32])
def test_every_id_has_its_own_vector(visual: int, audio: int) -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(16, special=8, visual=visual, audio=audio)
    ids = torch.arange(8 + visual + audio)
    x = embedding(ids[None])
    assert x.shape == (1, len(ids), 16) and len(x[0].unique(dim=0)) == len(ids)
    assert torch.equal(x[0, :8], embedding.special.weight)
    b = embedding.codes.sizes[1]
    codes = torch.arange(visual)
    assert torch.equal(
        x[0, 8 : 8 + visual], embedding.visual_a.weight[codes // b] + embedding.visual_b.weight[codes % b]
    )
    if embedding.audio is not None:
        assert torch.equal(x[0, 8 + visual :], embedding.audio.weight)


def test_an_id_trains_its_own_rows_alone() -> None:
    embedding = TokenEmbedding(4, special=8, visual=64, audio=32)
    embedding(torch.tensor([[3, 8 + 2 * 8 + 5, 8 + 64 + 7]])).sum().backward()
    assert embedding.audio is not None
    tables = (embedding.special, embedding.visual_a, embedding.visual_b, embedding.audio)
    touched = [table.weight.grad.abs().sum(1).nonzero().flatten().tolist() for table in tables]  # type: ignore[union-attr]
    assert touched == [[3], [2], [5], [7]]


def test_text_lies_over_its_slots_and_empty_stays_where_there_is_none() -> None:
    x = torch.zeros(2, 6, 3)
    text = torch.arange(1.0, 13.0).view(2, 2, 3)
    mask = torch.tensor([[True, False], [True, True]])
    placed = place_text(x, text, mask, start=1)
    assert torch.equal(placed[0, 1], text[0, 0]) and torch.equal(placed[1, 1:3], text[1])
    assert placed[0, 2:].abs().sum() == placed[:, 0].abs().sum() == placed[1, 3:].abs().sum() == 0
    assert x.abs().sum() == 0
