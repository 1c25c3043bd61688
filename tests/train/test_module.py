import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1, TV, Knob
from lossmith.models import build_network
from lossmith.tasks import SuperResolution
from lossmith.train import TrainingModule
from lossmith.train.data_stream import EndlessBatchSampler


def training(loss, **other):
    return TrainingModule(SuperResolution(2), build_network("edsr", 2, channels=4, blocks=1), loss, steps=100, **other)


def test_a_view_that_the_task_does_not_give_is_refused_at_once():
    with pytest.raises(ValueError, match=r"The term 'L1' reads the view 'mask', which super-resolution does not give"):
        training(L1().on(target="mask"))


def test_an_open_knob_is_refused_at_once():
    with pytest.raises(ValueError, match="leaves 'lam' open"):
        training(L1() + Knob("lam") * TV())


@pytest.mark.parametrize(
    ("settings", "heights"),
    [
        ({"schedule": "cosine"}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"schedule": "constant"}, {0: 1.0, 50: 1.0, 100: 1.0}),
        ({"schedule": "constant", "warmup": 9}, {0: 0.1, 4: 0.5, 9: 1.0, 50: 1.0}),
    ],
)
def test_the_learning_rate_is_a_function_of_the_step(settings, heights):
    module = training(L1(), **settings)
    assert {step: module.height(step) for step in heights} == pytest.approx(heights)


def test_a_batch_is_shared_out_among_devices_without_gap_or_overlap():
    rows = [iter(EndlessBatchSampler(6, start=3, rank=rank, world=3)) for rank in range(3)]
    assert sorted(index for row in rows for index in next(row)) == list(range(18, 24))


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match=r"A batch of 5 cannot be shared out evenly among 2 devices"):
        EndlessBatchSampler(5, world=2)


class Questions(TorchDispatchMode):
    """Counts how often a tensor's value is asked for, for which a GPU would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_step_asks_the_device_for_no_value(run, monkeypatch):
    step, questions = TrainingModule.training_step, Questions()

    def watched(self, batch, batch_idx):
        with questions:
            return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", watched)
    run(loss="L1 + 0.1*TV + 0.1*perceptual(weights='random') + 0.1*SSIM", crop=32)
    assert questions.count == 0


@pytest.mark.filterwarnings("ignore:.*")
def test_it_trains_under_a_plain_trainer_of_lightning():
    import lightning

    pairs = [{"input": torch.rand(3, 8, 8), "target": torch.rand(3, 16, 16)} for _ in range(6)]
    module = training(L1())
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=3, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(module, torch.utils.data.DataLoader(pairs, batch_size=2))
    for model in (module.model, module.average):
        assert model.tail.weight.abs().max() > 0  # where it began
