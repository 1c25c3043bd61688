"""Measure training crops a second from files, from the cache of decoded images, from LMDB and from webdataset.

    python bench/feed.py --photos FOLDER [--formats png jpeg tiff raw-tiff npy] [--files 100] [--workers 0 1 2]
                         [--crops 2000] [--skip lmdb webdataset] [--small 100000] [--folder /tmp/feed]
                         [--out bench/feed.json]

A crop is a pair of super-resolution: 192 x 192 pixels of an image of 2040 x 1356, and its bicubic quarter. The images
are photographs of the folder, enlarged; each file ends with a number of its own, so that no two files are equal. `tiff`
has 16 bits and is compressed, `raw-tiff` has 16 bits, and `npy` 8.

- `today`: every crop decodes a file, as without a cache, for images beyond the memory; `today again` the same, later.
- `first`: the first pass with an empty cache, as many random crops as there are files; a file that is drawn again is
  mapped.
- `later`: the passes after it. `cold` is the same, per second of wall-clock time, after the operating system has been
  asked to drop the cached pages.
- `lmdb`: BasicSR's way: sub-images of 480 x 480 with a step of 240 pixels as PNG in LMDB, each decoded for one crop.
- `webdataset`: shards of the files, each decoded for one crop.

2,000 files take 5 GB as `png`, 1 GB as `jpeg`, 27 GB as `tiff`, 33 GB as `raw-tiff` and 17 GB as `npy`; the cache of
the first three takes 17, 17 and 33 GB, and shards as much as the files. LMDB takes 14 GB, and 63 GB of 16 bits.

Without data-loading processes, rates are per second of CPU time of the process, which other programs disturb less than
wall-clock time; with them, per second of wall-clock time. `memory` is the sum of the proportional set sizes of all
processes in bytes, in which a shared page counts once. `--small` measures the start of a training on so many files of
64 x 64 pixels: the first time, and with the index of headers. The script needs the packages lmdb, webdataset, tifffile
and imagecodecs, and prints one line of JSON for each format.
"""

import argparse
import io
import json
import os
import random
import shutil
import time
from itertools import islice
from pathlib import Path

import imagecodecs
import lmdb
import numpy as np
import tifffile
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from lossmith.data import ImageFolder, PixelFormat, SuperResolutionCrops, decode_image, list_images
from lossmith.data.cache import ImageCache, use_cache
from lossmith.data.file_paths import file_snapshot
from lossmith.data.find_pixels import PixelOptions
from lossmith.tasks import TASKS
from lossmith.train.data_stream import EndlessBatchSampler, TimedLoader

WIDTH, HEIGHT, CROP, SCALE, BATCH = 2040, 1356, 192, 4, 8
SUB_IMAGE, SUB_STEP = 480, 240
PHOTOGRAPHS = 6
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "raw-tiff": ".tif", "npy": ".npy"}
DEEP = ("tiff", "raw-tiff")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--formats", nargs="*", default=list(SUFFIXES), choices=list(SUFFIXES))
    parser.add_argument("--files", type=int, default=100, help="number of large files of each format")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--crops", type=int, default=2000, help="number of crops of a fast measurement")
    parser.add_argument("--skip", nargs="*", default=[], choices=["lmdb", "webdataset"], help="what is not measured")
    parser.add_argument("--small", type=int, default=0, help="number of small files of the measured start")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/feed"), help="working folder, which is emptied")
    parser.add_argument("--out", type=Path, help="file to which the line of JSON is appended")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.small:
        record({"small_files": args.small, **measure_start(args.folder, args.small, args.photos)}, args.out)
    for form in args.formats:
        photographs = [enlarge(file, form) for file in list_images(args.photos)[:PHOTOGRAPHS]]
        record({"format": form, "files": args.files, **measure_format(form, photographs, args)}, args.out)


def record(line, out):
    """Print a line of JSON, and append it to a file."""
    about = {"torch": torch.__version__, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    text = json.dumps({**line, **about})
    print(text, flush=True)
    if out:
        with out.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def enlarge(file, form):
    """Return a photograph (H, W, 3) of DIV2K's size, with 16 bits for TIFF files."""
    values = np.asarray(Image.open(file).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    if form not in DEEP:
        return values
    noise = np.random.default_rng(0).integers(0, 257, values.shape, dtype=np.uint16)
    return np.minimum(values.astype(np.uint32) * 257 + noise, 65535).astype(np.uint16)


def encode(values, form):
    """Return the content of an image file."""
    content = io.BytesIO()
    if form in DEEP:
        options = {"compression": "deflate", "predictor": True} if form == "tiff" else {}
        tifffile.imwrite(content, values, photometric="rgb", **options)
    elif form == "npy":
        np.save(content, values)
    elif form == "png":
        Image.fromarray(values).save(content, "PNG")
    else:
        Image.fromarray(values).save(content, "JPEG", quality=95)
    return content.getvalue()


def measure_format(form, photographs, args):
    """Return the rates of all ways to feed images of a format."""
    root = args.folder / form
    shutil.rmtree(root, ignore_errors=True)
    (root / "files").mkdir(parents=True)
    contents = [encode(values, form) for values in photographs]
    files = [root / "files" / f"{k:05d}{SUFFIXES[form]}" for k in range(args.files)]
    for k, file in enumerate(files):
        file.write_bytes(contents[k % len(contents)] + k.to_bytes(8, "big"))
    pixels = PixelFormat(dtype="uint16") if form in DEEP else PixelFormat()
    slow = max(args.crops // 25, 2 * BATCH)
    result = {"file_bytes": sum(file.stat().st_size for file in files), "rates": {}, "memory": {}}
    for workers in args.workers:
        rates, memory = result["rates"].setdefault(workers, {}), result["memory"].setdefault(workers, {})
        shutil.rmtree(root / "cache", ignore_errors=True)
        plain = ImageFolder(files, pixels=pixels, cache=ImageCache(memory_bytes=0))
        plain.cache.read = decode_image
        cached = open_cached(root, files, pixels)
        rates["today"], memory["today"] = measure(plain, slow, workers)
        rates["first"], memory["first"] = measure(cached, len(files), workers)
        store_all(cached)
        rates["later"], memory["later"] = measure(cached, args.crops, workers)
        del cached  # pages of open maps are not dropped
        drop_pages(root)
        cached = open_cached(root, files, pixels)
        rates["cold"], _ = measure(cached, min(slow, len(files)), workers, in_wall_time=True)
        result["cache_bytes"] = cached.cache.folder.read_total()
        if "lmdb" not in args.skip:
            write_lmdb(root / "lmdb", photographs, len(files), form)
            tiles = SubImages(root / "lmdb", pixels)
            rates["lmdb"], memory["lmdb"] = measure(tiles, max(args.crops // 5, 2 * BATCH), workers)
            tiles.close()
            result["lmdb_bytes"] = sum(file.stat().st_size for file in (root / "lmdb").iterdir())
        if "webdataset" not in args.skip:
            write_shards(root / "shards", files)
            rates["webdataset"] = measure_webdataset(root / "shards", pixels, form, slow, workers)
        rates["today again"], _ = measure(plain, slow, workers)
    shutil.rmtree(root)
    return result


def open_cached(root, files, pixels):
    """Return the images with the cache."""
    return ImageFolder(files, pixels=pixels, cache=ImageCache(root / "cache", max_bytes=10**12))


def store_all(images):
    """Read all images until the cache has stored each: those that are decoded while the disk is busy come later."""
    stored = -1
    while stored < (stored := images.cache.folder.read_total()):
        for file in images.files:
            images.cache.read(file, images.pixels)


def measure(images, crops, workers, *, in_wall_time=False):
    """Return crops a second, and the memory of all processes."""
    loader = TimedLoader(
        SuperResolutionCrops(images, CROP, scale=SCALE, seed=random.randrange(10**6)),
        torch.device("cpu"),
        batch_sampler=EndlessBatchSampler(BATCH),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )
    clock = time.perf_counter if workers or in_wall_time else time.process_time
    batches = iter(loader)
    start, count = clock(), -(-crops // BATCH)
    for _ in range(count):
        next(batches)
    seconds, memory = clock() - start, measure_memory()
    del batches
    return round(count * BATCH / seconds, 1), memory


def measure_memory():
    """Return the sum of the proportional set sizes of this process and its children in bytes."""
    total = 0
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in ("self", *children):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def drop_pages(folder):
    """Ask the operating system to drop the cached pages of all files."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_lmdb(path, photographs, count, form):
    """Write the sub-images of all files; files of one photograph have equal sub-images, under keys of their own."""
    if path.exists():
        return
    tiles = []
    for values in photographs:
        rows, columns = (range(0, side - SUB_IMAGE + 1, SUB_STEP) for side in values.shape[:2])
        parts = [values[y : y + SUB_IMAGE, x : x + SUB_IMAGE] for y in rows for x in columns]
        tiles.append([imagecodecs.png_encode(np.ascontiguousarray(part), level=1) for part in parts])
    with lmdb.open(str(path), map_size=10**12) as database, database.begin(write=True) as transaction:
        number = 0
        for k in range(count):
            for tile in tiles[k % len(tiles)]:
                transaction.put(f"{number}".encode(), tile)
                number += 1


class Images:
    """Images as an image folder gives them to the crops."""

    def draw(self, index, rng):
        return self[int(rng.integers(len(self)))]


class SubImages(Images):
    """The sub-images in LMDB."""

    def __init__(self, path, pixels):
        self.path, self.pixels, self.database = path, pixels, None
        with lmdb.open(str(path), readonly=True, lock=False) as database:
            self.count = database.stat()["entries"]

    def close(self):
        if self.database is not None:
            self.database.close()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.database is None:
            self.database = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False, meminit=False)
        with self.database.begin() as transaction:
            values = imagecodecs.png_decode(transaction.get(f"{index}".encode()))
        return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def write_shards(path, files):
    """Write webdataset shards of the files."""
    if not path.exists():
        path.mkdir()
        with webdataset.ShardWriter(str(path / "%05d.tar"), maxcount=50, verbose=0) as shards:
            for file in files:
                shards.write({"__key__": file.stem, file.suffix[1:]: file.read_bytes()})


class WebCrops(IterableDataset):
    """One crop of each sample of the shards, decoded as the files are."""

    def __init__(self, path, pixels, suffix):
        self.urls, self.pixels, self.suffix = sorted(str(file) for file in path.iterdir()), pixels, suffix

    def __iter__(self):
        samples = webdataset.WebDataset(
            self.urls,
            shardshuffle=len(self.urls),
            nodesplitter=None,
            workersplitter=webdataset.split_by_worker,
            empty_check=False,
        )
        for k, sample in enumerate(samples.shuffle(20).repeat()):
            file = Path(f"/dev/shm/feed{os.getpid()}.{self.suffix}")
            file.write_bytes(sample[self.suffix])
            image = decode_image(file, self.pixels)
            file.unlink()
            yield SuperResolutionCrops(OneImage(image, self.pixels), CROP, scale=SCALE)[k]


class OneImage(Images):
    """An image that has been decoded."""

    def __init__(self, image, pixels):
        self.image, self.pixels = image, pixels

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.image


def measure_webdataset(path, pixels, form, crops, workers):
    """Return crops a second."""
    loader = DataLoader(WebCrops(path, pixels, SUFFIXES[form][1:]), batch_size=BATCH, num_workers=workers)
    clock = time.perf_counter if workers else time.process_time
    start, count = clock(), -(-crops // BATCH)
    for _ in islice(loader, count):
        pass
    return round(count * BATCH / (clock() - start), 1)


def measure_start(folder, count, photos):
    """Return the seconds of CPU time in which a task loads its data from small files: without, and with the index."""
    root = folder / "small"
    shutil.rmtree(root, ignore_errors=True)
    photographs = [Image.open(file).convert("RGB") for file in list_images(photos)[:PHOTOGRAPHS]]
    contents = []
    for k in range(200):
        content, (x, y) = io.BytesIO(), (37 * k % 500, 11 * k % 300)
        photographs[k % PHOTOGRAPHS].crop((x, y, x + 64, y + 64)).save(content, "PNG")
        contents.append(content.getvalue())
    for k in range(count):
        file = root / "files" / f"{k // 1000:03d}" / f"{k:06d}.png"
        if k % 1000 == 0:
            file.parent.mkdir(parents=True)
        file.write_bytes(contents[k % 200] + k.to_bytes(8, "big"))
    seconds, files = {}, str(root / "files")
    for name in ("first start", "second start", "third start"):
        start = time.process_time()
        with use_cache(ImageCache(root / "cache")), file_snapshot():  # as train does
            task = TASKS["super-resolution"](4)
            task.find_pixels(files, PixelOptions())
            data = task.load_data(files, None, val_count=16, crop=48, seed=0)
        seconds[name] = round(time.process_time() - start, 2)
        start = time.process_time()
        for folder, _, names in os.walk(files):
            for each in names:
                os.stat(f"{folder}/{each}")  # noqa: PTH116  # a third of the time of Path.stat
        seconds[f"{name}, to list the files and read their status"] = round(time.process_time() - start, 2)
    rate = []
    for _ in range(2):
        start = time.process_time()
        for k in range(2000):
            data.training_set[k]
        rate.append(round(2000 / (time.process_time() - start), 1))
    shutil.rmtree(root)
    return {"seconds": seconds, "crops a second, first and second pass": rate, "images": data.training_count}


if __name__ == "__main__":
    main()
