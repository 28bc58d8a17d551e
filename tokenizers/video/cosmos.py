"""NVIDIA's discrete video tokenizers (Cosmos-Tokenizer DV4x8x8, DV8x8x8, DV8x16x16; NVIDIA Open Model License).

They are published as two TorchScript programs: `encoder.jit` takes video to the numbers of 64,000 codes, `decoder.jit`
takes these back. The code of a place is six values of a few levels each (finite scalar quantisation, arXiv 2309.15505).

    tokenizer = Cosmos.from_files("encoder.jit", "decoder.jit")
    tokenizer.save_pretrained("cosmos")     # our own folder, with copies of both

The rule is that nothing executable is ever loaded; this is the one exception. A TorchScript file is a program in a
language of tensors, run by PyTorch: loading it unpickles no Python objects, but it may write files, so whoever runs it
trusts its author. So it is run when its file has been named on this machine (`videolm borrow cosmos`, or `from_files`),
which notes its SHA-256 in the user's cache; a folder with any other program is refused.

A program keeps no state, so a clip is coded as a whole (`VideoTokenizer.block`), in the precision the program has.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from videolm.cache import is_trusted, trust
from videolm.component import CONFIG_FILE, read_json
from videolm.config import Config, parse
from videolm.errors import UserError
from videolm.tokenizers.layers.stream import Past
from videolm.tokenizers.quantize.fsq import FSQ, FSQConfig, Levels
from videolm.tokenizers.video.borrowed import Borrowed, refuse_config

ENCODER_FILE, DECODER_FILE = "encoder.jit", "decoder.jit"
PROBE = (1, 3, 17, 64, 64)
"""Shape of the clip that shows the strides of a program."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CosmosConfig(Config):
    """What a pair of programs was seen to do."""

    name: Literal["cosmos"] = "cosmos"
    temporal_stride: Annotated[int, Field(ge=1)] = 4
    """Frames a latent frame."""
    spatial_stride: Annotated[int, Field(ge=1)] = 8
    """Pixels on a side of a latent position."""
    levels: Annotated[tuple[Levels, ...], Field(min_length=1, max_length=16)] = (8, 8, 8, 5, 5, 5)
    """Values of each channel of a code."""
    encoder: Digest
    """SHA-256 of `encoder.jit`."""
    decoder: Digest
    """SHA-256 of `decoder.jit`."""


class Numbers(FSQ):
    """Codes to the vectors of their levels and back: the encoder's program quantises itself."""

    def codes(self, latents: Tensor) -> Tensor:
        """Of the nearest code, where `latents` (..., dim) are no code's."""
        half = self.levels // 2
        digits = ((latents * half).round().long() + half).clamp_min(0).minimum(self.levels - 1)
        return (digits * self.bases).sum(-1)


class Program(nn.Module):
    """A TorchScript program with what lies around it. It moves between devices and stays in its precision."""

    def __init__(self, quantizer: Numbers):
        super().__init__()
        self.program: torch.jit.ScriptModule | None = None  # until the file is read
        self.numbers = [quantizer]  # a part of the tokenizer, not of this

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Program:
        """How a module is moved or cast: moved alone."""
        for weight in self.parameters():
            device = fn(torch.empty(0, device=weight.device)).device
            if device != weight.device:
                assert self.program is not None  # it has weights
                self.program.to(device)
            break
        return self

    def run(self, given: Tensor) -> Any:
        assert self.program is not None  # the tokenizer was loaded
        with torch.no_grad():
            return self.program(given)


class Encoder(Program):
    """Video (b, 3, f, H, W) to vectors (b, k, t, h, w) of codes."""

    def forward(self, video: Tensor, past: Past | None = None) -> Tensor:
        """`past` is that of a chunk which is a whole clip, so there is none."""
        codes = self.run(video.to(next(self.parameters()).dtype))[0]
        return self.numbers[0].vectors(codes.long()).movedim(-1, 1)


class Decoder(Program):
    """Vectors (b, k, t, h, w) to video: the program takes the nearest codes, and no others."""

    def forward(self, vectors: Tensor, past: Past | None = None) -> Tensor:
        """`past`: see `Encoder.forward`."""
        video: Tensor = self.run(self.numbers[0].codes(vectors.movedim(1, -1)).int())
        return video


class Cosmos(Borrowed):
    """See the module docstring."""

    Settings = CosmosConfig
    causal: ClassVar[bool] = True
    first_frame_alone: ClassVar[bool] = True
    block = None
    encoder: Encoder
    decoder: Decoder

    def __init__(self, config: CosmosConfig):
        super().__init__(config)
        self.temporal_stride, self.spatial_stride = config.temporal_stride, config.spatial_stride
        self.quantizer = Numbers(FSQConfig(levels=config.levels))
        self.encoder, self.decoder = Encoder(self.quantizer), Decoder(self.quantizer)
        self.files: tuple[Path, Path] | None = None  # of the two programs

    @classmethod
    def from_files(cls, encoder: str | Path, decoder: str | Path) -> Self:
        """Load the two programs as NVIDIA publishes them, and see what they do with a small clip.

        Naming them is trusting them: see the module docstring.
        Raises `UserError` where one cannot be read, or they are no discrete tokenizer of videos.
        """
        files = (Path(encoder), Path(decoder))
        programs = [_load(path) for path in files]
        digests = {part: digest for part, (_, digest) in zip(("encoder", "decoder"), programs, strict=True)}
        tokenizer = cls(CosmosConfig(**digests))._with(files, [program for program, _ in programs])
        found = cls(tokenizer._seen(digests))._with(files, [program for program, _ in programs])
        return found.eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Read what `save_pretrained` wrote. The programs keep their precision, whatever `dtype`.

        Raises `UserError` for a file that is missing or broken, that is not the one noted, or that nobody has named on
        this machine.
        """
        config = parse(CosmosConfig, read_json(Path(folder) / CONFIG_FILE), source=str(folder))
        files = (Path(folder) / ENCODER_FILE, Path(folder) / DECODER_FILE)
        programs = [_load(path, digest) for path, digest in zip(files, (config.encoder, config.decoder), strict=True)]
        return cls(config)._with(files, [program for program, _ in programs]).eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the config and copies of the two programs into `folder`, in their precision, whatever `dtype`."""
        assert self.files is not None  # the tokenizer was loaded
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for path, name in zip(self.files, (ENCODER_FILE, DECODER_FILE), strict=True):
            if not path.is_file():
                raise UserError(f"{path}, which this tokenizer was loaded from, is there no more")
            if path.resolve() != (folder / name).resolve():
                shutil.copyfile(path, folder / name)
        (folder / CONFIG_FILE).write_text(self.config.model_dump_json(indent=2) + "\n")

    def fingerprint(self) -> str:
        """A short hash of the programs, to know them again."""
        return hashlib.sha256((self.config.encoder + self.config.decoder).encode()).hexdigest()[:16]

    def _with(self, files: tuple[Path, Path], programs: list[torch.jit.ScriptModule]) -> Self:
        self.files = files
        self.encoder.program, self.decoder.program = programs
        return self

    def _seen(self, digests: dict[str, str]) -> CosmosConfig:
        """The settings of the programs at hand."""
        video = torch.linspace(-1, 1, 3 * 17 * 64 * 64).view(PROBE)
        try:
            codes, vectors = self.encoder.run(video.to(next(self.encoder.parameters()).dtype))[:2]
            t, h, _ = codes.shape[1:]
            strides = {"temporal_stride": 16 // (t - 1), "spatial_stride": 64 // h}
            if not torch.equal(self.quantizer.vectors(codes.long()).movedim(-1, 1), vectors.float()):
                raise ValueError(f"its codes are not of levels {self.config.levels}")
            back = self.decoder.run(codes).shape
            if back != PROBE:
                raise ValueError(f"{PROBE} came back as {tuple(back)}")
            return CosmosConfig(**strides, **digests)
        except (RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError, StopIteration) as error:
            raise refuse_config("a discrete video tokenizer of Cosmos (DV)", error) from error


def _load(path: Path, digest: str | None = None) -> tuple[torch.jit.ScriptModule, str]:
    """The program of a file with its SHA-256, which must be `digest` where that is known."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if digest not in (None, found):
        raise UserError(
            f"{path} is not the file that this folder was made with (SHA-256 {found[:16]}, noted {str(digest)[:16]}): "
            "make the folder again with `videolm borrow cosmos`"
        )
    if digest is None:
        trust(found)
    elif not is_trusted(found):
        raise UserError(
            f"{path} is a program that has not been named on this machine: if you trust its author, name both files "
            "with `videolm borrow cosmos ENCODER.jit DECODER.jit --out DIR`"
        )
    try:
        program = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} is no TorchScript file: {str(error).splitlines()[0][:200]}") from error
    for weight in program.parameters():
        weight.requires_grad_(False)
    return program.eval(), found
