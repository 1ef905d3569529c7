import io

import numpy as np
import pytest
from PIL import Image

from demo.emoji_classes import EmojiClass, load_emoji_classes
from demo.sprites import (
    SPRITE_SIZE,
    STYLES,
    PipStyle,
    SpriteBank,
    build_sprite_bank,
    render_sprite,
)


class Blank:
    def find(self, _):
        return None


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_class_names_are_lvis_like_unique_and_sorted(demo_packages):
    classes = load_emoji_classes()
    names = [c.name for c in classes]
    assert names == sorted(set(names))
    assert all(name.replace("_", "").isalnum() and name == name.lower() for name in names)
    assert {"cat", "croissant", "honeybee", "kitchen_knife", "giraffe"} <= set(names)
    # Clocks, moons, faces and near twins are out.
    assert not {"clock1", "full_moon", "monkey_face", "green_apple", "apple2"} & set(names)
    assert len({c.code_points for c in classes}) == len(classes) > 300


def test_both_pip_styles_draw_every_class_and_differ(demo_packages):
    sources = {style: PipStyle(style) for style in STYLES}
    classes = load_emoji_classes()
    assert [c.name for c in classes if not all(s.find(c) for s in sources.values())] == []
    bank = build_sprite_bank(classes[::60], sources)
    assert bank.pixels.shape == (len(classes[::60]), 2, SPRITE_SIZE, SPRITE_SIZE, 4)
    for first, second in bank.pixels:
        assert np.abs(first.astype(int) - second).mean() > 5
        assert (first[..., 3] > 127).mean() > 0.05


def test_a_sprite_is_cut_to_its_drawing_and_centred():
    pixels = np.zeros((40, 60, 4), dtype=np.uint8)
    pixels[10:20, 5:45] = (200, 100, 50, 255)  # 10 x 40 in the middle of nowhere
    opaque = render_sprite(png(pixels))[..., 3] >= 128
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    assert (columns[0], columns[-1]) == (0, SPRITE_SIZE - 1)
    assert abs(len(rows) - SPRITE_SIZE / 4) <= 2
    assert abs(rows.mean() - (SPRITE_SIZE - 1) / 2) <= 1


def test_an_empty_drawing_is_refused():
    with pytest.raises(ValueError, match="no opaque pixel"):
        render_sprite(png(np.zeros((8, 8, 4), dtype=np.uint8)))


def test_a_style_without_the_class_is_named():
    with pytest.raises(KeyError, match="style 'blank' has no drawing of 'cat'"):
        build_sprite_bank([EmojiClass("cat", ("1F408",))], {"blank": Blank()})


def test_a_bank_survives_saving(colour_bank, tmp_path):
    double = SpriteBank(
        colour_bank.class_names,
        ("plain", "dark"),
        np.concatenate([colour_bank.pixels, colour_bank.pixels // 2], axis=1),
    )
    double.save(tmp_path / "bank.npz")
    loaded = SpriteBank.load(tmp_path / "bank.npz")
    assert (loaded.class_names, loaded.styles) == (double.class_names, double.styles)
    np.testing.assert_array_equal(loaded.pixels, double.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]
