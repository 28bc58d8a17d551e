"""The masked transformer: what it is given counts, each row by itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.shapes import TokenGrid
from videolm.superres.model import MaskedModel

GRID = TokenGrid(3, 4, 6)
Make = Callable[..., MaskedModel]
Given = Callable[..., dict[str, Tensor]]


@torch.inference_mode()
def test_the_enlarged_clip_counts_where_the_small_one_is_given(make: Make, given_to: Given) -> None:
    model, given = make(enlarged=True, enlarged_size=6), given_to()
    one, other = torch.randn(2, 2, *GRID, 6)
    low = given["low"].clone()
    low[1] = -1
    found = [model(**{**given, "low": low}, enlarged=each) for each in (one, other)]
    assert not torch.allclose(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    with pytest.raises(ValueError, match="not given"):
        make(enlarged=True, enlarged_size=6, low=False)
    with pytest.raises(ValueError, match="both or neither"):
        make(enlarged=True)


@torch.inference_mode()
def test_all_that_is_given_counts(make: Make, given_to: Given) -> None:
    model, given = make(), given_to()
    states = model(**given)
    assert states.shape == (2, *GRID, 16)
    for name, other in given_to(seed=1).items():
        assert not torch.allclose(model(**{**given, name: other}), states), name


@torch.inference_mode()
def test_hidden_codes_are_not_seen(make: Make, given_to: Given) -> None:
    model, given = make(), given_to()
    other = torch.where(given["hidden"], 59 - given["codes"], given["codes"])
    assert torch.equal(model(**{**given, "codes": other}), model(**given))


@torch.inference_mode()
def test_what_is_left_out_of_a_row_is_as_if_it_were_not_given(make: Make, given_to: Given) -> None:
    model, given = make(), given_to()
    without = {name: value for name, value in given.items() if name not in ("low", "rate")}
    nothing = torch.full_like(given["low"], -1)
    torch.testing.assert_close(model(**{**given, "low": nothing}), model(**without))
    silent = {name: value for name, value in given.items() if not name.startswith("text")}
    never = torch.zeros_like(given["text_mask"])
    torch.testing.assert_close(model(**{**given, "text_mask": never}), model(**silent))


@torch.inference_mode()
def test_rows_do_not_see_one_another(make: Make, given_to: Given) -> None:
    model, given = make(), given_to()
    states = model(**given)
    for row in range(2):
        alone = model(**{name: value[row : row + 1] for name, value in given.items()})
        torch.testing.assert_close(alone, states[row : row + 1])


@pytest.mark.parametrize("groups", [1, 2, 3])
@torch.inference_mode()
def test_codes_are_predicted_in_any_number_of_factors(make: Make, groups: int) -> None:
    """As one distribution over all codes, and over nothing else: here 60 of 64."""
    model = make(groups=groups)
    (state,) = torch.randn(1, 1, 16)
    nats = model.head.score(state.expand(60, -1), torch.arange(60)).each
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-4)


@torch.inference_mode()
def test_without_a_small_clip_it_is_a_model_of_clips(make: Make, given_to: Given) -> None:
    model = make(low=False)
    given = {name: value for name, value in given_to().items() if name not in ("low", "rate")}
    assert model(**given).shape == (2, *GRID, 16)
    assert not any(name.startswith(("low", "rate", "no_low")) for name, _ in model.named_parameters())
    assert not any("low_attention" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"windows": ((1, 3, 2), (1, 2, 2))}, "have no half"),
        ({"grid": (3, 5, 6)}, "have no half"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make: Make, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**change)
