"""The adversarial losses: each kind compared with an independent computation, and no side effects."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lossmith import L1, parse
from lossmith.losses import Adversarial, FeatureMatching

KINDS = ("vanilla", "lsgan", "hinge", "wasserstein", "relativistic")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_discriminator = pytest.mark.parametrize("name", ["patch", "unet"])


def small(kind="vanilla", name="patch", **options):
    if kind == "wasserstein":
        options = {"penalty": "gp", **options}
    return Adversarial(name, kind, **{"width": 4, **options})


def bce(logits, real):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)), reduction="none")


def generator_loss(kind, fake, real):
    """Return the network's loss by each paper's formula, with torch's own losses where they exist."""
    return {
        "vanilla": lambda: bce(fake, True),
        "lsgan": lambda: 0.5 * F.mse_loss(fake, torch.ones_like(fake), reduction="none"),
        "hinge": lambda: -fake,
        "wasserstein": lambda: -fake,
        "relativistic": lambda: bce(fake - real.mean(), True) + bce(real - fake.mean(), False),
    }[kind]()


def expected_discriminator_loss(kind, fake, real):
    """Return the discriminator's loss by each paper's formula."""
    return {
        "vanilla": lambda: bce(real, True) + bce(fake, False),
        "lsgan": lambda: 0.5 * (real - 1) ** 2 + 0.5 * fake**2,
        "hinge": lambda: torch.clamp(1 - real, min=0) + torch.clamp(1 + fake, min=0),
        "wasserstein": lambda: fake - real,
        "relativistic": lambda: bce(real - fake.mean(), True) + bce(fake - real.mean(), False),
    }[kind]().mean()


@every_kind
@every_discriminator
def test_the_networks_loss_agrees_with_the_papers_formula(kind, name, image_pair, assert_parity):
    loss = small(kind, name)
    discriminator = loss.discriminator
    assert_parity(
        lambda x, y: loss.evaluate({"pred": x, "target": y})["Adversarial"],
        lambda x, y: generator_loss(kind, discriminator(x), discriminator(y)).flatten(1).mean(dim=1),
        *image_pair(),
    )


@every_kind
def test_the_discriminators_loss_agrees_with_the_papers_formula(kind, image_pair):
    pred, target = image_pair()
    loss = small(kind)
    discriminator = copy.deepcopy(loss.discriminator)
    discriminator.update_spectral_norm()
    value = loss.discriminator_step(pred, target)["loss"]
    torch.testing.assert_close(value, expected_discriminator_loss(kind, discriminator(pred), discriminator(target)))


MASKABLE = [kind for kind in KINDS if kind != "relativistic"]


@pytest.fixture
def masked_images(image_pair):
    """Return images with several logits, a mask, and the masked fraction of each logit's position."""
    pred, target = image_pair(side=48)
    mask = (torch.rand(len(pred), 1, 48, 48, generator=torch.Generator().manual_seed(3)) < 0.3).float()
    mask[0, :, :, 24:] = 0
    return pred, target, mask, F.adaptive_avg_pool2d(mask, 4)


@pytest.mark.parametrize("kind", MASKABLE)
def test_with_a_mask_the_networks_loss_is_averaged_over_the_masked_part(kind, masked_images):
    pred, target, mask, fractions = masked_images
    loss = small(kind)
    fake = loss.discriminator(pred)
    expected = (generator_loss(kind, fake, None) * fractions).sum(dim=(1, 2, 3)) / fractions.sum(dim=(1, 2, 3))
    inputs = {"pred": pred, "target": target, "mask": mask}
    torch.testing.assert_close(loss.on(mask="mask").evaluate(inputs)["Adversarial"], expected)


def test_with_a_mask_a_least_squares_discriminator_regresses_the_mask(masked_images):
    pred, target, mask, fractions = masked_images
    loss = small("lsgan")
    discriminator = copy.deepcopy(loss.discriminator)
    discriminator.update_spectral_norm()
    value = loss.discriminator_step(pred, target, mask)["loss"]
    errors = F.mse_loss(discriminator(target), torch.ones_like(fractions))
    errors = errors + F.mse_loss(discriminator(pred), 1 - fractions)
    constant = (fractions * (1 - fractions)).mean()  # of a logit for both classes; it has no gradient
    torch.testing.assert_close(value, (errors + constant) / 2)


@pytest.mark.parametrize("kind", MASKABLE)
def test_a_full_mask_changes_nothing(kind, image_pair):
    pred, target = image_pair()
    one, other = small(kind), small(kind)
    torch.testing.assert_close(
        one.discriminator_step(pred, target, torch.ones_like(pred[:, :1])), other.discriminator_step(pred, target)
    )
    torch.testing.assert_close(one(pred, target), other(pred, target))


def test_the_relativistic_kind_accepts_no_mask(masked_images):
    pred, target, mask, _ = masked_images
    with pytest.raises(ValueError, match=r'"relativistic".*accepts no mask; choose another kind'):
        small("relativistic").on(mask="mask")(pred=pred, target=target, mask=mask)


def with_constant_logit(logit, kind):
    """Return a loss whose discriminator gives the same logit to every image."""
    loss = small(kind)
    last = loss.discriminator.layers[-1]
    last.weight, last.bias = torch.zeros_like(last.weight), torch.full_like(last.bias, logit)
    return loss


def test_hinge_is_the_negative_logit(image_pair):
    assert with_constant_logit(-3.0, "hinge")(*image_pair()) == 3  # through MONAI's tanh it is 1.995


@pytest.mark.parametrize(
    ("kind", "value"), [("vanilla", 2.1269), ("lsgan", 4.5), ("wasserstein", 2.0), ("relativistic", 1.3863)]
)
def test_the_value_of_a_logit_of_minus_two_is(kind, value, image_pair):
    torch.testing.assert_close(with_constant_logit(-2.0, kind)(*image_pair()), torch.tensor(value), rtol=1e-4, atol=0)


@every_kind
def test_the_value_of_an_image_depends_on_the_batch_only_for_the_relativistic_kind(kind, image_pair):
    pred, target = image_pair(n=3)
    loss = small(kind)
    whole = loss.evaluate({"pred": pred, "target": target})["Adversarial"]
    alone = loss.evaluate({"pred": pred[:1], "target": target[:1]})["Adversarial"]
    assert torch.allclose(whole[:1], alone, rtol=1e-6) is not loss.is_batch_dependent
    assert loss.is_batch_dependent is (kind == "relativistic")


@every_discriminator
def test_an_evaluation_in_training_mode_changes_no_state(name, image_pair):
    loss = small(name=name).train()
    before = copy.deepcopy(loss.state_dict())
    pred, target = image_pair()
    loss(pred.requires_grad_(), target).backward()
    after = loss.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if isinstance(value, torch.Tensor))
    assert after["discriminator_trainer._extra_state"] == before["discriminator_trainer._extra_state"] == {"steps": 0}


def test_the_discriminator_has_no_parameters_and_receives_no_gradient(image_pair):
    loss = (L1() + 0.1 * small()).requires_grad_(True)
    loss(*(image.requires_grad_() for image in image_pair())).backward()
    assert not list(loss.parameters())
    assert all(buffer.grad is None and not buffer.requires_grad for buffer in loss.buffers())


def test_parsing_the_text_restores_the_discriminator_without_touching_the_random_state(image_pair):
    state = torch.get_rng_state()
    loss = small("hinge", penalty="r1", betas=[0, 0.9], seed=3)
    assert repr(loss) == 'Adversarial("patch", "hinge", penalty="r1", width=4, betas=[0, 0.9], seed=3)'
    parsed = parse(repr(loss))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(parsed(*image_pair()), loss(*image_pair()))
    assert not torch.equal(parse(repr(loss).replace("seed=3", "seed=4"))(*image_pair()), loss(*image_pair()))


def test_the_text_omits_defaults():
    assert repr(Adversarial(betas=[0.9, 0.99])) == "Adversarial()"
    assert repr(Adversarial("patch")) == 'Adversarial("patch")'
    assert repr(Adversarial("unet", "hinge")) == 'Adversarial("unet", "hinge")'


def test_the_citation_keys_are_those_of_its_parts():
    keys = Adversarial("patch", "lsgan", penalty="gp", width=4).citation_keys
    assert keys == ("isola2017", "mao2017", "miyato2018", "gulrajani2017")


def test_only_raw_logits_have_no_lower_bound():
    assert small("hinge").value_range[0] == small("wasserstein").value_range[0] == -float("inf")
    assert small("vanilla").value_range[0] == small("lsgan").value_range[0] == small("relativistic").value_range[0] == 0


def test_it_compiles_in_one_graph_and_does_not_recompile_after_a_discriminator_step(image_pair):
    loss = small("relativistic")
    pred, target = image_pair(side=24)
    compiled = torch.compile(loss.measure, fullgraph=True, backend="eager")
    for _ in range(3):
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch.testing.assert_close(compiled(pred, target), loss.measure(pred, target))
        loss.discriminator_step(pred, target)


def test_feature_matching_is_the_l1_between_the_layer_outputs(image_pair, assert_parity):
    loss = FeatureMatching("patch", width=4)
    *hidden, _ = loss.discriminator.layers

    def theirs(x, y):
        total = 0
        for layer in hidden:
            x, y = F.leaky_relu(layer(x), 0.2), F.leaky_relu(layer(y), 0.2)
            total = total + F.l1_loss(x, y)
        return total

    assert_parity(loss, theirs, *image_pair())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adversarial("resnet"), "discriminator must be one of 'patch', 'unet'; got 'resnet'."),
        (
            lambda: Adversarial("patch", "gan"),
            r"kind of adversarial loss must be one of 'vanilla', 'lsgan', 'hinge', .*; got 'gan'",
        ),
        (lambda: small(penalty="r3"), "discriminator penalty must be one of 'r1', 'r2', 'gp'; got 'r3'."),
        (lambda: small(gamma=0), "discriminator gamma must be positive; got 0."),
        (lambda: small(lr=float("nan")), "discriminator lr must be a positive finite number"),
        (lambda: small(penalty_every=0), "discriminator penalty_every must be an integer at least 1; got 0."),
        (lambda: small(seed=-1), "discriminator seed must be an integer at least 0; got -1."),
        (lambda: small(betas=0.9), r"discriminator betas must be two numbers in \[0, 1\); got 0.9."),
        (lambda: small(betas=[0.9, 1]), r"discriminator betas must be two numbers in \[0, 1\); got \[0.9, 1\]."),
        (lambda: small(width=0), "discriminator width must be an integer at least 1; got 0."),
        (lambda: Adversarial("patch", "wasserstein"), '"wasserstein" needs a gradient penalty'),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 40, 23), r'Adversarial\("patch", width=4\) needs images of at least 24 px a side; got 40x23.'),
        ((1, 1, 40, 40), r"needs images \(N, 3, H, W\); got \(1, 1, 40, 40\). Set channels=1, or use another lens"),
        ((2, 40, 40), r"images \(N, [C3], H, W\); got \(2, 40, 40\)"),
    ],
)
def test_an_image_that_the_discriminator_cannot_process_raises(shape, message):
    image = torch.rand(shape)
    with pytest.raises(ValueError, match=message):
        small()(image, image)
    with pytest.raises(ValueError, match=message):
        small().discriminator_step(image, image)
