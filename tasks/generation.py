"""Tasks that make a clip or a picture from nothing or from a prompt. VideoPoet 4.1."""

from videolm.tasks.task import Task, Text, Visual

unconditional_image = Task(
    name="unconditional_image",
    summary="A picture, from nothing.",
    prompt="image",
    outputs=(Visual(stream="image"),),
)

unconditional_video = Task(
    name="unconditional_video",
    summary="A clip, from nothing.",
    prompt="video",
    outputs=(Visual(),),
)

text_to_image = Task(
    name="text_to_image",
    summary="A picture that shows what the prompt says.",
    prompt="image",
    inputs=(Text(),),
    outputs=(Visual(stream="image"),),
    eos=False,
)

text_to_video = Task(
    name="text_to_video",
    summary="A clip that shows what the prompt says.",
    prompt="video",
    inputs=(Text(),),
    outputs=(Visual(),),
)

class_to_video = Task(
    name="class_to_video",
    summary="A clip of the class that the prompt names.",
    prompt="class",
    inputs=(Text(content="class"),),
    outputs=(Visual(),),
)
