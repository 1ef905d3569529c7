import colorsys

import numpy as np
import pytest
from scipy import ndimage

from demo.lvis_json import scene_annotations
from demo.scenes import (
    BACKGROUND,
    Layer,
    SceneConfig,
    compose_scene,
    overlap,
    scene_generator,
)

GREY = np.full((100, 120, 3), 128, dtype=np.uint8)
CONFIG = SceneConfig(image_size=96)
CLASSES = [0, 1, 2, 3, 4, 5, 2, 0]


def make_scene(bank, index, *, classes=CLASSES, config=CONFIG, seed=0):
    rng = scene_generator(seed, split_id=0, index=index)
    return compose_scene(classes, bank=bank, photos=[GREY], rng=rng, config=config)


@pytest.fixture(scope="module")
def scenes(colour_bank):
    return [make_scene(colour_bank, index) for index in range(12)]


def visible_masks_front_to_back(layers, side):
    """The opposite order of painting: an object sees what nothing in front of it has taken."""
    taken = np.zeros((side, side), dtype=bool)
    masks = []
    for layer in reversed(layers):
        own = np.zeros((side, side), dtype=bool)
        for row, column in np.argwhere(layer.patch[..., 3] >= 128):
            y, x = row + layer.top, column + layer.left
            if 0 <= y < side and 0 <= x < side:
                own[y, x] = True
        masks.append(own & ~taken)
        taken |= own
    return masks[::-1], taken


def test_masks_are_exactly_the_visible_pixels(scenes):
    occluded = 0
    for scene in scenes:
        masks, taken = visible_masks_front_to_back(scene.layers, CONFIG.image_size)
        for index, mask in enumerate(masks):
            np.testing.assert_array_equal(scene.object_map == index, mask)
            occluded += scene.visible_fraction(index) < 0.99
        np.testing.assert_array_equal(scene.object_map == BACKGROUND, ~taken)
    assert occluded > 10  # the set does have occlusion


def test_the_picture_shows_under_each_mask_the_colour_of_its_class(scenes, colour_bank):
    checked = 0
    for scene in scenes:
        for index, layer in enumerate(scene.layers):
            # Away from the outline, where neighbours blur in.
            inner = ndimage.binary_erosion(scene.object_map == index, iterations=2)
            if inner.sum() < 20:
                continue
            shown = np.median(scene.image[inner], axis=0) / 255
            own = colour_bank.pixels[layer.class_id, 0, 0, 0, :3] / 255
            difference = abs(colorsys.rgb_to_hsv(*shown)[0] - colorsys.rgb_to_hsv(*own)[0])
            assert min(difference, 1 - difference) < 1 / 12  # hues of the classes are 1/6 apart
            checked += 1
    assert checked > 50


def test_no_object_is_left_out_or_hidden(scenes):
    for scene in scenes:
        assert [layer.class_id for layer in scene.layers] == CLASSES
        fractions = [scene.visible_fraction(i) for i in range(len(scene.layers))]
        assert min(fractions) >= CONFIG.min_visible


def test_a_crowd_that_cannot_be_visible_is_an_error(colour_bank):
    crowded = SceneConfig(image_size=32, min_size=0.9, max_size=0.95, min_visible=0.95)
    with pytest.raises(RuntimeError, match="no arrangement of 30 objects"):
        make_scene(colour_bank, 0, classes=[0] * 30, config=crowded)


def test_a_scene_is_a_function_of_seed_split_and_index(colour_bank, scenes):
    again = make_scene(colour_bank, 3)
    np.testing.assert_array_equal(again.image, scenes[3].image)
    np.testing.assert_array_equal(again.object_map, scenes[3].object_map)
    assert not np.array_equal(scenes[3].image, scenes[4].image)
    assert not np.array_equal(make_scene(colour_bank, 3, seed=1).image, scenes[3].image)
    other_split = scene_generator(0, split_id=1, index=3).random()
    assert other_split != scene_generator(0, split_id=0, index=3).random()


def test_annotations_describe_the_masks(scenes):
    for scene in scenes[:4]:
        for index, annotation in enumerate(scene_annotations(scene)):
            mask = scene.object_map == index
            assert annotation["category_id"] == scene.layers[index].class_id + 1
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            inside = np.zeros_like(mask)
            inside[y : y + height, x : x + width] = True
            assert not (mask & ~inside).any()
            # Tight: each border row and column of the box touches the mask.
            box = mask[y : y + height, x : x + width]
            for line in (box[0], box[-1], box[:, 0], box[:, -1]):
                assert line.any()


@pytest.mark.parametrize(("top", "left"), [(-3, 2), (7, 8), (-1, -1), (2, 2)])
def test_overlap_cuts_at_the_border(top, left):
    patch = np.zeros((5, 4, 4), dtype=np.uint8)
    on_picture, on_patch = overlap(Layer(0, 0, top, left, patch), side=10)
    picture_rows, picture_columns = np.mgrid[:10, :10]
    patch_rows, patch_columns = np.mgrid[:5, :4]
    np.testing.assert_array_equal(picture_rows[on_picture], patch_rows[on_patch] + top)
    np.testing.assert_array_equal(picture_columns[on_picture], patch_columns[on_patch] + left)
    expected = len(set(range(top, top + 5)) & set(range(10)))
    assert picture_rows[on_picture].shape[0] == expected
