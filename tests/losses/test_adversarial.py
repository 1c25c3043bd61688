"""The adversarial losses: each kind against an independent computation, and what evaluating leaves alone."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lossmith import L1, parse
from lossmith.losses.adversarial import Adversarial, FeatureMatching

KINDS = ("vanilla", "lsgan", "hinge", "wasserstein", "relativistic")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_critic = pytest.mark.parametrize("critic", ["patch", "unet"])


def small(kind="vanilla", critic="patch", **other):
    if kind == "wasserstein":
        other = {"penalty": "gp", **other}
    return Adversarial(critic, kind, **{"width": 4, **other})


def bce(logits, real):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)), reduction="none")


def networks_part(kind, fake, real):
    """What the network lowers, from each paper's formula, with torch's own losses where there are any."""
    return {
        "vanilla": lambda: bce(fake, True),
        "lsgan": lambda: 0.5 * F.mse_loss(fake, torch.ones_like(fake), reduction="none"),
        "hinge": lambda: -fake,
        "wasserstein": lambda: -fake,
        "relativistic": lambda: bce(fake - real.mean(), True) + bce(real - fake.mean(), False),
    }[kind]()


def critics_part(kind, fake, real):
    """What the critic lowers."""
    return {
        "vanilla": lambda: bce(real, True) + bce(fake, False),
        "lsgan": lambda: 0.5 * (real - 1) ** 2 + 0.5 * fake**2,
        "hinge": lambda: torch.clamp(1 - real, min=0) + torch.clamp(1 + fake, min=0),
        "wasserstein": lambda: fake - real,
        "relativistic": lambda: bce(real - fake.mean(), True) + bce(fake - real.mean(), False),
    }[kind]().mean()


@every_kind
@every_critic
def test_the_networks_part_agrees_with_the_papers_formula(kind, critic, image_pair, assert_parity):
    loss = small(kind, critic)
    judge = loss.learner.critic
    assert_parity(
        lambda x, y: loss.evaluate({"pred": x, "target": y})["Adversarial"],
        lambda x, y: networks_part(kind, judge(x), judge(y)).flatten(1).mean(dim=1),
        *image_pair(),
    )


@every_kind
def test_the_critics_part_agrees_with_the_papers_formula(kind, image_pair):
    pred, target = image_pair()
    loss = small(kind)
    judge = copy.deepcopy(loss.learner.critic)
    judge.iterate()
    value = loss.discriminator_step(pred, target)["critic"]
    torch.testing.assert_close(value, critics_part(kind, judge(pred), judge(target)))


TAKING = [kind for kind in KINDS if kind != "relativistic"]


@pytest.fixture
def holed(image_pair):
    """Pictures that give several verdicts, a mask of them, and what of it lies in each verdict's place."""
    pred, target = image_pair(side=48)
    mask = (torch.rand(len(pred), 1, 48, 48, generator=torch.Generator().manual_seed(3)) < 0.3).float()
    mask[0, :, :, 24:] = 0
    return pred, target, mask, F.adaptive_avg_pool2d(mask, 4)


@pytest.mark.parametrize("kind", TAKING)
def test_under_a_mask_the_network_answers_for_what_it_covers_of_each_picture(kind, holed):
    pred, target, mask, parts = holed
    loss = small(kind)
    fake = loss.learner.critic(pred)
    wanted = (networks_part(kind, fake, None) * parts).sum(dim=(1, 2, 3)) / parts.sum(dim=(1, 2, 3))
    views = {"pred": pred, "target": target, "mask": mask}
    torch.testing.assert_close(loss.on(mask="mask").evaluate(views)["Adversarial"], wanted)


def test_under_a_mask_a_critic_of_least_squares_learns_the_mask(holed):
    pred, target, mask, parts = holed
    loss = small("lsgan")
    judge = copy.deepcopy(loss.learner.critic)
    judge.iterate()
    value = loss.discriminator_step(pred, target, mask)["critic"]
    learnt = F.mse_loss(judge(target), torch.ones_like(parts)) + F.mse_loss(judge(pred), 1 - parts)
    unavoidable = (parts * (1 - parts)).mean()  # of a verdict for both, which no gradient sees
    torch.testing.assert_close(value, (learnt + unavoidable) / 2)


@pytest.mark.parametrize("kind", TAKING)
def test_a_mask_of_everything_changes_nothing(kind, image_pair):
    pred, target = image_pair()
    one, other = small(kind), small(kind)
    torch.testing.assert_close(one.discriminator_step(pred, target, torch.ones_like(pred[:, :1])), other.discriminator_step(pred, target))
    torch.testing.assert_close(one(pred, target), other(pred, target))


def test_verdicts_that_are_compared_take_no_mask(holed):
    pred, target, mask, _ = holed
    with pytest.raises(ValueError, match=r'"relativistic".*takes no mask; take another kind'):
        small("relativistic").on(mask="mask")(pred=pred, target=target, mask=mask)


def saying(verdict, kind):
    """A loss whose critic says the same to everything."""
    loss = small(kind)
    last = loss.learner.critic.layers[-1]
    last.weight, last.bias = torch.zeros_like(last.weight), torch.full_like(last.bias, verdict)
    return loss


def test_hinge_passes_verdicts_on_as_they_are(image_pair):
    assert saying(-3.0, "hinge")(*image_pair()) == 3  # through MONAI's tanh it is 1.995


@pytest.mark.parametrize(
    ("kind", "value"), [("vanilla", 2.1269), ("lsgan", 4.5), ("wasserstein", 2.0), ("relativistic", 1.3863)]
)
def test_a_verdict_of_minus_two_is_worth(kind, value, image_pair):
    torch.testing.assert_close(saying(-2.0, kind)(*image_pair()), torch.tensor(value), rtol=1e-4, atol=0)


@every_kind
def test_a_single_picture_is_judged_by_itself_unless_the_kind_compares(kind, image_pair):
    pred, target = image_pair(n=3)
    loss = small(kind)
    whole = loss.evaluate({"pred": pred, "target": target})["Adversarial"]
    alone = loss.evaluate({"pred": pred[:1], "target": target[:1]})["Adversarial"]
    assert torch.allclose(whole[:1], alone, rtol=1e-6) is not loss.is_batch_dependent
    assert loss.is_batch_dependent is (kind == "relativistic")


@every_critic
def test_evaluating_in_any_mode_changes_nothing(critic, image_pair):
    loss = small(critic=critic).train()
    before = copy.deepcopy(loss.state_dict())
    pred, target = image_pair()
    loss(pred.requires_grad_(), target).backward()
    after = loss.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if isinstance(value, torch.Tensor))
    assert after["learner._extra_state"] == before["learner._extra_state"] == {"steps": 0}


def test_no_optimiser_and_no_gradient_finds_the_critic(image_pair):
    loss = (L1() + 0.1 * small()).requires_grad_(True)
    loss(*(picture.requires_grad_() for picture in image_pair())).backward()
    assert not list(loss.parameters())
    assert all(buffer.grad is None and not buffer.requires_grad for buffer in loss.buffers())


def test_the_text_brings_the_same_critic_back_and_leaves_the_worlds_dice_alone(image_pair):
    dice = torch.get_rng_state()
    loss = small("hinge", penalty="r1", betas=[0, 0.9], seed=3)
    assert repr(loss) == 'Adversarial("patch", "hinge", penalty="r1", width=4, betas=[0, 0.9], seed=3)'
    again = parse(repr(loss))
    assert torch.equal(torch.get_rng_state(), dice)
    assert torch.equal(again(*image_pair()), loss(*image_pair()))
    assert not torch.equal(parse(repr(loss).replace("seed=3", "seed=4"))(*image_pair()), loss(*image_pair()))


def test_defaults_are_left_out_of_the_text():
    assert repr(Adversarial(betas=[0.9, 0.99])) == "Adversarial()"
    assert repr(Adversarial("patch")) == 'Adversarial("patch")'
    assert repr(Adversarial("unet", "hinge")) == 'Adversarial("unet", "hinge")'


def test_its_citation_names_what_it_uses():
    papers = Adversarial("patch", "lsgan", penalty="gp", width=4).citation_keys
    assert papers == ("isola2017", "mao2017", "miyato2018", "gulrajani2017")


def test_only_verdicts_themselves_have_no_lower_bound():
    assert small("hinge").value_range[0] == small("wasserstein").value_range[0] == -float("inf")
    assert small("vanilla").value_range[0] == small("lsgan").value_range[0] == small("relativistic").value_range[0] == 0


def test_it_compiles_whole_and_not_again_when_the_critic_has_learned(image_pair):
    loss = small("relativistic")
    pred, target = image_pair(side=24)
    run = torch.compile(loss.measure, fullgraph=True, backend="eager")
    for _ in range(3):
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch.testing.assert_close(run(pred, target), loss.measure(pred, target))
        loss.discriminator_step(pred, target)


def test_feature_matching_is_the_l1_between_the_layers_outputs(image_pair, assert_parity):
    loss = FeatureMatching("patch", width=4)
    *inner, _ = loss.learner.critic.layers

    def theirs(x, y):
        total = 0
        for layer in inner:
            x, y = F.leaky_relu(layer(x), 0.2), F.leaky_relu(layer(y), 0.2)
            total = total + F.l1_loss(x, y)
        return total

    assert_parity(loss, theirs, *image_pair())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adversarial("resnet"), """A critic wants critic="patch", "unet"; got 'resnet'."""),
        (lambda: Adversarial("patch", "gan"), 'A critic wants kind="vanilla", "lsgan", "hinge", .*; got \'gan\''),
        (lambda: small(penalty="r3"), """A critic wants penalty="r1", "r2", "gp"; got 'r3'."""),
        (lambda: small(gamma=0), "A critic wants gamma as a number above 0; got 0."),
        (lambda: small(lr=float("nan")), "A critic wants lr as a number above 0; got nan."),
        (lambda: small(every=0), "A critic wants every as a whole number of at least 1; got 0."),
        (lambda: small(seed=-1), "A critic wants seed as a whole number of at least 0; got -1."),
        (lambda: small(betas=0.9), r"A critic wants betas as two numbers in \[0, 1\); got 0.9."),
        (lambda: small(betas=[0.9, 1]), r"A critic wants betas as two numbers in \[0, 1\); got \[0.9, 1\]."),
        (lambda: small(width=0), "A critic wants width as a whole number of at least 1; got 0."),
        (lambda: Adversarial("patch", "wasserstein"), 'A wasserstein critic wants penalty="gp" or another;'),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 40, 23), r'Adversarial\("patch", width=4\) wants pictures of at least 24 px a side; got 40x23.'),
        ((1, 1, 40, 40), r"wants pictures \(N, 3, H, W\); got \(1, 1, 40, 40\). Give channels=..., or take the lens"),
        ((2, 40, 40), r"wants pictures \(N, 3, H, W\); got \(2, 40, 40\)"),
    ],
)
def test_a_picture_that_the_critic_cannot_look_at_is_refused(shape, message):
    picture = torch.rand(shape)
    with pytest.raises(ValueError, match=message):
        small()(picture, picture)
    with pytest.raises(ValueError, match=message):
        small().discriminator_step(picture, picture)
