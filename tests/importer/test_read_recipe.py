"""Configurations of five trainers as a formula and a command, and files that are none or are hostile."""

import inspect
import itertools
import json
import re

import pytest
from typer.core import TyperCommand

from lossmith import parse
from lossmith.cli import main
from lossmith.cli.train import build_train_command, settings_from_options
from lossmith.importer import read_recipe
from lossmith.importer.networks import VARIANTS
from lossmith.models.spandrel_model import load_architectures

BASICSR = """
name: x4
model_type: RealESRGANModel
scale: 4
num_gpu: 2
manual_seed: 10
l1_gt_usm: True
datasets:
  train:
    type: RealESRGANDataset
    dataroot_gt: data/HR
    gt_size: 128
    batch_size_per_gpu: 6
network_g: {type: RRDBNet, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 2, num_grow_ch: 32}
network_d: {type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 16, skip_connection: True}
train:
  ema_decay: 0.99
  optim_g: {type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99]}
  optim_d: {type: Adam, lr: 1e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [50, 80, 200], gamma: 0.5}
  total_iter: 100
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
  perceptual_opt:
    type: PerceptualLoss
    layer_weights: {'conv1_2': 0.1, 'conv5_4': 1}
    vgg_type: vgg19
    perceptual_weight: !!float 0.5
    style_weight: 0
    criterion: l1
  gan_opt: {type: GANLoss, gan_type: lsgan, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: 1e-1}
  net_d_iters: 1
  net_d_init_iters: 0
"""
TRAINNER = """
scale: 2
use_amp: true
amp_bf16: true
datasets:
  train:
    type: pairedimagedataset
    dataroot_gt: [a/hr, b/hr]
    dataroot_lq: [a/lr, b/lr]
    lq_size: 32
    batch_size_per_gpu: 4
    accum_iter: 2
network_g: {type: span, norm: false}
train:
  grad_clip: true
  grad_clip_max_norm: 10
  optim_g: {type: AdamW, lr: !!float 1e-4, weight_decay: 0.01, betas: [0.9, 0.999]}
  total_iter: 1000
  warmup_iter: 100
  losses:
    - {type: charbonnierloss, loss_weight: 2.0}
    - {type: ffloss, loss_weight: 0.1}
    - {type: hsluvloss, loss_weight: 1.0, criterion: charbonnier}
    - {type: distsloss, loss_weight: 0}
"""
NEOSR = """
model_type = "image"
scale = 4
[datasets.train]
type = "paired"
dataroot_gt = 'C:\\data sets\\gt\\'
dataroot_lq = 'C:\\data sets\\lq\\'
patch_size = 16
batch_size = 8
[network_g]
type = "no_such_network"
[train]
ema = 0.999
wavelet_guided = true
[train.optim_g]
type = "adan_sf"
lr = 1e-3
betas = [0.98, 0.92, 0.99]
warmup_steps = 1600
[train.mssim_opt]
type = "mssim_loss"
[train.perceptual_opt]
type = "vgg_perceptual_loss"
loss_weight = 0.5
[logger]
total_iter = 2000
"""
KAIR = """{
  "model": "gan" // "plain" | "gan"
  , "scale": 4, "n_channels": 3
  , "datasets": {"train": {"dataset_type": "blindsr", "dataroot_H": "http://a//b", "lq_patchsize": 24
                           , "dataloader_batch_size": 4}}
  , "netG": {"net_type": "rrdbnet", "in_nc": 3, "nf": 8, "nb": 2, "init_type": "orthogonal"}
  , "netD": {"net_type": "discriminator_unet", "base_nc": 32}
  , "train": {"G_lossfn_type": "charbonnier", "G_lossfn_weight": 2, "G_charbonnier_eps": 1e-8
    , "F_lossfn_type": "l2", "F_lossfn_weight": 1, "F_feature_layer": [2, 34], "F_weights": [0.1, 1.0]
    , "F_use_input_norm": true, "F_use_range_norm": false
    , "gan_type": "ragan", "D_lossfn_weight": 0.2, "E_decay": 0.999, "D_init_iters": 0
    , "G_optimizer_type": "adam", "G_optimizer_lr": 5e-5, "D_optimizer_lr": 5e-5
    , "G_scheduler_type": "MultiStepLR", "G_scheduler_milestones": [100, 200], "G_scheduler_gamma": 0.5}
}"""
FILES = {"basicsr.yml": BASICSR, "trainner.yaml": TRAINNER, "neosr.toml": NEOSR, "kair.json": KAIR}


@pytest.fixture
def write(tmp_path):
    """Write a configuration and return its path."""

    def write(text, name="x.yml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def read(write):
    return lambda text, name="x.yml", **options: read_recipe(write(text, name), **options)


def settings_of(recipe):
    """Return the settings that the command of a recipe stands for."""
    lossmith, task, *words = recipe.command
    assert lossmith == "train"
    command = build_train_command(task)
    with command.make_context("train", list(words)) as context:
        return settings_from_options(task, TyperCommand.invoke(command, context))


def test_basicsr(read):
    recipe = read(BASICSR)
    assert (recipe.framework, recipe.status) == ("Real-ESRGAN", "whole")
    assert repr(recipe.loss) == (
        'L1() + 0.5 * L1() @ VGG("vgg19", {"conv1_2": 0.1, "conv5_4": 1.0}) + '
        '0.2 * Adversarial("unet", "lsgan", width=16)'
    )
    assert any("sharpened there for l1_gt_usm" in note for note in recipe.notes)
    settings = settings_of(recipe)
    assert (settings.task, settings.scale, settings.options) == ("super-resolution", 4, {"degradation": "blind"})
    assert (settings.steps, settings.crop, settings.batch, settings.seed) == (100, 128, 12, 10)
    assert (settings.lr, settings.ema, settings.warmup) == (2e-4, 0.99, 0)
    assert (settings.schedule, settings.milestones, settings.gamma) == ("multistep", "50,80", 0.5)
    assert (settings.optimizer, settings.optimizer_options) == ("adam", {"betas": [0.9, 0.99]})
    assert settings.model == {"name": "spandrel:ESRGAN", "num_filters": 8, "num_blocks": 2}


def test_trainner_redux(read):
    recipe = read(TRAINNER)
    assert (recipe.framework, recipe.status) == ("traiNNer-redux", "in part")
    assert repr(recipe.loss) == "2.0 * Charbonnier(eps=1e-06) + 5.0 * FocalFrequency(ave_spectrum=True)"
    assert list(recipe.left_out) == ["hsluvloss"]
    settings = settings_of(recipe)
    assert (settings.task, settings.scale, settings.crop, settings.accumulate) == ("paired", 2, 64, 2)
    assert (settings.weight_decay, settings.clip, settings.warmup, settings.precision) == (0.01, 10, 100, "bf16-mixed")
    assert settings.model == {"name": "spandrel:SPAN", "norm": False}


def test_neosr(read):
    recipe = read(NEOSR, "x.toml")
    assert (recipe.framework, recipe.status) == ("neosr", "with deviations")
    assert [len(term.deviations) for term in recipe.terms] == [2, 1]
    settings = settings_of(recipe)
    assert (settings.images, settings.crop, settings.steps, settings.warmup) == ("C:\\data sets\\gt\\", 64, 2000, 1600)
    notes = " ".join(recipe.notes)
    assert "no_such_network" in notes and "adan_sf" in notes and "wavelet" in notes


def test_kair(read):
    recipe = read(KAIR, "x.json")
    assert (recipe.framework, recipe.status) == ("KAIR", "whole")
    assert repr(recipe.loss) == (
        '2.0 * Charbonnier(eps=0.0001) + L2() @ VGG("vgg19", {"conv1_2": 0.1, "conv5_4": 1.0}) + '
        '0.1 * Adversarial("unet", "relativistic", width=32, lr=5e-05, betas=[0.9, 0.999])'
    )
    settings = settings_of(recipe)
    assert (settings.images, settings.crop, settings.steps) == ("http://a//b", 96, 200)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("loss_weight: 1e-1", "loss_weight: 1e-1, extra: 3"), "with deviations"),
        (("type: L1Loss", "type: OwnLoss"), "in part"),
        (("UNetDiscriminatorSN", "OwnDiscriminator"), "with deviations"),
    ],
)
def test_the_status_says_how_much_is_carried_over(change, status, read):
    assert read(BASICSR.replace(*change)).status == status


@pytest.mark.parametrize("name", ["dataroot_gt: data/HR", "dataroot_gt: [data/HR]"])
def test_a_folder_cannot_be_another_option_of_the_command(name, read):
    recipe = read(BASICSR.replace("dataroot_gt: data/HR", name.replace("data/HR", "'--plugin=evil.py'")))
    assert not any("evil.py" in word for word in recipe.command)
    assert settings_of(recipe).images == "IMAGES"


def test_the_noise_of_a_denoiser_is_a_number_or_a_range(read):
    denoiser = KAIR.replace('"blindsr"', '"ffdnet"').replace('"scale": 4', '"scale": 1')

    def sigma(value):
        return read(denoiser.replace('"lq_patchsize": 24', f'"H_size": 64, "sigma": {value}'), "x.json")

    assert settings_of(sigma("[0, 75]")).options["sigma"] == [0.0, 75.0]
    assert settings_of(sigma("15")).options["sigma"] == 15.0
    assert settings_of(sigma('"--plugin=evil.py"')).options["sigma"] == 25.0


@pytest.mark.parametrize("name", FILES)
def test_the_text_of_the_loss_parses_back(name, read):
    loss = read(FILES[name], name).loss
    assert repr(parse(repr(loss))) == repr(loss)


@pytest.mark.parametrize("name", FILES)
def test_the_command_prints_a_recipe_and_its_json(name, write, capsys):
    path = write(FILES[name], name)
    assert main(["import", str(path)]) == 0
    text = capsys.readouterr().out
    assert "Loss: " in text and "lossmith train " in text
    assert main(["import", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert parse(record["loss"]).terms
    assert record["command"][0] == "train"


def test_images_give_shares_and_stand_in_the_command(write, capsys, tmp_path):
    import numpy as np
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80)).save(tmp_path / "photos" / f"{i}.png")
    path = write(TRAINNER, "x.yml")
    assert main(["import", str(path), "--images", str(tmp_path / "photos"), "--device", "cpu", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sum(record["shares"].values()) == pytest.approx(1)
    assert record["command"][record["command"].index("--images") + 1] == str(tmp_path / "photos")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)
MERGE_BOMB = "a: &a {k: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join([f'*{chr(97 + i)}'] * 10)}]}}\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yml", "!!python/object/apply:os.system ['touch RAN']", "could not determine a constructor .* in line 1"),
        ("x.yml", "a: !!python/name:os.system ''", "could not determine a constructor"),
        ("x.yml", BOMB, "it has more than 100,000 values"),
        ("x.yml", MERGE_BOMB, "is no configuration of a training"),
        ("x.yml", "a: [1, 2\nb: 3", "in line 2"),
        ("x.yml", "- 1\n- 2", "holds no settings but a list"),
        ("x.yml", "", "holds no settings but a NoneType"),
        ("x.yml", "a: 1", "is no configuration of a training by BasicSR"),
        ("x.yml", "network_g: {type: SwinIR}\nval: {}", "It holds no training"),
        ("x.yml", "[" * 5000, "nested too deeply|cannot be read"),
        ("x.yml", BASICSR.replace("scale: 4", "scale: -4"), "scale must be at least 1"),
        ("x.yml", BASICSR.replace("scale: 4", "scale: .inf"), "scale must be a number; got inf"),
        ("x.yml", BASICSR.replace("gt_size: 128", "gt_size: 1e300"), "gt_size must be at least 0 and at most"),
        ("x.yml", BASICSR.replace("total_iter: 100", "total_iter: [1]"), "total_iter must be a number; got a list"),
        ("x.toml", "a = 1\na = 2\nb = 3", r"Cannot overwrite a value \(at line 2"),
        ("x.json", "{'a': 1}", "line 1 column 2"),
        ("x.py", "import os", "must end in .yml, .yaml, .toml or .json"),
        ("x.yml", "a: '" + "x" * 1_100_000 + "'", "larger than 1 MB"),
    ],
)
def test_a_file_that_is_none_or_is_hostile_raises_one_line(name, text, message, write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = write(text, name)
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not (tmp_path / "RAN").exists()
    assert main(["import", str(path)]) == 2
    assert re.fullmatch(r"lossmith: [^\n]*\n", capsys.readouterr().err)


def test_a_missing_file_raises_one_line():
    with pytest.raises(ValueError, match=r"There is no configuration 'none\.yml'"):
        read_recipe("none.yml")


@pytest.mark.parametrize(
    "change",
    [
        ("type: L1Loss", "type: [1]"),
        ("type: L1Loss, loss_weight: 1.0", "type: L1Loss, loss_weight: .nan"),
        ("layer_weights: {'conv1_2': 0.1, 'conv5_4': 1}", "layer_weights: {'__import__(\"os\")': 1}"),
        ("lr: !!float 2e-4", "lr: -1"),
        ("gamma: 0.5", "gamma: 7"),
        ("milestones: [50, 80, 200]", "milestones: 'x'"),
        ("type: RRDBNet", "type: '; rm -rf /'"),
        ("dataroot_gt: data/HR", "dataroot_gt: '$(touch RAN); \"x\"'"),
        ("scale: 4", "scale: 8"),
        ("ema_decay: 0.99", "ema_decay: 2"),
        ("network_g: {type: RRDBNet", "network_g: {type: 7"),
        ("betas: [0.9, 0.99]}\n  optim_d", "betas: x}\n  optim_d"),
    ],
)
def test_a_wrong_value_is_reported_and_the_command_still_parses(change, read):
    assert change[0] in BASICSR
    recipe = read(BASICSR.replace(*change))
    assert recipe.left_out or recipe.notes
    if recipe.command:
        settings_of(recipe)


def test_the_names_of_network_sizes_stand_for_arguments_of_their_architectures():
    architectures = load_architectures()
    for name, (architecture, options) in VARIANTS.items():
        unknown = options.keys() - inspect.signature(architectures[architecture]).parameters.keys()
        assert not unknown, name


def test_a_size_of_trainner_becomes_options_of_the_network_that_the_configuration_may_change(read):
    text = TRAINNER.replace("{type: span, norm: false}", "{type: swinir_s, embed_dim: 48}")
    assert text != TRAINNER
    words = read(text, "x.yml").command
    chosen = dict(word.split("=", 1) for option, word in itertools.pairwise(words) if option == "--model-option")
    assert "spandrel:SwinIR" in words
    assert chosen["depths"] == "[6, 6, 6, 6]"
    assert (chosen["embed_dim"], chosen["upsampler"]) == ("48", "pixelshuffledirect")
