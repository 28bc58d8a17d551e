"""The decode loop, against the same model run over the whole row again for every id."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.generate.engine import Output, TextInput, decode
from videolm.generate.sampling import Sampling, draw, guide
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.sequence import Layout

Build = Callable[..., PrefixLM]
GREEDY = Sampling(temperature=0)
HOT = Sampling(temperature=3.0)  # every id turns up
ARCHITECTURES = [
    {"head": "factorized", "positions": "axial"},
    {"head": "factorized", "positions": "1d"},
    {"head": "flat", "positions": "axial"},
]


def seeded(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + index) for index in range(count)]


def part(text: TextInput, rows: slice) -> TextInput:
    return TextInput(text.embeddings[rows], text.mask[rows], text.start)


@torch.inference_mode()
def without_cache(
    model: PrefixLM,
    layout: Layout,
    rows: Tensor,
    sampling: Sampling,
    prompts: list[TextInput | None],
    bare: Tensor | None = None,
) -> Tensor:
    """What `decode` must give. `prompts`: what to follow and, with guidance, what to lead away from, as `bare`."""
    rows, generators = rows.clone(), seeded(len(rows))
    begins = [rows[:, : layout.prefix], (rows if bare is None else bare)[:, : layout.prefix]]
    for span in layout.outputs:
        for place in range(span.start, span.stop):
            if len(span.ids) == 1:
                rows[:, place] = span.ids[0]
                continue
            states = [
                model.hidden(
                    torch.cat([begin, rows[:, layout.prefix : place]], 1),
                    layout.positions[:place],
                    layout.prefix,
                    *(prompt or ()),
                )[:, -1]
                for begin, prompt in zip(begins, prompts, strict=False)
            ]
            chosen: list[Tensor] = []
            for _ in range(model.head.factors(span.kind)):
                logits = [model.head.logits(state, span.kind, chosen) for state in states]
                mixed = logits[0] if len(logits) == 1 else guide(*logits, sampling.guidance_scale)
                chosen.append(draw(mixed.where(~mixed.isnan(), -torch.inf), sampling, generators))
            rows[:, place] = model.head.join(chosen, span.kind)
    return rows


@pytest.fixture
def run(layout: Layout, outputs: list[Output]) -> Callable[..., Tensor]:
    def run(model: PrefixLM, rows: Tensor, sampling: Sampling, first_seed: int = 0, **prompts: Any) -> Tensor:
        generators = seeded(len(rows), first_seed)
        return decode(model, rows, layout.positions, layout.prefix, outputs, sampling, generators, **prompts)

    return run


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a['head']} {a['positions']}")
@pytest.mark.parametrize("sampling", [GREEDY, HOT], ids=["greedy", "drawn"])
def test_decoding_is_running_the_model_over_the_whole_row(
    build: Build,
    run: Callable[..., Tensor],
    layout: Layout,
    rows: Tensor,
    text: TextInput,
    architecture: dict[str, str],
    sampling: Sampling,
) -> None:
    model = build(**architecture)
    assert torch.equal(run(model, rows, sampling), without_cache(model, layout, rows, sampling, [None]))
    prompted = run(model, rows, sampling, text=text)
    assert torch.equal(prompted, without_cache(model, layout, rows, sampling, [text]))
    guided = sampling.model_copy(update={"guidance_scale": 2.5})
    led = run(model, rows, guided, text=text)
    assert torch.equal(led, without_cache(model, layout, rows, guided, [text, None]))
    away = TextInput(text.embeddings[:, :2].flip(0), text.mask[:, :2].flip(0), text.start)
    led_away = run(model, rows, guided, text=text, negative=away)
    assert torch.equal(led_away, without_cache(model, layout, rows, guided, [text, away]))
    assert not torch.equal(prompted[:3], led[:3]) and not torch.equal(led, led_away)
    bare = layout.without_conditions(rows)
    from_all = run(model, rows, guided, text=text, bare=bare)
    assert torch.equal(from_all, without_cache(model, layout, rows, guided, [text, None], bare))
    assert not torch.equal(from_all, led)
    given_alone = run(model, rows, guided, bare=bare)
    assert torch.equal(given_alone, without_cache(model, layout, rows, guided, [None, None], bare))
    assert torch.equal(prompted[3:], led[3:])  # the row without a prompt has nothing to be led to


def test_every_position_gets_a_legal_id_and_the_prefix_stays(
    build: Build, run: Callable[..., Tensor], layout: Layout, rows: Tensor
) -> None:
    many = rows.repeat(16, 1)
    given = many.clone()
    made = run(build(), many, HOT)
    assert torch.equal(many, given), "the rows given were written to"
    assert torch.equal(made[:, : layout.prefix], given[:, : layout.prefix])
    for span in layout.outputs:
        ids = made[:, span.start : span.stop]
        assert ids.min() >= span.ids.start and ids.max() < span.ids.stop
    drawn = made[:, layout.outputs[1].start : layout.outputs[1].stop]
    assert len(drawn.unique()) > 0.8 * 50 and int(drawn.max()) == layout.outputs[1].ids[-1]


def test_what_stood_at_the_outputs_does_not_matter(
    build: Build, run: Callable[..., Tensor], layout: Layout, rows: Tensor
) -> None:
    scribbled = rows.clone()
    scribbled[:, layout.prefix :] = 7
    model = build()
    assert torch.equal(run(model, scribbled, HOT), run(model, rows, HOT))


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_clip_is_the_same_in_any_batch(
    build: Build, run: Callable[..., Tensor], rows: Tensor, text: TextInput, scale: float
) -> None:
    model, sampling = build(), Sampling(temperature=1.2, top_p=0.9, guidance_scale=scale)
    whole = run(model, rows, sampling, text=text)
    for split in ([2, 2], [1, 3], [1, 1, 1, 1]):
        starts = [sum(split[:index]) for index in range(len(split))]
        pieces = [slice(start, start + size) for start, size in zip(starts, split, strict=True)]
        made = [run(model, rows[s], sampling, first_seed=s.start, text=part(text, s)) for s in pieces]
        assert torch.equal(torch.cat(made), whole)


def test_guidance_of_one_is_no_guidance(
    build: Build, run: Callable[..., Tensor], rows: Tensor, text: TextInput
) -> None:
    model = build()
    plain = run(model, rows, Sampling(), text=text)
    assert torch.equal(run(model, rows, Sampling(guidance_scale=1.0), text=text, negative=text), plain)
    assert torch.equal(run(model, rows, Sampling(guidance_scale=7.0), text=text, negative=text), plain)
    unprompted = run(model, rows, Sampling())
    assert torch.equal(run(model, rows, Sampling(guidance_scale=0.0), text=text), unprompted)
    assert torch.equal(run(model, rows, Sampling(guidance_scale=7.0)), unprompted)  # nothing to be led to


def test_progress_is_told_after_every_id(build: Build, layout: Layout, outputs: list[Output], rows: Tensor) -> None:
    told: list[tuple[int, int]] = []
    decode(
        build(), rows, layout.positions, layout.prefix, outputs, GREEDY, seeded(4),
        on_step=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    assert told == [(done, 8) for done in range(1, 9)]  # special tokens are written, not drawn


def test_audio_and_special_positions_are_drawn_over_their_own_ids() -> None:
    torch.manual_seed(0)
    lm = LMConfig(hidden_size=32, num_layers=1, num_heads=2)
    model = PrefixLM(PrefixLMConfig(lm, 32, 64, audio_levels=2, audio_size=16, text_size=8)).double().eval()
    outputs = [
        Output("special", 4, 5, range(8, 9)),
        Output("visual", 5, 9, range(32, 96)),
        Output("audio0", 9, 12, range(96, 112)),
        Output("audio1", 12, 15, range(112, 128)),
        Output("special", 15, 16, range(32)),
    ]
    positions = torch.arange(16)[:, None].expand(16, 3)
    made = decode(model, torch.ones(200, 16, dtype=torch.long), positions, 4, outputs, HOT, seeded(200))
    for out in outputs:
        seen = set(made[:, out.start : out.stop].unique().tolist())
        assert seen <= set(out.ids) and len(seen) > 0.8 * len(out.ids)


def test_a_span_that_allows_part_of_a_kind_is_refused(build: Build, rows: Tensor, layout: Layout) -> None:
    half = [Output("visual", layout.prefix, layout.length, range(32, 50))]
    with pytest.raises(ValueError, match="may hold only part of the visual ids"):
        decode(build(), rows, layout.positions, layout.prefix, half, GREEDY, seeded(4))


@pytest.mark.parametrize("head", ["factorized", "flat"])
def test_a_model_that_has_learnt_four_clips_writes_them_down(
    run: Callable[..., Tensor], layout: Layout, text: TextInput, head: str
) -> None:
    """Training and decoding together: rows that differ in their prompt alone are told apart, and come back whole."""
    torch.manual_seed(0)
    lm = LMConfig(hidden_size=32, num_layers=2, num_heads=2, rope_theta=100.0, head=head)
    model = PrefixLM(PrefixLMConfig(lm, 32, 50, audio_levels=0, text_size=8))
    codes = torch.randint(50, (4, 3, 2, 2))
    codes[:, 0] = codes[0, 0]  # one first frame for all
    rows = layout.build({"video": codes})
    segments = [(span.kind, span.start, span.stop) for span in layout.outputs]
    step = torch.optim.AdamW(model.parameters(), lr=1e-2)
    words = text.embeddings.float()
    for _ in range(120):
        step.zero_grad()
        loss = model(rows, layout.positions, layout.prefix, segments, words, text.mask, text.start).loss
        loss.backward()
        step.step()
    assert float(loss.detach()) < 0.05
    made = run(model.eval(), layout.build({"video": codes[:, :1]}), GREEDY, text=text._replace(embeddings=words))
    assert torch.equal(made, rows) and torch.equal(layout.codes(made)["video"], codes)
