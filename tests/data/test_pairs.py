"""Clips and their sounds stay together in what a language model is trained on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from videolm.media import Audio, Video, write_video
from videolm.train.recipe import load_recipe
from videolm.train.run import Run


def test_silent_films_leave_no_gap_between_clips_and_sounds(tmp_path: Path, numbered: Callable[[int], Video]) -> None:
    """Of three films the first is silent: each row's clip and sound are of one of the others."""
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(numbered(20), clips / "a.mp4")
    for name, level in (("b", 0.1), ("c", 0.8)):
        shown = Video(np.full((20, 32, 32, 3), 255 * (level > 0.5), np.uint8), 8.0)
        tone = level * np.sin(np.arange(40_000) / 5)
        write_video(shown, clips / f"{name}.mp4", audio=Audio.from_array(tone, 16_000))
    changes = {
        "data": {"kind": "folder", "path": str(clips), "validation_share": 0},
        "tasks": {"video_to_audio": 1, "image_to_video": 1},
        "audio_tokenizer": "soundstream_tiny",
        "audio_training": {"steps": 30, "batch": 2, "seconds": 0.5, "windows": [256], "validation_sounds": 2},
        "tokenizer_training.steps": 20,
        "out": str(tmp_path / "run"),
    }
    run = Run(load_recipe("shapesworld/tiny", changes))
    audio, tokenizer = run.audio_tokenizer(), run.tokenizer()
    [data] = run.shards(tokenizer, audio, run.text_encoder(), "train")
    shards = data.shards
    assert len(shards["video"]) == len(shards["audio"]) == 8  # four windows of each of two films
    indices = np.arange(8)
    seen = tokenizer.decode(shards["video"].read(indices).codes).mean((1, 2, 3, 4))
    heard = audio.decode(shards["audio"].read(indices).codes).abs().mean(1)
    assert (seen[:4] < seen[4:]).all() and (heard[:4] < heard[4:]).all()
