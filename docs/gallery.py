"""The clips of the README, by the model that ships: docs/gallery/*.gif, what was given to the left of what was made.

Run: python docs/gallery.py [--model DIR]

Nothing is picked: each is the clip of seed 0. What is given is of scenes that the model was not trained on. Sounds are
shown as their courses; a clip made with sound is there as an mp4 too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videolm import VideoLM
from videolm.data.sources import ShapesWorldData
from videolm.evaluate.pictures import masked, waveform
from videolm.evaluate.world import World, hidden_of
from videolm.generate.sampling import generators
from videolm.media import Audio, Image, Video, write_video
from videolm.tasks import Visual

GALLERY = Path(__file__).parent / "gallery"
PROMPTS = {
    "star": "a small yellow star bounces on a brown background",
    "circle": "a large red circle moves right on a black background",
    "square": "a large purple square grows on a pink background",
}
GIVEN = (
    "image_to_video",
    "frame_prediction",
    "inpainting_central",
    "outpainting_central",
    "stylization",
    "audio_to_video",
    "video_to_audio",
    "text_to_video_with_audio",
)
"""Tasks that are shown with true inputs."""
SCENE_SEED = 2000
STORY = (
    "a small red circle moves right on a white background",
    "a small red circle moves left on a white background",
    "a small red circle turns blue on a white background",
)
SCALE, GAP = 2, 4
"""Pixels of the GIF for one of the clip, and between what was given and what was made."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder (default: the one that ships)")
    model = VideoLM.from_pretrained(parser.parse_args().model)
    for name, prompt in PROMPTS.items():
        write(name, model(prompt, task="text_to_video", generator=generators(0, 1)).videos)
    for name in GIVEN:
        write(name, of_scene(model, name))
    shape, fps = model.tasks.formats[0], model.tasks.fps
    scenes = [(prompt, (shape.frames - (number > 0)) / fps) for number, prompt in enumerate(STORY)]
    chunks = model.story(scenes, task="text_to_video", generator=generators(0, 1))
    write("story", [Video(np.concatenate([chunk.videos[0].frames for chunk in chunks]), fps)])


def of_scene(model: VideoLM, name: str) -> list[Video]:
    """What is given to a task, and what it makes of it; with sound of the first scene that bounces."""
    variant = model.tasks.find(name)
    world = World(ShapesWorldData(seed=SCENE_SEED), variant.format, model.tasks.fps)
    motions = [world.source("video").scene(index).objects[0].motion for index in range(100)]
    index = motions.index("bounces") if "audio" in variant.task.sources else 0
    inputs = world.inputs(variant, [index])
    print(f"{name}: {inputs['prompt'][0]}")
    out = model(task=name, **inputs, generator=generators(0, 1))
    clip = out.videos[0]
    given = [shown(values[0], clip) for key, values in inputs.items() if key != "prompt"]
    if (hidden := hidden_of(variant.task, variant.format)) is not None:
        given = [masked(each, hidden) for each in given]
    sounds = [course(sound, clip) for sound in out.sounds or ()]
    if not any(isinstance(part, Visual) for part in variant.task.outputs):
        return [*given, *sounds]
    if sounds:
        write_video(clip, GALLERY / f"{name}.mp4", audio=out.sounds[0], overwrite=True)
    return [*given, clip, *sounds]


def shown(given: Video | Image | Audio, made: Video) -> Video:
    """What was given as a clip as long and high as the one made; the frames that were not given are grey."""
    if isinstance(given, Audio):
        return course(given, made)
    frames = given.pixels[None] if isinstance(given, Image) else given.frames
    rest = np.full((len(made) - len(frames), *made.frames.shape[1:]), 128, np.uint8)
    return Video(np.concatenate([frames, rest]), made.fps)


def course(sound: Audio, clip: Video) -> Video:
    """A sound's course beside a clip, as wide and long as it."""
    drawn = waveform(sound).frames
    columns = np.linspace(0, drawn.shape[2] - 1, clip.width).astype(int)
    return Video(np.repeat(drawn[:, :, columns], len(clip), 0), clip.fps)


def write(name: str, clips: Sequence[Video]) -> None:
    """Clips side by side as an animation."""
    large = [clip.frames.repeat(SCALE, 1).repeat(SCALE, 2) for clip in clips]
    gap = np.full((*large[0].shape[:2], GAP, 3), 255, np.uint8)
    frames = np.concatenate([part for clip in large for part in (gap, clip)][1:], 2)
    path = write_video(Video(frames, clips[0].fps), GALLERY / f"{name}.gif", overwrite=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
