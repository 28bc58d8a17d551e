"""The mixture: everything from (seed, step), one variant a batch, tasks and data sets by weight."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from videolm.data.mixture import VIDEOPOET, Mixture, Stage
from videolm.data.shards import Shard, TokenData
from videolm.pipeline.folder import load_tasks, load_tokenizer, load_vocabulary
from videolm.sequence import Layout, lay_out

WEIGHTS = {"text_to_video": 2.0, "frame_prediction": 1.0, "text_to_image": 1.0}
SETTINGS = {"steps": 400, "tokens": 1000, "text_dropout": 0.25, "seed": 3}


@pytest.fixture(scope="module")
def layouts(tiny_model: Path) -> list[Layout]:
    tasks, vocabulary = load_tasks(tiny_model), load_vocabulary(tiny_model)
    grid = load_tokenizer(tiny_model).grid
    return [lay_out(v, tasks, vocabulary, grid) for v in tasks.variants() if v.task.name in WEIGHTS]


@pytest.fixture(scope="module")
def data(tiny_model: Path) -> TokenData:
    tokens = tiny_model.parent / "tokens" / "data" / "train"
    return TokenData({stream: Shard(tokens / stream) for stream in ("video", "image")})


@pytest.fixture(scope="module")
def mixture(layouts: list[Layout], data: TokenData) -> Mixture:
    return Mixture(layouts, WEIGHTS, [data], **SETTINGS)


@pytest.fixture(scope="module")
def staged(layouts: list[Layout], data: TokenData) -> Mixture:
    return Mixture(layouts, WEIGHTS, [data], **SETTINGS, schedule=[Stage(steps=0.75, images=0.9)])


def shares(mixture: Mixture, step: int) -> dict[str, float]:
    """By task."""
    found: Counter[str] = Counter()
    for (layout, _), share in zip(mixture.choices, mixture.shares(step), strict=True):
        found[layout.variant.task.name] += float(share)
    return dict(found)


def test_a_step_is_made_again_from_its_number(mixture: Mixture) -> None:
    one, again, next_one = mixture.at(7), mixture.at(7), mixture.at(8)
    assert torch.equal(one.ids, again.ids)
    assert one.captions == again.captions
    assert one.ids.shape != next_one.ids.shape or not torch.equal(one.ids, next_one.ids)


def test_ranks_draw_one_variant_and_different_examples(mixture: Mixture) -> None:
    first, second = mixture.at(1, rank=0, world=2), mixture.at(1, rank=1, world=2)
    assert first.layout is second.layout
    assert not torch.equal(first.ids, second.ids)


def test_tasks_are_drawn_by_weight_shared_by_their_variants(mixture: Mixture) -> None:
    assert shares(mixture, 0) == pytest.approx({"text_to_video": 0.5, "frame_prediction": 0.25, "text_to_image": 0.25})
    drawn = Counter(mixture.at(step).layout.variant.task.name for step in range(400))
    assert drawn["text_to_video"] / 400 == pytest.approx(0.5, abs=0.07)


def test_data_sets_are_drawn_by_weight_where_they_serve_a_task(layouts: list[Layout], data: TokenData) -> None:
    large, small = data._replace(weight=3.0), data._replace(weight=1.0, tasks=("text_to_video", "text_to_image"))
    mixture = Mixture(layouts, WEIGHTS, [large, small], **SETTINGS)
    assert shares(mixture, 0)["text_to_video"] == pytest.approx(0.5)  # as with one
    of_small = {
        layout.variant.task.name: share
        for (layout, each), share in zip(mixture.choices, mixture.shares(0), strict=True)
        if each is small
    }
    assert of_small == pytest.approx({"text_to_video": 0.125, "text_to_image": 0.0625})


def test_a_first_stage_draws_mostly_pictures_and_then_ends(staged: Mixture, mixture: Mixture) -> None:
    first = [staged.at(step).layout.variant.task.makes_pictures for step in range(300)]
    assert sum(first) / 300 == pytest.approx(0.9, abs=0.05)
    for step in range(300, 320):
        assert torch.equal(staged.at(step).ids, mixture.at(step).ids)


def test_within_a_first_stage_the_weights_hold_among_clips(staged: Mixture) -> None:
    wanted = {"text_to_image": 0.9, "text_to_video": 0.1 * 2 / 3, "frame_prediction": 0.1 / 3}
    assert shares(staged, 0) == pytest.approx(wanted)


def test_videopoets_two_stages(layouts: list[Layout], data: TokenData) -> None:
    """VideoPoet 4.2: pictures 90% of the time in the first quarter of the steps, 10% in the rest."""
    mixture = Mixture(layouts, WEIGHTS, [data], **SETTINGS, schedule=VIDEOPOET)
    found = [round(shares(mixture, step)["text_to_image"], 6) for step in (0, 99, 100, 399)]
    assert found == [0.9, 0.9, 0.1, 0.1]
    pictures = [layout.variant.task.makes_pictures for layout, _ in mixture.choices]
    assert mixture.overall[pictures].sum() == pytest.approx(0.25 * 0.9 + 0.75 * 0.1)


def test_a_stage_may_have_weights_of_its_own(layouts: list[Layout], data: TokenData) -> None:
    stage = Stage(steps=0.5, tasks={"text_to_video": 0.0, "text_to_image": 3.0})
    mixture = Mixture(layouts, WEIGHTS, [data], **SETTINGS, schedule=[stage])
    assert shares(mixture, 199) == pytest.approx({"text_to_video": 0, "frame_prediction": 0.25, "text_to_image": 0.75})
    assert shares(mixture, 200) == shares(Mixture(layouts, WEIGHTS, [data], **SETTINGS), 0)


def test_a_stage_may_be_of_some_tasks_only(layouts: list[Layout], data: TokenData) -> None:
    stage = Stage(steps=0.5, tasks={"text_to_video": 3.0}, only=("text_to_video", "frame_prediction"))
    mixture = Mixture(layouts, WEIGHTS, [data], **SETTINGS, schedule=[stage])
    assert shares(mixture, 0) == pytest.approx({"text_to_video": 0.75, "frame_prediction": 0.25, "text_to_image": 0})
    assert shares(mixture, 200) == shares(Mixture(layouts, WEIGHTS, [data], **SETTINGS), 0)


def test_batches_hold_equal_tokens_so_images_come_in_more_rows(mixture: Mixture, layouts: list[Layout]) -> None:
    sizes = {layout.variant.task.name: mixture.batch_size(layout) for layout in layouts}
    assert sizes["text_to_image"] > sizes["text_to_video"] >= 1
    for layout in layouts:
        assert 1000 - layout.length < mixture.batch_size(layout) * layout.length <= 1000


def test_a_batch_has_the_least_rows_stated_and_no_padding(layouts: list[Layout], data: TokenData) -> None:
    mixture = Mixture(layouts, WEIGHTS, [data], **{**SETTINGS, "tokens": 10}, least=3)
    for step in range(10):
        rows = mixture.at(step)
        assert len(rows.ids) == 3 and rows.padding == 0.0


def test_text_is_dropped_for_the_share_asked_and_never_in_validation(mixture: Mixture, data: TokenData) -> None:
    layout = next(each for each, _ in mixture.choices if each.variant.task.name == "text_to_video")
    rows = mixture.draw(layout, data, np.random.default_rng(0), 400)
    assert sum(not row for row in rows.captions) / 400 == pytest.approx(0.25, abs=0.07)
    assert all(mixture.draw(layout, data, np.random.default_rng(0), 50, dropout=False).captions)


def test_conditions_are_dropped_for_the_share_asked(layouts: list[Layout], data: TokenData) -> None:
    """In their place stands `<empty>`; what comes out stays."""
    mixture = Mixture(layouts, WEIGHTS, [data], **SETTINGS, condition_dropout=0.3)
    layout = next(each for each in layouts if each.variant.task.name == "frame_prediction")
    rows, whole = (mixture.draw(layout, data, np.random.default_rng(0), 400, dropout=on) for on in (True, False))
    (given,) = layout.inputs
    dropped = (rows.ids[:, given.start : given.stop] == layout.empty).all(1)
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.07)
    assert torch.equal(rows.ids[~dropped], whole.ids[~dropped])
    assert torch.equal(rows.ids[:, layout.prefix :], whole.ids[:, layout.prefix :])


def test_rows_hold_legal_ids_at_every_position(mixture: Mixture, data: TokenData) -> None:
    for layout, _ in mixture.choices:
        rows = mixture.draw(layout, data, np.random.default_rng(1), 4)
        assert rows.ids.shape == (4, layout.length)
        for span in layout.spans:
            ids = rows.ids[:, span.start : span.stop]
            assert int(ids.min()) >= span.ids.start
            assert int(ids.max()) < span.ids.stop


def test_tasks_may_be_learnt_without_captions(layouts: list[Layout], data: TokenData) -> None:
    mixture = Mixture(layouts, WEIGHTS, [data], **SETTINGS, without_text=("frame_prediction",))
    told = dict.fromkeys(WEIGHTS, False)
    for layout, _ in mixture.choices:
        rows = mixture.draw(layout, data, np.random.default_rng(0), 20, dropout=False)
        told[layout.variant.task.name] |= any(rows.captions)
    assert told == {"text_to_video": True, "frame_prediction": False, "text_to_image": True}
