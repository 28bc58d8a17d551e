"""Rows at paper size as readable text, and what a row must keep: every code, its place in the clip, its legal ids."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from videolm.errors import UserError
from videolm.sequence import Layout, lay_out
from videolm.shapes import Format, TokenGrid, latent_frames
from videolm.tasks import TASKS, Task, Text, Visual
from videolm.tasks.task_set import TaskSet
from videolm.vocabulary import Vocabulary

PAPER = (Format(17, 128, 128), Format(17, 224, 128), Format(41, 128, 128))

# VideoPoet, Figure 3 and Table 1; lengths from 3.1. Every task that ships, in every shape.
ROWS = {
    "unconditional_video 17x128x128": "<bos> <task:video> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "unconditional_video 17x224x128": "<bos> <task:video> <res:128x224> <frames:17> "
    "| <bov_o> visual×2240 <eov_o> <eos>",
    "unconditional_video 41x128x128": "<bos> <task:video> <frames:41> | <bov_o> visual×2816 <eov_o> <eos>",
    "text_to_image 1x128x128": "<bos> <task:image> <bot_i> text×64 <eot_i> | <bov_o> visual×256 <eov_o>",
    "text_to_image 1x224x128": "<bos> <task:image> <bot_i> text×64 <eot_i> <res:128x224> | <bov_o> visual×448 <eov_o>",
    "text_to_video 17x128x128": "<bos> <task:video> <bot_i> text×64 <eot_i> <frames:17> "
    "| <bov_o> visual×1280 <eov_o> <eos>",
    "text_to_video 17x224x128": "<bos> <task:video> <bot_i> text×64 <eot_i> <res:128x224> <frames:17> "
    "| <bov_o> visual×2240 <eov_o> <eos>",
    "text_to_video 41x128x128": "<bos> <task:video> <bot_i> text×64 <eot_i> <frames:41> "
    "| <bov_o> visual×2816 <eov_o> <eos>",
    "image_to_video 17x128x128 prefix 1": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×256 <eov_i> "
    "<frames:17> | <bov_o> visual×1024 <eov_o> <eos>",
    "image_to_video 17x224x128 prefix 1": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×448 <eov_i> "
    "<res:128x224> <frames:17> | <bov_o> visual×1792 <eov_o> <eos>",
    "image_to_video 41x128x128 prefix 1": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×256 <eov_i> "
    "<frames:41> | <bov_o> visual×2560 <eov_o> <eos>",
    "frame_prediction 17x128x128 prefix 5": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×512 <eov_i> "
    "<frames:17> | <bov_o> visual×768 <eov_o> <eos>",
    "frame_prediction 17x128x128 prefix 9": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×768 <eov_i> "
    "<frames:17> | <bov_o> visual×512 <eov_o> <eos>",
    "frame_prediction 17x224x128 prefix 5": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×896 <eov_i> "
    "<res:128x224> <frames:17> | <bov_o> visual×1344 <eov_o> <eos>",
    "frame_prediction 17x224x128 prefix 9": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×1344 <eov_i> "
    "<res:128x224> <frames:17> | <bov_o> visual×896 <eov_o> <eos>",
    "frame_prediction 41x128x128 prefix 5": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×512 <eov_i> "
    "<frames:41> | <bov_o> visual×2304 <eov_o> <eos>",
    "frame_prediction 41x128x128 prefix 9": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×768 <eov_i> "
    "<frames:41> | <bov_o> visual×2048 <eov_o> <eos>",
}


def paper_grid(frames: int, height: int, width: int) -> TokenGrid:
    return TokenGrid(latent_frames(frames, 4), height // 8, width // 8)


def layouts(tasks: TaskSet) -> dict[str, Layout]:
    vocabulary = Vocabulary().with_specials(tasks.specials)
    return {str(v): lay_out(v, tasks, vocabulary, paper_grid) for v in tasks.variants()}


LAYOUTS = layouts(TaskSet(tasks=tuple(TASKS.get(name) for name in TASKS), formats=PAPER))
VISUAL = Vocabulary().visual


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


def random_codes(layout: Layout, batch: int = 2) -> Tensor:
    grid = paper_grid(*layout.variant.format)
    return torch.randint(2**18, (batch, *grid), generator=torch.Generator().manual_seed(0))


def given_latents(layout: Layout) -> int:
    return latent_frames(layout.variant.prefix, 4) if layout.variant.prefix else 0


def test_rows_of_every_task_at_paper_size() -> None:
    assert {name: str(layout) for name, layout in LAYOUTS.items()} == ROWS


def test_spans_follow_one_another_and_cover_the_row(layout: Layout) -> None:
    stops = [0, *(span.stop for span in layout.spans)]
    assert [span.start for span in layout.spans] == stops[:-1]
    assert stops[-1] == layout.length == len(layout.template) == len(layout.positions)
    assert layout.prefix in stops and layout.outputs[0].name == "<bov_o>"
    assert all(span.length == span.grid.tokens for span in layout.spans if span.kind == "visual")


def test_a_built_row_holds_legal_ids_alone(layout: Layout) -> None:
    rows = layout.build({layout.variant.task.output.stream: random_codes(layout)})
    assert rows.shape == (2, layout.length) and rows.dtype == torch.int64
    for span in layout.spans:
        ids = rows[:, span.start : span.stop]
        assert span.ids.start <= ids.min() and ids.max() < span.ids.stop
        if span.kind == "text":
            assert (ids == Vocabulary().id("<empty>")).all()
        assert span.kind != "visual" or span.ids == VISUAL


def test_codes_come_back_out_of_a_row(layout: Layout) -> None:
    codes = random_codes(layout)
    assert torch.equal(layout.codes(layout.build({layout.variant.task.output.stream: codes})), codes)


def test_the_frames_given_are_the_clips_own_first_codes(layout: Layout) -> None:
    """With a causal tokenizer: what the prefix holds in training is what encoding those frames alone gives."""
    codes, given = random_codes(layout), given_latents(layout)
    whole = layout.build({layout.variant.task.output.stream: codes})
    start = layout.build({layout.variant.task.output.stream: codes[:, :given]}) if given else layout.build({})
    assert torch.equal(start[:, : layout.prefix].expand(2, -1), whole[:, : layout.prefix])
    for span in layout.inputs:
        flat = codes[:, :given].flatten(1) + VISUAL.start
        assert torch.equal(whole[:, span.start : span.stop], flat)
    assert len(layout.inputs) == bool(given)
    drawn = [span for span in layout.outputs if span.kind == "visual"]
    assert all((start[:, span.start : span.stop] == VISUAL.start).all() for span in drawn)


def test_a_given_and_a_generated_frame_have_the_same_place(layout: Layout) -> None:
    """Visual coordinates are those of the clip (t, h, w), in every row."""
    spans = [span for span in layout.spans if span.kind == "visual"]
    places = torch.cat([layout.positions[span.start : span.stop] for span in spans])
    grid = paper_grid(*layout.variant.format)
    assert torch.equal(places, torch.cartesian_prod(*(torch.arange(size) for size in grid)))


def test_no_two_positions_share_their_coordinates(layout: Layout) -> None:
    assert len(layout.positions.unique(dim=0)) == layout.length


def test_special_and_text_positions_count_up_alike_on_all_axes(layout: Layout) -> None:
    plain = torch.cat([layout.positions[s.start : s.stop] for s in layout.spans if s.kind != "visual"])
    assert (plain == plain[:, :1]).all() and (plain[1:, 0] > plain[:-1, 0]).all()


def test_no_two_rows_read_the_same_before_the_model_writes() -> None:
    """What stands in the prefix tells task and format: rows of one prefix are one row."""
    for (one, first), (other, second) in combinations(LAYOUTS.items(), 2):
        assert str(first).split(" | ")[0] != str(second).split(" | ")[0], f"{one} and {other} begin alike"


def test_codes_of_another_grid_are_refused(layout: Layout) -> None:
    stream, codes = layout.variant.task.output.stream, random_codes(layout)
    for wrong in (codes[..., :-1], codes.transpose(1, 3), codes[:, :, :-1]):
        with pytest.raises(UserError, match="needs codes"):
            layout.build({stream: wrong})
    if given_latents(layout) + 1 < codes.shape[1]:
        with pytest.raises(UserError, match="needs codes"):
            layout.build({stream: codes[:, :-1]})


def test_a_row_without_its_given_frames_is_refused() -> None:
    layout = LAYOUTS["frame_prediction 17x128x128 prefix 5"]
    with pytest.raises(UserError, match=r"frame_prediction 17x128x128 prefix 5 needs codes \(2, 16, 16\)"):
        layout.build({"video": random_codes(layout)[:, :1]})
    with pytest.raises(UserError, match=r"needs the codes of the frames given \(video\)"):
        layout.build({})


def test_a_task_of_ones_own_is_laid_out() -> None:
    task = Task(
        name="go_on",
        summary="Goes on, without a prompt.",
        prompt="go_on",
        inputs=(Visual(frames="prefix"),),
        outputs=(Visual(frames="rest"),),
        prefixes=(9,),
        eos=False,
    )
    made = layouts(TaskSet(tasks=(task,), formats=PAPER[:1], text_length=7))
    row = "<bos> <task:go_on> <bov_i> visual×768 <eov_i> <frames:17> | <bov_o> visual×512 <eov_o>"
    assert {name: str(layout) for name, layout in made.items()} == {"go_on 17x128x128 prefix 9": row}


def test_the_text_length_is_the_task_sets() -> None:
    tasks = TaskSet(tasks=(TASKS.get("text_to_image"),), formats=PAPER[:1], text_length=7)
    (layout,) = layouts(tasks).values()
    assert layout.text is not None and layout.text.length == 7 and "text×7" in str(layout)


def test_order_of_inputs_is_the_tasks() -> None:
    task = TASKS.get("image_to_video").model_copy(update={"inputs": (Visual(frames="prefix"), Text())})
    (layout,) = layouts(TaskSet(tasks=(task,), formats=PAPER[:1])).values()
    assert "visual×256 <eov_i> <bot_i> text×64 <eot_i> <frames:17>" in str(layout)


def test_what_does_not_fit_is_said() -> None:
    tasks = TaskSet(tasks=(TASKS.get("text_to_video"),), formats=(Format(18, 128, 128),))
    with pytest.raises(UserError, match="18 frames do not fit the tokenizer"):
        layouts(tasks)
    good = TaskSet(tasks=tasks.tasks, formats=PAPER[:1])
    with pytest.raises(UserError, match="unknown special token '<task:video>'"):
        lay_out(good.variants()[0], good, Vocabulary(), paper_grid)
