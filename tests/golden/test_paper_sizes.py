"""Figures of the papers that follow from the shipped presets, without any weights."""

from importlib.resources import files

import pytest
import torch

from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.model.config import LMConfig, PrefixLMConfig
from videolm.model.prefix_lm import PrefixLM
from videolm.superres.model import MaskedModel
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer
from videolm.tokenizers.video.c_vivit import CViViT, CViViTConfig
from videolm.tokenizers.video.magvit import Magvit, MagvitConfig
from videolm.tokenizers.video.magvit_v2 import MagvitV2, MagvitV2Config
from videolm.train.dry_run import DryRun, activations
from videolm.train.recipe import load_recipe
from videolm.train.run import masked_config
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


@pytest.fixture(scope="module")
def c_vivit() -> CViViT:
    return CViViT.without_weights(CViViTConfig())


def weights(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    ("video", "grid", "tokens"), [((11, 128, 128), (6, 16, 16), 1536), ((1, 128, 128), (1, 16, 16), 256)]
)
def test_c_vivit_grids(c_vivit: CViViT, video: tuple[int, int, int], grid: tuple[int, int, int], tokens: int) -> None:
    """Phenaki, Tables 3 and 6."""
    assert c_vivit.grid(*video) == grid and c_vivit.grid(*video).tokens == tokens


def test_c_vivit_at_bairs_size() -> None:
    """Phenaki B.2.1: 64x64 pixels in patches of 4x4 are as many codes as 128x128 in patches of 8x8."""
    assert CViViT.without_weights(CViViTConfig(spatial_patch=4)).grid(11, 64, 64) == (6, 16, 16)


def test_c_vivit_has_the_papers_weights(c_vivit: CViViT) -> None:
    """50.3M, "approximately 50M parameters" in B.1.1, are the matrices of its 16 layers. Beside them are 0.6M in patch
    projections, 0.03M around the codes, 0.07M in norms and biases, and a table of 8,192 x 32."""
    matrices = [
        weight
        for name, weight in c_vivit.named_parameters()
        if weight.ndim == 2 and ("spatial" in name or "temporal" in name)
    ]
    assert sum(weight.numel() for weight in matrices) == 16 * 12 * 512**2 == 50_331_648
    assert weights(c_vivit) == 51_032_160
    assert c_vivit.codebook_size == 8192 and c_vivit.quantizer.dim == 32


def test_3d_vq_grid() -> None:
    """MAGVIT, 4.1: 16 frames of 128x128 are 1,024 tokens."""
    grid = Magvit.without_weights(MagvitConfig()).grid(16, 128, 128)
    assert grid == (4, 16, 16) and grid.tokens == 1024


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (MagvitConfig(), 41),  # 3D-VQ base
        (MagvitConfig(base_channels=128).image(), 53),  # the 2D-VQ of MaskGIT that the large one is inflated from
    ],
)
def test_3d_vq_has_the_papers_weights(config: MagvitConfig, millions: int) -> None:
    """MAGVIT, Table 6, the table of codes counted."""
    assert round(weights(Magvit.without_weights(config)) / 1e6) == millions


@pytest.mark.parametrize("name", names("tokenizer"))
def test_tokenizer_presets_are_read(name: str) -> None:
    written = read_yaml(str(CONFIGS / "tokenizer" / name))
    kind = VIDEO_TOKENIZERS.get(written["name"])
    config = parse(kind.Settings, written, source=name)
    told = config.model_dump(mode="json")
    assert written == {key: told[key] for key in written if key != "quantizer"} | {"quantizer": written["quantizer"]}
    if name == f"{written['name']}.yaml":  # the preset of the paper is the class's defaults
        assert config == kind.Settings()


@pytest.mark.parametrize(
    ("preset", "grid"),
    [
        ("magvit_v2_tiny", (5, 8, 8)),
        ("magvit_v2_small", (5, 8, 8)),
        ("c_vivit_tiny", (9, 8, 8)),
        ("c_vivit_small", (9, 8, 8)),
    ],
)
def test_small_presets_compress_as_the_paper_does(preset: str, grid: tuple[int, int, int]) -> None:
    written = read_yaml(str(CONFIGS / "tokenizer" / f"{preset}.yaml"))
    kind: type[VideoTokenizer] = VIDEO_TOKENIZERS.get(written["name"])
    assert kind.without_weights(parse(kind.Settings, written)).grid(17, 64, 64) == grid


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temporal_down": [True]}, "temporal_down needs 3 entries"),
        ({"norm_groups": 48}, "norm_groups 48 must divide the width of every level"),
        ({"quantizer": {"name": "lfq", "bits": 31}}, "quantizer.bits"),
        ({"still": True}, "no stride in time"),
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


@pytest.mark.parametrize(("stage", "weights", "layers", "width"), [(1, 1.0e9, 21, 1536), (2, 0.5e9, 18, 1152)])
def test_super_resolution_has_the_papers_sizes(stage: int, weights: float, layers: int, width: int) -> None:
    """VideoPoet, appendix A.3: weights, codes, windows, factors, guidance, steps; 20 width^2 a layer."""
    recipe = load_recipe(f"videopoet/upscale_{stage}", {"data.path": "films"})
    with torch.device("meta"):
        tokenizer = MagvitV2(MagvitV2Config())
        model = MaskedModel(masked_config(recipe, tokenizer, text_width=2048))
    (large,) = recipe.large_formats
    assert large == [(17, 448, 256), (17, 896, 512)][stage - 1]
    config = model.config
    assert config.grid == [(5, 56, 32), (5, 112, 64)][stage - 1]
    first, second = ((1, 56, 4), (1, 8, 32), (5, 8, 8)), ((1, 112, 2), (1, 4, 64), (5, 8, 8))
    assert config.windows == [first, second][stage - 1]
    assert (config.num_layers, config.hidden_size, model.codes.sizes) == (layers, width, (512, 512))
    count = sum(weight.numel() for weight in model.parameters())
    assert count == pytest.approx(weights, rel=0.05)
    trunk = sum(weight.numel() for weight in model.transformer.parameters())
    assert trunk == pytest.approx(20 * width**2 * layers, rel=0.01)
    sampling = recipe.super_resolution_sampling
    assert (sampling.steps, sampling.guidance_scale, sampling.low_guidance_scale) == (24, 4.0 * stage, 1.0 * stage)
    training = recipe.super_resolution_training
    assert training.text_dropout == training.low_dropout == 0.1


class Pass(torch.nn.Module):
    """A forward pass of a model of super-resolution over a clip whose codes are all hidden."""

    def __init__(self, model: MaskedModel):
        super().__init__()
        self.model = model

    def forward(self, grid: tuple[int, int, int]) -> tuple[torch.Tensor, None]:
        codes = torch.zeros(1, *grid, dtype=torch.long)
        text = torch.zeros(1, 64, 2048, dtype=torch.bfloat16)
        states = self.model(codes, torch.ones_like(codes, dtype=torch.bool), codes[:, :, ::2, ::2], text=text)
        return states.float().square().mean(), None


def test_memory_of_super_resolution_is_linear_in_the_codes() -> None:
    """A pass forward and backward at the paper's first stage, without its numbers."""
    recipe = load_recipe("videopoet/upscale_1", {"data.path": "films"})
    with torch.device("meta"):
        tokenizer = MagvitV2(MagvitV2Config())
    dry = DryRun(torch.bfloat16)
    with dry.making():
        model = MaskedModel(masked_config(recipe, tokenizer, text_width=2048)).train()
    model.transformer.checkpointing = True
    found = []
    for grid in ((5, 56, 32), (5, 112, 32)):
        with dry.calling():
            found.append(activations(Pass(model), grid))
    one, two = found
    assert two.held == pytest.approx(2 * one.held, rel=0.05) and two.peak == pytest.approx(2 * one.peak, rel=0.05)
    layer = 5 * 56 * 32 * 1536 * 2  # bytes of a layer's input
    assert 21 * layer < one.held < 35 * layer and one.peak < 100 * layer  # all scores of one layer would be 840 of it
