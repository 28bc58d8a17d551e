"""ShapesWorld: captioned, sounding clips made by arithmetic, and the judge who reads them back from pixels and samples.

So that training, every task and evaluation run with no download, and a generated clip is right or wrong by
measurement:

    draw_scene ──► scene ──► render, sound ──► clip ──► judge ──► judgement ──┐
                     └─────► caption ────────► parse_caption ──► attributes ──┴► score

Clip ``index`` of ``seed`` follows from the two numbers alone. Some (colour, shape, motion) are never shown in
training, so that a score on them measures composition rather than memory. A scene can be shown in other styles,
reduced to its structure, and go on in a story. The world stands in for a data set only where a user has none.
"""

from videolm.shapesworld.captions import (
    caption,
    captions,
    image_caption,
    image_captions,
    in_style,
    parse_caption,
    split_style,
)
from videolm.shapesworld.judge import (
    Judgement,
    Track,
    foreground,
    in_order,
    judge,
    judge_pair,
    marks,
    motion_weights,
    score,
    track,
)
from videolm.shapesworld.judge_sound import SoundJudgement, judge_sound
from videolm.shapesworld.judge_style import StyleJudgement, judge_style
from videolm.shapesworld.render import render, render_image
from videolm.shapesworld.sound import sound
from videolm.shapesworld.stories import Story, draw_story, render_story
from videolm.shapesworld.styles import STYLES, render_structure, render_style
from videolm.shapesworld.world import Attributes, Object, Scene, draw_scene, is_held_out

__all__ = [
    "STYLES",
    "Attributes",
    "Judgement",
    "Object",
    "Scene",
    "SoundJudgement",
    "Story",
    "StyleJudgement",
    "Track",
    "caption",
    "captions",
    "draw_scene",
    "draw_story",
    "foreground",
    "image_caption",
    "image_captions",
    "in_order",
    "in_style",
    "is_held_out",
    "judge",
    "judge_pair",
    "judge_sound",
    "judge_style",
    "marks",
    "motion_weights",
    "parse_caption",
    "render",
    "render_image",
    "render_story",
    "render_structure",
    "render_style",
    "score",
    "sound",
    "split_style",
    "track",
]
