"""Training a video tokenizer with a discriminator and perceptual terms: which there are when, and exact resume."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.data.example import Source
from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.shapes import Format
from videolm.tokenizers.losses.perceptual import I3D, LPIPS
from videolm.tokenizers.losses.video_discriminator import VideoDiscriminatorConfig
from videolm.tokenizers.protocol import VideoTokenizer
from videolm.tokenizers.video.magvit_v2 import MagvitV2
from videolm.train.engine import EngineConfig
from videolm.train.recipe import load_recipe
from videolm.train.run import Run
from videolm.train.tokenizer import DecoderTraining, Objective, TokenizerTraining, train_tokenizer

JUDGE = VideoDiscriminatorConfig(channels=4, multipliers=(2, 2))
STEPS, BATCH = 6, 4


def fresh() -> MagvitV2:
    torch.manual_seed(0)
    return MagvitV2(load_recipe("shapesworld/tiny").tokenizer)  # type: ignore[arg-type]  # it is one


def clips() -> Source:
    return ShapesWorldData(clips=8, validation_clips=2).open("video", Format(5, 32, 32), 8.0, "train")


def trained(folder: Path, source: Any = None, kind: type[DecoderTraining] = TokenizerTraining, **more: Any) -> Any:
    """A tokenizer after a few steps, in float32."""
    config = kind(steps=STEPS, batch=BATCH, validation_clips=2, validate_every=STEPS, ema=0.9, **more)
    tokenizer, engine = fresh(), EngineConfig(precision="float32")
    held = clips()
    train_tokenizer(tokenizer, [source or held], [held], config, engine, folder=folder, seed=0, fps=8.0)
    return tokenizer


def test_terms_come_in_when_they_should() -> None:
    plain = TokenizerTraining(steps=10)
    config = TokenizerTraining(steps=10, discriminator=JUDGE, discriminator_start=0.5, r1_every=2)
    assert config.weights(4) == plain.weights(4)
    assert config.weights(5) == {**plain.weights(5), "adversarial": 0.1, "discriminator": 1.0, "lecam": 0.001}
    assert config.weights(6)["r1"] == 20.0  # as much more as it comes less often
    objective, clip = Objective(fresh(), config), torch.stack([clips()[0].media.to_tensor()])
    assert "adversarial" not in objective((clip, config.weights(4)))[1]
    _, logged = objective((clip, config.weights(6)))
    assert {"l1", "l2", "adversarial", "discriminator", "lecam", "r1"} < set(logged) and "adaptive" not in logged
    adaptive = Objective(fresh(), config.model_copy(update={"adaptive": True}))
    loss, logged = adaptive((clip, config.weights(6)))
    assert logged["adaptive"] > 0 and loss.isfinite()


def test_perceptual_terms_train_the_tokenizer_and_are_no_part_of_it(random_vgg: None, random_i3d: None) -> None:
    config = TokenizerTraining(steps=10, lpips=0.1, i3d=2.0, discriminator=JUDGE, adaptive=True)
    objective = Objective(fresh(), config)
    source = ShapesWorldData(clips=2).open("video", Format(13, 32, 32), 8.0, "train")
    batch = torch.stack([source[index].media.to_tensor() for index in range(2)])
    assert config.weights(3).items() >= {"lpips": 0.1, "i3d": 2.0}.items()
    rebuilt = objective.tokenizer(batch).video
    loss, logged = objective((batch, {"lpips": 0.1, "i3d": 2.0}))
    terms = {"lpips": LPIPS.load(), "i3d": I3D.load()}
    for name, network in terms.items():
        torch.testing.assert_close(logged[name], network.distance(rebuilt, batch).mean().detach())
    assert float(loss) == pytest.approx(0.1 * float(logged["lpips"]) + 2 * float(logged["i3d"]), rel=1e-4)
    loss.backward()
    assert all(weight.grad is not None for weight in objective.tokenizer.decoder.parameters())
    assert set(objective.state_dict()) == set(Objective(fresh(), config.model_copy(update={"lpips": 0.0})).state_dict())
    assert objective((batch, config.weights(3)))[1]["adaptive"] > 0


def test_files_that_are_missing_are_told_before_the_first_stage(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("VIDEOLM_CACHE", str(tmp_path / "cache"))
    training = {"steps": 1, "lpips": 0.1}
    recipe = load_recipe("shapesworld/tiny", {"out": str(tmp_path / "run"), "decoder_training": training})
    with pytest.raises(UserError, match=r"LPIPS needs vgg16-397923af.pth .* put it at .*cache/weights/vgg16"):
        Run(recipe).tokenizer()
    assert not (tmp_path / "run" / "tokenizer_training").exists()


@pytest.mark.parametrize("kind", [TokenizerTraining, DecoderTraining])
def test_resumed_it_is_as_if_never_stopped(tmp_path: Path, kind: type[DecoderTraining]) -> None:
    """Both sides, the optimiser's state of both, and the averages of what the discriminator said."""
    more: dict[str, Any] = {"discriminator": JUDGE, "discriminator_start": 0.3, "r1_every": 2}
    whole: VideoTokenizer = trained(tmp_path / "whole", kind=kind, **more)
    source, read = clips(), iter(range(BATCH * 3 + 2))

    class Stopping(Sequence[Any]):
        """Ends the training in its fourth step."""

        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: Any) -> Any:
            if next(read, None) is None:
                raise KeyboardInterrupt
            return source[index]

        def __iter__(self) -> Iterator[Any]:
            raise TypeError

    more["checkpoint_minutes"] = 0.0
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "half", Stopping(), kind, **more)
    again: VideoTokenizer = trained(tmp_path / "half", kind=kind, **more)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    plain: VideoTokenizer = trained(tmp_path / "plain", kind=kind)
    assert set(plain.state_dict()) == set(whole.state_dict())
    last = "decoder.project.weight"
    assert not torch.equal(plain.state_dict()[last], whole.state_dict()[last])
    frozen = "encoder.project.weight"
    assert torch.equal(fresh().state_dict()[frozen], whole.state_dict()[frozen]) == (kind is DecoderTraining)


def test_a_recipe_may_ask_for_it() -> None:
    told = {"tokenizer_training.discriminator.channels": 8, "tokenizer_training.adaptive": True}
    training = load_recipe("shapesworld/tiny", told).tokenizer_training
    assert training.discriminator == VideoDiscriminatorConfig(channels=8) and training.adaptive
    with pytest.raises(UserError, match="multipliers"):
        load_recipe("shapesworld/tiny", {"tokenizer_training.discriminator.multipliers": []})
