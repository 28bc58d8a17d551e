"""Flow and depth of footage, held against ShapesWorld's own; masks from pictures and boxes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from videolm.data.conditions import DepthEstimator, RaftFlow, StructureMaker, box_mask, optical_flow, picture_mask
from videolm.data.sources import FolderData
from videolm.errors import UserError
from videolm.media import Image, Video, write_video
from videolm.shapes import Format
from videolm.shapesworld import Object, Scene, render, render_structure


def scene(motion: str) -> Scene:
    return Scene("black", (Object("yellow", "star", "large", motion, 0.5, 0.5),))


@pytest.mark.parametrize("motion", ["moves left", "moves down", "stays still", "grows"])
def test_flow_is_the_worlds_own(motion: str) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'videolm[conditions]'")
    size = (128, 128)
    true = (render_structure(scene(motion), size=size)[..., :2] / 127.5 - 1) * 0.15
    depth = render_structure(scene(motion), size=size)[..., 2]
    found = optical_flow(render(scene(motion), size=size))
    inside = depth > 200
    assert found.shape == (17, *size, 2)
    assert not found[0].any()
    for index in (4, 16):
        difference = (found[index] - true[index])[inside[index]]
        assert np.abs(difference).mean() < 0.003  # under half a pixel
    if motion == "moves left":
        assert found[4][inside[4]][:, 0].mean() == pytest.approx(-0.35 / 16, rel=0.2)


def test_flow_of_small_frames() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(UserError, match="16x16 pixels or more"):
        optical_flow(np.zeros((2, 8, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Depth Anything of the real classes, with random weights."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        image_size=56,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
    )
    folder = tmp_path_factory.mktemp("depth")
    model = DepthAnythingForDepthEstimation(config)
    for weight in model.head.parameters():  # made so small that all would be as near
        torch.nn.init.uniform_(weight, 0, 1)
    model.save_pretrained(folder)
    settings = {"size": {"height": 50, "width": 60}, "ensure_multiple_of": 14}
    settings |= {"image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def test_depth(estimator: Path) -> None:
    video = Video(render(scene("moves left")), 8.0)
    depth = DepthEstimator(estimator)(video)
    assert depth.shape == (17, 64, 64)
    assert (depth.min(), depth.max()) == (0, 1)
    assert np.allclose(DepthEstimator(estimator)(video, batch=5), depth, atol=1e-4)


def test_structure_is_a_clip(estimator: Path) -> None:
    pytest.importorskip("cv2")
    video = Video(render(scene("stays still")), 8.0)
    made = StructureMaker(estimator)(video)
    assert made.frames.shape == video.frames.shape
    assert (np.abs(made.frames[..., :2].astype(int) - 128) <= 1).all()  # no flow
    assert (made.frames[..., 2].min(), made.frames[..., 2].max()) == (0, 255)


def test_estimators_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no depth estimator in .*: fetch one, for instance"):
        DepthEstimator(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot load the depth estimator"):
        DepthEstimator(tmp_path)


def test_masks_of_pictures_and_boxes() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10] = 255
    mask = picture_mask(Image(pixels), 32, 64)
    assert mask.shape == (1, 32, 64)
    assert mask[0, :16].all()
    assert not mask[0, 16:].any()
    box = box_mask((0.25, 0, 0.5, 1), 8, 8)
    assert box[0, 0].tolist() == [False, False, True, True, False, False, False, False]
    assert box[0].all(0).sum() == 2
    for wrong in ((0.5, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.5)):
        with pytest.raises(UserError, match="the box .* is none"):
            box_mask(wrong, 8, 8)


def test_a_folder_of_clips_gives_their_structure(estimator: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    shown = Video(render(scene("moves right"), 17, (64, 64)), 8.0)
    write_video(shown, tmp_path / "clip.mp4")
    data = FolderData(path=str(tmp_path), validation_share=0, depth_model=str(estimator))
    shape = Format(17, 64, 64)
    clip, made = (data.open(stream, shape, 8.0, "train")[0].media for stream in ("video", "structure"))
    assert np.array_equal(made.frames, StructureMaker(estimator)(clip).frames)


def test_raft_is_asked_backwards_and_in_its_own_size() -> None:
    """Its interface, by an estimator that finds one displacement everywhere; the model itself needs torchvision."""
    asked = []

    def everywhere(one: torch.Tensor, other: torch.Tensor) -> list[torch.Tensor]:
        asked.append((float(one.mean()), float(other.mean())))
        assert one.shape == other.shape == (1, 3, 128, 136)
        flow = torch.zeros(1, 2, 128, 136)
        flow[:, 0], flow[:, 1] = 13.6, -6.4
        return [torch.zeros_like(flow), flow]

    frames = np.stack([np.full((64, 132, 3), level, np.uint8) for level in (0, 255, 0)])
    flow = RaftFlow(everywhere)(frames)
    assert flow.shape == (3, 64, 132, 2) and flow.dtype == np.float32
    assert not flow[0].any()
    assert np.allclose(flow[1:, ..., 0], -0.1) and np.allclose(flow[1:, ..., 1], 0.05)
    assert asked == [(1, -1), (-1, 1)]  # from each frame to the one before


def test_raft_without_torchvision_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(UserError, match="RAFT needs torchvision and its weights .*; flow by DIS needs neither"):
        RaftFlow()
