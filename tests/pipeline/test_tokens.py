"""Token files: any film there and back, of its true length and size, in flat memory."""

import json
import tracemalloc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.media import Image, Video, read_image, read_video, write_image, write_video
from videolm.metrics import psnr
from videolm.pipeline.tokens import ABOUT, CODES, detokenize, read_tokens, tokenize
from videolm.shapes import Format
from videolm.tokenizers.protocol import VIDEO_TOKENIZERS, VideoTokenizer


def tiny(name: str) -> VideoTokenizer:
    settings = read_yaml(str(files("videolm.configs") / "tokenizer" / f"{name}.yaml"))
    kind = VIDEO_TOKENIZERS.get(settings["name"])
    torch.manual_seed(0)
    return kind(parse(kind.Settings, settings)).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["magvit_v2_tiny", "c_vivit_tiny", "magvit_tiny"])
def tokenizer(request: pytest.FixtureRequest) -> VideoTokenizer:
    return tiny(request.param)


def film(path: Path, shape: Format) -> Path:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (shape.frames, shape.height // 6, shape.width // 6, 3), dtype=np.uint8)
    return write_video(Video(frames.repeat(6, 1).repeat(6, 2), 8.0), path)


def padded(video: Video, tokenizer: VideoTokenizer) -> torch.Tensor:
    """A film as the tokenizer takes it, its last frame and its edges repeated: (1, 3, f, H, W)."""
    side, length = tokenizer.spatial_stride, len(video)
    while True:
        try:
            tokenizer.grid(length, side, side)
            break
        except UserError:
            length += 1
    around = ((0, length - len(video)), (0, -video.height % side), (0, -video.width % side), (0, 0))
    return Video(np.pad(video.frames, around, mode="edge"), video.fps).to_tensor()[None]


SHAPES = [Format(17, 24, 36), Format(2, 30, 18), Format(39, 12, 42), Format(64, 24, 24)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_film_there_and_back(tokenizer: VideoTokenizer, shape: Format, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", shape)
    video = read_video(source, fps=None)
    info, grid = tokenize(source, tmp_path / "codes.safetensors", tokenizer)
    assert (info.frames, info.height, info.width, info.fps) == (*shape, 8.0)
    codes, said = read_tokens(tmp_path / "codes.safetensors")
    assert said == info and tuple(codes.shape) == grid
    whole = tokenizer.encode(padded(video, tokenizer))[0]
    assert codes.shape == whole.shape and (codes != whole).float().mean() <= 1e-4  # chunks: other rounding
    detokenize(tmp_path / "codes.safetensors", tmp_path / "again.mp4", tokenizer)
    again = read_video(tmp_path / "again.mp4", fps=None)
    assert again.frames.shape == video.frames.shape and again.fps == video.fps
    expected = tokenizer.decode(whole[None]).clamp(-1, 1)[:, :, : shape.frames, : shape.height, : shape.width]
    halved = [F.avg_pool3d(clip, (1, 2, 2)) for clip in (again.to_tensor()[None], expected)]  # as H.264 halves colour
    assert float(psnr(*halved)) > 20


def test_a_picture_there_and_back(tokenizer: VideoTokenizer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    write_image(Image(pixels), tmp_path / "still.png")
    info, grid = tokenize(tmp_path / "still.png", tmp_path / "still.safetensors", tokenizer)
    assert info.frames == 1 and grid.t == 1
    detokenize(tmp_path / "still.safetensors", tmp_path / "again.png", tokenizer)
    assert read_image(tmp_path / "again.png").pixels.shape == pixels.shape


def test_rate_and_size_may_be_changed(tmp_path: Path) -> None:
    tokenizer = tiny("magvit_v2_tiny")
    source = film(tmp_path / "film.mp4", Format(17, 48, 48))
    info, grid = tokenize(source, tmp_path / "codes.safetensors", tokenizer, fps=4, size=(32, 16))
    assert (info.frames, info.height, info.width, info.fps) == (9, 32, 16, 4.0) and grid == (3, 4, 2)


def test_frames_are_counted_as_they_pass(tmp_path: Path) -> None:
    tokenizer, seen = tiny("magvit_v2_tiny"), []
    source = film(tmp_path / "film.mp4", Format(39, 24, 24))
    tokenize(source, tmp_path / "codes.safetensors", tokenizer, on_frames=seen.append)
    assert sum(seen) == 39 and len(seen) > 1
    seen.clear()
    detokenize(tmp_path / "codes.safetensors", tmp_path / "again.mp4", tokenizer, on_frames=seen.append)
    assert sum(seen) >= 39 and len(seen) > 1  # with what was padded


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    """Frames of the long film are 16 times those of the short one, and none of them are kept."""
    tokenizer = tiny("magvit_v2_tiny")
    peaks = []
    for frames in (64, 1024):
        source = film(tmp_path / f"{frames}.mp4", Format(frames, 48, 48))
        tracemalloc.start()
        tokenize(source, tmp_path / f"{frames}.safetensors", tokenizer)
        detokenize(tmp_path / f"{frames}.safetensors", tmp_path / f"again-{frames}.mp4", tokenizer)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    tokenize(film(folder / "film.mp4", Format(5, 24, 24)), folder / "film.safetensors", tiny("magvit_v2_tiny"))
    return folder / "film.safetensors"


def test_codes_of_another_tokenizer_are_refused(made: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = type(tiny("magvit_v2_tiny"))(tiny("magvit_v2_tiny").config)
    for tokenizer in (tiny("c_vivit_tiny"), other):
        with pytest.raises(UserError, match="made with another tokenizer"):
            detokenize(made, tmp_path / "again.mp4", tokenizer)
    assert not list(tmp_path.iterdir())


def broken(made: Path, path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, object]], object]) -> Path:
    """A copy of a token file with its codes and what it says of them changed."""
    tensors, about = load_file(made), read_tokens(made)[1].model_dump()
    change(tensors, about)
    save_file(tensors, path, {ABOUT: json.dumps(about)})
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, about: tensors.update({CODES: tensors[CODES] + 2**20}), "another tokenizer's"),
        (lambda tensors, about: tensors.update({CODES: tensors[CODES][:1].contiguous()}), "5 frames have codes"),
        (lambda tensors, about: tensors.update({CODES: tensors[CODES].float()}), "codes are int32"),
        (lambda tensors, about: tensors.update({CODES: tensors[CODES][:0].contiguous()}), "codes are int32"),
        (lambda tensors, about: tensors.clear() or tensors.update({"x": torch.zeros(1)}), "no token file"),
        (lambda tensors, about: about.update(frames=0), "frames"),
        (lambda tensors, about: about.update(height=10**9), "have codes"),
        (lambda tensors, about: about.pop("fps"), "fps"),
        (lambda tensors, about: about.update(colour=1), "unknown key 'colour'"),
    ],
)
def test_broken_token_files(made: Path, tmp_path: Path, change: Callable[..., object], said: str) -> None:
    path = broken(made, tmp_path / "broken.safetensors", change)
    with pytest.raises(UserError, match=said) as error:
        detokenize(path, tmp_path / "again.mp4", tiny("magvit_v2_tiny"))
    assert "\n" not in str(error.value) and not (tmp_path / "again.mp4").exists()


def test_files_that_are_no_token_files(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no token file"):
        read_tokens(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(made.read_bytes()[:-20])
    with pytest.raises(UserError, match="make it again"):
        read_tokens(cut)
    save_file({CODES: torch.zeros(1, 1, 1, dtype=torch.int32)}, cut, {ABOUT: "{"})
    with pytest.raises(UserError, match="is no JSON"):
        read_tokens(cut)
    with pytest.raises(UserError, match=r"written as \.safetensors"):
        tokenize(made.parent / "film.mp4", tmp_path / "codes.bin", tiny("magvit_v2_tiny"))


def test_a_film_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", Format(200, 96, 96))
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(UserError):
        tokenize(source, tmp_path / "codes.safetensors", tiny("magvit_v2_tiny"))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
