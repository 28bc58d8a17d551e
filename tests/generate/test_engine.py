"""The decode loop, against the same model run over the whole row again for every id."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from videolm.errors import UserError
from videolm.generate import native
from videolm.generate.engine import AS_IS, Decoder, Decoding, decode, rows_of
from videolm.generate.noise import gumbel
from videolm.generate.row import Output, Plan, Row, TextInput
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
    rows = rows.clone()
    seeds = [int(torch.randint(2**62, (), generator=generator)) for generator in seeded(len(rows))]
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
            every = np.stack([gumbel(seed, place, model.head.choices(span.kind)) for seed in seeds])
            noise = torch.from_numpy(every) if sampling.temperature else None
            for _ in range(model.head.factors(span.kind)):
                logits = [model.head.logits(state, span.kind, chosen) for state in states]
                mixed = logits[0] if len(logits) == 1 else guide(*logits, sampling.guidance_scale)
                part, noise = (None, None) if noise is None else noise.tensor_split([mixed.shape[1]], 1)
                chosen.append(draw(mixed.where(~mixed.isnan(), -torch.inf), sampling, part))
            rows[:, place] = model.head.join(chosen, span.kind)
    return rows


@pytest.fixture
def run(plan: Plan) -> Callable[..., Tensor]:
    def run(
        model: PrefixLM, rows: Tensor, sampling: Sampling, first_seed: int = 0, decoding: Decoding = AS_IS, **given: Any
    ) -> Tensor:
        return decode(model, rows_of(plan, rows, sampling, seeded(len(rows), first_seed), **given), decoding)

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


def test_a_step_draws_the_next_id_of_every_row(build: Build, plan: Plan, rows: Tensor) -> None:
    decoder = Decoder(build(), len(plan.positions), Decoding(window=1))
    each = rows_of(plan, rows, GREEDY, seeded(4))
    decoder.add(each)
    told = []
    while decoder.busy:
        decoder.step()
        told.append([row.drawn for row in each])
    assert told == [[done] * 4 for done in range(1, 9)]  # special tokens are written, not drawn


def test_a_prefix_is_computed_once(build: Build, plan: Plan, rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows that share it come in one after the other."""
    model, computed = build(), list[int]()
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda ids, *rest, **more: computed.append(len(ids)) or hidden(ids, *rest, **more)
    )
    each = [row for first in rows[:2] for row in rows_of(plan, first.expand(5, -1), GREEDY, seeded(5))]
    decoder = Decoder(model, len(plan.positions), Decoding(window=1, rows=1))
    decoder.add(each)
    while decoder.busy:
        decoder.step()
    assert computed.count(1) == 2 and not decoder._made


def test_audio_and_special_positions_are_drawn_over_their_own_ids() -> None:
    torch.manual_seed(0)
    lm = LMConfig(hidden_size=32, num_layers=1, num_heads=2)
    model = PrefixLM(PrefixLMConfig(lm, 32, 64, audio_levels=2, audio_size=16, text_size=8)).double().eval()
    outputs = (
        Output("special", 4, 5, range(8, 9)),
        Output("visual", 5, 9, range(32, 96)),
        Output("audio0", 9, 12, range(96, 112)),
        Output("audio1", 12, 15, range(112, 128)),
        Output("special", 15, 16, range(32)),
    )
    plan = Plan(torch.arange(16)[:, None].expand(16, 3), 4, outputs, (-1,) * 16)
    made = decode(model, rows_of(plan, torch.ones(200, 4, dtype=torch.long), HOT, seeded(200)))
    for out in outputs:
        seen = set(made[:, out.start : out.stop].unique().tolist())
        assert seen <= set(out.ids) and len(seen) > 0.8 * len(out.ids)


def test_sounds_have_a_temperature_of_their_own(wide: Callable[..., PrefixLM], given: dict[str, Any]) -> None:
    """Frames are drawn as without it, sounds as at that temperature: of the likeliest ids given the same frames."""
    model, frames, sounds = wide(), slice(12, 50), slice(52, 69)

    def run(seed: int = 0, **settings: float) -> Tensor:
        rows = rows_of(LONG, sampling=Sampling(**settings), generators=seeded(5, seed), **given)
        return decode(model, rows, Decoding())

    hot = run(temperature=1.5)
    cold = run(temperature=1.5, audio_temperature=0)
    assert torch.equal(cold[:, frames], hot[:, frames]) and not torch.equal(cold[:, sounds], hot[:, sounds])
    assert torch.equal(run(temperature=1.5, audio_temperature=1.5), hot)
    sure = run(temperature=0)
    assert torch.equal(run(temperature=0, audio_temperature=1.5)[:, frames], sure[:, frames])
    assert not torch.equal(run(temperature=0, audio_temperature=1.5), sure)


def test_what_a_decoder_cannot_hold_is_refused(build: Build, rows: Tensor, plan: Plan) -> None:
    half = plan._replace(outputs=(Output("visual", plan.prefix, len(plan.positions), range(32, 50)),))
    with pytest.raises(ValueError, match="may hold only part of the visual ids"):
        decode(build(), rows_of(half, rows, GREEDY, seeded(4)))
    short = Decoder(build(), 12)
    with pytest.raises(ValueError, match="a row has .* places, and this decoder is for 12"):
        short.add(rows_of(plan, rows, GREEDY, seeded(4)))


@pytest.mark.parametrize("window", [1, 2, 5, 16])
@pytest.mark.parametrize("at_a_time", [1, 3, 8])
def test_guessing_ahead_and_waiting_for_others_change_nothing(
    build: Build, run: Callable[..., Tensor], rows: Tensor, text: TextInput, window: int, at_a_time: int
) -> None:
    model, sampling = build(), Sampling(temperature=1.2, top_p=0.9, guidance_scale=2.5)
    plain = run(model, rows, sampling, text=text, decoding=Decoding(window=1))
    assert torch.equal(run(model, rows, sampling, text=text, decoding=Decoding(window=window, rows=at_a_time)), plain)


def test_a_right_guess_saves_its_step(build: Build, plan: Plan, rows: Tensor) -> None:
    """A model that says the same everywhere, as the clip given does, is guessed right."""
    model, still = build(), rows.clone()
    with torch.no_grad():
        model.head.visual_a.weight.zero_()
        model.head.visual_b.weight.zero_()
    first = next(place for place, parent in enumerate(plan.parents) if parent >= 0)
    still[:, first - 1 : plan.prefix] = torch.where(still >= 32, 32, still)[:, first - 1 : plan.prefix]

    def steps(model: PrefixLM, window: int) -> int:
        decoder = Decoder(model, len(plan.positions), Decoding(window=window))
        decoder.add(rows_of(plan, still[:1], GREEDY, seeded(1)))
        count = 0
        while decoder.busy:
            decoder.step()
            count += 1
        return count

    assert [steps(model, window) for window in (1, 3, 5, 16)] == [8, 3, 2, 2]  # the more, the more come true
    assert steps(build(), 1) == 8 and 1 < steps(build(), 16) <= 8


@pytest.mark.slow
def test_a_compiled_step_draws_the_same(
    build: Build, run: Callable[..., Tensor], rows: Tensor, text: TextInput
) -> None:
    model, sampling = build(), Sampling(temperature=1.2, top_p=0.9, guidance_scale=2.5)
    plain = run(model, rows, sampling, text=text, decoding=Decoding(engine="torch", window=3))
    compiled = Decoding(compiled=True, window=3, rows=2)
    assert torch.equal(run(model, rows, sampling, text=text, decoding=compiled), plain)
    with pytest.raises(UserError, match="compiled is for steps by torch"):
        run(model, rows, sampling, decoding=Decoding(compiled=True, precision="int8"))


# --- in C++


@pytest.fixture
def wide() -> Callable[..., PrefixLM]:
    """A model in float32 whose widths are whole vectors."""

    def wide(**architecture: object) -> PrefixLM:
        torch.manual_seed(0)
        lm = LMConfig(**({"hidden_size": 64, "num_layers": 2, "num_heads": 2, "rope_theta": 100.0} | architecture))
        model = PrefixLM(PrefixLMConfig(lm, 32, 50, audio_levels=1, audio_size=24, text_size=8)).eval()
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5)
        if native.misfit(model):
            pytest.skip(native.misfit(model))
        return model

    return wide


LONG = Plan(
    torch.stack([torch.arange(70) // 9, torch.arange(70) // 3 % 3, torch.arange(70) % 3], 1),
    11,
    (
        Output("special", 11, 12, range(4, 5)),
        Output("visual", 12, 50, range(32, 82)),
        Output("special", 50, 52, range(5, 6)),
        Output("audio0", 52, 69, range(82, 106)),
        Output("special", 69, 70, range(6, 7)),
    ),
    (-1,) * 21 + tuple(range(12, 61)),
)


@pytest.fixture
def given() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(32, 82, (5, 11), generator=generator)
    embeddings = torch.randn(5, 4, 8, generator=generator)
    return {"rows": rows, "text": TextInput(embeddings, torch.arange(4) < torch.tensor([[4], [3], [2], [1], [4]]), 2)}


@pytest.mark.parametrize(
    "architecture",
    [{}, {"positions": "1d"}, {"head": "flat"}, {"qk_norm": False}, {"num_heads": 1, "num_layers": 3}],
    ids=str,
)
@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        HOT,
        Sampling(temperature=1.5, top_k=7),
        Sampling(temperature=2, top_p=0.8, guidance_scale=2.5),
        Sampling(temperature=0, guidance_scale=3),
        Sampling(temperature=1.5, audio_temperature=0, guidance_scale=3),
    ],
    ids=["greedy", "hot", "top-k", "top-p, guided", "greedy, guided", "sure of sounds"],
)
def test_a_step_in_c_draws_what_torch_draws(
    wide: Callable[..., PrefixLM], given: dict[str, Any], architecture: dict[str, Any], sampling: Sampling
) -> None:
    model = wide(**architecture)

    def run(**decoding: Any) -> Tensor:
        return decode(model, rows_of(LONG, sampling=sampling, generators=seeded(5), **given), Decoding(**decoding))

    expected = run(engine="torch", window=1)
    for window in (1, 3, 16):
        assert torch.equal(run(engine="native", window=window), expected)
    assert len(expected[:, 12:50].unique()) > 8


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_in_c_a_row_is_the_same_to_the_last_bit_in_any_company(
    wide: Callable[..., PrefixLM], given: dict[str, Any], precision: native.Precision
) -> None:
    """Whatever the window, how many rows there are, when they come, and how those beside are drawn."""
    model, sampling = wide(), Sampling(temperature=1.5, top_p=0.9, guidance_scale=2.5)
    text: TextInput = given["text"]

    def rows(which: slice, sampling: Sampling = sampling) -> list[Row]:
        own = TextInput(text.embeddings[which], text.mask[which], text.start)
        return rows_of(LONG, given["rows"][which], sampling, seeded(5)[which], own)

    alone = []
    for index in range(5):
        decoder = Decoder(model, 70, Decoding(precision=precision, window=1))
        (row,) = rows(slice(index, index + 1))
        decoder.add([row])
        while decoder.busy:
            decoder.step()
        alone.append(row.ids)
    together = rows(slice(5))
    decoder = Decoder(model, 80, Decoding(precision=precision, window=7, rows=3))
    decoder.add(rows(slice(2), HOT))
    decoder.step()
    decoder.add(together)
    while decoder.busy:
        decoder.step()
    assert [row.ids for row in together] == alone


def test_fewer_bits_change_little(wide: Callable[..., PrefixLM], given: dict[str, Any]) -> None:
    model = wide()

    def run(precision: native.Precision) -> Tensor:
        rows = rows_of(LONG, sampling=GREEDY, generators=seeded(5), **given)
        return decode(model, rows, Decoding(precision=precision))

    exact = run("float32")
    for precision in ("bfloat16", "int8"):
        first = (run(precision) == exact)[:, 12:16].float().mean()  # the first ids, before one changes the others
        assert first > 0.7


def test_changed_weights_are_seen(wide: Callable[..., PrefixLM], given: dict[str, Any]) -> None:
    model, decoding = wide(), Decoding(precision="int8")

    def run() -> Tensor:
        return decode(model, rows_of(LONG, sampling=GREEDY, generators=seeded(5), **given), decoding)

    before = run()
    with torch.no_grad():
        model.head.visual_a.weight.neg_()
    assert not torch.equal(run(), before)


def test_without_a_compiler_torch_decodes(
    wide: Callable[..., PrefixLM],
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = wide()

    def run(**decoding: Any) -> Tensor:
        return decode(model, rows_of(LONG, sampling=HOT, generators=seeded(5), **given), Decoding(**decoding))

    expected = run()
    monkeypatch.setenv("VIDEOLM_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'error: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert torch.equal(run(), expected)
    assert "it cannot be built (error: no such thing)" in capsys.readouterr().err
    with pytest.raises(UserError, match="needs a compiler"):
        run(engine="native")
    with pytest.raises(UserError, match="needs a compiler"):
        run(precision="int8")


def test_what_c_does_not_compute_is_said(build: Build) -> None:
    assert "float32 or bfloat16, not float64" in native.misfit(build())
    if native.library() is not None:
        assert "a hidden_size that is a multiple of" in native.misfit(build(hidden_size=20, num_heads=2).float())
        assert "a head_dim that is a multiple of" in native.misfit(build(hidden_size=48, num_heads=4).float())


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
