"""videolm: one language model over video, image and audio tokens.

The public names are loaded when first asked for, so that `import videolm` costs nothing:

    VideoLM     generate, and load a model  (`videolm.pipeline`)
    Task        what goes in and what comes out  (`videolm.tasks.task`)
    Vocabulary  named ranges of ids  (`videolm.vocabulary`)
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from videolm.pipeline import VideoLM
    from videolm.tasks.task import Task
    from videolm.vocabulary import Vocabulary

__all__ = ["Task", "VideoLM", "Vocabulary", "__version__"]
__version__ = "0.1.0"

_HOMES = {"VideoLM": "videolm.pipeline", "Task": "videolm.tasks.task", "Vocabulary": "videolm.vocabulary"}

# In a checkout, `videolm.tokenizers`, `.tasks` and `.configs` lie beside this folder; once installed, in it.
# They are never imported bare: `import tokenizers` is Hugging Face's library.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.cfg").is_file():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
