"""A list that a json has twice is found wherever the file is cut into pieces."""

from __future__ import annotations

import json

import pytest

from lt_det.data.annotations import repeated_lists
from lt_det.data.annotations.json_file import read_annotation_json

CONTENT = '{"images": [{"id": 1}], "annotations": [], "categories": []'


@pytest.mark.parametrize("chunk", [1, 3, 8, 11, 13, 2**24])
@pytest.mark.parametrize(("more", "expected"), [("", False), (', "images": []', True)])
def test_keys_are_counted_once_in_any_chunks(tmp_path, monkeypatch, chunk, more, expected):
    monkeypatch.setattr(repeated_lists, "_CHUNK", chunk)
    path = tmp_path / "set.json"
    path.write_text(CONTENT + more + "}")
    assert repeated_lists.may_repeat_lists(path) is expected


@pytest.mark.parametrize("keep", [True, False])
def test_a_key_within_another_object_is_no_repetition(tmp_path, keep):
    path = tmp_path / "set.json"
    text = CONTENT + ', "info": {"images": 1, "images": 2, "of": ["annotations"]}}'
    path.write_text(text)
    found = read_annotation_json(path, name="set", keep_segmentations=keep)
    assert found == json.loads(text)
    path.write_text(text[:-1] + ', "images": []}')
    with pytest.raises(ValueError, match=r"'set': .*set.json: 'images' is in the json more than"):
        read_annotation_json(path, name="set", keep_segmentations=keep)
