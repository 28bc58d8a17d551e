"""Stylisation: a clip that shows what another does, as the prompt says it looks (VideoPoet 4.1).

Optical flow and depth go in as one clip; the prompt is the look. The first frame may be given too.
"""

from videolm.tasks.task import Task, Text, Visual

stylization = Task(
    name="stylization",
    summary="A clip that moves as the given one does and looks as the prompt says.",
    prompt="stylization",
    inputs=(Text(), Visual(stream="structure"), Visual(stream="styled", frames="prefix")),
    outputs=(Visual(stream="styled", frames="rest"),),
    prefixes=(0, 1),
)
