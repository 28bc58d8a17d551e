"""A codec learns sounds, by the command too, and a killed training goes on as if it had not been."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videolm.data.sources import ShapesWorldData
from videolm.errors import UserError
from videolm.media import Audio, write_audio
from videolm.metrics import snr
from videolm.shapes import Format
from videolm.tokenizers.audio.protocol import AUDIO_TOKENIZERS, AudioTokenizer
from videolm.tokenizers.audio.soundstream import SoundStream, SoundStreamConfig
from videolm.tokenizers.losses.sound_discriminators import DiscriminatorConfig
from videolm.tokenizers.quantize.rvq import RVQConfig
from videolm.train.audio_tokenizer import AudioTraining, draw_sounds, spectrograms, train_audio_tokenizer
from videolm.train.engine import EngineConfig
from videolm.train.optimizer import OptimizerConfig
from videolm.train.recipe import load_recipe
from videolm.train.run import Run

CLIP = Format(17, 32, 32)

JUDGES = DiscriminatorConfig(windows=(128,), channels=4, waves=(2,), wave_channels=4)


def codec() -> AudioTokenizer:
    """The preset for a CPU, smaller: 8 kHz, frames of 40 samples, 3 levels of 128 codes."""
    tables = RVQConfig(levels=3, codebook_size=128, dim=12, decay=0.95)
    torch.manual_seed(0)
    return SoundStream(
        SoundStreamConfig(
            sample_rate=8000, widths=(1, 96), strides=(40,), dilations=(), frame_dilations=(1, 2), quantizer=tables
        )
    )


def sounds(split: Any = "train") -> Any:
    return ShapesWorldData(seed=5, clips=200, validation_clips=16).open("audio", CLIP, 8.0, split)


def trained(
    folder: Path, steps: int, source: Any = None, minutes: float = 0, **more: Any
) -> tuple[AudioTokenizer, Any]:
    tokenizer, held = codec(), sounds("validation")
    optimizer = OptimizerConfig(name="muon", lr=2e-3, muon_lr=0.02, betas=(0.9, 0.99), weight_decay=1e-4)
    settings: dict[str, Any] = {"batch": 8, "seconds": 0.5, "windows": (256, 64), "optimizer": optimizer}
    config = AudioTraining(steps=steps, validation_sounds=8, checkpoint_minutes=minutes, **settings, **more)
    engine = EngineConfig(precision="float32")
    result = train_audio_tokenizer(tokenizer, source or sounds(), held, config, engine, folder=folder, seed=0)
    return tokenizer.eval(), result


def test_it_learns(tmp_path: Path) -> None:
    tokenizer, values = trained(tmp_path, 140, minutes=5)
    assert values["snr"] > 8
    held = draw_sounds(sounds("validation"), tokenizer, np.random.default_rng(0), 8, 1.0)
    with torch.inference_mode():
        codes = tokenizer.encode(held)
        decoded = [tokenizer.decode(codes[:, :levels]) for levels in (1, 2, 3)]
    heard = [float(snr(sound.reshape(1, -1), held.reshape(1, -1))) for sound in decoded]
    assert heard[0] + 1 < heard[1] < heard[2]  # each level comes nearer
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("adversarial", [False, True])
def test_resumed_it_is_as_if_never_stopped(tmp_path: Path, adversarial: bool) -> None:
    more: dict[str, Any] = {}
    if adversarial:
        more = {"discriminator": JUDGES, "discriminator_start": 0.3}
    whole, _ = trained(tmp_path / "whole", 6, **more)
    source, read = sounds(), iter(range(8 * 3 + 2))

    class Stopping(Sequence[Any]):
        """Ends the training in its fourth step."""

        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: Any) -> Any:
            if next(read, None) is None:
                raise KeyboardInterrupt
            return source[index]

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "half", 6, source=Stopping(), **more)
    again, _ = trained(tmp_path / "half", 6, **more)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_discriminator_comes_in_when_it_should(tmp_path: Path) -> None:
    config = AudioTraining(steps=10, discriminator=DiscriminatorConfig(), discriminator_start=0.5)
    assert "discriminator" not in config.weights(4) and config.weights(5)["features"] == 10
    plain, _ = trained(tmp_path / "plain", 3)
    judged, _ = trained(tmp_path / "judged", 3, discriminator=JUDGES)
    assert set(plain.state_dict()) == set(judged.state_dict())
    first = "decoder.layers.0.weight"
    assert not torch.equal(plain.state_dict()[first], judged.state_dict()[first])


def test_sounds_that_are_drawn() -> None:
    tokenizer = codec()
    drawn = draw_sounds(sounds(), tokenizer, np.random.default_rng(0), 5, 0.5)
    assert drawn.shape == (5, 8000 // 2 // tokenizer.stride * tokenizer.stride)  # at the codec's rate, whole frames
    assert torch.equal(drawn, draw_sounds(sounds(), tokenizer, np.random.default_rng(0), 5, 0.5))
    longer = draw_sounds(sounds(), tokenizer, np.random.default_rng(0), 2, 5.0)
    assert longer.shape == (2, 40000)
    assert not longer[:, 17100:].any()  # 2.125 s and silence


def test_spectrograms() -> None:
    seconds = torch.arange(16000) / 16000
    picture = spectrograms([torch.sin(2 * torch.pi * 4000 * seconds)[None], torch.zeros(1, 16000)])
    assert picture.dtype == np.uint8
    height = picture.shape[0] // 2
    assert picture.shape[2] == 3
    assert abs(int(picture[:height].mean((1, 2)).argmax()) - height // 2) <= 1  # 4 of 8 kHz
    assert picture[height:].max() == 0


def test_recipe_of_a_codec_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    for index, pitch in enumerate((220, 330, 440)):
        wave = 0.4 * np.sin(2 * np.pi * pitch * np.arange(22050 * 3) / 22050)
        write_audio(Audio.from_array(wave, 22050), folder / f"{index}.wav")
    changes = {
        "data": {"kind": "folder", "path": str(folder)},
        "audio_tokenizer": "soundstream_tiny",
        "audio_training.steps": 4,
        "audio_training.batch": 4,
        "audio_training.seconds": 0.3,
        "audio_training.windows": [256],
        "out": str(tmp_path / "run"),
    }
    recipe = load_recipe("shapesworld/soundstream", changes)
    made = Run(recipe).train()
    assert made == tmp_path / "run" / "audio_tokenizer"
    again = AUDIO_TOKENIZERS.get("soundstream").from_pretrained(made)
    assert again.encode(torch.zeros(1, 400)).shape == (1, 2, 10)
    assert Run(recipe, resume=True).train() == made


def test_recipes_that_cannot_be() -> None:
    with pytest.raises(UserError, match="nothing to make"):
        load_recipe("shapesworld/soundstream", {"audio_tokenizer": "null"})
    with pytest.raises(UserError, match="unknown audio_tokenizer 'soundstram'; did you mean"):
        load_recipe("shapesworld/soundstream", {"audio_tokenizer": "soundstram"})
    with pytest.raises(UserError, match="unknown audio tokenizer 'magvit_v2'"):
        load_recipe("shapesworld/soundstream", {"audio_tokenizer": "{name: magvit_v2}"})
