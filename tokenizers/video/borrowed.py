"""Video tokenizers that others trained, behind our protocol: used as they are, never trained here.

Weights of these have licences of their own; `videolm borrow` names them and puts each into a folder of ours.
"""

from __future__ import annotations

from typing import ClassVar, NoReturn

from torch import Tensor

from videolm.errors import UserError
from videolm.tokenizers.protocol import VideoTokenizer


class Borrowed(VideoTokenizer):
    """A tokenizer of someone else's. Each says how its files become our encoder, quantiser and decoder."""

    trainable: ClassVar[bool] = False

    def forward(self, video: Tensor) -> NoReturn:
        """Raises `UserError`: see `VideoTokenizer.trainable`."""
        self.check_trainable()
        raise AssertionError  # never trainable

    def inflate(self, image: Borrowed) -> None:
        """Raises `UserError`, as training does."""
        self.check_trainable()


def refuse_config(name: str, reason: object) -> UserError:
    """The error for files whose settings are not those of the tokenizer `name`."""
    return UserError(f"these are not the files of {name}: {' '.join(str(reason).split())[:200]}")
