"""Whether somebody who looks at samples of held-out captions knows what they are: a test without a key in sight.

    python experiments/text_to_image/recognise.py RUN --captions emoji/held --out DIR
    python experiments/text_to_image/recognise.py DIR --answers 3 1 8 ... --name emoji_hands --viewer 1

The first line draws numbered samples, a sheet of them with eight captions each, and says no more; the second, with a
choice from 1 to 8 for every sample, tells how many were right and writes it into result.json, beside what other viewers
said and of other runs. For every second sample
the seven wrong captions are drawn by lot; for the others they are those that the text encoder holds for the nearest, a
harder question. No caption is a name of the thing that was asked for.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lossmith.report.image_sheet import save_image_sheet, stack_sheets
from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.models.sampler import SamplerConfig
from lossmith.text_to_image.pipeline import TextToImagePipeline

HERE = Path(__file__).parent
CHOICES, ACROSS, ZOOM = 8, 8, 5
KINDS = ("by lot", "nearest")


def asked_of(source: CaptionedImages, vectors: Tensor, count: int, seed: int) -> list[dict]:
    """For each sample its caption's number, and the captions to choose from in some order."""
    chance = np.random.default_rng(seed)
    first = {}
    for number, meaning in enumerate(source.groups):
        first.setdefault(meaning, number)  # the first name of each thing
    names = list(first.values())
    alike = torch.nn.functional.normalize(vectors[names], dim=1)
    nearest = (alike @ alike.T).argsort(dim=1, descending=True)
    questions = []
    for k, place in enumerate(chance.permutation(len(names))[:count].tolist()):
        others = [each for each in nearest[place].tolist() if each != place]
        if KINDS[k % 2] == "by lot":
            others = chance.permutation(others).tolist()
        offered = chance.permutation([place, *others[: CHOICES - 1]]).tolist()
        shown = [source.captions[names[each]] for each in offered]
        questions.append({"kind": KINDS[k % 2], "choices": shown, "right": offered.index(place) + 1})
    return questions


def paper(pictures: Tensor, questions: list[dict], folder: Path) -> Image.Image:
    """The samples, numbered, each above its captions."""
    large = torch.nn.functional.interpolate(pictures, scale_factor=ZOOM, mode="bicubic").clamp(0, 1)
    labelled = [
        ("\n".join([f"no. {k}", *(f"{i} {text}" for i, text in enumerate(each["choices"], 1))]), picture)
        for k, (picture, each) in enumerate(zip(large, questions, strict=True), 1)
    ]
    rows = [dict(labelled[k : k + ACROSS]) for k in range(0, len(labelled), ACROSS)]
    return stack_sheets([save_image_sheet(row, folder / f"row_{k}.png") for k, row in enumerate(rows)])


def score(folder: Path, answers: list[int], whose: dict) -> None:
    """Tells how many answers are right, and writes it down, in the place of an earlier score of the same."""
    record = whose | json.loads((folder / "key.json").read_text())
    questions = record.pop("questions")
    if len(answers) != len(questions):
        raise SystemExit(f"{len(questions)} answers are wanted; got {len(answers)}.")
    for kind in KINDS:
        right = [each["right"] == said for each, said in zip(questions, answers, strict=True) if each["kind"] == kind]
        record[kind] = {"right": sum(right), "of": len(right), "chance": 1 / CHOICES}
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    told = [
        row for row in whole.get("emoji recognised", []) if any(row[key] != record[key] for key in (*whose, "seed"))
    ]
    whole["emoji recognised"] = [*told, record]
    path.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path, help="A run, or with --answers the folder of its questions.")
    parser.add_argument("--captions", help="The held-out ones.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=int, nargs="+")
    parser.add_argument("--name", help="What result.json calls the run.")
    parser.add_argument("--viewer", help="Who answered.")
    asked = parser.parse_args()
    if asked.answers:
        score(asked.place, asked.answers, {"run": asked.name, "viewer": asked.viewer})
        return
    prompted = TextToImagePipeline.from_file(asked.place / "model.safetensors")
    source = CaptionedImages(asked.captions, prompted.side)
    questions = asked_of(source, prompted.encode_prompts(source.captions).pooled, asked.count, asked.seed)
    texts = [each["choices"][each["right"] - 1] for each in questions]
    config = SamplerConfig(guidance_scale=asked.guidance)
    pictures = prompted.generate(texts, range(asked.seed, asked.seed + len(texts)), config)
    asked.out.mkdir(parents=True, exist_ok=True)
    paper(pictures, questions, asked.out).save(asked.out / "questions.png")
    record = {"step": prompted.header["step"], "guidance": asked.guidance, "seed": asked.seed}
    (asked.out / "key.json").write_text(json.dumps({**record, "questions": questions}))
    print(f"{len(questions)} questions: {asked.out / 'questions.png'}")


if __name__ == "__main__":
    main()
