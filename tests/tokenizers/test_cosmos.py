"""Tokenizers of NVIDIA's form: two TorchScript programs in a folder, which must be the ones that were named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from videolm.errors import UserError
from videolm.tokenizers.quantize.fsq import FSQ, FSQConfig
from videolm.tokenizers.video.cosmos import Cosmos, Numbers

Programs = Callable[..., tuple[Path, Path]]


def fails(said: str, load: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=said) as error:
        load()
    assert "\n" not in str(error.value)


def test_what_the_programs_give_is_what_is_given(cosmos_programs: Programs, tmp_path: Path) -> None:
    """In their own precision, bfloat16, whatever is asked for."""
    encoder, decoder = cosmos_programs(tmp_path)
    made = Cosmos.from_files(encoder, decoder)
    assert (made.temporal_stride, made.spatial_stride, made.codebook_size) == (4, 4, 64000)
    video = torch.rand(2, 3, 9, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = made.double().encode(video)
    numbers, vectors, _ = torch.jit.load(encoder)(video.bfloat16())
    assert len(codes.unique()) > 30 and torch.equal(codes, numbers.long())
    assert torch.equal(made.quantizer.vectors(codes).movedim(-1, 1), vectors.float())
    back = torch.jit.load(decoder)(numbers)
    assert back.dtype == torch.bfloat16 and torch.equal(made.decode(codes), back)
    near = made.quantizer.vectors(codes) + 0.05 * torch.rand(6)
    assert torch.equal(made.decode_vectors(near), back)  # the program takes codes alone
    assert not any(weight.requires_grad for weight in made.parameters())


def test_every_vector_is_its_own_code() -> None:
    config = FSQConfig(levels=(8, 5, 3))
    codes = torch.arange(120)
    numbers = Numbers(config)
    assert torch.equal(numbers.codes(numbers.vectors(codes)), codes)
    assert torch.equal(numbers.vectors(codes), FSQ(config).vectors(codes))


def test_another_file_in_the_place_of_a_program_is_refused(cosmos_programs: Programs, tmp_path: Path) -> None:
    made = Cosmos.from_files(*cosmos_programs(tmp_path))
    made.save_pretrained(tmp_path / "ours")
    again = Cosmos.from_pretrained(tmp_path / "ours", torch.float32)
    assert again.fingerprint() == made.fingerprint() and again.config == made.config
    again.save_pretrained(tmp_path / "ours")  # onto itself
    (tmp_path / "copy").mkdir()
    again.save_pretrained(tmp_path / "copy")
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "ours" / "encoder.jit"))
    fails(
        "encoder.jit is not the file that this folder was made with", lambda: Cosmos.from_pretrained(tmp_path / "ours")
    )
    (tmp_path / "ours" / "encoder.jit").unlink()
    fails("cannot read .*encoder.jit", lambda: Cosmos.from_pretrained(tmp_path / "ours"))
    fails("is there no more", lambda: again.save_pretrained(tmp_path / "third"))
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"decoder": "none"}))
    fails("decoder", lambda: Cosmos.from_pretrained(tmp_path / "copy"))


def test_programs_that_nobody_has_named_here_are_not_run(
    cosmos_programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Cosmos.from_files(*cosmos_programs(tmp_path))
    made.save_pretrained(tmp_path / "ours")
    monkeypatch.setattr("videolm.cache.trusted_folder", lambda: tmp_path / "trusted")  # as on another machine
    fails("has not been named on this machine", lambda: Cosmos.from_pretrained(tmp_path / "ours"))
    assert not (tmp_path / "trusted").exists()
    Cosmos.from_files(tmp_path / "ours" / "encoder.jit", tmp_path / "ours" / "decoder.jit")
    assert Cosmos.from_pretrained(tmp_path / "ours").fingerprint() == made.fingerprint()


def test_what_is_no_tokenizer_of_cosmos(cosmos_programs: Programs, tmp_path: Path) -> None:
    encoder, decoder = cosmos_programs(tmp_path)
    fails("cannot read", lambda: Cosmos.from_files(tmp_path / "none.jit", decoder))
    (tmp_path / "text.jit").write_text("none")
    fails("is no TorchScript file", lambda: Cosmos.from_files(tmp_path / "text.jit", decoder))
    torch.save({}, tmp_path / "pickle.jit")
    fails("is no TorchScript file", lambda: Cosmos.from_files(tmp_path / "pickle.jit", decoder))
    fails("not the files of a discrete video tokenizer", lambda: Cosmos.from_files(decoder, encoder))
    torch.jit.script(torch.nn.Conv3d(3, 16, 8, 8)).save(str(tmp_path / "continuous.jit"))
    fails("not the files of a discrete video", lambda: Cosmos.from_files(tmp_path / "continuous.jit", decoder))
