"""Train a super-resolution network (x2) with Keras's `fit` on a formula, for two minutes of CPU time.

    KERAS_BACKEND=tensorflow python experiments/keras/super_resolve.py --train FOLDER --test IMAGE

FOLDER holds photographs, and IMAGE is a photograph outside FOLDER. Writes result.json beside this file, and the image
of docs/keras.md.
"""

import argparse
import json
import platform
import random
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import torch
from keras import layers
from PIL import Image

from lossmith.data import downsample
from lossmith.keras import KerasLoss
from lossmith.metrics import psnr
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
SHEET = HERE.parents[1] / "docs" / "images" / "keras.jpg"
FORMULA = "L1 + 0.02*perceptual('vgg16', ['conv1_2', 'conv2_2'])"
SECONDS, SIDE, BATCH = 120, 40, 4
CROP = (150, 270, 105, 150)


class StopAfterCPUTime(keras.callbacks.Callback):
    """Stop the training after a CPU time, and keep the logs of all epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if batch == 1 and not self.rows:  # the first step includes compilation
            self.start = time.process_time()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if batch > 1 and time.process_time() - self.start > SECONDS:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.rows.append({name: round(float(value), 5) for name, value in (logs or {}).items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder of training photographs")
    parser.add_argument("--test", type=Path, required=True, help="test photograph")
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    low_resolution, high_resolution = draw_crops(args.train)
    model = build_network()
    loss = KerasLoss(FORMULA)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, metrics=loss.metrics())
    stop = StopAfterCPUTime()
    model.fit(low_resolution, high_resolution, batch_size=BATCH, epochs=1000, verbose=2, callbacks=[stop])

    truth = read_photograph(args.test)[None]
    low_resolution = halve(truth)
    bicubic_model = keras.Model(model.input, model.get_layer("bicubic").output)
    images = {
        "bicubic": bicubic_model.predict(low_resolution, verbose=0),
        "trained": model.predict(low_resolution, verbose=0),
    }
    scores = {
        name: round(psnr(to_channels_first(x).clip(0, 1), to_channels_first(truth)).mean().item(), 2)
        for name, x in images.items()
    }
    labels = {f"{name}\n{scores[name]} dB": to_channels_first(x)[0] for name, x in images.items()}
    with tempfile.TemporaryDirectory() as folder:
        sheet = Image.open(
            save_image_sheet(
                {**labels, "truth": to_channels_first(truth)[0]}, Path(folder) / "sheet.png", crop=CROP, zoom=3
            )
        )
        sheet.resize((sheet.width * 5 // 8, sheet.height * 5 // 8)).convert("RGB").save(SHEET, quality=88)
    result = {
        "loss": repr(loss),
        "hashes": {name: digest[:8] for name, digest in loss.formula.weight_hashes.items()},
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "python": platform.python_version(),
        "seconds": SECONDS,
        "steps": int(model.optimizer.iterations),
        "parameters": model.count_params(),
        "image": args.test.name,
        "psnr": scores,
        "epochs": stop.rows,
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("steps", "psnr")}))


def build_network() -> keras.Model:
    """Build a small convolutional network that predicts the residual over bicubic upsampling."""
    inputs = keras.Input((None, None, 3))
    bicubic = layers.UpSampling2D(2, interpolation="bicubic", name="bicubic")(inputs)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    for _ in range(3):
        x = layers.Add()([x, layers.Conv2D(32, 3, padding="same", activation="relu")(x)])
    residual = layers.Conv2DTranspose(3, 4, strides=2, padding="same", kernel_initializer="zeros")(x)
    return keras.Model(inputs, layers.Add()([bicubic, residual]))


def draw_crops(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return four random crops of each photograph, at low and at full resolution."""
    rng, crops = random.Random(0), []
    for path in sorted(folder.iterdir()):
        image = read_photograph(path)
        for _ in range(4):
            top, left = (rng.randrange(0, side - SIDE) for side in image.shape[:2])
            crops.append(image[top : top + SIDE, left : left + SIDE])
    return halve(np.stack(crops)), np.stack(crops)


def halve(images: np.ndarray) -> np.ndarray:
    """Return images of half the size by bicubic downsampling."""
    return downsample(to_channels_first(images), 2).permute(0, 2, 3, 1).numpy()


def read_photograph(path: Path) -> np.ndarray:
    """Return a photograph (H, W, 3) in [0, 1], cropped to even sides."""
    image = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def to_channels_first(images: np.ndarray) -> torch.Tensor:
    """Convert images (N, H, W, 3) to a tensor (N, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
