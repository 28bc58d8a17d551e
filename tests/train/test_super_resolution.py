"""Super-resolution's training: pairs by step, what is left out and noised, and a small model that really learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from videolm import VideoLM
from videolm.cli.main import main
from videolm.data.shards import Batch, TokenData
from videolm.errors import UserError
from videolm.generate.engine import Decoding, decode, rows_of
from videolm.generate.row import Plan, TextInput
from videolm.generate.sampling import Sampling, generators
from videolm.media import Video
from videolm.pipeline.folder import load_model
from videolm.sequence import lay_out
from videolm.shapes import TokenGrid
from videolm.superres.decode import MaskedSampling, fill, hidden_share
from videolm.superres.model import MaskedModel, MaskedModelConfig
from videolm.train.recipe import load_recipe
from videolm.train.run import Run
from videolm.train.super_resolution import MaskedTraining, Objective, Pairs, PairSource, Texts, around, hide, redrawn_by

CODES = 16


class Doubled:
    """A shard of clips whose code at each place is that of the small clip there, plus one below and right of others."""

    text_width = 4

    def __init__(self, half: bool):
        self.half, self.examples = half, np.arange(200)
        self.grid = (2, 2, 3) if half else (2, 4, 6)

    def read(self, examples: Any) -> Batch:
        small = torch.stack(
            [torch.randint(CODES, (2, 2, 3), generator=torch.Generator().manual_seed(int(n))) for n in examples]
        )
        large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
        large[:, :, 1::2, 1::2] += 1
        text = [[np.ones((2, 4), np.float16).tobytes(), b""] for _ in examples]
        return Batch(small if self.half else large % CODES, [], [], text)


def source(seed: int = 0, **changes: Any) -> PairSource:
    shards: Any = {"video": Doubled(False), "video.half": Doubled(True)}
    config = MaskedTraining(batch=16, **{"pictures": 0.0, **changes})
    return PairSource([TokenData(shards)], config, CODES, seed, None)


def test_a_batch_follows_from_seed_step_and_rank() -> None:
    def same(one: Pairs, other: Pairs) -> bool:
        return all(torch.equal(a, b) for a, b in zip((*one[:4], *one.texts), (*other[:4], *other.texts), strict=True))

    assert same(source().at(3), source().at(3))
    for other in (source().at(4), source().at(3, micro=1), source().at(3, rank=1), source(seed=1).at(3)):
        assert not same(source().at(3), other)


def test_what_is_left_out_and_noised_are_the_shares_asked_for() -> None:
    pairs = [source(text_dropout=0.2, low_dropout=0.4, noise=0.6).at(step) for step in range(60)]
    low, rate = (torch.cat([getattr(each, name) for each in pairs]) for name in ("low", "rate"))
    told = torch.cat([each.texts.mask for each in pairs]).any(1)
    shown = (low >= 0).flatten(1).all(1)
    assert torch.equal(shown, ~(low < 0).flatten(1).all(1))  # a small clip is there or not, never in part
    assert float(told.float().mean()) == pytest.approx(0.8, abs=0.04)
    assert float(shown.float().mean()) == pytest.approx(0.6, abs=0.05)
    assert float((told & shown).float().mean()) == pytest.approx(0.48, abs=0.06)  # independently
    assert float(rate.min()) >= 0 and float(rate.max()) <= 0.6 and float(rate.mean()) == pytest.approx(0.3, abs=0.03)
    true = torch.cat([each.codes for each in pairs])[:, :, ::2, ::2]
    changed = (low != true).float().flatten(1).mean(1)[shown]
    slope = np.polyfit(rate[shown].numpy(), changed.numpy(), 1)[0]
    assert slope == pytest.approx((CODES - 1) / CODES, abs=0.08)  # as many as the model is told


def test_pictures_are_first_frames() -> None:
    lengths = [source(pictures=0.3).at(step).codes.shape[1] for step in range(100)]
    assert 20 <= lengths.count(1) <= 40 and set(lengths) == {1, 2}


def test_parts_are_cut_where_something_is() -> None:
    codes = torch.zeros(6, 2, 8, 12, dtype=torch.long)
    low = torch.arange(24).view(1, 1, 4, 6).expand(6, 2, 4, 6)
    codes[:, 1, 5, 9] = 7
    codes[5] = 3  # plain
    parts, below = around(codes, low, (4, 6), torch.Generator().manual_seed(0))
    assert parts.shape == (6, 2, 4, 6) and below.shape == (6, 2, 2, 3)
    assert (parts[:5] == 7).flatten(1).any(1).all() and (parts[5] == 3).all()
    assert torch.equal(below[0, 0], low[0, 0, 1:3, 3:6])  # rows 2 to 6, columns 6 to 12


def test_batches_of_parts_have_as_many_codes() -> None:
    pairs = source(parts=1.0, part=(2, 2), pictures=0.0).at(0)
    assert pairs.codes.shape == (96, 2, 2, 2) and pairs.low.shape == (96, 2, 1, 1) and len(pairs.rate) == 96
    shapes = {tuple(source(parts=0.5, part=(2, 12)).at(step).codes.shape) for step in range(20)}
    assert shapes == {(16, 2, 4, 6), (32, 2, 2, 6)}


def test_hidden_codes_are_what_the_schedule_says() -> None:
    at = torch.linspace(0, 0.999, 50)
    hidden = hide(torch.zeros(50, 3, 4, 5, dtype=torch.long), at, torch.Generator().manual_seed(0))
    assert hidden.flatten(1).sum(1).tolist() == [int(np.ceil(60 * float(hidden_share(x)))) for x in at]
    places = hidden.float().mean(0)
    assert float(places.min()) > 0.3 and float(places.max()) < 0.95  # anywhere


def small_model() -> MaskedModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "windows": ((1, 4, 2), (2, 2, 6))}
    return MaskedModel(
        MaskedModelConfig(**sizes, codebook_size=CODES, text_size=4, grid=TokenGrid(2, 4, 6), rope_theta=100.0)
    )


def test_a_small_model_learns_how_small_clips_become_large() -> None:
    """Of which code a place has depends on the code below it and on where it lies within that."""
    model, pairs = small_model(), source(noise=0.2, shown=0.1)
    objective = Objective(model, shown=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for step in range(300):
        loss, _ = objective(pairs.at(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    codes, low, _ = pairs.read(0, np.arange(180, 190), np.random.default_rng(0))
    right, blind = [], []
    everywhere, greedy = torch.ones_like(codes[0], dtype=torch.bool), MaskedSampling(steps=6, temperature=0)
    for own, small in zip(codes, low, strict=True):
        for found, given in ((right, small), (blind, None)):
            generator = torch.Generator().manual_seed(0)
            made = fill(model, torch.zeros_like(own), everywhere, greedy, generator, low=given).codes
            found.append(float((made == own).float().mean()))
    assert np.mean(right) > 0.97 and np.mean(blind) < 0.2


@pytest.fixture(scope="module")
def parts(tiny_model: Path) -> Any:
    return load_model(tiny_model)


def test_real_codes_are_what_the_language_model_draws_there(parts: Any) -> None:
    """At temperature 0 the first is what it begins a clip with, and each later one is its guess after the true ones."""
    greedy = parts._replace(sampling=Sampling(temperature=0))
    variant = parts.tasks.find("text_to_video")
    layout = lay_out(variant, parts.tasks, parts.vocabulary, parts.tokenizer.grid)
    embeddings, mask = parts.text(parts.text.tokenize(["a small red circle moves right on a white background"]))
    text = TextInput(embeddings.detach(), mask, layout.text.start)
    rows = rows_of(Plan.of(layout), layout.build({}), greedy.sampling, generators(0, 1), text)
    codes = layout.codes(decode(parts.lm, rows, Decoding(engine="torch")))["video"]
    redraw, generator = redrawn_by(greedy), torch.Generator().manual_seed(0)
    again = redraw(codes, Texts(embeddings.detach(), mask), generator)
    assert (again == codes).float().mean() > 0.98  # but for rounding it goes the way that it went
    other = torch.randint(parts.tokenizer.codebook_size, codes.shape)
    changed = redraw(other, Texts(embeddings.detach(), mask), generator)
    assert changed.flatten()[0] == codes.flatten()[0] and not torch.equal(changed, codes)
    with pytest.raises(UserError, match="set real to 0"):
        redraw(other[:, :2], Texts(embeddings.detach(), mask), generator)


def test_a_stage_is_added_to_a_model(tiny_model: Path, upscaling_model: Path) -> None:
    before, after = load_model(tiny_model), load_model(upscaling_model)
    (stage,) = after.stages
    assert tuple(stage.model.config.grid) == (5, 8, 8) and stage.sampling.steps == 4
    for name in ("tokenizer", "text", "lm"):
        assert_same(getattr(before, name).state_dict(), getattr(after, name).state_dict())


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_second_stage_goes_on_from_the_first(upscaling_model: Path, tmp_path: Path) -> None:
    changes = {
        "start": str(upscaling_model),
        "out": str(tmp_path / "run"),
        "data.clips": "8",
        "data.validation_clips": "4",
    }
    steps = {"super_resolution_training.steps": "2", "super_resolution_training.stage": "2"}
    parts = load_model(Run(load_recipe("shapesworld/upscale_tiny", {**changes, **steps})).train())
    assert [tuple(stage.model.config.grid) for stage in parts.stages] == [(5, 8, 8), (5, 16, 16)]
    clip = Video(np.zeros((3, 32, 40, 3), np.uint8), 8.0)
    assert VideoLM(parts).upscale(clip, factor=4, num_inference_steps=1).frames.shape == (3, 128, 160, 3)
    third = {**changes, "out": str(tmp_path / "third"), "super_resolution_training.stage": "4"}
    with pytest.raises(UserError, match="goes on from one that the model lacks"):
        Run(load_recipe("shapesworld/upscale_tiny", third)).train()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(name: str) -> Any:
        changes = {"start": str(tiny_model), "out": str(tmp_path / name), "tokens": str(tmp_path / "tokens")}
        more = {"super_resolution_training.steps": "4", "super_resolution_training.real": "0.5"}
        always = {"super_resolution_training.checkpoint_minutes": "0"}
        return load_recipe("shapesworld/upscale_tiny", {**changes, **more, **always})

    whole = load_model(Run(recipe("whole")).train())
    at = PairSource.at

    def stops(self: PairSource, step: int, *more: int) -> Pairs:
        if step == 2:
            raise KeyboardInterrupt
        return at(self, step, *more)

    monkeypatch.setattr(PairSource, "at", stops)
    with pytest.raises(KeyboardInterrupt):
        Run(recipe("stopped")).train()
    monkeypatch.setattr(PairSource, "at", at)
    again = load_model(Run(recipe("stopped"), resume=True).train())
    assert_same(whole.stages[0].model.state_dict(), again.stages[0].model.state_dict())


def test_all_in_turn(tmp_path: Path) -> None:
    """Tokenizer on two sizes, language model, super-resolution, by one recipe."""
    changes = {"out": str(tmp_path / "run"), "tokenizer_formats": "[[17, 32, 32], [17, 64, 64]]"}
    stage = {"super_resolution": "tiny", "super_resolution_training.steps": "2", "lm_training.steps": "2"}
    model = Run(load_recipe("shapesworld/tiny", {**changes, **stage})).train()
    parts = load_model(model)
    assert len(parts.stages) == 1 and parts.stages[0].model.config.text_size == parts.text.width


def test_without_a_text_encoder_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "shapesworld/tokenizer_tiny", "--super_resolution", "tiny"]) == 2
    assert "needs a trained text encoder" in capsys.readouterr().err
