"""Crop, flip, cutout and colours of image batches."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from PIL import Image

from lt_det.data.images.transforms import (
    ImageBatchMapper,
    auto_augment,
    crop,
    cut_out,
    read_image,
    resize,
    resized_crop,
)


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


IMAGES = torch.randint(1, 256, (6, 3, 5, 7), dtype=torch.uint8)


def records(images):
    return [
        {"image": image.permute(1, 2, 0).numpy(), "image_id": 10 + i, "category_id": i}
        for i, image in enumerate(images)
    ]


def places_of(piece, whole):
    """Return where ``piece`` (3, h, w) is found in ``whole`` (3, H, W)."""
    h, w = piece.shape[1:]
    return [
        (y, x)
        for y in range(whole.shape[1] - h + 1)
        for x in range(whole.shape[2] - w + 1)
        if torch.equal(piece, whole[:, y : y + h, x : x + w])
    ]


def test_random_crops_are_pieces_of_their_image_at_all_places():
    seen = set()
    padded = torch.nn.functional.pad(IMAGES, (2, 2, 2, 2))
    for _ in range(40):
        for image, piece in zip(padded, crop(IMAGES, 4, padding=2, at_random=True)):
            places = places_of(piece, image)
            assert places
            seen |= set(places)
    assert {y for y, _ in seen} == set(range(6))
    assert {x for _, x in seen} == set(range(8))


def test_centre_crop():
    assert torch.equal(crop(IMAGES, 3, padding=0, at_random=False), IMAGES[:, :, 1:4, 2:5])
    with pytest.raises(ValueError, match="cannot crop 9 x 9 pixels .* of 5 x 7 with 1 pixels"):
        crop(IMAGES, 9, padding=1, at_random=False)


def test_half_of_the_images_are_mirrored_whole():
    images = IMAGES[:1, :, :5, :5].repeat(400, 1, 1, 1)
    out = torch.stack([x["image"] for x in ImageBatchMapper(size=5, flip=True)(records(images))])
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert ((out == images).flatten(1).all(1) | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250  # 200 +- 5 standard deviations


def test_cutout_is_a_square_clipped_at_the_border():
    images = torch.ones(3000, 1, 6, 6)
    holes = cut_out(images, 4)[:, 0] == 0
    heights = holes.any(2).sum(1)
    widths = holes.any(1).sum(1)
    assert torch.equal(holes.flatten(1).sum(1), heights * widths)  # a rectangle
    # Rows start at -2..3, so 2, 3, 4, 4, 4, 3 of them are inside.
    shares = torch.bincount(heights, minlength=5) / len(heights)
    torch.testing.assert_close(shares, torch.tensor([0, 0, 1, 2, 3]) / 6, atol=0.05, rtol=0)
    # A pixel of the middle is hit by 4 of 6 rows and 4 of 6 columns, the first one by 3 and 3.
    assert abs(float(holes[:, 3, 3].float().mean()) - 16 / 36) < 0.05
    assert abs(float(holes[:, 0, 0].float().mean()) - 9 / 36) < 0.05
    assert torch.equal(images, torch.ones(3000, 1, 6, 6))  # not in place


def test_mapper_keeps_labels_ids_and_colour_order():
    square = IMAGES[:, :, :, :5]
    rgb = ImageBatchMapper(size=5)(records(square))
    bgr = ImageBatchMapper(size=5, color_order="BGR")(records(square))
    for i, (a, b) in enumerate(zip(rgb, bgr)):
        assert (a["image_id"], a["category_id"]) == (10 + i, i)
        assert torch.equal(a["image"], square[i])
        assert torch.equal(b["image"], square[i][[2, 1, 0]])
        assert a["image"].dtype == torch.uint8


def test_images_of_several_sizes_need_a_resized_crop():
    mixed = [*records(IMAGES[:1]), *records(IMAGES[:1, :, :4])]
    mixed[1]["image_id"] = 77
    with pytest.raises(ValueError, match="images 10 and 77 have the shapes"):
        ImageBatchMapper(size=4)(mixed)
    for each in (resized_crop(4, color_jitter=0.4), resize(4)):
        out = ImageBatchMapper(size=4, each=each)(mixed)
        assert [x["image"].shape for x in out] == [(3, 4, 4)] * 2


@pytest.mark.parametrize(
    "policy",
    [
        *("cifar10", "imagenet", "randaugment", "trivialaugment"),
        *("rand-m9-mstd0.5", "augmix-m5-w4-d2", "original-mstd0.5"),
    ],
)
def test_policies_change_images_and_follow_the_seed(policy):
    if "-" in policy:
        pytest.importorskip("timm")
    transform = auto_augment(policy)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)

    def drawn(seed):
        seed_everything(seed)
        return torch.stack([transform(image) for _ in range(8)])

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert drawn(0).dtype == torch.uint8


def test_unknown_policy():
    assert auto_augment("") is None
    with pytest.raises(ValueError, match="auto_augment must be '' or one of .*got 'cifar'"):
        auto_augment("cifar")


def test_timm_s_policies():
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="'rand-z9' is no policy of timm"):
        auto_augment("rand-z9")
    # The policy alone: neither timm's crop and flip nor its colour jitter.
    from timm.data import rand_augment_transform

    image = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    ours = auto_augment("rand-m9-mstd0.5", size=32)
    options = {"translate_const": 14, "img_mean": (124, 116, 104)}
    options["interpolation"] = Image.Resampling.BILINEAR
    theirs = rand_augment_transform("rand-m9-mstd0.5", options)
    for seed in range(30):
        seed_everything(seed)
        found = ours(image.permute(2, 0, 1))
        seed_everything(seed)
        expected = np.array(theirs(Image.fromarray(image.numpy())))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(
    ("policy", "section"),
    [
        ("rand-mx", "mx"),
        ("rand-m9-foo", "foo"),
        ("rand-m9-mstdinf", "mstdinf"),
        ("rand-tweight", "tweight"),
        ("augmix-m3-n2", "n2"),
        ("original-m9", "m9"),
        ("v0-mstdx", "mstdx"),
        ("rand-", ""),
    ],
)
def test_sections_that_timm_would_read_past(policy, section):
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=f"'{policy}' is no policy of timm: .*'{section}'"):
        auto_augment(policy)


@pytest.mark.parametrize(
    "policy",
    [
        *("rand", "rand-m9-n3-p0.5-mmax12-mstd101-inc1", "rand-mstd1-tweights", "rand-t3a"),
        *("augmix-m5-w4-d2-b1-a1.0-mstd0.5", "originalr", "v0r-mstd0.5", "3a"),
    ],
)
def test_sections_of_timm_and_no_jitter_beside_them(policy, monkeypatch):
    timm_data = pytest.importorskip("timm.data")
    built = []

    def create(*args, **kwargs):
        built.append(timm_create(*args, **kwargs))
        return built[-1]

    timm_create = timm_data.create_transform
    monkeypatch.setattr(timm_data, "create_transform", create)
    auto_augment(policy, size=32)
    ((_, policy_alone, _),) = built
    assert len(policy_alone.transforms) == 1


def test_files_are_read_as_rgb(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.full((3, 4), 9, np.uint8)).save(path)
    assert read_image({"file_name": str(path), "image_id": 1}).shape == (3, 4, 3)
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="image 1: .*x.png is no image"):
        read_image({"file_name": str(path), "image_id": 1})
    path.unlink()
    with pytest.raises(FileNotFoundError, match="image 1: there is no file"):
        read_image({"file_name": str(path), "image_id": 1})


@pytest.mark.parametrize("numbers", [{"size": 0}, {"size": 1, "padding": -1}])
def test_numbers_out_of_range(numbers):
    with pytest.raises(ValueError, match="size must be at least 1"):
        ImageBatchMapper(**numbers)


def test_pixels_of_16_bits_keep_their_shades(tmp_path):
    shades = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    path = tmp_path / "grey.png"
    Image.fromarray(shades).save(path)
    image = read_image({"file_name": str(path), "image_id": 0})
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.repeat((shades // 256)[..., None], 3, axis=-1))
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "floats.tif")
    with pytest.raises(ValueError, match="image 7: .*floats.tif .*has 32 bits"):
        read_image({"file_name": str(tmp_path / "floats.tif"), "image_id": 7})


def test_an_image_that_is_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "image.jpg")
    with pytest.raises(ValueError, match="image.jpg is a named pipe"):
        read_image({"file_name": str(tmp_path / "image.jpg"), "image_id": 3})
