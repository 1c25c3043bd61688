"""Losses between image and text embeddings: reference values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from lossmith import VGG
from lossmith.lenses import CLIP
from lossmith.losses import CLIPLoss, TextAlignment, TextContrast


def vectors(n=4, dimensions=6, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimensions, generator=generator, dtype=torch.float64)


def test_the_alignment_is_one_minus_the_cosine():
    x, text = vectors(), vectors(seed=1)
    values = TextAlignment().measure(x, text)
    torch.testing.assert_close(values, 1 - F.cosine_similarity(x, text))
    torch.testing.assert_close(TextAlignment()(x, text=3 * x), torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(TextAlignment()(x, text=-x), torch.tensor(2.0, dtype=torch.float64))


def test_a_zero_vector_has_value_one_and_no_gradient():
    x = torch.zeros(2, 6, requires_grad=True)
    value = TextAlignment()(x, text=torch.rand(2, 6))
    value.backward()
    assert value == 1
    assert torch.equal(x.grad, torch.zeros(2, 6))


def test_the_contrast_is_a_cross_entropy_in_both_directions():
    x, text = vectors(), vectors(seed=1)
    logits = F.cosine_similarity(x[:, None], text[None], dim=2) / 0.2
    own = torch.arange(4)
    by_direction = {"image": F.cross_entropy(logits, own), "text": F.cross_entropy(logits.T, own)}
    for name, expected in {**by_direction, "both": (by_direction["image"] + by_direction["text"]) / 2}.items():
        torch.testing.assert_close(TextContrast(0.2, directions=name)(x, text=text), expected)


def test_the_contrast_equals_clip_loss():
    x, text = vectors(), vectors(seed=1)
    groups, negatives = torch.tensor([0, 1, 0, 2]), vectors(3, seed=2)
    ours = TextContrast(0.07).on(groups="captions", negatives="wrong")
    theirs = CLIPLoss(learnable=False).on(groups="captions", negatives="wrong")
    expected = theirs(image=x, text=text, captions=groups, wrong=negatives)
    torch.testing.assert_close(ours(x, text=text, captions=groups, wrong=negatives), expected)


def test_texts_pass_through_no_lens(image_pair):
    clip = CLIP("tiny", weights="random")
    loss = (TextAlignment() + TextContrast(0.5).on(negatives="wrong")) @ clip
    inputs = {"pred": image_pair()[0], "text": torch.rand(2, 16), "wrong": torch.rand(5, 16)}
    embeddings = clip({"pixels": inputs["pred"]})["visual_projection"].flatten(1)
    values = loss.evaluate(inputs)
    torch.testing.assert_close(values["TextAlignment"], TextAlignment().measure(embeddings, inputs["text"]))
    expected = TextContrast(0.5).measure(embeddings, inputs["text"], inputs["wrong"])
    torch.testing.assert_close(values["TextContrast"], expected)
    assert len(loss.plan((2, 3, 32, 32)).passes) == 1


def test_a_tuned_prompt_receives_a_gradient(image_pair):
    text = torch.rand(2, 16, requires_grad=True)
    (TextAlignment() @ CLIP("tiny", weights="random"))(image_pair()[0], text=text).backward()
    assert text.grad.norm() > 0


def test_images_without_a_lens_raise(image_pair):
    with pytest.raises(ValueError, match=r"got \(2, 3, 32, 32\) and \(2, 16\). Add the lens CLIP"):
        TextAlignment()(image_pair()[0], text=torch.rand(2, 16))


@pytest.mark.parametrize("shape", [(2, 17), (1, 16), (3, 16), (16,), (2, 1, 16)])
@pytest.mark.parametrize("loss", [TextAlignment(), TextContrast()])
def test_texts_of_another_shape_raise(loss, shape, image_pair):
    with pytest.raises(ValueError, match=r"Text\w+\(\) compares embeddings \(N, D\) of images and texts; got"):
        (loss @ CLIP("tiny", weights="random"))(image_pair()[0], text=torch.rand(shape))


def test_maps_of_another_network_raise(image_pair):
    loss = TextAlignment() @ VGG("vgg16", "relu1_1", weights="random")
    with pytest.raises(ValueError, match=r"got \(2, 64, 32, 32\) and \(2, 16\)"):
        loss(image_pair()[0], text=torch.rand(2, 16))


def test_unused_negatives_raise():
    loss = TextContrast(directions="text").on(negatives="wrong")
    with pytest.raises(ValueError, match='does not use negatives, which are added to the texts; set directions="both"'):
        loss(torch.eye(2), text=torch.eye(2), wrong=torch.eye(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextContrast(0), "TextContrast temperature must be positive; got 0."),
        (lambda: TextContrast(directions="pred"), "directions must be one of 'both', 'image', 'text'; got 'pred'."),
        (lambda: TextContrast(gather=1), "TextContrast gather must be True or False; got 1."),
    ],
)
def test_an_invalid_argument_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()
