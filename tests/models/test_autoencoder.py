"""The autoencoder: its latents, its receptive field, its samples and its codebook."""

from threading import Barrier, Thread, current_thread

import pytest
import torch
from torch.testing import assert_close

from lossmith import distributed
from lossmith.losses import KL, VQCommitment
from lossmith.models import Autoencoder, build_network, codebook, load_restorer, run_tiled, save_network
from lossmith.models.codebook import Codebook

KINDS = ["kl", "vq"]


def small_autoencoder(latent="kl", downsampling=4, **options):
    torch.manual_seed(0)
    return Autoencoder(latent=latent, downsampling=downsampling, channels=8, blocks=1, codebook_size=16, **options)


@pytest.mark.parametrize("latent", KINDS)
@pytest.mark.parametrize("downsampling", [2, 4, 8, 16])
def test_the_output_keeps_the_image_size_and_latents_are_downsampled(latent, downsampling):
    image, extra = torch.rand(2, 3, 30, 45), {}
    assert small_autoencoder(latent, downsampling)(image, extra_outputs=extra).shape == image.shape
    for name in ("mu", "logvar") if latent == "kl" else ("latents", "codes"):
        assert extra[name].shape == (2, 4, -(-30 // downsampling), -(-45 // downsampling))


@pytest.mark.parametrize("downsampling", [2, 4, 8])
def test_tiles_equal_the_whole_image_for_latents(downsampling):
    model, image = small_autoencoder(downsampling=downsampling).eval(), torch.rand(1, 3, 72, 104)
    with torch.no_grad():
        assert_close(run_tiled(model, image, tile=24 if downsampling == 8 else 32), model(image), rtol=1e-4, atol=1e-5)


def test_no_pixel_depends_on_one_beyond_the_radius_of_the_autoencoder():
    model, image = small_autoencoder(downsampling=4).eval(), torch.rand(1, 3, 160, 160, requires_grad=True)
    model(image)[0, 0, 80, 80].backward()
    farthest = (image.grad.abs().sum(dim=(0, 1)).nonzero() - 80).abs().max()
    assert 8 < farthest <= model.receptive_radius


def test_training_samples_latents_and_inference_uses_the_mean():
    model, image = small_autoencoder(), torch.rand(1, 3, 16, 16)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


def test_the_logged_kl_equals_that_of_the_loss():
    model, extra = small_autoencoder(), {}
    model(torch.rand(3, 3, 16, 16), extra_outputs=extra)
    assert_close(model.latent_metrics(extra)["kl"], KL()(**extra))


def test_a_latent_is_active_if_it_varies_between_images():
    mu = torch.randn(8, 4, 2, 2) * torch.tensor([1.0, 0.0, 0.05, 0.5]).view(1, 4, 1, 1) + 3
    assert small_autoencoder().latent_metrics({"mu": mu, "logvar": torch.zeros_like(mu)})["active"] == 2


@pytest.mark.parametrize("latent", KINDS)
def test_the_gradient_of_the_output_reaches_the_encoder(latent):
    model = small_autoencoder(latent)
    model(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert model.encoder[1].weight.grad.abs().max() > 0


def test_a_code_is_the_nearest_entry():
    book = Codebook(16, 4).eval()
    latents = torch.randn(2, 4, 3, 5)
    found = book(latents)
    vectors = latents.permute(0, 2, 3, 1).reshape(-1, 4)
    nearest = torch.cdist(vectors, book.entries).argmin(dim=1)
    assert torch.equal(found.indices.flatten(), nearest)
    assert_close(found.straight_through, found.codes)
    assert_close(found.codes[1, :, 2, 4], book.entries[nearest[-1]])


def test_the_commitment_loss_has_gradients_for_used_codes_and_latents():
    book, latents = Codebook(16, 4).eval(), torch.randn(1, 4, 3, 3, requires_grad=True)
    found = book(latents)
    VQCommitment()(latents=latents, codes=found.codes).backward()
    has_gradient = book.entries.grad.abs().sum(dim=1) > 0
    assert torch.equal(has_gradient.nonzero().flatten(), found.indices.unique())
    assert latents.grad.abs().max() > 0


def test_entries_start_at_latents_and_dead_entries_restart():
    torch.manual_seed(0)
    book, latents = Codebook(16, 4), torch.randn(4, 4, 8, 8) * 0.1 + 5
    book(latents)
    assert (book.entries - 5).abs().max() < 1 and book.usage_metrics()["revived"] == 16
    one = latents[:1, :, :1, :1].expand(4, 4, 8, 8)
    for _ in range(360):
        book(one)
    assert book.usage_metrics()["revived"] > 16  # unused entries have moved to the one latent
    assert (book.entries.detach() - one[0, :, 0, 0]).abs().sum(dim=1).lt(1e-4).sum() >= 15


def test_a_codebook_in_eval_mode_does_not_change():
    book = Codebook(16, 4).eval()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(torch.randn(2, 4, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())


def test_the_perplexity_of_uniform_usage_is_the_number_of_used_codes():
    book = Codebook(16, 4)
    book.usage[:8] = 1 / 8
    metrics = book.usage_metrics()
    assert_close(metrics["perplexity"], torch.tensor(8.0))
    assert metrics["codes"] == 8


def test_nonfinite_latents_leave_the_entries_finite():
    book = Codebook(16, 4)
    book(torch.full((1, 4, 4, 4), float("nan")))
    assert book.entries.isfinite().all()


@pytest.mark.parametrize("latent", KINDS)
def test_half_precision_selects_the_same_codes(latent):
    model, image, extras = small_autoencoder(latent).eval(), torch.rand(1, 3, 16, 16), ({}, {})
    model(image, extra_outputs=extras[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(image, extra_outputs=extras[1])
        if latent == "vq":
            exact = model.codebook(extras[0]["latents"])
            assert torch.equal(exact.indices, extras[0]["indices"])
    assert output.isfinite().all()


@pytest.mark.parametrize("latent", KINDS)
def test_a_saved_autoencoder_is_loaded(latent, tmp_path):
    model, image = small_autoencoder(latent).eval(), torch.rand(1, 3, 16, 16)
    save_network(model, tmp_path / "model.safetensors", {})
    assert torch.equal(load_restorer(tmp_path / "model.safetensors")[0](image), model(image))


def test_a_sample_decodes_standard_normal_latents():
    model, generator = small_autoencoder().eval(), torch.Generator().manual_seed(3)
    found = model.sample(2, 16, generator=generator)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    assert_close(found, model.decode(latents).detach())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_autoencoder("vq").sample(1, 16), "An autoencoder with a codebook cannot be sampled"),
        (lambda: small_autoencoder().sample(1, 18), "sample side must be a multiple of 4; got 18"),
        (lambda: small_autoencoder("gan"), "autoencoder latent must be one of 'kl', 'vq'; got 'gan'"),
        (lambda: small_autoencoder(downsampling=3), "autoencoder downsampling must be one of 2, 4, 8, 16; got 3"),
        (lambda: build_network("autoencoder", 2), "autoencoder scale must be 1; got 2"),
        (lambda: Autoencoder(channels=0), "autoencoder channels must be an integer at least 1; got 0"),
    ],
)
def test_invalid_arguments_of_the_autoencoder_raise_a_value_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class TwoThreads:
    """A substitute for torch.distributed with two threads, which start faster than processes."""

    def __init__(self):
        self.barrier, self.given = Barrier(2), {}

    def is_available(self):
        return True

    is_initialized = is_available

    def get_rank(self):
        return int(current_thread().name)

    def get_world_size(self):
        return 2

    def exchange(self, tensor, combine):
        self.given[current_thread().name] = tensor.clone()
        self.barrier.wait(10)
        tensor.copy_(combine(self.given["0"], self.given["1"]))
        self.barrier.wait(10)

    def broadcast(self, tensor, source):
        self.exchange(tensor, lambda first, second: first)

    def all_reduce(self, tensor):
        self.exchange(tensor, lambda first, second: first + second)


def test_two_processes_keep_equal_codebooks(monkeypatch):
    two = TwoThreads()
    monkeypatch.setattr(codebook, "dist", two)
    monkeypatch.setattr(distributed, "dist", two)
    torch.manual_seed(0)
    latents, books = torch.randn(2, 2, 4, 4, 4), [Codebook(16, 4) for _ in range(2)]
    books[1].load_state_dict(books[0].state_dict())  # as at the start of DDP
    threads = [Thread(target=lambda i=i: books[i](latents[i]), name=str(i)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    one, other = (book.state_dict() for book in books)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert_close(one["usage"].sum(), torch.tensor(1.0))
    vectors = latents[0].permute(0, 2, 3, 1).reshape(-1, 4)
    distances = torch.cdist(one["entries"], vectors, compute_mode="donot_use_mm_for_euclid_dist")  # rounds less
    assert distances.min(dim=1).values.max() < 1e-6  # all entries are latents of the first process
