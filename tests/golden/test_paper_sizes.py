"""Figures of the papers that follow from the shipped presets, without any weights."""

from importlib.resources import files

import pytest
import torch

from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config
from videolm.vocabulary import Vocabulary

CONFIGS = files("videolm.configs")


def names(section: str) -> list[str]:
    return sorted(entry.name for entry in (CONFIGS / section).iterdir() if entry.name.endswith(".yaml"))


@pytest.fixture(scope="module")
def magvit_v2() -> MagvitV2:
    return MagvitV2.without_weights(MagvitV2Config())


@pytest.mark.parametrize(
    ("video", "grid", "tokens"),
    [
        ((1, 128, 128), (1, 16, 16), 256),
        ((17, 128, 128), (5, 16, 16), 1280),
        ((17, 224, 128), (5, 28, 16), 2240),
        ((41, 128, 128), (11, 16, 16), 2816),
        ((41, 224, 128), (11, 28, 16), 4928),
        ((17, 896, 512), (5, 112, 64), 35840),
    ],
)
def test_magvit_v2_grids(
    magvit_v2: MagvitV2, video: tuple[int, int, int], grid: tuple[int, int, int], tokens: int
) -> None:
    """VideoPoet 3.1 and 4.3."""
    assert magvit_v2.grid(*video) == grid and magvit_v2.grid(*video).tokens == tokens


def test_magvit_v2_at_paper_size(magvit_v2: MagvitV2) -> None:
    """2^18 codes, 4x in time and 8x in space; the shipped preset is the class's defaults; no memory is taken."""
    assert magvit_v2.codebook_size == 2**18 == Vocabulary().visual_size
    assert (magvit_v2.temporal_stride, magvit_v2.spatial_stride) == (4, 8)
    assert parse(MagvitV2Config, read_yaml(str(CONFIGS / "tokenizer" / "magvit_v2.yaml"))) == MagvitV2Config()
    assert all(weight.is_meta for weight in magvit_v2.parameters())


@pytest.mark.parametrize(("preset", "grid"), [("magvit_v2_tiny", (5, 8, 8)), ("magvit_v2_small", (5, 8, 8))])
def test_small_presets_compress_as_the_paper_does(preset: str, grid: tuple[int, int, int]) -> None:
    config = parse(MagvitV2Config, read_yaml(str(CONFIGS / "tokenizer" / f"{preset}.yaml")))
    assert MagvitV2.without_weights(config).grid(17, 64, 64) == grid


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temporal_down": [True]}, "temporal_down needs 3 entries"),
        ({"norm_groups": 48}, "norm_groups 48 must divide the width of every level"),
        ({"bits": 31}, "bits"),
        ({"base_chanels": 8}, "did you mean 'base_channels'"),
    ],
)
def test_tokenizer_configs_that_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(MagvitV2Config, changes)


@pytest.mark.parametrize("name", names("lm"))
def test_language_model_presets_are_read(name: str) -> None:
    written = read_yaml(str(CONFIGS / "lm" / name))
    config = parse(LMConfig, written, source=name)
    assert written == {key: getattr(config, key) for key in written}


@pytest.mark.parametrize(
    ("preset", "trunk", "heads"),
    [("videopoet_300m", 302e6, 9.2e6), ("videopoet_300m_flat", 302e6, 273e6)],
)
def test_the_300m_model(preset: str, trunk: float, heads: float) -> None:
    """24 x 1024 with 12 width^2 weights a layer; one softmax over 266,496 ids nearly doubles it."""
    config = PrefixLMConfig(parse(LMConfig, read_yaml(str(CONFIGS / "lm" / f"{preset}.yaml"))))
    assert config.vocab_size == 266496
    with torch.device("meta"):
        model = PrefixLM(config)
    assert sum(p.numel() for p in model.transformer.parameters()) == pytest.approx(trunk, rel=0.01)
    assert sum(p.numel() for p in model.head.parameters()) == pytest.approx(heads, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 100, "num_heads": 8}, "hidden_size 100 must be a multiple of 2"),
        ({"head": "round"}, "'factorized' or 'flat'"),
        ({"num_layer": 2}, "did you mean 'num_layers'"),
    ],
)
def test_language_model_configs_that_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(LMConfig, changes)
