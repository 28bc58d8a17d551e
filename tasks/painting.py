"""Tasks that fill what a mask hides: the clip goes in with its hidden pixels grey, and comes out whole (COMMIT).

MAGVIT 3.2 and 4.1; VideoPoet 4.1. The prompt is optional, and each mask has a task id of its own, since rows of two
masks look alike.
"""

from videolm.tasks.task import Task, Text, Visual


def _painting(name: str, summary: str) -> Task:
    inputs = (Text(optional=True), Visual(view=name))
    return Task(name=name, summary=summary, prompt=name, inputs=inputs, outputs=(Visual(),))


inpainting_central = _painting("inpainting_central", "Fills the middle of a clip.")
inpainting_dynamic = _painting("inpainting_dynamic", "Fills a strip that moves across a clip.")
outpainting_central = _painting("outpainting_central", "Goes on around the middle of a clip.")
outpainting_vertical = _painting("outpainting_vertical", "Goes on above and below a clip.")
outpainting_horizontal = _painting("outpainting_horizontal", "Goes on left and right of a clip.")
outpainting_dynamic = _painting("outpainting_dynamic", "Goes on left and right of a strip that moves across a clip.")
