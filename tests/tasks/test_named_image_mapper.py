"""Images of training and test sets that cannot be read are named, and stop nothing for ever."""

from __future__ import annotations

import os

import pytest
from detectron2.config import get_cfg

from lt_det.tasks.named_image_mapper import NamedImageMapper


@pytest.mark.parametrize("is_train", [False, True])
def test_a_named_pipe_is_refused_at_once(tmp_path, is_train):
    os.mkfifo(tmp_path / "a.png")
    mapper = NamedImageMapper(get_cfg(), is_train=is_train)
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 7}
    with pytest.raises(ValueError, match="image 7: .*a.png is a named pipe: expected a regular"):
        mapper(record)
    with pytest.raises(FileNotFoundError, match="image 7: .*b.png does not exist"):
        mapper({"file_name": str(tmp_path / "b.png"), "image_id": 7})
