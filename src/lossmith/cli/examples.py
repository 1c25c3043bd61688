"""The examples below the help of each `lossmith train` command."""

__all__ = ["examples"]

END = "The same line again goes on where the run stands, be it after Ctrl-C, kill -9, or with more --steps."

PHOTOS = "--images photos/"
EXAMPLES: dict[str, list[str]] = {
    "super-resolution": [
        f'{PHOTOS} --loss "L1 + 0.1*perceptual" --steps 20000 --out runs/x4',
        f'{PHOTOS} --val Set5/ --scale 2 --loss "L1" --steps 500 --crop 96 --out runs/x2',
    ],
    "denoising": [f'{PHOTOS} --sigma 0.1:55 --loss "L1" --steps 20000 --out runs/denoise'],
    "deblurring": [f'{PHOTOS} --blur motion --loss "L1 + 0.05 * L1 @ Fourier" --steps 20000 --out runs/deblur'],
    "jpeg": [f'{PHOTOS} --quality 10:60 --loss "L1" --steps 20000 --out runs/jpeg'],
    "inpainting": [f'{PHOTOS} --loss "L1 + 0.1*perceptual" --steps 20000 --out runs/fill'],
    "paired": ['--images true/ --inputs spoilt/ --loss "L1" --steps 20000 --out runs/mine'],
    "autoencoding": [f'{PHOTOS} --loss "L1 + 1e-6*KL" --steps 20000 --out runs/latents'],
    "style": [f"{PHOTOS} --style starry.jpg --steps 20000 --out runs/starry"],
    "text-to-image": [
        "--captions shapes --steps 2600 --out runs/shapes",
        '--captions emoji/ --val others/ --loss "imagen + 0.1*L1" --steps 20000 --out runs/emoji',
    ],
    "direct-text-to-image": [
        "--captions shapes --steps 2600 --out runs/direct",
        '--captions emoji/ --val others/ --loss "L1 + 3e-5*KL + 0.01*TV" --steps 20000 --out runs/emoji',
    ],
}


def examples(task: str) -> str:
    """A task's examples, as the end of its help."""
    lines = [f"  lossmith train {task} {words}" for words in EXAMPLES[task]]
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines, END])
