"""The language model as a whole: who sees whom, what the loss counts, caching, saving."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from videolm.model.attention import Cache, Window
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM

Build = Callable[..., PrefixLM]
PREFIX = 6
SEGMENTS = [("visual", 6, 12), ("audio0", 12, 13), ("audio1", 13, 14)]
MODES = ["1d", "axial"]


def text_for(rows: int) -> tuple[Tensor, Tensor]:
    """Embeddings for positions 2 and 3; the second row has one token."""
    embeddings = torch.randn(rows, 2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return embeddings, torch.tensor([[True, True], [True, False]])[:rows]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", range(PREFIX, 14))
def test_an_output_is_not_seen_by_what_comes_before_it(
    build: Build, ids: Tensor, positions: Tensor, mode: str, place: int
) -> None:
    model = build(positions=mode)
    changed = ids.clone()
    changed[0, place] = 32 + (ids[0, place] - 32 + 1) % 64
    before, after = (model.hidden(x, positions, PREFIX) for x in (ids, changed))
    differs = (before - after).abs().amax(-1) > 1e-9
    assert not differs[0, :place].any() and differs[0, place:].all()
    assert not differs[1].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", range(PREFIX))
def test_the_prefix_is_seen_from_everywhere(
    build: Build, ids: Tensor, positions: Tensor, mode: str, place: int
) -> None:
    model = build(positions=mode)
    changed = ids.clone()
    changed[0, place] = (ids[0, place] + 1) % 32
    differs = (model.hidden(ids, positions, PREFIX) - model.hidden(changed, positions, PREFIX)).abs().amax(-1) > 1e-9
    assert differs[0].all() and not differs[1].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", [PREFIX, PREFIX + 1, 10])
@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_what_is_kept_gives_the_hidden_states_of_the_whole_row(
    build: Build, ids: Tensor, positions: Tensor, mode: str, first: int, count: int
) -> None:
    """The first call may go past the prefix; then some positions at a time."""
    model = build(positions=mode)
    text, mask = text_for(2)
    whole = model.hidden(ids, positions, PREFIX, text, mask, 2)
    cache = Cache()
    parts = [model.hidden(ids[:, :first], positions[:first], PREFIX, text, mask, 2, cache)]
    store = torch.stack([torch.stack(cache.keys), torch.stack(cache.values)], 1)
    store = torch.nn.functional.pad(store, (0, 0, 0, 14 - first))
    for at in range(first, 14, count):
        places = torch.arange(at, min(at + count, 14))
        where = positions[places].expand(2, -1, -1)
        parts.append(model.hidden(ids[:, places], where, PREFIX, cache=Window(store, places.expand(2, -1))))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_text_without_a_mask_is_text_everywhere(build: Build, ids: Tensor, positions: Tensor) -> None:
    model, (text, mask) = build(), text_for(2)
    without = model.hidden(ids, positions, PREFIX, text, None, 2)
    assert torch.equal(without, model.hidden(ids, positions, PREFIX, text, torch.ones_like(mask), 2))
    assert not torch.equal(without, model.hidden(ids, positions, PREFIX))


def test_axial_positions_are_read_and_1d_ones_are_not(build: Build, ids: Tensor, positions: Tensor) -> None:
    moved = positions.clone()
    moved[7] += torch.tensor([0, 5, 0])
    for mode, same in (("1d", True), ("axial", False)):
        model = build(positions=mode)
        assert torch.equal(model.hidden(ids, positions, PREFIX), model.hidden(ids, moved, PREFIX)) == same


@pytest.mark.parametrize("head", ["factorized", "flat"])
def test_the_loss_is_the_mean_over_the_outputs_and_nothing_else(
    build: Build, ids: Tensor, positions: Tensor, head: str
) -> None:
    """Each output is predicted from the position before it; the prefix is predicted from nowhere."""
    model = build(head=head)
    hidden = model.hidden(ids, positions, PREFIX)
    each = {
        (kind, place): model.head.score(hidden[:, place - 1, None], ids[:, place, None], {kind: 1})
        for kind, start, stop in SEGMENTS
        for place in range(start, stop)
    }
    out = model(ids, positions, PREFIX, SEGMENTS)
    torch.testing.assert_close(out.loss, torch.stack([scores.loss for scores in each.values()]).mean())
    for kind, start, stop in SEGMENTS:
        own = [each[kind, place] for place in range(start, stop)]
        torch.testing.assert_close(out.by_kind[kind], torch.stack([scores.each for scores in own]).mean())
        torch.testing.assert_close(out.accuracy[kind], torch.stack([scores.right for scores in own]).float().mean())
    torch.testing.assert_close(out.hidden, hidden)


def test_accuracy_is_the_share_of_ids_that_greedy_decoding_draws(build: Build, ids: Tensor, positions: Tensor) -> None:
    model = build()
    for kind, start, stop in SEGMENTS:
        for place in range(start, stop):
            hidden = model.hidden(ids, positions, PREFIX)[:, place - 1]
            chosen: list[Tensor] = []
            for _ in range(model.head.factors(kind)):
                chosen.append(model.head.logits(hidden, kind, chosen).argmax(-1))
            ids[:, place] = model.head.join(chosen, kind)
    accuracy = model(ids, positions, PREFIX, SEGMENTS).accuracy
    assert {kind: float(share) for kind, share in accuracy.items()} == {"visual": 1, "audio0": 1, "audio1": 1}
    ids[1, 11] = 32 + (ids[1, 11] - 32 + 1) % 64  # the last of 2 x 6 visual ids
    accuracy = model(ids, positions, PREFIX, SEGMENTS).accuracy
    assert float(accuracy["visual"]) == pytest.approx(11 / 12)


def test_segments_of_one_kind_need_not_touch_and_may_be_in_any_order(
    build: Build, ids: Tensor, positions: Tensor
) -> None:
    model = build()
    cut = [("audio1", 13, 14), ("visual", 9, 12), ("audio0", 12, 13), ("visual", 6, 9)]
    torch.testing.assert_close(model(ids, positions, PREFIX, cut).loss, model(ids, positions, PREFIX, SEGMENTS).loss)


def test_no_gradient_comes_from_what_no_output_is_predicted_from(build: Build, ids: Tensor, positions: Tensor) -> None:
    """The last position predicts nothing; every one before it may matter."""
    model = build()
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, x: Tensor) -> None:
        x.retain_grad()
        seen.append(x)

    handle = model.embedding.register_forward_hook(keep)
    model(ids, positions, PREFIX, SEGMENTS).loss.backward()
    handle.remove()
    strength = seen[0].grad.abs().sum((0, 2))  # type: ignore[union-attr]
    assert strength[-1] == 0 and (strength[:-1] > 0).all()


def test_text_stands_in_its_slots(build: Build, ids: Tensor, positions: Tensor) -> None:
    model = build()
    text, mask = text_for(2)
    x = model.embedding(ids)
    expected = x.clone()
    expected[:, 2] = model.text_proj(text[:, 0])
    expected[0, 3] = model.text_proj(text[0, 1])
    given: list[Tensor] = []
    handle = model.transformer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    model.hidden(ids, positions, PREFIX, text, mask, 2)
    handle.remove()
    torch.testing.assert_close(given[0], expected)


def test_dropped_text_is_the_empty_embedding(build: Build, ids: Tensor, positions: Tensor) -> None:
    model = build()
    text, mask = text_for(2)
    without = model.hidden(ids, positions, PREFIX)
    assert torch.equal(model.hidden(ids, positions, PREFIX, text, torch.zeros_like(mask), 2), without)
    prompted = model.hidden(ids, positions, PREFIX, text, mask, 2)
    assert not torch.isclose(prompted, without).any(-1).all()
    assert (prompted - without).abs().amax(-1).gt(1e-9).all()  # all of the row sees the text


@pytest.mark.parametrize("head", ["factorized", "flat"])
def test_saved_and_loaded(build: Build, ids: Tensor, positions: Tensor, head: str, tmp_path: Path) -> None:
    model = build(head=head, visual_size=50)
    text, mask = text_for(2)
    ids = ids.where((ids < 32) | (ids >= 96), 32 + (ids - 32) % 50)
    ids = ids.where(ids < 96, ids - 14)
    expected = model.hidden(ids, positions, PREFIX, text, mask, 2)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    for kind in (PrefixLM, AutoModel):
        again = kind.from_pretrained(tmp_path, dtype=torch.float64)
        assert type(again) is PrefixLM and not again.training
        assert again.config.lm == model.config.lm and again.config.vocab_size == 32 + 50 + 32
        assert torch.equal(again.hidden(ids, positions, PREFIX, text, mask, 2), expected)
        torch.testing.assert_close(
            again(ids, positions, PREFIX, SEGMENTS).loss, model(ids, positions, PREFIX, SEGMENTS).loss
        )


def test_a_config_is_the_same_after_saving(tmp_path: Path) -> None:
    lm = LMConfig(
        hidden_size=64, num_layers=3, num_heads=4, positions="1d", head="flat", rope_theta=50.0, rope_scale=2.0
    )
    config = PrefixLMConfig(lm, special_size=40, visual_size=4096, audio_levels=0, text_size=24)
    config.save_pretrained(tmp_path)
    for again in (PrefixLMConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert again.lm == lm and again.to_dict().keys() == config.to_dict().keys()
        assert (again.special_size, again.visual_size, again.audio_levels, again.text_size) == (40, 4096, 0, 24)
        assert again.vocab_size == 40 + 4096


def test_weights_are_drawn_for_the_depth() -> None:
    """0.02 everywhere, and what writes into the residual stream smaller by the root of the number of writes; the norms'
    gains are one, those of queries and keys as configured."""
    torch.manual_seed(0)
    lm = LMConfig(hidden_size=64, num_layers=8, num_heads=2, qk_gain=1.5)
    model = PrefixLM(PrefixLMConfig(lm, 32, 64, 0, text_size=8))
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            assert (weight == (1.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else 1)).all(), name
        else:
            writes = name.startswith("transformer") and name.endswith(("o_proj.weight", "down_proj.weight"))
            assert float(weight.detach().std()) == pytest.approx(0.02 / 4 if writes else 0.02, rel=0.1), name


def test_rope_scale_is_a_stretch_of_the_positions(build: Build, ids: Tensor, positions: Tensor) -> None:
    scaled, plain = build(rope_scale=3.0), build()
    seen = scaled.hidden(ids, positions, PREFIX)
    torch.testing.assert_close(seen, plain.hidden(ids, 3 * positions, PREFIX))
    assert (seen - plain.hidden(ids, positions, PREFIX)).abs().max() > 1e-3


def test_an_untaught_model_is_as_unsure_as_can_be(positions: Tensor) -> None:
    torch.manual_seed(0)
    runs = [(6, 0, 32), (6, 32, 64), (1, 96, 16), (1, 112, 16)]
    ids = torch.cat([start + torch.randint(size, (128, n)) for n, start, size in runs], dim=1)
    lm = LMConfig(hidden_size=64, num_layers=2, num_heads=2)
    model = PrefixLM(PrefixLMConfig(lm, 32, 64, audio_levels=2, audio_size=16, text_size=8))
    out = model(ids, positions, PREFIX, SEGMENTS)
    assert float(out.by_kind["visual"]) == pytest.approx(math.log(64), abs=0.05)
    assert float(out.by_kind["audio0"]) == pytest.approx(math.log(16), abs=0.05)


def learn(model: PrefixLM, ids: Tensor, positions: Tensor) -> tuple[Tensor, dict[str, Tensor], int]:
    """A training pass: its loss, its gradients, and how many numbers it kept for the way back."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // x.element_size()
        return x

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = model(ids, positions, PREFIX, SEGMENTS).loss
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    size = sum(numbers for place, numbers in kept.items() if place not in weights)
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in model.named_parameters()}, size


@pytest.mark.filterwarnings("ignore:.*deprecated and will be removed in v6:FutureWarning")  # not yet in 5.17
@pytest.mark.parametrize("head", ["factorized", "flat"])
def test_checkpointed_layers_learn_the_same_and_keep_little(
    build: Build, ids: Tensor, positions: Tensor, head: str
) -> None:
    model = build(head=head, num_layers=8).float().train()
    loss, gradients, size = learn(model, ids, positions)
    model.gradient_checkpointing_enable()
    again, same, little = learn(model, ids, positions)
    assert torch.equal(again, loss) and gradients.keys() == same.keys()
    assert all(torch.equal(same[name], gradient) for name, gradient in gradients.items() if gradient is not None)
    assert little < size / 4
    with torch.inference_mode():  # validation, between steps
        assert torch.equal(model(ids, positions, PREFIX, SEGMENTS).loss, loss)
    model.gradient_checkpointing_disable()
    assert learn(model, ids, positions)[2] == size


def test_without_norms_queries_and_keys_are_as_projected(build: Build, ids: Tensor, positions: Tensor) -> None:
    """And a model that has them is another: the names of its weights tell."""
    with_norms, without = build(), build(qk_norm=False)
    names = {f"transformer.layers.{i}.attention.{n}.weight" for i in range(2) for n in ("q_norm", "k_norm")}
    assert set(with_norms.state_dict()) - set(without.state_dict()) == names
    one, other = (model.hidden(ids, positions, PREFIX) for model in (with_norms, without))
    assert not torch.allclose(one, other)
    with torch.no_grad():  # norms forget how large queries and keys are
        for model in (with_norms, without):
            for layer in model.transformer.layers:
                layer.attention.q_proj.weight *= 3
    torch.testing.assert_close(with_norms.hidden(ids, positions, PREFIX), one, rtol=0, atol=1e-4)
    assert (without.hidden(ids, positions, PREFIX) - other).abs().max() > 0.1
