import numpy as np
import pycocotools.mask as mask_util
import pytest
from scipy import ndimage

from demo.mask_polygons import mask_to_polygons


def shoelace_area(polygon):
    x, y = np.asarray(polygon[::2]), np.asarray(polygon[1::2])
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def rasterise(polygons, shape):
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *shape))).astype(bool)


def random_masks():
    rng = np.random.default_rng(0)
    for index in range(120):
        # From single-pixel noise to smooth blobs; most have holes and touch corner to corner.
        field = ndimage.gaussian_filter(rng.normal(size=(48, 40)), [0, 0.7, 1.5, 3][index % 4])
        yield field > np.quantile(field, rng.uniform(0.2, 0.9))


def test_polygons_cover_exactly_the_mask_by_the_coco_rasteriser():
    for mask in random_masks():
        np.testing.assert_array_equal(rasterise(mask_to_polygons(mask), mask.shape), mask)


def test_the_area_between_the_pixel_edges_is_the_number_of_pixels():
    # Independent of any rasteriser: no half pixel is lost at the outline, no hole is filled.
    for mask in random_masks():
        assert sum(map(shoelace_area, mask_to_polygons(mask))) == mask.sum()


def test_a_rectangle_has_its_four_corners():
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 2:7] = True
    (polygon,) = mask_to_polygons(mask)
    assert set(zip(polygon[::2], polygon[1::2])) == {(2, 1), (7, 1), (7, 4), (2, 4)}
    assert len(polygon) == 8


def test_a_ring_is_cut_open():
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    polygons = mask_to_polygons(mask)
    assert len(polygons) >= 2
    np.testing.assert_array_equal(rasterise(polygons, mask.shape), mask)


@pytest.mark.parametrize("mask", [np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)])
def test_empty_and_full_masks(mask):
    polygons = mask_to_polygons(mask)
    assert len(polygons) == int(mask.any())
    assert all(len(polygon) >= 6 for polygon in polygons)
