"""Sound as the definition has it, and the judge who hears it."""

from dataclasses import replace

import numpy as np
import pytest

from videolm.shapesworld import Object, Scene, SoundJudgement, draw_scene, judge_sound, sound
from videolm.shapesworld.world import MOTIONS, SHAPES

PITCH = {"circle": 262, "square": 330, "triangle": 392, "diamond": 523, "star": 659, "cross": 784}


def scene(motion: str = "stays still", shape: str = "square", size: str = "large") -> Scene:
    return Scene("white", (Object("red", shape, size, motion, 0.5, 0.5),))


def loudness(samples: np.ndarray, start: float, stop: float) -> float:
    """Root mean square between two times, in seconds."""
    return float(np.sqrt((samples[int(start * 16000) : int(stop * 16000)] ** 2).mean()))


@pytest.mark.parametrize(("frames", "samples"), [(1, 2000), (17, 34000), (41, 82000)])
def test_form(frames: int, samples: int) -> None:
    clip = sound(scene(), frames)
    assert clip.shape == (samples,)
    assert clip.dtype == np.float32
    assert np.abs(clip).max() <= 0.5


def test_other_numbers_of_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="frames is 16; a clip has"):
        sound(scene(), 16)


@pytest.mark.parametrize("shape", SHAPES)
def test_tone(shape: str) -> None:
    """Two sines, the octave at 0.3 of the fundamental, and nothing else."""
    samples = sound(scene(shape=shape))
    seconds = np.arange(len(samples)) / 16000
    wave = 2 * np.pi * PITCH[shape] * seconds
    assert np.allclose(samples, 0.5 * (np.sin(wave) + 0.3 * np.sin(2 * wave)) / 1.3, atol=1e-5)


def test_two_objects_are_summed_and_halved() -> None:
    one, two = scene("moves up", "star").objects[0], scene("bounces", "cross", "small").objects[0]
    both = sound(Scene("white", (one, two)))
    assert np.allclose(both, (sound(Scene("white", (one,))) + sound(Scene("white", (two,)))) / 2, atol=1e-6)


def test_ramps_reach_their_ends() -> None:
    tone = np.sqrt((1 + 0.3**2) / 2) / 1.3
    for motion, ends in (("grows", (0.2, 0.8)), ("shrinks", (0.8, 0.2))):
        samples = sound(scene(motion, size="small"))
        assert loudness(samples, 0, 0.02) == pytest.approx(ends[0] * tone, rel=0.05)
        assert loudness(samples, 2.105, 2.125) == pytest.approx(ends[1] * tone, rel=0.05)


def test_bursts_begin_at_the_contacts() -> None:
    samples = sound(scene("bounces"))
    first = int(0.25 * 33999) + 1
    assert not samples[:first].any()
    for contact in (0.25 * 2.125, 0.75 * 2.125):
        early, late = (loudness(samples, contact + s, contact + s + 0.02) for s in (0.01, 0.09))
        assert late / early == pytest.approx(np.exp(-1), rel=0.1)


@pytest.mark.parametrize("motion", MOTIONS)
def test_judge_is_right_on_true_sounds(motion: str) -> None:
    for index in range(40):
        thing = replace(draw_scene(3, index).objects[0], motion=motion)
        heard = judge_sound(sound(Scene("white", (thing,))))
        assert (heard.shape, heard.motion) == (thing.shape, motion)
        assert heard.pitch == pytest.approx(PITCH[thing.shape], rel=0.02)  # a third of a semitone
        assert heard.size == (None if motion in ("grows", "shrinks", "bounces") else thing.size)
        assert len(heard.bursts) == 2 * (motion == "bounces")


def test_glides_and_bursts_are_measured() -> None:
    up, down = judge_sound(sound(scene("moves up"))), judge_sound(sound(scene("moves down")))
    assert up.glide == pytest.approx(4, abs=0.6)  # the pitch of its last quarter second, less that of the first
    assert down.glide == pytest.approx(-4, abs=0.6)
    assert judge_sound(sound(scene("bounces"))).bursts == pytest.approx((0.531, 1.594), abs=0.011)


def test_noise_is_forgiven() -> None:
    rng = np.random.default_rng(0)
    for index in range(60):
        thing = draw_scene(4, index).objects[0]
        samples = sound(Scene("white", (thing,)))
        power = samples.std() / 10  # 20 dB
        heard = judge_sound(samples + rng.normal(0, power, samples.shape))
        assert (heard.shape, heard.motion) == (thing.shape, thing.motion)


def test_silence_and_other_forms() -> None:
    assert judge_sound(np.zeros(34000)) == SoundJudgement(None, None, (), None, None, None)
    assert not judge_sound(np.zeros(34000)).found
    with pytest.raises(ValueError, match="wanted \\(n,\\), mono"):
        judge_sound(np.zeros((2, 34000)))
    with pytest.raises(ValueError, match="at least"):
        judge_sound(np.zeros(1000))
