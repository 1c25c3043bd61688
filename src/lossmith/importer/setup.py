"""The settings of a recipe beside its loss: data, network, optimiser, schedule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lossmith.importer.recipe import Framework, LeftOut, Section

__all__ = ["TrainingSetup", "read_setup"]

VIDEO_MODELS = ("Video", "EDVR")
"""Beginnings of BasicSR's models for image sequences."""
ITERATIONS = 500_000
"""Steps for a configuration that does not say when a training ends."""


@dataclass
class TrainingSetup:
    """The data, network and optimiser of a recipe.

    Args:
        scale: Upscaling factor.
        crop: The side of the crops in pixels of the target; 0 if unknown.
        batch: Images in a batch, over the processes that the configuration names; 0 if unknown.
        channels: Image channels.
        image_range: The width of the range of the images: 1, or 2 for [-1, 1].
        steps: Optimizer steps.
        dataset: The type of the training data, in lower case.
        data: The options of the training data.
        network: The options of the network, with its type.
        discriminator: The options of the discriminator.
        optimizer: The options of the optimiser, with its type: lr, weight_decay, betas.
        discriminator_optimizer: The same for the discriminator.
        schedule: The options of the learning-rate schedule, with its type.
        warmup: Steps of linear warm-up.
        ema: Decay of the averaged weights; 0 for none.
        clip: Largest gradient norm; 0 for none.
        accumulate: Gradient-accumulation steps.
        precision: lossmith's precision.
        seed: The seed; None if there is none.
        is_relativistic: Whether the adversarial loss is relativistic.
        is_video: Whether images come in sequences.
        notes: What has no counterpart.
    """

    scale: int = 1
    crop: int = 0
    batch: int = 0
    channels: int = 3
    image_range: float = 1.0
    steps: int = ITERATIONS
    dataset: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    discriminator: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    discriminator_optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0
    ema: float = 0.0
    clip: float = 0.0
    accumulate: int = 1
    precision: str = "32"
    seed: int | None = None
    is_relativistic: bool = False
    is_video: bool = False
    notes: list[str] = field(default_factory=list)


def read_setup(config: Mapping[str, Any], framework: Framework) -> TrainingSetup:
    """Return the settings of a configuration beside its losses.

    Raises:
        ValueError: A setting that must be a number is none.
    """
    try:
        return _read_kair(config) if framework == "KAIR" else _read_basicsr(config, framework)
    except LeftOut as reason:
        raise ValueError(f"The configuration cannot be used: {reason}.") from None


def _read_basicsr(config: Mapping[str, Any], framework: Framework) -> TrainingSetup:
    """Read the layout of BasicSR, which Real-ESRGAN, traiNNer-redux and neosr keep."""
    top, train = Section("", config), Section("train", _mapping(config.get("train")))
    data = _mapping(_mapping(config.get("datasets")).get("train"))
    setup = TrainingSetup(data=data, dataset=str(data.get("type", "")).lower())
    of_data, logger = Section("datasets.train", data), Section("logger", _mapping(config.get("logger")))
    setup.scale = top.count("scale", 1, low=1)
    crop_of_input = of_data.count("lq_size", of_data.count("patch_size", 0))
    setup.crop = of_data.count("gt_size", 0) or crop_of_input * setup.scale
    processes = config.get("num_gpu")
    per_process = of_data.count("batch_size_per_gpu", of_data.count("batch_size", 0))
    setup.batch = per_process * (processes if isinstance(processes, int) and 1 < processes <= 4096 else 1)
    setup.accumulate = max(1, of_data.count("accum_iter", of_data.count("accumulate", 1)))
    setup.steps = train.count("total_iter", logger.count("total_iter", ITERATIONS, low=1), low=1)
    setup.network, setup.discriminator = _mapping(config.get("network_g")), _mapping(config.get("network_d"))
    setup.optimizer, setup.discriminator_optimizer = _mapping(train.value("optim_g")), _mapping(train.value("optim_d"))
    setup.schedule = _mapping(train.value("scheduler"))
    of_optimizer = Section("optim_g", setup.optimizer)
    setup.warmup = max(0, train.count("warmup_iter", of_optimizer.count("warmup_steps", 0), low=-1))
    setup.ema = train.number("ema_decay", train.number("ema", 0))
    if train.value("grad_clip") is True:
        setup.clip = train.number("grad_clip_max_norm", 1.0)
    if config.get("use_amp"):
        setup.precision = "bf16-mixed" if config.get("amp_bf16") or config.get("bfloat16") else "16-mixed"
    seed = config.get("manual_seed")
    setup.seed = seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31 else None
    model = str(config.get("model_type", ""))
    setup.is_relativistic = model == "ESRGANModel"
    setup.is_video = model.startswith(VIDEO_MODELS)
    mean, std = data.get("mean"), data.get("std")
    if mean == [0.5] * 3 and std == [0.5] * 3:
        setup.image_range = 2.0
    elif mean is not None or std is not None:
        setup.notes.append("Images are normalised by a mean and a standard deviation; weights refer to that range.")
    _note_training(setup, config, train, framework)
    return setup


def _note_training(setup: TrainingSetup, config: Mapping[str, Any], train: Section, framework: Framework) -> None:
    """Note what changes the loss or the steps and has no counterpart."""
    sharpened = [key for key in ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm") if config.get(key)]
    if sharpened:
        setup.notes.append(f"The target is sharpened there for {', '.join(sharpened)}; here it is the image as it is.")
    if (start := train.number("net_d_init_iters", 0)) > 0:
        setup.notes.append(f"The discriminator alone is trained for the first {start:g} steps there.")
    if (every := train.number("net_d_iters", 1)) != 1:
        setup.notes.append(f"The network is trained in every {every:g}th step there.")
    for key, what in {
        "wavelet_guided": "Losses are computed on wavelet bands from wavelet_init on.",
        "sam": "Sharpness-aware minimisation is used.",
        "eco": "Empirical centroid-oriented optimisation is used.",
        "match_lq_colors": "Colours of the output are matched to the input.",
        "use_moa": "Images of a batch are mixed.",
    }.items():
        if train.value(key):
            setup.notes.append(f"{what[:-1]} in {framework}, and not here.")
    pretrained = _mapping(config.get("path")).get("pretrain_network_g")
    if isinstance(pretrained, str) and pretrained:
        setup.notes.append(f"The training starts there from {pretrained[:120]!r}: replace --model by --init FILE.")
    if isinstance(setup.data.get("augmentation"), list) and set(setup.data["augmentation"]) - {"none"}:
        setup.notes.append(f"Images of a batch are mixed in {framework}, and not here.")


def _read_kair(config: Mapping[str, Any]) -> TrainingSetup:
    """Read the flat layout of KAIR."""
    train, data = (
        Section("train", _mapping(config.get("train"))),
        _mapping(_mapping(config.get("datasets")).get("train")),
    )
    setup = TrainingSetup(data=data, dataset=str(data.get("dataset_type", "")).lower())
    top, of_data = Section("", config), Section("datasets.train", data)
    setup.scale, setup.channels = top.count("scale", 1, low=1), top.count("n_channels", 3, low=1)
    is_blind = setup.dataset == "blindsr"
    size = of_data.count("lq_patchsize", 0) * setup.scale if is_blind else of_data.count("H_size", 0)
    setup.crop = size or of_data.count("gt_size", 0)
    setup.batch = of_data.count("dataloader_batch_size", 0)
    milestones = train.value("G_scheduler_milestones")
    setup.schedule = {
        "type": train.value("G_scheduler_type", "MultiStepLR"),
        "milestones": milestones,
        "gamma": train.value("G_scheduler_gamma", 0.5),
        "periods": train.value("G_scheduler_periods"),
        "eta_min": train.value("G_scheduler_eta_min"),
    }
    numbers = [each for each in milestones if isinstance(each, int)] if isinstance(milestones, list) else []
    if "total_iter" not in train.options:
        setup.notes.append("The configuration does not say when the training ends; --steps is its last milestone.")
    setup.steps = train.count("total_iter", max(numbers, default=ITERATIONS), low=1)
    setup.network, setup.discriminator = _typed(config.get("netG")), _typed(config.get("netD"))
    setup.optimizer = {
        "type": train.value("G_optimizer_type", "adam"),
        "lr": train.number("G_optimizer_lr", 1e-4),
        "weight_decay": train.value("G_optimizer_wd") or 0,
    }
    if "D_optimizer_lr" in train.options:
        setup.discriminator_optimizer = {"lr": train.number("D_optimizer_lr", 1e-4), "betas": [0.9, 0.999]}
    setup.ema = train.number("E_decay", 0) if train.value("E_decay") else 0.0
    setup.clip = train.number("G_optimizer_clipgrad", 0) if train.value("G_optimizer_clipgrad") else 0.0
    setup.is_relativistic = train.value("gan_type") == "ragan"
    setup.is_video = str(config.get("model", "")) == "vrt"
    if start := train.value("D_init_iters"):
        setup.notes.append(f"The discriminator alone is trained for the first {start} steps there.")
    if setup.channels == 1:
        setup.notes.append("Images are grey there; --channels 1 trains on grey images.")
    return setup


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _typed(value: Any) -> dict[str, Any]:
    """Return the options of a network of KAIR with its type under the name that the others use."""
    options = dict(_mapping(value))
    return {"type": options.pop("net_type"), **options} if "net_type" in options else options
