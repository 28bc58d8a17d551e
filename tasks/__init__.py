"""The tasks, each declared as data in its family's file. `TASKS` names them all."""

from videolm.registry import Registry
from videolm.tasks.task import Audio, Part, Task, Text, Variant, Visual

FAMILIES = {
    "generation": (
        "unconditional_image",
        "unconditional_video",
        "text_to_image",
        "text_to_video",
        "class_to_video",
    ),
    "continuation": (
        "image_to_video",
        "frame_prediction",
        "class_frame_prediction",
        "frame_interpolation",
        "story_continuation",
    ),
    "painting": (
        "inpainting_central",
        "inpainting_dynamic",
        "outpainting_central",
        "outpainting_vertical",
        "outpainting_horizontal",
        "outpainting_dynamic",
    ),
    "stylization": ("stylization",),
    "sound": (
        "audio_to_video",
        "video_to_audio",
        "text_to_video_with_audio",
        "unconditional_video_with_audio",
        "audio_video_continuation",
    ),
}

TASKS: Registry[Task] = Registry(
    "task", {name: f"videolm.tasks.{file}:{name}" for file, names in FAMILIES.items() for name in names}
)

__all__ = ["TASKS", "Audio", "Part", "Task", "Text", "Variant", "Visual"]
