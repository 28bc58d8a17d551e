"""Low-rank adapters by `peft` (LoRA, arXiv 2106.09685): a language model learns by small matrices beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from videolm.config import Config
from videolm.errors import UserError
from videolm.model.prefix_lm import PrefixLM

BLOCKS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the linear maps in the trunk's blocks."""
SPECIAL = ("embedding.special", "head.whole.special")
"""Trained whole, since ids of new tasks have rows of their own there."""


class LoRA(Config):
    """The `lora:` section of a recipe."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """What the matrices' product is scaled by, times the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = BLOCKS
    """Linear maps of the trunk that are adapted, by the ends of their names."""


def with_adapters(lm: PrefixLM, config: LoRA) -> Any:
    """A `PeftModel` around `lm`, whose linear maps it changes in place. All but the adapters is frozen."""
    peft = _import_peft()
    known = {name for name, _ in lm.transformer.named_modules()}
    for target in config.targets:
        if not any(name.split(".")[-1] == target for name in known):
            raise UserError(f"lora.targets: the language model has no '{target}'; its maps are {', '.join(BLOCKS)}")
    whole = [name for name in SPECIAL if name in dict(lm.named_modules())]
    trunk = "|".join(config.targets)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=rf"transformer\.layers\..*\.({trunk})",
        modules_to_save=whole,
    )
    return peft.get_peft_model(lm, settings)


def merged(adapted: Any, folder: Path) -> PrefixLM:
    """Save the adapters alone into `folder`, as `peft` does, and return the language model with them added in."""
    adapted.save_pretrained(str(folder), safe_serialization=True)
    lm: PrefixLM = adapted.merge_and_unload()
    return lm


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError("low-rank adapters need peft: pip install 'videolm[lora]'") from error
    return peft
