"""The text encoder: a sentencepiece model and a T5, made here or loaded as pretrained ones are."""

from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from videolm import shapesworld
from videolm.errors import UserError
from videolm.tokenizers.text.t5 import EOS, T5Settings, TextEncoder, make_pieces

CAPTIONS = [shapesworld.caption(shapesworld.draw_scene(0, index)) for index in range(200)]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    settings = T5Settings(d_model=32, num_layers=2, num_heads=2, d_ff=32)
    return TextEncoder.from_captions(settings, CAPTIONS).eval()


def test_captions_are_few_tokens_and_any_text_is_encodable(encoder: TextEncoder) -> None:
    rows = encoder.tokenize([CAPTIONS[0], "Ω 中文 \U0001f600", ""])
    assert len(rows[0]) <= 16
    assert rows[0][-1] == EOS
    assert encoder.pieces.decode(rows[1][:-1]) == "Ω 中文 \U0001f600"
    assert rows[2] == []


def test_a_prompt_has_the_same_embeddings_in_any_batch(encoder: TextEncoder) -> None:
    ids = encoder.tokenize(["a small red circle", "a large blue star moves left on a white background"])
    both, mask = encoder(ids)
    alone, _ = encoder(ids[:1])
    assert mask.sum(1).tolist() == [len(row) for row in ids]
    assert torch.allclose(both[0, : len(ids[0])], alone[0], atol=1e-5)


def test_prompts_without_tokens_are_finite_and_masked(encoder: TextEncoder) -> None:
    embeddings, mask = encoder([[], []])
    assert embeddings.shape == (2, 1, 32)
    assert not mask.any()
    assert embeddings.isfinite().all()


def test_words_matter_in_their_order(encoder: TextEncoder) -> None:
    (one, _), (other, _) = (encoder(encoder.tokenize([text])) for text in ("red star", "star red"))
    assert not torch.allclose(one.mean(1), other.mean(1), atol=1e-3)


def test_saved_and_loaded_is_the_same(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    loaded = TextEncoder.from_pretrained(tmp_path)
    ids = encoder.tokenize(CAPTIONS[:2])
    assert loaded.tokenize(CAPTIONS[:2]) == ids
    assert torch.equal(loaded(ids)[0], encoder(ids)[0])


def test_half_precision_halves_the_file(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path / "single")
    encoder.save_pretrained(tmp_path / "half", torch.float16)
    single, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("single", "half"))
    assert half < 0.6 * single


def test_a_t5_saved_by_transformers_is_loaded_as_pretrained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = T5Config(vocab_size=600, d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=16)
    T5EncoderModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot load the text encoder"):
        TextEncoder.from_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(make_pieces(CAPTIONS, 512))
    encoder = TextEncoder.from_pretrained(tmp_path)
    assert encoder.width == 16
    assert encoder(encoder.tokenize(["a star"]))[0].shape[2] == 16


def test_pickled_weights_are_refused(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds pickled weights"):
        TextEncoder.from_pretrained(tmp_path)
