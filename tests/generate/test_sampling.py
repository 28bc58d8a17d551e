"""Logits to choices."""

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from videolm.config import parse
from videolm.errors import UserError
from videolm.generate.noise import gumbel
from videolm.generate.sampling import Sampling, draw, guide, keep_top_k, keep_top_p

logit = st.floats(-20, 20, width=32)
rows_of_logits = st.lists(logit, min_size=1, max_size=12, unique=True)
INF = torch.inf


def noise(seeds: Iterable[int], size: int = 16, place: int = 0) -> Tensor:
    return torch.stack([torch.from_numpy(gumbel(seed, place, size)) for seed in seeds])


def some_logits(rows: int, size: int = 16) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(0))


def test_guidance_goes_from_one_through_the_other() -> None:
    with_text, without = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]])
    assert torch.equal(guide(with_text, without, 0), without)
    assert torch.equal(guide(with_text, without, 1), with_text)
    assert guide(with_text, without, 3).tolist() == [[4.0, -5.0]]


@given(logits=rows_of_logits, k=st.integers(0, 14))
def test_top_k_keeps_the_k_largest_as_they_are(logits: list[float], k: int) -> None:
    x = torch.tensor([logits])
    kept = keep_top_k(x, k)
    largest = set(sorted(logits)[-k:]) if k else set(logits)
    assert kept.tolist()[0] == [value if value in largest else -INF for value in x.tolist()[0]]


def test_top_k_keeps_just_k_of_equals() -> None:
    assert (keep_top_k(torch.zeros(2, 5), 2) > -INF).sum(-1).tolist() == [2, 2]


@given(logits=rows_of_logits, p=st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_reach_p(logits: list[float], p: float) -> None:
    x = torch.tensor([logits])
    kept = keep_top_p(x, p)[0] > -INF
    probability = x[0].softmax(-1)
    assert kept[x[0].argmax()] and torch.equal(keep_top_p(x, p)[0][kept], x[0][kept])
    assert probability[kept].sum() >= p - 1e-5
    assert p == 1 or probability[kept].sum() - probability[kept].min() < p + 1e-5
    assert kept.all() or probability[kept].min() >= probability[~kept].max()


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.49, [0]), (0.5, [0]), (0.51, [0, 2]), (0.81, [0, 1, 2]), (1.0, [0, 1, 2, 3]), (1e-9, [0])],
)
def test_top_p_by_hand(p: float, kept: list[int]) -> None:
    logits = torch.tensor([[0.5, 0.19, 0.3, 0.01]]).log()
    assert (keep_top_p(logits, p)[0] > -INF).nonzero().flatten().tolist() == kept


def test_each_row_is_cut_by_itself() -> None:
    x = some_logits(5)
    for row in range(5):
        assert torch.equal(keep_top_k(x, 3)[row], keep_top_k(x[row : row + 1], 3)[0])
        assert torch.equal(keep_top_p(x, 0.6)[row], keep_top_p(x[row : row + 1], 0.6)[0])


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    x = some_logits(1).expand(64, -1)
    first, again, other = (draw(x, Sampling(), noise(range(s, s + 64))) for s in (0, 0, 64))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique()) > 1


def test_a_row_does_not_depend_on_the_batch_it_is_drawn_in() -> None:
    x = some_logits(6)
    sampling = Sampling(temperature=1.3, top_k=12, top_p=0.95)
    whole = draw(x, sampling, noise(range(6)))
    alone = torch.cat([draw(x[row : row + 1], sampling, noise([row])) for row in range(6)])
    assert torch.equal(whole, alone)


def test_noise_follows_from_the_seed_and_the_place() -> None:
    whole = noise([3], size=50)
    assert torch.equal(noise([3], size=20), whole[:, :20])
    assert not (noise([3], size=50, place=1) == whole).any() and not (noise([4], size=50) == whole).any()
    many = noise(range(2000), size=4).double()
    assert abs(float(many.mean()) - 0.5772) < 0.05 and abs(float(many.std()) - 1.2825) < 0.05
    assert float(torch.corrcoef(many.T).fill_diagonal_(0).abs().max()) < 0.1


def test_without_noise_the_likeliest_is_taken() -> None:
    x = some_logits(5)
    assert torch.equal(draw(x, Sampling(temperature=0, top_p=0.1), None), x.argmax(-1))


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-4)])
def test_what_leaves_one_choice_takes_the_likeliest(sampling: Sampling) -> None:
    x = some_logits(20)
    assert torch.equal(draw(x, sampling, noise(range(20))), x.argmax(-1))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.4, 0.3, 0.2, 0.1, 0.0]),
        (Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30, 0]),
        (Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(top_p=0.85), [4 / 9, 3 / 9, 2 / 9, 0, 0]),
        (Sampling(temperature=0.5, top_p=0.5), [1, 0, 0, 0, 0]),  # the temperature comes first
    ],
)
def test_choices_come_as_often_as_they_should(sampling: Sampling, expected: list[float]) -> None:
    """Chi-square over 4,000 draws; 4 degrees of freedom pass 30 once in 200,000. An id at -inf never comes."""
    count = 4000
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0]).log().expand(count, -1)
    drawn = torch.bincount(draw(logits, sampling, noise([5], 5 * count).view(count, 5)), minlength=5).double()
    wanted = torch.tensor(expected, dtype=torch.float64) * count
    possible = wanted > 0
    assert drawn[~possible].sum() == 0
    assert float(((drawn - wanted)[possible].square() / wanted[possible]).sum()) < 30


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e30])
def test_extreme_logits_still_give_a_legal_choice(scale: float) -> None:
    x = some_logits(8) * scale
    x[:, 3] = -INF
    drawn = draw(x, Sampling(top_p=0.9), noise(range(8)))
    assert ((drawn >= 0) & (drawn < 16) & (drawn != 3)).all()
    if scale:
        assert torch.equal(drawn, x.argmax(-1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"audio_temperature": -1}, "audio_temperature"),
        ({"top_k": -1}, "top_k"),
        ({"temprature": 1}, "did you mean 'temperature'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(Sampling, settings)
    with pytest.raises(UserError, match=said):
        Sampling().with_changes(settings)


def test_a_temperature_that_is_asked_for_is_that_of_sounds_too() -> None:
    """Whoever writes `--temperature 0` has a sound to hear the change in."""
    own = Sampling(temperature=0.85, audio_temperature=0.4)
    assert [own.of(kind).temperature for kind in ("visual", "special", "audio0", "audio3")] == [0.85, 0.85, 0.4, 0.4]
    assert own.with_changes({"top_k": 5}).audio_temperature == 0.4
    assert own.with_changes({"temperature": 1.0}).of("audio0").temperature == 1
    both = own.with_changes({"temperature": 1.0, "audio_temperature": 0.2})
    assert (both.of("visual").temperature, both.of("audio0").temperature) == (1, 0.2)
