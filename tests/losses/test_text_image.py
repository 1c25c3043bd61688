"""Pictures against texts: values by hand, and who learns."""

import pytest
import torch
import torch.nn.functional as F

from lossmith import CLIP, VGG, CLIPLoss, TextAlignment, TextContrast


def vectors(n=4, dimensions=6, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimensions, generator=generator, dtype=torch.float64)


def test_the_alignment_is_one_minus_the_cosine():
    x, text = vectors(), vectors(seed=1)
    values = TextAlignment().measure(x, text)
    torch.testing.assert_close(values, 1 - F.cosine_similarity(x, text))
    torch.testing.assert_close(TextAlignment()(x, text=3 * x), torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(TextAlignment()(x, text=-x), torch.tensor(2.0, dtype=torch.float64))


def test_a_vector_without_a_direction_is_neither_near_nor_far():
    x = torch.zeros(2, 6, requires_grad=True)
    value = TextAlignment()(x, text=torch.rand(2, 6))
    value.backward()
    assert value == 1
    assert torch.equal(x.grad, torch.zeros(2, 6))


def test_the_contrast_is_a_cross_entropy_both_ways():
    x, text = vectors(), vectors(seed=1)
    logits = F.cosine_similarity(x[:, None], text[None], dim=2) / 0.2
    own = torch.arange(4)
    ways = {"image": F.cross_entropy(logits, own), "text": F.cross_entropy(logits.T, own)}
    for way, wanted in {**ways, "both": (ways["image"] + ways["text"]) / 2}.items():
        torch.testing.assert_close(TextContrast(0.2, directions=way)(x, text=text), wanted)


def test_the_contrast_is_that_of_clip():
    x, text = vectors(), vectors(seed=1)
    groups, negatives = torch.tensor([0, 1, 0, 2]), vectors(3, seed=2)
    ours = TextContrast(0.07).on(groups="captions", negatives="wrong")
    theirs = CLIPLoss(learnable=False).on(groups="captions", negatives="wrong")
    wanted = theirs(image=x, text=text, captions=groups, wrong=negatives)
    torch.testing.assert_close(ours(x, text=text, captions=groups, wrong=negatives), wanted)


def test_no_lens_looks_at_texts(image_pair):
    clip = CLIP("tiny", weights="random")
    loss = (TextAlignment() + TextContrast(0.5).on(negatives="wrong")) @ clip
    views = {"pred": image_pair()[0], "text": torch.rand(2, 16), "wrong": torch.rand(5, 16)}
    seen = clip({"pixels": views["pred"]})["visual_projection"].flatten(1)
    values = loss.evaluate(views)
    torch.testing.assert_close(values["TextAlignment"], TextAlignment().measure(seen, views["text"]))
    wanted = TextContrast(0.5).measure(seen, views["text"], views["wrong"])
    torch.testing.assert_close(values["TextContrast"], wanted)
    assert len(loss.plan((2, 3, 32, 32)).passes) == 1


def test_a_prompt_that_is_tuned_learns(image_pair):
    text = torch.rand(2, 16, requires_grad=True)
    (TextAlignment() @ CLIP("tiny", weights="random"))(image_pair()[0], text=text).backward()
    assert text.grad.norm() > 0


def test_pictures_without_a_lens_are_refused(image_pair):
    with pytest.raises(ValueError, match=r"got \(2, 3, 32, 32\) and \(2, 16\): look through CLIP"):
        TextAlignment()(image_pair()[0], text=torch.rand(2, 16))


@pytest.mark.parametrize("shape", [(2, 17), (1, 16), (3, 16), (16,), (2, 1, 16)])
@pytest.mark.parametrize("loss", [TextAlignment(), TextContrast()])
def test_texts_that_do_not_fit_are_refused(loss, shape, image_pair):
    with pytest.raises(ValueError, match=r"Text\w+\(\) compares one vector a picture, \(N, D\), with one a text; got"):
        (loss @ CLIP("tiny", weights="random"))(image_pair()[0], text=torch.rand(shape))


def test_maps_of_another_network_are_refused(image_pair):
    loss = TextAlignment() @ VGG("vgg16", "relu1_1", weights="random")
    with pytest.raises(ValueError, match=r"got \(2, 64, 32, 32\) and \(2, 16\)"):
        loss(image_pair()[0], text=torch.rand(2, 16))


def test_negatives_that_nothing_asks_for_are_refused():
    loss = TextContrast(directions="text").on(negatives="wrong")
    with pytest.raises(ValueError, match=r'has no use for negatives: they stand among the texts; ask for "both"'):
        loss(torch.eye(2), text=torch.eye(2), wrong=torch.eye(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextContrast(0), "TextContrast wants a temperature > 0; got 0."),
        (lambda: TextContrast(directions="pred"), r'knows the directions "both", "image", "text"; got \'pred\'\.'),
        (lambda: TextContrast(gather=1), "TextContrast wants gather to be True or False; got 1."),
    ],
)
def test_a_bad_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
