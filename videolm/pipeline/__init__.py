"""Where tokenizers, engine and files meet: `VideoLM`, the model users hold."""

from videolm.pipeline.video_lm import VideoLM, VideoLMOutput

__all__ = ["VideoLM", "VideoLMOutput"]
