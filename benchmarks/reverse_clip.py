"""The task that `fine_tuning.py` teaches, as a user would write it (docs/guides/fine-tuning.md)."""

from videolm.tasks import Task, Text, Visual
from videolm.tasks.views import VIEWS

VIEWS.register("backwards", lambda video, _: video.flip(1))

reverse_clip = Task(
    name="reverse_clip",
    summary="The given clip, backwards.",
    prompt="reverse_clip",
    inputs=(Text(optional=True), Visual()),
    outputs=(Visual(view="backwards"),),
)
