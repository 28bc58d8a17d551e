"""What super-resolution makes of ShapesWorld's small clips, beside interpolation and what codes can hold.

Claim: from true codes it closes at least half of the gap in PSNR between bicubic interpolation of what the codes of the
small clip show and what the codes of the large clip show, and more of its shapes are right than the first's; guidance
and the noise that it is told of each do what they are for.
Run: python benchmarks/super_resolution.py [--model DIR] [--samples 128] [--few 64] [--picture sheet.png] [--json]

Scenes are of a seed that no training saw. "made": small clips that the language model made of captions, of which there
are no true large ones. --few: clips of each row of the tables of settings.
"""

import argparse
import json
import time
from typing import Any

from videolm import VideoLM
from videolm.evaluate.super_resolution import closed, from_made_clips, from_true_codes
from videolm.media import Video, contact_sheet, write_image

COLUMNS = ("psnr", "sharpness", "colour", "shape", "size", "motion", "all_right")
GUIDANCE = ((1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (1.0, 1.5), (1.0, 2.0), (2.0, 1.5), (0.0, 1.0), (1.0, 0.0))
NOISE = ((0.0, 0.0), (0.0, 0.25), (0.1, 0.0), (0.1, 0.1), (0.25, 0.0), (0.25, 0.25), (0.25, 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder with super-resolution (default: the one that ships)")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--picture", help="where the contact sheet goes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    model = VideoLM.from_pretrained(args.model)
    tell = Table(args.json)

    began = time.perf_counter()
    true = from_true_codes(model, args.samples)
    seconds = (time.perf_counter() - began) / args.samples
    made = from_made_clips(model, args.samples)
    tell.begin("clips")
    for name, scores in true.scores.items():
        tell.row(scores, clips={"true": "true large clips"}.get(name, f"{name}, of true codes"))
    for name, scores in made.scores.items():
        tell.row(scores, clips=f"{name}, of made clips")
    tell.line(f"{closed(true.scores):.0%} of the gap closed; {seconds:.2f} s a clip, all in")

    tell.begin("scale of text", "scale of the small clip")
    for text, low in GUIDANCE:
        scores = from_true_codes(model, args.few, guidance_scale=text, low_guidance_scale=low).scores["ours"]
        tell.row(scores, **{"scale of text": text, "scale of the small clip": low})
    tell.begin("codes corrupted", "bicubic, dB", "share told")
    for corrupted, told in NOISE:
        compared = from_true_codes(model, args.few, corrupted=corrupted, distrust=told)
        about = {"codes corrupted": corrupted, "bicubic, dB": round(compared.scores["bicubic"]["psnr"], 2)}
        tell.row(compared.scores["ours"], **about, **{"share told": told})
    if args.picture:
        rows = []
        for index in range(2):
            for name in ("bicubic", "ours", "ceiling", "true"):
                rows.append((f"{name}, of true codes", Video.from_tensor(true.clips[name][index], 8.0)))
            for name in ("bicubic", "ours"):
                rows.append((f"{name}, of made codes", Video.from_tensor(made.clips[name][index], 8.0)))
        write_image(contact_sheet(rows, frames=5), args.picture, overwrite=True)


class Table:
    """Rows of scores as Markdown, or as JSON lines."""

    def __init__(self, as_json: bool):
        self.as_json = as_json

    def begin(self, *names: str) -> None:
        if not self.as_json:
            print(f"\n| {' | '.join((*names, *COLUMNS))} |\n" + "| --- " * (len(names) + len(COLUMNS)) + "|")

    def row(self, scores: dict[str, float], **about: Any) -> None:
        if self.as_json:
            print(json.dumps({**about, **scores}), flush=True)
            return
        digits = {"sharpness": 5}  # a variance of pixels in [0, 1]
        values = [f"{scores[name]:.{digits.get(name, 3)}f}" if name in scores else "" for name in COLUMNS]
        print(f"| {' | '.join((*map(str, about.values()), *values))} |", flush=True)

    def line(self, text: str) -> None:
        print(json.dumps({"note": text}) if self.as_json else f"\n{text}")


if __name__ == "__main__":
    main()
