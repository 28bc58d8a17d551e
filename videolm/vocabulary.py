"""One vocabulary for every modality: named, disjoint ranges of ids.

    special [0, 256)   visual [256, 256 + 2^18)   audio level 0 | 1 | 2 | 3, 1,024 each       (paper size: 266,496 ids)

Tokenizers speak codes from 0; the vocabulary places them. Sizes are checked where a model is put together, so a
tokenizer whose codes do not fit is an error there, never an index error later. VideoPoet 3.2, Table 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from videolm.config import Config, nearest
from videolm.errors import UserError

STRUCTURE = (
    "<bos>", "<eos>",
    "<bot_i>", "<eot_i>", "<bov_i>", "<eov_i>", "<boa_i>", "<eoa_i>",
    "<bov_o>", "<eov_o>", "<boa_o>", "<eoa_o>",
    "<empty>",
)  # fmt: skip
"""The special ids every row is built from, in id order. `<empty>` fills text positions without a token."""


class Vocabulary(Config):
    """The id ranges of a model, saved beside it as `vocabulary.json`. The defaults are VideoPoet's.

    >>> v = Vocabulary()
    >>> v.size, v.visual, v.audio(3)
    (266496, range(256, 262400), range(265472, 266496))
    """

    special_size: Annotated[int, Field(ge=32)] = 256
    """Ids for special tokens, used or reserved."""
    visual_size: Annotated[int, Field(ge=2)] = 2**18
    """Ids for visual codes."""
    audio_levels: Annotated[int, Field(ge=0)] = 4
    """Residual levels of the audio codec; each has ids of its own. 0: no sound."""
    audio_size: Annotated[int, Field(ge=2)] = 1024
    """Codes of one audio level."""
    specials: tuple[str, ...] = STRUCTURE
    """Names of the special ids in use; a name's place is its id."""

    @model_validator(mode="after")
    def _consistent(self) -> Vocabulary:
        if self.specials[: len(STRUCTURE)] != STRUCTURE:
            raise ValueError("specials must begin with the structural tokens, in order")
        if len(set(self.specials)) != len(self.specials):
            raise ValueError("a special token is named twice")
        if len(self.specials) > self.special_size:
            raise ValueError(f"{len(self.specials)} special tokens do not fit into {self.special_size} ids")
        return self

    @property
    def special(self) -> range:
        return range(self.special_size)

    @property
    def visual(self) -> range:
        return range(self.special_size, self.special_size + self.visual_size)

    def audio(self, level: int) -> range:
        """Ids of one residual level of the audio codec, the coarsest first."""
        if not 0 <= level < self.audio_levels:
            raise UserError(f"audio level {level} does not exist; this vocabulary has {self.audio_levels}")
        start = self.visual.stop + level * self.audio_size
        return range(start, start + self.audio_size)

    @property
    def size(self) -> int:
        return self.visual.stop + self.audio_levels * self.audio_size

    def id(self, special: str) -> int:
        """The id of a special token. Raises `UserError` naming the nearest one."""
        if special not in self.specials:
            raise UserError(f"unknown special token '{special}'; {nearest(special, self.specials)}")
        return self.specials.index(special)

    def with_specials(self, names: Iterable[str]) -> Vocabulary:
        """This vocabulary with the `names` it lacks added to the reserved ids, in the order given."""
        new = [name for name in dict.fromkeys(names) if name not in self.specials]
        if len(self.specials) + len(new) > self.special_size:
            raise UserError(
                f"{len(new)} new special tokens do not fit: {self.special_size - len(self.specials)} ids are left"
            )
        return self.model_copy(update={"specials": (*self.specials, *new)})

    def check_codebook(self, codebook_size: int) -> None:
        """Raise `UserError` unless a video tokenizer's codes have exactly the visual ids."""
        if codebook_size != self.visual_size:
            raise UserError(
                f"the video tokenizer has {codebook_size} codes but the vocabulary {self.visual_size} visual ids; "
                "use the tokenizer that the language model was trained with"
            )

    def check_audio(self, levels: int, codebook_size: int) -> None:
        """Raise `UserError` unless an audio tokenizer's codes have exactly the audio ids."""
        if (levels, codebook_size) != (self.audio_levels, self.audio_size):
            raise UserError(
                f"the audio tokenizer has {levels} levels of {codebook_size} codes but the vocabulary "
                f"{self.audio_levels} of {self.audio_size}; use the tokenizer that the language model was trained with"
            )
