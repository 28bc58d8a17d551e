"""The model that ships: whole, small, and doing what a caption says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from videolm import VideoLM, shapesworld
from videolm.cli.main import main
from videolm.evaluate.shapes import evaluate_reconstruction, evaluate_task, scenes
from videolm.evaluate.shapesbench import read_scores
from videolm.evaluate.super_resolution import from_true_codes
from videolm.media import Video
from videolm.metrics import psnr
from videolm.pipeline.folder import SHIPPED, model_hash
from videolm.train.recipe import load_recipe

pytestmark = pytest.mark.skipif(not SHIPPED.is_dir(), reason="no model ships with this checkout")


@pytest.fixture(scope="module")
def model() -> VideoLM:
    return VideoLM.from_pretrained()


def test_it_is_small_and_holds_no_pickles() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".model", ".md"}


def test_its_card_states_the_scores_that_were_measured() -> None:
    found = read_scores(SHIPPED / "scores.json")
    assert found is not None
    on, rows = found
    assert on["model"].endswith(f"@{model_hash(SHIPPED)}")
    card = (SHIPPED / "README.md").read_text()
    for name, row in rows.items():
        if "all_right" in row.measures:
            assert f"{row.measures['all_right'].mean:.1%}" in card, name
    assert {"text_to_video", "text_to_video, held out", "story", "video_to_audio", "ours, of true"} <= rows.keys()
    assert rows["text_to_video"].samples >= 256


def test_the_readme_has_the_figures_of_its_card() -> None:
    found = read_scores(SHIPPED / "scores.json")
    assert found is not None
    measured = {name: row.measures for name, row in found[1].items()}
    readme = (SHIPPED.parents[2] / "README.md").read_text()
    for name, measure in (
        ("text_to_video", "all_right"),
        ("text_to_video, held out", "all_right"),
        ("text_to_video, two objects", "all_right"),
        ("image_to_video", "all_right"),
        ("frame_prediction, 9 frames given", "all_right"),
        ("inpainting_central", "all_right"),
        ("stylization, 1 frame given", "all_right"),
        ("stylization, 0 frames given", "style"),
        ("audio_to_video", "all_right"),
        ("video_to_audio", "pitch"),
        ("video_to_audio", "bursts"),
        ("story", "prompts"),
        ("ours, of true", "all_right"),
    ):
        assert f" {measured[name][measure].mean:.1%}" in readme, (name, measure)


def test_the_recipe_on_its_card_is_the_one_it_has(model: VideoLM) -> None:
    recipe = load_recipe("shapesworld/small")
    assert model.tokenizer.config == recipe.tokenizer
    assert model.lm.config.lm == recipe.lm
    assert model.tasks == recipe.task_set
    assert model.sampling == recipe.sampling
    assert model.audio is not None and model.audio.config == recipe.audio_tokenizer
    (stage,) = model.parts.stages
    assert stage.sampling == recipe.super_resolution_sampling
    alone = load_recipe("shapesworld/upscale")
    assert alone.super_resolution == recipe.super_resolution
    assert alone.super_resolution_training == recipe.super_resolution_training
    assert alone.super_resolution_sampling == recipe.super_resolution_sampling
    assert alone.data == recipe.super_resolution_data


def test_clips_do_what_their_captions_say(model: VideoLM) -> None:
    scores = evaluate_task(model, "text_to_video", 24, seed=77)
    assert scores["background"] >= 0.95
    assert scores["colour"] >= 0.9
    assert scores["shape"] >= 0.65  # these bounds leave room for 24 clips where the card has 256
    assert scores["motion"] >= 0.8
    assert scores["all_right"] >= 0.6


def test_reconstructions_are_read_right(model: VideoLM) -> None:
    scores = evaluate_reconstruction(model, 48)
    assert scores["psnr"] > 30
    assert scores["colour"] >= 0.95
    assert scores["shape"] >= 0.9


def test_super_resolution_is_nearer_to_the_large_clips_than_interpolation(model: VideoLM) -> None:
    """From the codes of true small clips it goes half of the way to what the codes of the large clips show.

    Of clips whose large codes show more than interpolation does: of fast ones they show less.
    """
    compared = from_true_codes(model, 12, seed=77)
    errors = {name: psnr(clips, compared.clips["true"]) for name, clips in compared.clips.items()}
    more = errors["ceiling"] > errors["bicubic"]
    gap, gain = ((errors[name] - errors["bicubic"])[more].mean() for name in ("ceiling", "ours"))
    assert more.sum() >= 4 and gain > gap / 2
    scores = compared.scores
    assert scores["ours"]["shape"] >= scores["bicubic"]["shape"]
    assert scores["ours"]["sharpness"] > 2 * scores["bicubic"]["sharpness"]


def test_tiles_and_chunks_leave_no_seams(model: VideoLM) -> None:
    """Films twice as high and wide as those trained on, and longer: from one pixel or frame to the next they change by
    as much, of what the tokenizer's own picture of the large film changes by, across borders as elsewhere."""
    side = 16 * 8
    made, best = two_films(model, 6, 77, frames=5, side=side)
    for axis in (2, 3):
        assert across_borders(made, best, axis, [96, 128, 224]) == pytest.approx(1, abs=0.1)
    made, best = two_films(model, 4, 78, frames=33, side=side // 2)
    assert across_borders(made, best, 1, [17]) == pytest.approx(1, abs=0.1)


def two_films(model: VideoLM, samples: int, seed: int, frames: int, side: int) -> list[np.ndarray]:
    """Films (n, f, 2 side, 2 side, 3) made of small ones, and the large ones as the tokenizer shows them."""
    made, best = [], []
    for scene in scenes(samples, "train", seed):
        small = Video(shapesworld.render(scene, 33, (side, side))[:frames], 8.0)
        large = Video(shapesworld.render(scene, 33, (2 * side, 2 * side))[:frames], 8.0)
        made.append(model.upscale(small, shapesworld.caption(scene), generator=seeded(), num_inference_steps=4).frames)
        best.append(reconstructed(model, large).frames)
    return [np.stack(films).astype(np.float32) for films in (made, best)]


def reconstructed(model: VideoLM, clip: Video) -> Video:
    with torch.inference_mode():
        pixels = model.tokenizer.decode(model.tokenizer.encode(clip.to_tensor()[None]))[0]
    return Video.from_tensor(pixels.clamp(-1, 1), clip.fps)


def across_borders(made: np.ndarray, best: np.ndarray, axis: int, borders: list[int]) -> float:
    """How much of its change in the best film a film shows across borders (where a part begins), over elsewhere."""
    others = tuple(other for other in range(5) if other != axis)
    changes = np.stack([np.abs(np.diff(films, axis=axis)).mean(others) for films in (made, best)])
    here = np.isin(np.arange(changes.shape[1]) + 1, borders)
    there, elsewhere = changes[:, here].sum(1), changes[:, ~here].sum(1)
    return float(there[0] / there[1] / (elsewhere[0] / elsewhere[1]))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_demo_shows_prompt_and_clip_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    clips = sorted(path.name for path in out.glob("*.mp4"))
    assert len(clips) >= 8
    assert all(f'src="{name}"' in page for name in clips)
    assert "text to video" in page
    assert "frame prediction" in page
    assert (out / "contact_sheet.png").stat().st_size > 10_000
    assert main(["demo", "--out", str(out)]) == 2
    assert main(["demo", "--out", str(out), "--force"]) == 0


def test_held_out_combinations_were_held_out() -> None:
    from videolm.data.sources import ShapesWorldData
    from videolm.shapes import Format

    source = ShapesWorldData().open("video", Format(17, 32, 32), 8.0, "train")
    shown = [shapesworld.parse_caption(source[index].captions[0])[0] for index in range(200)]
    assert not any(shapesworld.is_held_out(a.colour, a.shape, a.motion or "") for a in shown)
