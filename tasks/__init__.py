"""The tasks, each declared as data in its family's file. `TASKS` names them all."""

from videolm.registry import Registry
from videolm.tasks.task import Part, Task, Text, Variant, Visual

TASKS: Registry[Task] = Registry(
    "task",
    {
        "unconditional_video": "videolm.tasks.generation:unconditional_video",
        "text_to_image": "videolm.tasks.generation:text_to_image",
        "text_to_video": "videolm.tasks.generation:text_to_video",
        "image_to_video": "videolm.tasks.continuation:image_to_video",
        "frame_prediction": "videolm.tasks.continuation:frame_prediction",
    },
)

__all__ = ["TASKS", "Part", "Task", "Text", "Variant", "Visual"]
