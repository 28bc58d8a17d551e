"""Where tokenizers, engine and files meet: `VideoLM`, the model users hold."""

from videolm.pipeline.output import VideoLMOutput
from videolm.pipeline.video_lm import VideoLM

__all__ = ["VideoLM", "VideoLMOutput"]
