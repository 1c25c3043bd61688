"""Beside imagen-pytorch: a text-to-image diffusion of about one size on the same data, by the same loop.

    OMP_NUM_THREADS=1 python bench/beside_imagen.py [--steps N | --seconds S] [--count 48] [--timesteps 100]

It installs nothing: pip install --no-deps imagen-pytorch beartype einops-exts ema-pytorch pytorch-warmup accelerate, as
far as they are missing, into a folder on PYTHONPATH if they shall not stand beside what is there.

Both learn shapes of level 1 at 32 px, the same pictures in the same order, hear the same standardised MiniLM tokens,
and are trained by AdamW at 1e-3 with 100 steps of warm-up, a cosine, gradients clipped to 1 and an average of the
weights. The rest is each one's own default: here a network that says the picture and the error of its flow, sampled in
25 steps of Euler; there the noise, min-SNR and a cosine schedule, sampled in its own ancestral steps. Each runs in a
process of its own. Seconds are the processor's, so that they hold on a machine that others use. Writes into
experiments/text_to_image/result.json.
"""

import argparse
import fcntl
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from lossmith import parse
from lossmith.text_to_image.captions.training_set import CaptionTrainingSet
from lossmith.text_to_image.encoders import CaptionEmbeddings, load_text_encoder
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.models.sampler import SamplerConfig, make_noise, sample_images
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.task import TextToImage

RESULT = Path(__file__).parents[1] / "experiments" / "text_to_image" / "result.json"
SIDE, BATCH, LR, WARMUP, GUIDANCE = 32, 16, 1e-3, 100, 2.0
MISSING = "imagen-pytorch is not installed: pip install --no-deps imagen-pytorch, and what it misses ({})."


def ours(timesteps: int) -> tuple[nn.Module, Callable[[Any, Any], Tensor], Callable[[Any, TextEmbedding], Tensor]]:
    """The denoiser, its loss on a batch, and its sampling."""
    loss = parse("imagen")
    task = TextToImage().with_inputs(loss.input_names)

    def draw(model: Any, text: TextEmbedding) -> Tensor:
        return sample_images(
            model, text, make_noise(range(len(text.pooled)), SIDE), SamplerConfig(guidance_scale=GUIDANCE)
        )

    return Denoiser(side=SIDE, text_dim=384), lambda model, batch: loss(**task.compute_inputs(model, batch)), draw


def theirs(timesteps: int) -> tuple[nn.Module, Callable[[Any, Any], Tensor], Callable[[Any, TextEmbedding], Tensor]]:
    """Their Imagen with one U-Net whose sizes and widths are ours."""
    import transformers

    config = transformers.T5Config(d_model=768)
    with patch.object(transformers.T5Config, "from_pretrained", return_value=config):  # asked for while it is imported
        from imagen_pytorch import Imagen, Unet
    unet = Unet(
        dim=32,
        dim_mults=(1, 2, 4),
        num_resnet_blocks=1,
        text_embed_dim=384,
        attn_heads=4,
        attn_dim_head=32,
        layer_attns=(False, True, True),
        layer_cross_attns=(False, True, True),
        memory_efficient=True,  # which goes to half the size at once, as ours does
    )

    def draw(model: Any, text: TextEmbedding) -> Tensor:
        asked = {"text_embeds": text.tokens, "text_masks": text.mask, "cond_scale": GUIDANCE, "use_tqdm": False}
        return model.sample(**asked)

    def step(model: Any, batch: Any) -> Tensor:
        return model(batch["target"], text_embeds=batch["tokens"], text_masks=batch["token_mask"], unet_number=1)

    return Imagen(unet, image_sizes=SIDE, text_embed_dim=384, timesteps=timesteps), step, draw


SYSTEMS = {"lossmith": ours, "imagen-pytorch": theirs}


def kept(work: Callable[[], Tensor]) -> int:
    """The bytes that a pass keeps for its backward pass, each storage once; the weights count with them."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = work()
    del value
    return sum(storages.values())


def measured(system: str, steps: int, seconds: float, count: int, timesteps: int) -> dict[str, Any]:
    """Trains one of them for so many steps, or as many as fit into the seconds, and judges what it draws."""
    train, held = ShapesDataset(SIDE).split(0.15, by="scene")
    read = load_text_encoder("minilm")
    embeddings = CaptionEmbeddings(read, train.captions)
    standard = embeddings.fit_standardizer()
    items = CaptionTrainingSet(train, embeddings, seed=0)
    torch.manual_seed(0)
    model, loss_of, draw = SYSTEMS[system](timesteps)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    batch = default_collate([items[k] for k in range(BATCH)])
    facts: dict[str, Any] = {"parameters": sum(weight.numel() for weight in weights)}
    facts["kept megabytes"] = round(kept(lambda: loss_of(model, batch)) / 1e6, 1)
    average = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=LR, weight_decay=0)
    took: list[float] = []
    step = 0
    while step < steps:
        batch = default_collate([items[step * BATCH + k] for k in range(BATCH)])
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / (WARMUP + 1)) * (1 + math.cos(math.pi * step / steps)) / 2
        torch.manual_seed(step)
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 0.01)
        took.append(time.process_time() - began)
        step += 1
        if step == 20 and seconds:
            steps = max(20, round(seconds / statistics.median(took)))
        if step % 100 == 0:
            print(system, step, steps, float(loss), file=sys.stderr, flush=True)
    facts |= {"steps": steps, "seconds a step": round(statistics.median(took), 4), "seconds": round(sum(took), 1)}
    facts["megabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    chance = np.random.default_rng(7)
    wanted = [held.draw(chance).caption for _ in range(count)]
    text = standard(read.encode([held.captions[i] for i in wanted]))
    torch.manual_seed(0)
    began = time.process_time()
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
        made = draw(model.eval(), text)
    facts["seconds a picture"] = round((time.process_time() - began) / count, 4)
    found = oracle_accuracy(ShapesOracle(SIDE), made.clamp(0, 1), [held.scene(i) for i in wanted])
    return {**facts, **{name: round(value, 4) for name, value in found.items()}}


def given() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.0, help="instead of steps")
    parser.add_argument("--count", type=int, default=48, help="pictures to be judged")
    parser.add_argument("--timesteps", type=int, default=100, help="of their sampler")
    parser.add_argument("--system", choices=SYSTEMS, help="one alone, printed and not written")
    return parser.parse_args()


def main() -> None:
    asked = given()
    if asked.system:
        print(json.dumps(measured(asked.system, asked.steps, asked.seconds, asked.count, asked.timesteps)))
        return
    try:
        theirs(asked.timesteps)
    except ImportError as error:
        sys.exit(MISSING.format(error))
    rows = []
    for system in SYSTEMS:
        words = [sys.executable, __file__, *sys.argv[1:], "--system", system]
        facts = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        print(system, facts, flush=True)
        cost = {name: facts.pop(name) for name in ("steps", "seconds", "megabytes", "parameters")}
        rows += [{"system": system, "seed": 0, "metric": name, "value": value, **cost} for name, value in facts.items()]
    common = {"data": "shapes level 1, 32 px", "batch": BATCH, "count": asked.count, "timesteps": asked.timesteps}
    with RESULT.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = json.loads(file.read())
        record = {**common, "torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
        RESULT.write_text(json.dumps({**whole, "imagen_pytorch": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
