"""The mixture: everything from (seed, step), one variant a batch, tasks by weight."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from videolm.data.mixture import Mixture
from videolm.data.shards import Shard
from videolm.pipeline.folder import load_tasks, load_tokenizer, load_vocabulary
from videolm.sequence import Layout, lay_out

WEIGHTS = {"text_to_video": 2.0, "frame_prediction": 1.0, "text_to_image": 1.0}


@pytest.fixture(scope="module")
def layouts(tiny_model: Path) -> list[Layout]:
    tasks, vocabulary = load_tasks(tiny_model), load_vocabulary(tiny_model)
    grid = load_tokenizer(tiny_model).grid
    return [lay_out(v, tasks, vocabulary, grid) for v in tasks.variants() if v.task.name in WEIGHTS]


@pytest.fixture(scope="module")
def mixture(layouts: list[Layout], tiny_model: Path) -> Mixture:
    tokens = tiny_model.parent / "tokens" / "train"
    shards = {stream: Shard(tokens / stream) for stream in ("video", "image")}
    return Mixture(layouts, WEIGHTS, shards, tokens=1000, text_dropout=0.25, seed=3)


@pytest.fixture(scope="module")
def staged(mixture: Mixture) -> Mixture:
    settings = {"tokens": 1000, "text_dropout": 0.25, "seed": 3}
    return Mixture(mixture.layouts, WEIGHTS, mixture.shards, **settings, first_steps=300, first_images=0.9)


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
    rng = np.random.default_rng(0)
    drawn = Counter(
        mixture.layouts[int(i)].variant.task.name for i in rng.choice(len(mixture.layouts), 4000, p=mixture.share)
    )
    assert drawn["text_to_video"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert drawn["frame_prediction"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_a_first_stage_draws_mostly_pictures_and_then_ends(staged: Mixture, mixture: Mixture) -> None:
    first = [staged.at(step).layout.variant.task.makes_pictures for step in range(300)]
    assert sum(first) / 300 == pytest.approx(0.9, abs=0.05)
    for step in range(300, 320):
        assert torch.equal(staged.at(step).ids, mixture.at(step).ids)


def test_within_a_first_stage_the_weights_hold_among_clips(staged: Mixture) -> None:
    share: Counter[str] = Counter()
    for layout, part in zip(staged.layouts, staged.first_share, strict=True):
        share[layout.variant.task.name] += float(part)
    assert share == pytest.approx({"text_to_image": 0.9, "text_to_video": 0.1 * 2 / 3, "frame_prediction": 0.1 / 3})


def test_batches_hold_equal_tokens_so_images_come_in_more_rows(mixture: Mixture) -> None:
    sizes = {layout.variant.task.name: mixture.batch_size(layout) for layout in mixture.layouts}
    assert sizes["text_to_image"] > sizes["text_to_video"] >= 1
    for layout in mixture.layouts:
        assert 1000 - layout.length < mixture.batch_size(layout) * layout.length <= 1000


def test_text_is_dropped_for_the_share_asked_and_never_in_validation(mixture: Mixture) -> None:
    layout = next(each for each in mixture.layouts if each.variant.task.name == "text_to_video")
    rows = mixture.draw(layout, np.random.default_rng(0), 400)
    assert sum(not row for row in rows.captions) / 400 == pytest.approx(0.25, abs=0.07)
    assert all(mixture.draw(layout, np.random.default_rng(0), 50, dropout=False).captions)


def test_rows_hold_legal_ids_at_every_position(mixture: Mixture) -> None:
    for layout in mixture.layouts:
        rows = mixture.draw(layout, np.random.default_rng(1), 4)
        assert rows.ids.shape == (4, layout.length)
        for span in layout.spans:
            ids = rows.ids[:, span.start : span.stop]
            assert int(ids.min()) >= span.ids.start
            assert int(ids.max()) < span.ids.stop
