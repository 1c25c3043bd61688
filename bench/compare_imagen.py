"""Compare lossmith with imagen-pytorch: text-to-image diffusion of similar size, the same data and training loop.

    OMP_NUM_THREADS=1 python bench/compare_imagen.py [--steps N | --seconds S] [--count 48] [--timesteps 100]

The script installs nothing. Install the missing ones of imagen-pytorch, beartype, einops-exts, ema-pytorch,
pytorch-warmup and accelerate with `pip install --no-deps`, or with `--target` into a folder on PYTHONPATH to keep them
apart from the environment.

Both networks are trained on shapes of level 1 at 32 px, with the same images in the same order and the same
standardized MiniLM tokens, by AdamW at 1e-3 with 100 warm-up steps, a cosine schedule, gradients clipped to 1 and
averaged weights. Everything else is each system's default: lossmith's network predicts the clean image and samples a
flow in 25 Euler steps; imagen-pytorch predicts the noise with min-SNR weights and a cosine noise schedule and samples
in ancestral steps. Each system runs in its own process. Seconds are CPU seconds, which hold on a shared machine. The
result is written into experiments/text_to_image/result.json.
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
from typing import Any, NamedTuple
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
SIDE, BATCH, LR, WARMUP, GUIDANCE, EMA_RATE = 32, 16, 1e-3, 100, 2.0, 0.01
CALIBRATION_STEPS = 20
"""The steps after which --seconds is converted to a number of steps."""
MISSING = "imagen-pytorch cannot be imported ({}). Run pip install --no-deps imagen-pytorch and what it imports."


class System(NamedTuple):
    """A text-to-image system.

    Args:
        model: The network.
        compute_loss: Returns the loss of the network on a batch.
        sample: Returns an image for each text.
    """

    model: nn.Module
    compute_loss: Callable[[Any, Any], Tensor]
    sample: Callable[[Any, TextEmbedding], Tensor]


def build_lossmith(timesteps: int) -> System:
    """Return lossmith's denoiser."""
    loss = parse("imagen")
    task = TextToImage().with_inputs(loss.input_names)

    def sample(model: Any, text: TextEmbedding) -> Tensor:
        noise = make_noise(range(len(text.pooled)), SIDE)
        return sample_images(model, text, noise, SamplerConfig(guidance_scale=GUIDANCE))

    def compute_loss(model: Any, batch: Any) -> Tensor:
        return loss(**task.compute_inputs(model, batch))

    return System(Denoiser(side=SIDE, text_dim=384), compute_loss, sample)


def build_imagen_pytorch(timesteps: int) -> System:
    """Return imagen-pytorch's Imagen with one U-Net of the same sizes and widths."""
    import transformers

    config = transformers.T5Config(d_model=768)
    with patch.object(transformers.T5Config, "from_pretrained", return_value=config):  # called during the import
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
        memory_efficient=True,  # downsamples before the first block, as lossmith's denoiser does
    )

    def sample(model: Any, text: TextEmbedding) -> Tensor:
        return model.sample(text_embeds=text.tokens, text_masks=text.mask, cond_scale=GUIDANCE, use_tqdm=False)

    def compute_loss(model: Any, batch: Any) -> Tensor:
        return model(batch["target"], text_embeds=batch["tokens"], text_masks=batch["token_mask"], unet_number=1)

    model = Imagen(unet, image_sizes=SIDE, text_embed_dim=384, timesteps=timesteps)
    return System(model, compute_loss, sample)


SYSTEMS = {"lossmith": build_lossmith, "imagen-pytorch": build_imagen_pytorch}


def measure_saved_bytes(forward: Callable[[], Tensor]) -> int:
    """Return the bytes that a pass keeps for its backward pass, each storage counted once, weights included."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = forward()
    del value
    return sum(storages.values())


class TrainingRun:
    """The training of one system, with averaged weights.

    Args:
        name: The name of the system in the progress.
        system: The system.
        training_set: The training samples.
    """

    def __init__(self, name: str, system: System, training_set: CaptionTrainingSet) -> None:
        self.name, self.system, self.training_set = name, system, training_set
        self.weights = [weight for weight in system.model.parameters() if weight.requires_grad]
        self.averaged = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=LR, weight_decay=0)

    def batch(self, step: int) -> Any:
        """Return the batch of a step."""
        return default_collate([self.training_set[step * BATCH + k] for k in range(BATCH)])

    def train(self, steps: int, seconds: float) -> tuple[int, list[float]]:
        """Train for a number of steps, or for as many as fit into the seconds, and return the seconds of each step."""
        step_seconds: list[float] = []
        step = 0
        while step < steps:
            batch = self.batch(step)
            start = time.process_time()
            loss = self.train_step(step, steps, batch)
            step_seconds.append(time.process_time() - start)
            step += 1
            if step == CALIBRATION_STEPS and seconds:
                steps = max(CALIBRATION_STEPS, round(seconds / statistics.median(step_seconds)))
            if step % 100 == 0:
                print(self.name, step, steps, float(loss), file=sys.stderr, flush=True)
        return steps, step_seconds

    def train_step(self, step: int, steps: int, batch: Any) -> Tensor:
        """Run one step and return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / (WARMUP + 1)) * (1 + math.cos(math.pi * step / steps)) / 2
        torch.manual_seed(step)
        loss = self.system.compute_loss(self.system.model, batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.weights, EMA_RATE)
        return loss

    def use_averaged_weights(self) -> None:
        """Replace the weights of the network by the averaged ones."""
        with torch.no_grad():
            for weight, averaged in zip(self.weights, self.averaged, strict=True):
                weight.copy_(averaged)


def train_and_evaluate(name: str, steps: int, seconds: float, count: int, timesteps: int) -> dict[str, Any]:
    """Train one system for a number of steps or seconds, and return its cost and the accuracy of its samples."""
    train, held_out = ShapesDataset(SIDE).split(0.15, by="scene")
    encoder = load_text_encoder("minilm")
    embeddings = CaptionEmbeddings(encoder, train.captions)
    standardizer = embeddings.fit_standardizer()
    training_set = CaptionTrainingSet(train, embeddings, seed=0)
    torch.manual_seed(0)
    system = SYSTEMS[name](timesteps)
    run = TrainingRun(name, system, training_set)
    batch = run.batch(0)
    record: dict[str, Any] = {"parameters": sum(weight.numel() for weight in run.weights)}
    saved_bytes = measure_saved_bytes(lambda: system.compute_loss(system.model, batch))
    record["kept megabytes"] = round(saved_bytes / 1e6, 1)
    steps, step_seconds = run.train(steps, seconds)
    record |= {"steps": steps, "seconds a step": round(statistics.median(step_seconds), 4)}
    record["seconds"] = round(sum(step_seconds), 1)
    record["megabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    rng = np.random.default_rng(7)
    captions = [held_out.draw(rng).caption for _ in range(count)]
    text = standardizer(encoder.encode([held_out.captions[i] for i in captions]))
    torch.manual_seed(0)
    start = time.process_time()
    run.use_averaged_weights()
    with torch.no_grad():
        samples = system.sample(system.model.eval(), text)
    record["seconds a picture"] = round((time.process_time() - start) / count, 4)
    scenes = [held_out.scene(i) for i in captions]
    accuracy = oracle_accuracy(ShapesOracle(SIDE), samples.clamp(0, 1), scenes)
    return {**record, **{metric: round(value, 4) for metric, value in accuracy.items()}}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="training steps")
    parser.add_argument("--seconds", type=float, default=0.0, help="CPU seconds of training, instead of --steps")
    parser.add_argument("--count", type=int, default=48, help="number of evaluated samples")
    parser.add_argument("--timesteps", type=int, default=100, help="steps of imagen-pytorch's sampler")
    parser.add_argument("--system", choices=SYSTEMS, help="run only this system and print its record as JSON")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.system:
        record = train_and_evaluate(args.system, args.steps, args.seconds, args.count, args.timesteps)
        print(json.dumps(record))
        return
    try:
        build_imagen_pytorch(args.timesteps)
    except ImportError as error:
        sys.exit(MISSING.format(error))
    rows = []
    for name in SYSTEMS:
        command = [sys.executable, __file__, *sys.argv[1:], "--system", name]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        metrics = json.loads(output.splitlines()[-1])
        print(name, metrics, flush=True)
        cost = {key: metrics.pop(key) for key in ("steps", "seconds", "megabytes", "parameters")}
        rows += [{"system": name, "seed": 0, "metric": key, "value": value, **cost} for key, value in metrics.items()]
    common = {"data": "shapes level 1, 32 px", "batch": BATCH, "count": args.count, "timesteps": args.timesteps}
    with RESULT.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = json.loads(file.read())
        record = {**common, "torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
        RESULT.write_text(json.dumps({**whole, "imagen_pytorch": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
