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
