"""The clips of the README, by the model that ships: docs/gallery/*.gif, what was given to the left of what was made.

Run: python docs/gallery.py [--model DIR]

Nothing is picked: each is the clip of seed 0. What is given is of scenes that the model was not trained on.
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

GALLERY = Path(__file__).parent / "gallery"
PROMPTS = {
    "star": "a small yellow star bounces on a brown background",
    "circle": "a large red circle moves right on a black background",
    "square": "a large purple square grows on a pink background",
    "two": "a large blue circle moves left and a small orange cross stays still on a white background",
}
GIVEN = (
    "image_to_video",
    "frame_prediction",
    "inpainting_central",
    "outpainting_central",
    "stylization",
    "audio_to_video",
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
    made = model(task=name, **inputs, generator=generators(0, 1)).videos[0]
    print(f"{name}: {inputs['prompt'][0]}")
    given = [shown(values[0], made) for key, values in inputs.items() if key != "prompt"]
    if (hidden := hidden_of(variant.task, variant.format)) is not None:
        given = [masked(clip, hidden) for clip in given]
    return [*given, made]


def shown(given: Video | Image | Audio, made: Video) -> Video:
    """What was given as a clip as long and high as the one made; the frames that were not given are grey."""
    if isinstance(given, Audio):
        frames = waveform(given).frames[:, :, :: waveform(given).width // made.width][:, :, : made.width]
    else:
        frames = given.pixels[None] if isinstance(given, Image) else given.frames
    rest = np.full((len(made) - len(frames), *made.frames.shape[1:]), 128, np.uint8)
    return Video(
        np.concatenate([frames, rest if not isinstance(given, Audio) else np.repeat(frames, len(rest), 0)]), made.fps
    )


def write(name: str, clips: Sequence[Video]) -> None:
    """Clips side by side as an animation."""
    large = [clip.frames.repeat(SCALE, 1).repeat(SCALE, 2) for clip in clips]
    gap = np.full((*large[0].shape[:2], GAP, 3), 255, np.uint8)
    frames = np.concatenate([part for clip in large for part in (gap, clip)][1:], 2)
    path = write_video(Video(frames, clips[0].fps), GALLERY / f"{name}.gif", overwrite=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
