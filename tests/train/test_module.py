import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1, TV, Knob
from lossmith.models import build_network
from lossmith.tasks import SuperResolution
from lossmith.train import TrainingModule
from lossmith.train.data_stream import EndlessBatchSampler


def make_module(loss, **other):
    return TrainingModule(SuperResolution(2), build_network("edsr", 2, channels=4, blocks=1), loss, steps=100, **other)


def test_an_input_that_the_task_does_not_provide_raises_at_once():
    with pytest.raises(
        ValueError, match=r"The term 'L1' reads the input 'mask', which super-resolution does not provide"
    ):
        make_module(L1().on(target="mask"))


def test_a_knob_without_a_value_raises_at_once():
    with pytest.raises(ValueError, match="The knob 'lam' has no value"):
        make_module(L1() + Knob("lam") * TV())


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"schedule": "cosine"}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"schedule": "constant"}, {0: 1.0, 50: 1.0, 100: 1.0}),
        ({"schedule": "constant", "warmup": 9}, {0: 0.1, 4: 0.5, 9: 1.0, 50: 1.0}),
    ],
)
def test_the_learning_rate_depends_only_on_the_step(settings, factors):
    module = make_module(L1(), **settings)
    assert {step: module.lr_factor(step) for step in factors} == pytest.approx(factors)


def test_a_batch_is_divided_among_devices_without_gap_or_overlap():
    rows = [iter(EndlessBatchSampler(6, start=3, rank=rank, world=3)) for rank in range(3)]
    assert sorted(index for row in rows for index in next(row)) == list(range(18, 24))


def test_an_indivisible_batch_raises():
    with pytest.raises(ValueError, match=r"divisible by the number of devices; got 5 and 2"):
        EndlessBatchSampler(5, world=2)


class SyncCounter(TorchDispatchMode):
    """A counter of reads of a tensor's value, each of which would synchronize with a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_a_step_does_not_synchronize_with_the_device(run, monkeypatch):
    monkeypatch.setattr("lossmith.device.HOST_TYPES", ())  # the CPU stands for a GPU
    step, counter = TrainingModule.training_step, SyncCounter()

    def counted(self, batch, batch_idx):
        with counter:
            return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", counted)
    run(loss="L1 + 0.1*TV + 0.1*perceptual(weights='random') + 0.1*SSIM", crop=32)
    assert counter.count == 0


@pytest.mark.filterwarnings("ignore:.*")
def test_the_module_trains_with_a_plain_lightning_trainer():
    import lightning

    pairs = [{"input": torch.rand(3, 8, 8), "target": torch.rand(3, 16, 16)} for _ in range(6)]
    module = make_module(L1())
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=3, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(module, torch.utils.data.DataLoader(pairs, batch_size=2))
    for model in (module.model, module.average):
        assert model.tail.weight.abs().max() > 0  # the initial value
