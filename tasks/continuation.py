"""Tasks that go on from given frames. With a causal tokenizer the frames given are the clip's own first codes."""

from videolm.tasks.task import Task, Text, Visual

image_to_video = Task(
    name="image_to_video",
    summary="A clip whose first frame is the given picture.",
    prompt="video",
    inputs=(Text(optional=True), Visual(frames="prefix")),
    outputs=(Visual(frames="rest"),),
    prefixes=(1,),
)

frame_prediction = Task(
    name="frame_prediction",
    summary="The frames that follow the first ones of a clip.",
    prompt="video",
    inputs=(Text(optional=True), Visual(frames="prefix")),
    outputs=(Visual(frames="rest"),),
    prefixes=(5, 9),
)

class_frame_prediction = Task(
    name="class_frame_prediction",
    summary="The frames that follow the first ones of a clip of the class that the prompt names.",
    prompt="class",
    inputs=(Text(content="class"), Visual(frames="prefix")),
    outputs=(Visual(frames="rest"),),
    prefixes=(5,),
)

frame_interpolation = Task(
    name="frame_interpolation",
    summary="The frames between the first and the last of a clip.",
    prompt="video",
    inputs=(Text(optional=True), Visual(frames="prefix"), Visual(frames="last")),
    outputs=(Visual(frames="rest"),),
    prefixes=(1,),
)

story_continuation = Task(
    name="story_continuation",
    summary="The next scene: frames that follow the last ones of a clip, under a new prompt (Phenaki 2.3).",
    prompt="story",
    inputs=(Text(), Visual(stream="story", frames="prefix")),
    outputs=(Visual(stream="story", frames="rest"),),
    prefixes=(5,),
)
