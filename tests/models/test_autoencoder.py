"""The autoencoder: what its latents are, what it sees, what it can be asked for."""

from threading import Barrier, Thread, current_thread

import pytest
import torch
from torch.testing import assert_close

from lossmith import KL, VQCommitment, distributed
from lossmith.models import Autoencoder, build_network, codebook, load_restorer, save_network, run_tiled
from lossmith.models.codebook import Codebook

KINDS = ["kl", "vq"]


def small(latent="kl", down=4, **options):
    torch.manual_seed(0)
    return Autoencoder(latent=latent, down=down, channels=8, blocks=1, codes=16, **options)


@pytest.mark.parametrize("latent", KINDS)
@pytest.mark.parametrize("down", [2, 4, 8, 16])
def test_any_picture_keeps_its_size_and_its_latents_are_smaller_by_the_factor(latent, down, image_pair):
    image, note = torch.rand(2, 3, 30, 45), {}
    assert small(latent, down)(image, note=note).shape == image.shape
    for view in ("mu", "logvar") if latent == "kl" else ("latents", "codes"):
        assert note[view].shape == (2, 4, -(-30 // down), -(-45 // down))


@pytest.mark.parametrize("down", [2, 4, 8])
def test_in_tiles_it_gives_what_it_gives_in_one_piece(down):
    model, image = small(down=down).eval(), torch.rand(1, 3, 72, 104)
    with torch.no_grad():
        assert_close(run_tiled(model, image, tile=24 if down == 8 else 32), model(image), rtol=1e-4, atol=1e-5)


def test_its_reach_is_no_less_than_what_a_pixel_sees():
    model, image = small(down=4).eval(), torch.rand(1, 3, 160, 160, requires_grad=True)
    model(image)[0, 0, 80, 80].backward()
    far = (image.grad.abs().sum(dim=(0, 1)).nonzero() - 80).abs().max()
    assert 8 < far <= model.receptive_radius


def test_training_draws_and_use_takes_the_mean():
    model, image = small(), torch.rand(1, 3, 16, 16)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


def test_the_divergence_in_the_log_is_that_of_the_loss():
    model, note = small(), {}
    model(torch.rand(3, 3, 16, 16), note=note)
    assert_close(model.latent_metrics(note)["kl"], KL()(**note))


def test_an_active_latent_is_one_that_changes_with_the_picture():
    mu = torch.randn(8, 4, 2, 2) * torch.tensor([1.0, 0.0, 0.05, 0.5]).view(1, 4, 1, 1) + 3
    assert small().latent_metrics({"mu": mu, "logvar": torch.zeros_like(mu)})["active"] == 2


@pytest.mark.parametrize("latent", KINDS)
def test_the_gradient_of_a_picture_reaches_the_encoder(latent):
    model = small(latent)
    model(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert model.encoder[1].weight.grad.abs().max() > 0


def test_a_code_is_the_nearest_entry():
    book = Codebook(16, 4).eval()
    latents = torch.randn(2, 4, 3, 5)
    found = book(latents)
    places = latents.permute(0, 2, 3, 1).reshape(-1, 4)
    nearest = torch.cdist(places, book.entries).argmin(dim=1)
    assert torch.equal(found.indices.flatten(), nearest)
    assert_close(found.straight, found.codes)
    assert_close(found.codes[1, :, 2, 4], book.entries[nearest[-1]])


def test_the_commitment_moves_the_codes_that_were_chosen_and_the_latents():
    book, latents = Codebook(16, 4).eval(), torch.randn(1, 4, 3, 3, requires_grad=True)
    found = book(latents)
    VQCommitment()(latents=latents, codes=found.codes).backward()
    moved = book.entries.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved.nonzero().flatten(), found.indices.unique())
    assert latents.grad.abs().max() > 0


def test_the_codebook_begins_at_latents_and_dead_codes_begin_again():
    torch.manual_seed(0)
    book, latents = Codebook(16, 4), torch.randn(4, 4, 8, 8) * 0.1 + 5
    book(latents)
    assert (book.entries - 5).abs().max() < 1 and book.usage_metrics()["revived"] == 16
    one = latents[:1, :, :1, :1].expand(4, 4, 8, 8)
    for _ in range(360):
        book(one)
    assert book.usage_metrics()["revived"] > 16  # those that nobody chose have moved to the one latent
    assert (book.entries.detach() - one[0, :, 0, 0]).abs().sum(dim=1).lt(1e-4).sum() >= 15


def test_in_use_a_codebook_changes_nothing():
    book = Codebook(16, 4).eval()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(torch.randn(2, 4, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in book.state_dict().items())


def test_perplexity_counts_the_codes_that_are_used_evenly():
    book = Codebook(16, 4)
    book.usage[:8] = 1 / 8
    figures = book.usage_metrics()
    assert_close(figures["perplexity"], torch.tensor(8.0))
    assert figures["codes"] == 8


def test_latents_that_are_no_numbers_spoil_no_code():
    book = Codebook(16, 4)
    book(torch.full((1, 4, 4, 4), float("nan")))
    assert book.entries.isfinite().all()


@pytest.mark.parametrize("latent", KINDS)
def test_half_precision_chooses_the_same_codes(latent):
    model, image, notes = small(latent).eval(), torch.rand(1, 3, 16, 16), ({}, {})
    model(image, note=notes[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        picture = model(image, note=notes[1])
        if latent == "vq":
            exact = model.codebook(notes[0]["latents"])
            assert torch.equal(exact.indices, notes[0]["indices"])
    assert picture.isfinite().all()


@pytest.mark.parametrize("latent", KINDS)
def test_a_file_brings_it_back(latent, tmp_path):
    model, image = small(latent).eval(), torch.rand(1, 3, 16, 16)
    save_network(model, tmp_path / "model.safetensors", {})
    assert torch.equal(load_restorer(tmp_path / "model.safetensors")[0](image), model(image))


def test_a_sample_is_a_decoded_draw_of_the_standard_normal():
    model, chance = small().eval(), torch.Generator().manual_seed(3)
    found = model.sample(2, 16, generator=chance)
    drawn = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    assert_close(found, model.decode(drawn).detach())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: small("vq").sample(1, 16), "An autoencoder with a codebook cannot be drawn from"),
        (lambda: small().sample(1, 18), "sample wants a side that is a multiple of 4; got 18"),
        (lambda: small("gan"), 'autoencoder knows latent="kl" and "vq"; got \'gan\''),
        (lambda: small(down=3), "autoencoder wants down as 2, 4, 8 or 16; got 3"),
        (lambda: build_network("autoencoder", 2), "autoencoder keeps a picture's size, scale 1; got 2"),
        (lambda: Autoencoder(channels=0), "autoencoder wants channels as a whole number of at least 1; got 0"),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


class Two:
    """Stands for torch.distributed between two threads, which are quicker to start than processes."""

    def __init__(self):
        self.meet, self.given = Barrier(2), {}

    def is_available(self):
        return True

    is_initialized = is_available

    def get_rank(self):
        return int(current_thread().name)

    def get_world_size(self):
        return 2

    def exchange(self, tensor, combine):
        self.given[current_thread().name] = tensor.clone()
        self.meet.wait(10)
        tensor.copy_(combine(self.given["0"], self.given["1"]))
        self.meet.wait(10)

    def broadcast(self, tensor, source):
        self.exchange(tensor, lambda first, second: first)

    def all_reduce(self, tensor):
        self.exchange(tensor, lambda first, second: first + second)


def test_two_processes_keep_one_codebook(monkeypatch):
    two = Two()
    monkeypatch.setattr(codebook, "dist", two)
    monkeypatch.setattr(distributed, "dist", two)
    torch.manual_seed(0)
    latents, books = torch.randn(2, 2, 4, 4, 4), [Codebook(16, 4) for _ in range(2)]
    books[1].load_state_dict(books[0].state_dict())  # as DDP begins
    threads = [Thread(target=lambda i=i: books[i](latents[i]), name=str(i)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    one, other = (book.state_dict() for book in books)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert_close(one["usage"].sum(), torch.tensor(1.0))
    places = latents[0].permute(0, 2, 3, 1).reshape(-1, 4)
    apart = torch.cdist(one["entries"], places, compute_mode="donot_use_mm_for_euclid_dist")  # which rounds less
    assert apart.min(dim=1).values.max() < 1e-6  # all lie at latents of the first
