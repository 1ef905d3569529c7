"""Polygons that follow the pixel edges of a mask, in the form of the COCO and LVIS formats.

These formats have no holes: a polygon list means the union of its members. A region with holes is
therefore cut into parts that have none. Contour functions of the image libraries give polygons
through pixel centres or through the middles of pixel edges, which lose half a pixel or the corners
when a mask head rasterises them at another scale; hence the small tracer here.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_Point = tuple[int, int]  # (row, column) of a pixel corner
# 8-connected background, so that 4-connected regions and their holes fit together.
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Return polygons whose union covers exactly the pixels of ``mask``.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        One ``[x0, y0, x1, y1, ...]`` list per part, corners in pixels, integer-valued: pixel
        (row, column) covers [column, column + 1] x [row, row + 1]. At least 4 corners each. Empty
        for an empty mask.
    """
    labels, _ = ndimage.label(mask)
    polygons = []
    for region, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[rows, columns] == region
        for ring in _rings_without_holes(part, top=rows.start, left=columns.start):
            polygons.append([float(v) for row, column in ring for v in (column, row)])
    return polygons


def _rings_without_holes(part: np.ndarray, *, top: int, left: int) -> list[list[_Point]]:
    """Return outlines of one 4-connected region, cut until no piece has a hole."""
    padded = np.pad(part, 1)
    background, num_background = ndimage.label(~padded, structure=_EIGHT_CONNECTED)
    if num_background <= 1:
        return [_trace(padded, top=top, left=left)]
    outside = background[0, 0]
    hole = next(i for i in range(1, num_background + 1) if i != outside)
    # A cut between two columns opens the hole to one side or both. It is never at the border of
    # the part: a hole has walls left and right of it.
    columns = np.flatnonzero((background == hole).any(axis=0)) - 1
    cut = int(columns[len(columns) // 2])
    rings = []
    for start, piece in ((0, part[:, :cut]), (cut, part[:, cut:])):
        labels, _ = ndimage.label(piece)
        for region, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
            rings += _rings_without_holes(
                labels[rows, cols] == region,
                top=top + rows.start,
                left=left + start + cols.start,
            )
    return rings


def _trace(padded: np.ndarray, *, top: int, left: int) -> list[_Point]:
    """Return the corners of the one outline of a region that is padded with one empty pixel."""
    inside = padded[1:-1, 1:-1]
    # Directed edges with the region on their right: start corner -> end corners.
    following: dict[_Point, list[_Point]] = {}
    for neighbour, start, end in (
        (padded[:-2, 1:-1], (0, 0), (0, 1)),  # top edges run right
        (padded[1:-1, 2:], (0, 1), (1, 1)),  # right edges run down
        (padded[2:, 1:-1], (1, 1), (1, 0)),  # bottom edges run left
        (padded[1:-1, :-2], (1, 0), (0, 0)),  # left edges run up
    ):
        for row, column in np.argwhere(inside & ~neighbour).tolist():
            begin = (row + start[0], column + start[1])
            following.setdefault(begin, []).append((row + end[0], column + end[1]))
    first = min(following)  # a top-left corner: exactly one edge leaves it
    corners, point, direction = [], first, (-1, 0)
    while True:
        ends = following[point]
        # Where two pixels touch at a corner, two edges leave it: turn right, to stay on the pixel.
        right = (point[0] + direction[1], point[1] - direction[0])
        end = ends.pop(ends.index(right) if right in ends else 0)
        step = (end[0] - point[0], end[1] - point[1])
        if step != direction:
            corners.append((point[0] + top, point[1] + left))
        point, direction = end, step
        if point == first:
            return corners
