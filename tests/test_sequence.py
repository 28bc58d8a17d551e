"""Rows at paper size as readable text, and what a row must keep: every code, its place in the clip, its legal ids."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from videolm.errors import UserError
from videolm.model.config import PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout, lay_out
from videolm.shapes import Format, SoundGrid, TokenGrid, latent_frames
from videolm.tasks import TASKS, Task, Text, Visual
from videolm.tasks.task_set import TaskSet
from videolm.vocabulary import Vocabulary

PAPER = (Format(17, 128, 128), Format(17, 224, 128), Format(41, 128, 128))
SOUND = SoundGrid(16_000, 320, 4)

# VideoPoet, Figure 3 and Table 1; lengths from 3.1. Every task at 17x128x128, and rows of every kind at other sizes.
ROWS = {
    "unconditional_image 1x128x128": "<bos> <task:image> | <bov_o> visual×256 <eov_o> <eos>",
    "unconditional_video 17x128x128": "<bos> <task:video> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "text_to_image 1x128x128": "<bos> <task:image> <bot_i> text×64 <eot_i> | <bov_o> visual×256 <eov_o>",
    "text_to_image 1x224x128": "<bos> <task:image> <bot_i> text×64 <eot_i> <res:128x224> | <bov_o> visual×448 <eov_o>",
    "text_to_video 17x128x128": "<bos> <task:video> <bot_i> text×64 <eot_i> <frames:17> "
    "| <bov_o> visual×1280 <eov_o> <eos>",
    "text_to_video 17x224x128": "<bos> <task:video> <bot_i> text×64 <eot_i> <res:128x224> <frames:17> "
    "| <bov_o> visual×2240 <eov_o> <eos>",
    "text_to_video 41x128x128": "<bos> <task:video> <bot_i> text×64 <eot_i> <frames:41> "
    "| <bov_o> visual×2816 <eov_o> <eos>",
    "class_to_video 17x128x128": "<bos> <task:class> <bot_i> text×64 <eot_i> <frames:17> "
    "| <bov_o> visual×1280 <eov_o> <eos>",
    "image_to_video 17x128x128 prefix 1": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×256 <eov_i> "
    "<frames:17> | <bov_o> visual×1024 <eov_o> <eos>",
    "frame_prediction 17x128x128 prefix 5": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×512 <eov_i> "
    "<frames:17> | <bov_o> visual×768 <eov_o> <eos>",
    "frame_prediction 17x128x128 prefix 9": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×768 <eov_i> "
    "<frames:17> | <bov_o> visual×512 <eov_o> <eos>",
    "frame_prediction 17x224x128 prefix 9": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×1344 <eov_i> "
    "<res:128x224> <frames:17> | <bov_o> visual×896 <eov_o> <eos>",
    "frame_prediction 41x128x128 prefix 5": "<bos> <task:video> <bot_i> text×64 <eot_i> <bov_i> visual×512 <eov_i> "
    "<frames:41> | <bov_o> visual×2304 <eov_o> <eos>",
    "class_frame_prediction 17x128x128 prefix 5": "<bos> <task:class> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×512 <eov_i> <frames:17> | <bov_o> visual×768 <eov_o> <eos>",
    "frame_interpolation 17x128x128 prefix 1": "<bos> <task:video> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×256 <eov_i> <bov_i> visual×256 <eov_i> <frames:17> | <bov_o> visual×1024 <eov_o> <eos>",
    "story_continuation 17x128x128 prefix 5": "<bos> <task:story> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×512 <eov_i> <frames:17> | <bov_o> visual×768 <eov_o> <eos>",
    "inpainting_central 17x128x128": "<bos> <task:inpainting_central> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "inpainting_dynamic 17x128x128": "<bos> <task:inpainting_dynamic> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "outpainting_central 17x128x128": "<bos> <task:outpainting_central> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "outpainting_vertical 17x128x128": "<bos> <task:outpainting_vertical> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "outpainting_horizontal 17x128x128": "<bos> <task:outpainting_horizontal> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "outpainting_dynamic 17x128x128": "<bos> <task:outpainting_dynamic> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "stylization 17x128x128": "<bos> <task:stylization> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×1280 <eov_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "stylization 17x128x128 prefix 1": "<bos> <task:stylization> <bot_i> text×64 <eot_i> <bov_i> visual×1280 <eov_i> "
    "<bov_i> visual×256 <eov_i> <frames:17> | <bov_o> visual×1024 <eov_o> <eos>",
    "stylization 17x224x128 prefix 1": "<bos> <task:stylization> <bot_i> text×64 <eot_i> <bov_i> visual×2240 <eov_i> "
    "<bov_i> visual×448 <eov_i> <res:128x224> <frames:17> | <bov_o> visual×1792 <eov_o> <eos>",
    "audio_to_video 17x128x128": "<bos> <task:video> <bot_i> text×64 <eot_i> "
    "<boa_i> audio0×106 audio1×106 audio2×106 audio3×106 <eoa_i> <frames:17> | <bov_o> visual×1280 <eov_o> <eos>",
    "video_to_audio 17x128x128": "<bos> <task:audio> <bot_i> text×64 <eot_i> <bov_i> visual×1280 <eov_i> <frames:17> "
    "| <boa_o> audio0×106 audio1×106 audio2×106 audio3×106 <eoa_o> <eos>",
    "text_to_video_with_audio 17x128x128": "<bos> <task:video_with_audio> <bot_i> text×64 <eot_i> <frames:17> "
    "| <bov_o> visual×1280 <eov_o> <boa_o> audio0×106 audio1×106 audio2×106 audio3×106 <eoa_o> <eos>",
    "text_to_video_with_audio 41x128x128": "<bos> <task:video_with_audio> <bot_i> text×64 <eot_i> <frames:41> "
    "| <bov_o> visual×2816 <eov_o> <boa_o> audio0×256 audio1×256 audio2×256 audio3×256 <eoa_o> <eos>",
    "unconditional_video_with_audio 17x128x128": "<bos> <task:video_with_audio> <frames:17> "
    "| <bov_o> visual×1280 <eov_o> <boa_o> audio0×106 audio1×106 audio2×106 audio3×106 <eoa_o> <eos>",
    "audio_video_continuation 17x128x128 prefix 1": "<bos> <task:video_with_audio> <bot_i> text×64 <eot_i> "
    "<bov_i> visual×256 <eov_i> <boa_i> audio0×6 audio1×6 audio2×6 audio3×6 <eoa_i> <frames:17> "
    "| <bov_o> visual×1024 <eov_o> <boa_o> audio0×100 audio1×100 audio2×100 audio3×100 <eoa_o> <eos>",
}


def paper_grid(frames: int, height: int, width: int) -> TokenGrid:
    return TokenGrid(latent_frames(frames, 4), height // 8, width // 8)


def layouts(tasks: TaskSet) -> dict[str, Layout]:
    vocabulary = Vocabulary().with_specials(tasks.specials)
    return {str(v): lay_out(v, tasks, vocabulary, paper_grid, SOUND) for v in tasks.variants()}


LAYOUTS = layouts(TaskSet(tasks=tuple(TASKS.get(name) for name in TASKS), formats=PAPER))


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


def codes_of(layout: Layout, batch: int = 2) -> dict[str, Tensor]:
    """Random codes of every source, as the token shards hold them: of whole clips and sounds, of last frames alone."""
    generator = torch.Generator().manual_seed(0)
    shape, found = layout.variant.format, {}
    for span in layout.spans:
        if span.is_sound:
            size, most = (batch, SOUND.levels, SOUND.frames(shape.frames / 8)), 1024
        elif span.source:
            size, most = (batch, *paper_grid(*shape)), 2**18
            size = (batch, 1, *size[2:]) if span.source.endswith("last_frame") else size
        else:
            continue
        if span.source not in found:
            found[span.source] = torch.randint(most, size, generator=generator)
    return found


def given_alone(layout: Layout) -> dict[str, Tensor]:
    """Of the codes of every input, no more than goes in: what there is when generating."""
    codes, given = codes_of(layout), {}
    for span in layout.inputs:
        whole = codes[span.source]
        stop = span.first + (span.length if span.is_sound else span.grid.t)
        given[span.source] = whole[..., :stop] if span.is_sound else whole[:, :stop]
    return given


def test_rows_of_every_task_at_paper_size() -> None:
    assert {name: str(layout) for name, layout in LAYOUTS.items() if name in ROWS} == ROWS
    assert {name for name in LAYOUTS if name.split()[1] in ("17x128x128", "1x128x128")} <= ROWS.keys()


def test_spans_follow_one_another_and_cover_the_row(layout: Layout) -> None:
    stops = [0, *(span.stop for span in layout.spans)]
    assert [span.start for span in layout.spans] == stops[:-1]
    assert stops[-1] == layout.length == len(layout.template) == len(layout.positions)
    assert layout.prefix in stops and layout.outputs[0].name in ("<bov_o>", "<boa_o>")
    assert all(span.length == span.grid.tokens for span in layout.spans if span.kind == "visual")


def test_a_built_row_holds_legal_ids_alone(layout: Layout) -> None:
    rows = layout.build(codes_of(layout))
    assert rows.shape == (2, layout.length) and rows.dtype == torch.int64
    vocabulary = Vocabulary()
    for span in layout.spans:
        ids = rows[:, span.start : span.stop]
        assert span.ids.start <= ids.min() and ids.max() < span.ids.stop
        if span.kind == "text":
            assert (ids == vocabulary.id("<empty>")).all()
        if span.source:
            assert span.ids == (vocabulary.audio(span.level) if span.is_sound else vocabulary.visual)


def test_codes_come_back_out_of_a_row(layout: Layout) -> None:
    codes = codes_of(layout)
    found = layout.codes(layout.build(codes))
    assert list(found) == [part.source for part in layout.variant.task.outputs]
    assert all(torch.equal(found[source], codes[source]) for source in found)


def test_levels_of_sound_stand_one_after_another() -> None:
    layout = LAYOUTS["video_to_audio 17x128x128"]
    codes = codes_of(layout)
    begin = layout.prefix + 1  # after <boa_o>
    row = layout.build(codes)[:, begin : begin + 4 * 106].unflatten(1, (4, 106))
    starts = torch.tensor([Vocabulary().audio(level).start for level in range(4)])
    assert torch.equal(row - starts[:, None], codes["audio"])


def test_a_row_to_generate_from_begins_as_a_row_to_train_on(layout: Layout) -> None:
    """With causal tokenizers: what the prefix holds in training is what encoding what is given alone gives."""
    whole, start = layout.build(codes_of(layout)), layout.build(given_alone(layout))
    assert torch.equal(start[:, : layout.prefix].expand(2, -1), whole[:, : layout.prefix])
    for span in layout.outputs:
        assert (start[:, span.start : span.stop] == span.ids.start).all()


def test_what_is_masked_or_shown_before_is_of_the_same_length_in_every_row(layout: Layout) -> None:
    """Inputs stand in the order of the task's declaration, each between its begin and end."""
    kinds = {"text": "t", "visual": "v", "audio": "a"}
    names = [span.name for span in layout.spans if span.start < layout.prefix]
    begins = [name[3] for name in names if name.startswith("<bo") and name.endswith("_i>")]
    assert begins == [kinds[part.kind] for part in layout.variant.inputs]


def test_a_given_and_a_generated_frame_have_the_same_place(layout: Layout) -> None:
    """Visual coordinates are those of the clip (t, h, w), in every row; those of conditions lie before them."""
    made = layout.variant.task.visual
    grid = paper_grid(*layout.variant.format)
    cells = torch.cartesian_prod(*(torch.arange(size) for size in grid))
    source = made.source if made is not None else "video"
    spans = [span for span in layout.spans if span.source == source]
    places = torch.cat([layout.positions[span.start : span.stop] for span in spans])
    assert torch.equal(places, cells)
    for span in layout.inputs:
        if span.kind == "visual" and span.source != source:
            places = layout.positions[span.start : span.stop]
            assert (places[:, 0] < 0).all() and torch.equal(places[:, 1:], cells[: span.length, 1:])


def test_sound_stands_at_the_frame_that_is_shown_when_it_is_heard(layout: Layout) -> None:
    for level in range(4):
        spans = [span for span in layout.spans if span.is_sound and span.level == level]
        if not spans:
            continue
        places = torch.cat([layout.positions[span.start : span.stop] for span in spans])
        seconds = (torch.arange(len(places)) + 0.5) * 0.02
        shown = (seconds * 8).long().clamp_max(layout.variant.format.frames - 1)
        assert torch.equal(places[:, 0], torch.where(shown > 0, (shown + 3) // 4, 0))
        assert (places[:, 2] == 64 + level).all()


def test_no_two_positions_share_their_coordinates(layout: Layout) -> None:
    assert len(layout.positions.unique(dim=0)) == layout.length


def test_special_and_text_positions_count_up_alike_on_all_axes(layout: Layout) -> None:
    plain = torch.cat([layout.positions[s.start : s.stop] for s in layout.spans if not s.source])
    assert (plain == plain[:, :1]).all() and (plain[1:, 0] > plain[:-1, 0]).all()


def test_no_two_rows_read_the_same_before_the_model_writes() -> None:
    """What stands in the prefix tells task and format: rows of one prefix are one row."""
    for (one, first), (other, second) in combinations(LAYOUTS.items(), 2):
        assert str(first).split(" | ")[0] != str(second).split(" | ")[0], f"{one} and {other} begin alike"


def test_codes_of_another_grid_are_refused(layout: Layout) -> None:
    good = codes_of(layout)
    for source, codes in good.items():
        wrongs = [codes[..., :-1]] if source == "audio" else [codes[..., :-1], codes[:, :, :-1]]
        for wrong in wrongs:
            with pytest.raises(UserError, match="needs codes"):
                layout.build({**good, source: wrong})


def test_a_row_without_its_given_frames_is_refused() -> None:
    layout = LAYOUTS["frame_prediction 17x128x128 prefix 5"]
    with pytest.raises(UserError, match=r"frame_prediction 17x128x128 prefix 5 needs codes \(2, 16, 16\)"):
        layout.build({"video": codes_of(layout)["video"][:, :1]})
    with pytest.raises(UserError, match=r"needs the codes of what is given \(video\)"):
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
    sounding = TaskSet(tasks=(TASKS.get("video_to_audio"),), formats=PAPER[:1])
    with pytest.raises(UserError, match="video_to_audio has sound, and there is no audio tokenizer"):
        lay_out(sounding.variants()[0], sounding, Vocabulary().with_specials(sounding.specials), paper_grid)


def test_rows_of_every_task_at_paper_size_train(layout: Layout) -> None:
    """Forward and backward through a small model with the paper's vocabulary, one row of each."""
    if layout.variant.format[1:] != (128, 128) or layout.variant.format.frames > 17:
        pytest.skip("the other formats' rows differ in length alone")
    torch.manual_seed(0)
    architecture = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "rope_theta": 100.0}
    model = PrefixLM(PrefixLMConfig(architecture, text_size=16))
    segments = [(span.kind, span.start, span.stop) for span in layout.outputs]
    given = {} if layout.text is None else {"text": torch.randn(1, 64, 16), "text_start": layout.text.start}
    rows = layout.build({name: codes[:1] for name, codes in codes_of(layout).items()})
    out = model(rows, layout.positions, layout.prefix, segments, **given)
    assert out.loss is not None and out.loss.isfinite()
    out.loss.backward()
    for name, table in (("visual_a", layout.variant.task.visual), ("audio0", layout.variant.task.audio)):
        grad = (model.head.visual_a if name == "visual_a" else model.head.whole[name]).weight.grad
        assert (grad is not None and bool(grad.abs().sum() > 0)) == (table is not None)
    assert (model.text_proj.weight.grad is not None) == (layout.text is not None)
