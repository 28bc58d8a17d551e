"""Perceptual networks: torchmetrics' LPIPS as oracle, public files that are missing or wrong, I3D's protocol."""

from pathlib import Path

import pytest
import torch
from torchmetrics.functional.image import lpips as oracle

from videolm.errors import UserError
from videolm.tokenizers.losses.perceptual import I3D, LPIPS


def test_lpips_is_that_of_torchmetrics(random_vgg: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = LPIPS.load()
    monkeypatch.setattr(oracle, "_get_tv_model_features", lambda *_: ours.features)
    theirs = oracle._LPIPS(pretrained=True, net="vgg", pnet_rand=True).eval()
    one, other = torch.rand(2, 2, 3, 3, 32, 48) * 2 - 1
    wanted = torch.stack([theirs(one[:, :, f], other[:, :, f]).flatten() for f in range(3)]).mean(0)
    torch.testing.assert_close(ours.distance(one, other), wanted)
    assert (ours.distance(one, other) > 0.01).all() and (ours.distance(one, one) == 0).all()


def test_lpips_moves_pictures_towards_the_true_ones(random_vgg: None) -> None:
    network = LPIPS.load()
    truth, made = torch.rand(1, 3, 1, 32, 32) * 2 - 1, torch.zeros(1, 3, 1, 32, 32, requires_grad=True)
    before = network.distance(made, truth).sum()
    (gradient,) = torch.autograd.grad(before, made)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    with torch.no_grad():
        assert network.distance(made - 0.05 * gradient / gradient.abs().mean(), truth) < before
    assert not any(weight.requires_grad for weight in network.parameters())


def test_frames_that_are_too_small(random_vgg: None, random_i3d: None) -> None:
    with pytest.raises(UserError, match="16x16 pixels or more, these have 24x8"):
        LPIPS.load().distance(*torch.zeros(2, 1, 3, 1, 8, 24))
    with pytest.raises(UserError, match="10 frames or more, these have 9"):
        I3D.load()(torch.zeros(1, 3, 9, 32, 32))


@pytest.mark.parametrize("size", [(32, 32), (48, 32), (20, 61), (224, 300)])
def test_i3d_sees_the_middle_at_224_pixels(size: tuple[int, int], random_i3d: None) -> None:
    """The long side's ends are left out: what is there changes nothing, what is in the middle does."""
    network, clips = I3D.load(), torch.zeros(1, 3, 10, *size)
    side, long = min(size), max(size)
    edge = (long - side) // 2 - 1
    cut = clips.clone()
    if edge > 0:
        cut.narrow(3 if size[0] == long else 4, 0, edge).fill_(1.0)
    torch.testing.assert_close(network(cut), network(clips))
    clips[:, :, :, size[0] // 2, size[1] // 2] = 1.0
    assert not torch.equal(network(cut), network(clips))


def test_i3d_has_gradients_and_a_distance_clip_by_clip(random_i3d: None) -> None:
    network = I3D.load()
    truth, made = torch.rand(2, 3, 10, 32, 32), torch.zeros(2, 3, 10, 32, 32, requires_grad=True)
    distance = network.distance(made, truth)
    torch.testing.assert_close(distance, (network(made) - network(truth)).square().mean(1))
    assert distance.shape == (2,) and torch.autograd.grad(distance[0], made)[0][1].abs().sum() == 0


@pytest.mark.parametrize("kind", [LPIPS, I3D])
def test_weights_that_are_missing_say_which_file_goes_where(
    kind: type[LPIPS | I3D], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOLM_CACHE", str(tmp_path))
    with pytest.raises(UserError) as error:
        kind.load()
    said = str(error.value)
    assert "\n" not in said and str(tmp_path / "weights" / kind.file.name) in said
    assert kind.file.sha256 in said and "https://" in said and len(kind.file.sha256) == 64


@pytest.mark.parametrize("kind", [LPIPS, I3D])
def test_another_file_of_that_name_is_not_read(
    kind: type[LPIPS | I3D], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOLM_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / kind.file.name).write_bytes(b"something else")
    with pytest.raises(UserError, match=f"its sha256 is .*, not {kind.file.sha256}; fetch it again"):
        kind.load()
