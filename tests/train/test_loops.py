"""Loops of other frameworks train as `lossmith train`, on the same data, with an image that has a NaN."""

import math
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from lossmith import LossMonitor
from lossmith.models import build_network
from lossmith.tasks import SuperResolution
from lossmith.train.data_stream import EndlessBatchSampler

from .conftest import with_nan

STEPS, LOG_EVERY, BAD = 100, 25, 9
LOSS = "L1 + 0.1*TV + 0.05*SSIM"


class Items:
    """The samples of a run, of which one has a NaN."""

    def __init__(self, photos):
        files = sorted(photos.glob("*.png"))
        self.items = SuperResolution(2).load_data(str(photos), None, val_count=16, crop=16, seed=0).training_set
        assert len(files) == 12

    def __getitem__(self, index):
        sample = self.items[index]
        return with_nan(sample) if index == BAD else sample


def make_loader(photos):
    return DataLoader(Items(photos), batch_sampler=EndlessBatchSampler(2))


def make_network():
    torch.manual_seed(0)
    return build_network("edsr", 2, channels=4, blocks=1).train().to(memory_format=torch.channels_last)


def make_optimizer(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    factor = lambda step: (1 + math.cos(math.pi * min(1.0, step / STEPS))) / 2  # noqa: E731
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@pytest.fixture
def trained(run, photos, put_nan, lines, weights):
    """What `lossmith train` reaches: the weights and the terms of the logged steps."""
    put_nan(lambda index: index == BAD)
    options = {"steps": STEPS, "log_every": LOG_EVERY, "val_every": STEPS, "checkpoint_every": STEPS, "ema": 0.0}

    def make(balance=None):
        folder = run(loss=LOSS, balance=balance, **options)
        return weights(folder), {line["step"]: line for line in lines(folder)}

    return make


def train_plainly(photos, balance=None):
    """Return the weights and the metrics of the logged steps of a loop of plain PyTorch."""
    model = make_network()
    optimizer, schedule = make_optimizer(model)
    monitor, found = LossMonitor(LOSS, optimizer, balance=balance, log_every=LOG_EVERY), {}
    for batch in make_loader(photos):
        optimizer.zero_grad()
        monitor(model(batch["input"]), batch["target"]).backward()
        optimizer.step()
        schedule.step()
        if monitor.should_log:
            found[monitor.steps] = monitor.metrics()
        if monitor.steps == STEPS:
            return model, found
    raise AssertionError("the samples never end")


def train_with_accelerate(photos):
    """Return the weights and the metrics of a loop of Accelerate."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    from lossmith.integrations.accelerate import prepare_monitor

    accelerator = accelerate.Accelerator(cpu=True)
    model = make_network()
    optimizer, schedule = make_optimizer(model)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    monitor, found = prepare_monitor(accelerator, LossMonitor(LOSS, log_every=LOG_EVERY), optimizer), {}
    for batch in make_loader(photos):
        with accelerator.accumulate(model):
            accelerator.backward(monitor(model(batch["input"]), batch["target"]))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if monitor.should_log:
            found[monitor.steps] = monitor.metrics()
        if monitor.steps == STEPS:
            return model, found
    raise AssertionError("the samples never end")


def train_with_lightning(photos):
    """Return the weights and the metrics of a LightningModule."""
    import lightning
    from lightning.pytorch.loggers import Logger

    from lossmith.integrations.lightning import MonitorCallback

    class Recorder(Logger):
        name = version = "recorder"

        def __init__(self):
            super().__init__()
            self.found = {}

        def log_metrics(self, metrics, step=None):
            if "loss" in metrics:
                self.found[step] = metrics

        def log_hyperparams(self, *args, **kwargs):
            pass

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.loss = make_network(), LossMonitor(LOSS, log_every=LOG_EVERY)

        def training_step(self, batch, batch_idx):
            return self.loss(self.model(batch["input"]), batch["target"])

        def configure_optimizers(self):
            optimizer, schedule = make_optimizer(self.model)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    module, recorder = Module(), Recorder()
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=recorder,
        callbacks=[MonitorCallback()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, make_loader(photos))
    return module.model, recorder.found


def assert_same(found, expected):
    (model, metrics), (weights, lines) = found, expected
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-6)
    assert metrics.keys() == lines.keys()
    for step, line in lines.items():
        for kind in ("terms", "weights", "gradient_shares"):
            for name, value in line[kind].items():
                assert metrics[step][f"{kind}/{name}"] == pytest.approx(value, rel=1e-5, abs=1e-7)
    assert metrics[STEPS]["nonfinite/L1"] == metrics[STEPS]["nonfinite/SSIM"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("loop", "balance"),
    [(train_plainly, None), (train_plainly, "share"), (train_with_accelerate, None), (train_with_lightning, None)],
)
def test_a_loop_trains_as_the_command_and_names_the_nan(trained, photos, loop, balance):
    expected = trained(balance)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same(loop(photos, balance) if balance else loop(photos), expected)
    assert any("The term 'SSIM' was non-finite at step 5 (image 2 of the batch)" in str(w.message) for w in caught)
