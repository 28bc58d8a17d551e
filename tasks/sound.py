"""Tasks with sound in, sound out, or both. VideoPoet 4.1."""

from videolm.tasks.task import Audio, Task, Text, Visual

audio_to_video = Task(
    name="audio_to_video",
    summary="A clip for a sound.",
    prompt="video",
    inputs=(Text(optional=True), Audio()),
    outputs=(Visual(),),
)

video_to_audio = Task(
    name="video_to_audio",
    summary="The sound of a clip.",
    prompt="audio",
    inputs=(Text(optional=True), Visual()),
    outputs=(Audio(),),
)

text_to_video_with_audio = Task(
    name="text_to_video_with_audio",
    summary="A clip that shows what the prompt says, with its sound.",
    prompt="video_with_audio",
    inputs=(Text(),),
    outputs=(Visual(), Audio()),
)

unconditional_video_with_audio = Task(
    name="unconditional_video_with_audio",
    summary="A clip with its sound, from nothing.",
    prompt="video_with_audio",
    outputs=(Visual(), Audio()),
)

audio_video_continuation = Task(
    name="audio_video_continuation",
    summary="A clip with its sound that goes on from its first frame and what is heard there.",
    prompt="video_with_audio",
    inputs=(Text(optional=True), Visual(frames="prefix"), Audio(frames="prefix")),
    outputs=(Visual(frames="rest"), Audio(frames="rest")),
    prefixes=(1,),
)
