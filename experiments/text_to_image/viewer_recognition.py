"""Test whether a viewer recognises samples of held-out captions: a multiple-choice test with a separate key.

    python experiments/text_to_image/viewer_recognition.py RUN --captions emoji/held --out DIR
    python experiments/text_to_image/viewer_recognition.py DIR --answers 3 1 8 ... --name emoji_hands --viewer 1

The first command generates numbered samples and writes a sheet of them with eight captions each. The second command
takes a choice from 1 to 8 for each sample, counts the right ones and writes the counts into result.json, beside those
of other viewers and runs. For every second sample the seven wrong captions are drawn at random; for the others they are
the nearest ones to the text encoder, which is harder. No wrong caption is another name of the right object.
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
NUM_CHOICES, COLUMNS, ZOOM = 8, 8, 5
KINDS = ("by lot", "nearest")
"""How the wrong captions are chosen: at random, or the nearest to the text encoder; keys of result.json."""
RESULT_KEY = "emoji recognised"


def make_questions(source: CaptionedImages, embeddings: Tensor, count: int, seed: int) -> list[dict]:
    """Return for each sample the captions to choose from and the number of the right one, from 1.

    Args:
        source: The captioned images.
        embeddings: The pooled text embeddings of the captions, (N, D).
        count: The number of samples.
        seed: Random seed of captions and choices.
    """
    rng = np.random.default_rng(seed)
    first_captions = {}
    for index, group in enumerate(source.groups):
        first_captions.setdefault(group, index)  # the first name of each object
    captions = list(first_captions.values())
    vectors = torch.nn.functional.normalize(embeddings[captions], dim=1)
    nearest = (vectors @ vectors.T).argsort(dim=1, descending=True)
    questions = []
    for k, right in enumerate(rng.permutation(len(captions))[:count].tolist()):
        kind = KINDS[k % 2]
        others = [other for other in nearest[right].tolist() if other != right]
        if kind == "by lot":
            others = rng.permutation(others).tolist()
        choices = rng.permutation([right, *others[: NUM_CHOICES - 1]]).tolist()
        texts = [source.captions[captions[choice]] for choice in choices]
        questions.append({"kind": kind, "choices": texts, "right": choices.index(right) + 1})
    return questions


def draw_questions(images: Tensor, questions: list[dict], folder: Path) -> Image.Image:
    """Return a sheet of the numbered samples, each with its captions."""
    large = torch.nn.functional.interpolate(images, scale_factor=ZOOM, mode="bicubic").clamp(0, 1)
    labelled = []
    for k, (image, question) in enumerate(zip(large, questions, strict=True), 1):
        lines = [f"no. {k}", *(f"{i} {text}" for i, text in enumerate(question["choices"], 1))]
        labelled.append(("\n".join(lines), image))
    rows = [dict(labelled[k : k + COLUMNS]) for k in range(0, len(labelled), COLUMNS)]
    return stack_sheets([save_image_sheet(row, folder / f"row_{k}.png") for k, row in enumerate(rows)])


def write_score(folder: Path, answers: list[int], identity: dict) -> None:
    """Count the right answers and write the counts into result.json, in place of an earlier score of the same test.

    Args:
        folder: The folder of the questions.
        answers: The choices, from 1.
        identity: The names of run and viewer.
    """
    record = identity | json.loads((folder / "key.json").read_text())
    questions = record.pop("questions")
    if len(answers) != len(questions):
        raise SystemExit(f"--answers needs {len(questions)} numbers; got {len(answers)}.")
    for kind in KINDS:
        pairs = [pair for pair in zip(questions, answers, strict=True) if pair[0]["kind"] == kind]
        right = sum(question["right"] == answer for question, answer in pairs)
        record[kind] = {"right": right, "of": len(pairs), "chance": 1 / NUM_CHOICES}
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    keys = (*identity, "seed")
    others = [row for row in whole.get(RESULT_KEY, []) if any(row[key] != record[key] for key in keys)]
    whole[RESULT_KEY] = [*others, record]
    path.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def write_questions(run: Path, captions: str, out: Path, count: int, guidance: float, seed: int) -> None:
    """Generate the samples, and write their sheet and the key."""
    pipeline = TextToImagePipeline.from_file(run / "model.safetensors")
    source = CaptionedImages(captions, pipeline.side)
    questions = make_questions(source, pipeline.encode_prompts(source.captions).pooled, count, seed)
    prompts = [question["choices"][question["right"] - 1] for question in questions]
    config = SamplerConfig(guidance_scale=guidance)
    images = pipeline.generate(prompts, range(seed, seed + len(prompts)), config)
    out.mkdir(parents=True, exist_ok=True)
    draw_questions(images, questions, out).save(out / "questions.png")
    record = {"step": pipeline.header["step"], "guidance": guidance, "seed": seed}
    (out / "key.json").write_text(json.dumps({**record, "questions": questions}))
    print(f"{len(questions)} questions: {out / 'questions.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="run folder, or with --answers the folder of the questions")
    parser.add_argument("--captions", help="folder of held-out captioned images")
    parser.add_argument("--out", type=Path, help="folder of the questions")
    parser.add_argument("--count", type=int, default=48, help="number of samples")
    parser.add_argument("--guidance", type=float, default=2.0, help="guidance scale")
    parser.add_argument("--seed", type=int, default=0, help="random seed of captions, choices and noise")
    parser.add_argument("--answers", type=int, nargs="+", help="a choice from 1 to 8 for each sample")
    parser.add_argument("--name", help="name of the run in result.json")
    parser.add_argument("--viewer", help="name of the viewer in result.json")
    args = parser.parse_args()
    if args.answers:
        write_score(args.folder, args.answers, {"run": args.name, "viewer": args.viewer})
    else:
        write_questions(args.folder, args.captions, args.out, args.count, args.guidance, args.seed)


if __name__ == "__main__":
    main()
