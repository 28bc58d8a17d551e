"""The `quantizer:` section of a tokenizer's config."""

from typing import Annotated

from pydantic import Field

from videolm.tokenizers.quantize.fsq import FSQConfig
from videolm.tokenizers.quantize.lfq import LFQConfig
from videolm.tokenizers.quantize.vq import VQConfig

QuantizerConfig = Annotated[LFQConfig | FSQConfig | VQConfig, Field(discriminator="name")]
"""Each has `make()`, which gives the `Quantizer`."""
