"""ShapesWorld: captioned clips made by arithmetic, and the judge who reads them back from pixels.

So that training, every task and evaluation run with no download, and a generated clip is right or wrong by
measurement:

    draw_scene ──► scene ──► render ──► clip ──► judge ──► judgement ──┐
                     └─────► caption ──► parse_caption ──► attributes ─┴► score

Clip ``index`` of ``seed`` follows from the two numbers alone. Some (colour, shape, motion) are never shown in
training, so that a score on them measures composition rather than memory. The world stands in for a data set
only where a user has none.
"""

from videolm.shapesworld.captions import caption, captions, image_caption, image_captions, parse_caption
from videolm.shapesworld.judge import Judgement, judge, score
from videolm.shapesworld.render import render, render_image
from videolm.shapesworld.world import Attributes, Object, Scene, draw_scene, is_held_out

__all__ = [
    "Attributes",
    "Judgement",
    "Object",
    "Scene",
    "caption",
    "captions",
    "draw_scene",
    "image_caption",
    "image_captions",
    "is_held_out",
    "judge",
    "parse_caption",
    "render",
    "render_image",
    "score",
]
