"""The number of loader processes changes nothing of a training, nor of a resumed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from lt_det.engine.trainer import LongTailTrainer
from tests.engine.digits import digits_config
from tests.engine.tiny import SIDE, tiny_config, write_tiny_lvis


def weights(make_config, folder, *options, num_workers=0, stops=()) -> dict:
    """Return the weights after five iterations; ``stops``: where it is stopped and resumed."""
    for stop in (*stops, 5):
        cfg = make_config(folder)
        cfg.merge_from_list(["DATALOADER.NUM_WORKERS", num_workers, "SOLVER.MAX_ITER", stop])
        cfg.merge_from_list(["SOLVER.STEPS", (), "DATASETS.TEST", (), *options])
        torch.manual_seed(0)  # of the first weights
        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=True)
        assert trainer.start_iter == (stops[-1] if stops and stop == 5 else 0)
        torch.manual_seed(stop + num_workers)  # must not matter
        trainer.train()
    return {k: v.clone() for k, v in trainer._detector.state_dict().items()}


def detection(folder):
    """Return the config of the tiny set with three images of eight made wide."""
    if not (folder / "tiny.json").exists():
        json_file, images = write_tiny_lvis(folder)
        content = json.loads(Path(json_file).read_text())
        for image in content["images"]:
            if image["id"] in (2, 5, 7):
                path, image["width"] = Path(images) / image["file_name"], 96
                ImageOps.expand(Image.open(path), (0, 0, 96 - SIDE, 0)).save(path)
        Path(json_file).write_text(json.dumps(content))
    return tiny_config(folder, DATALOADER__ASPECT_RATIO_GROUPING=True)


@pytest.mark.parametrize("make_config", [detection, digits_config])
def test_any_number_of_processes_gives_the_same_weights(tmp_path, make_config):
    expected = weights(make_config, tmp_path / "0")
    for num_workers in (1, 2, 4):
        found = weights(make_config, tmp_path / str(num_workers), num_workers=num_workers)
        assert [k for k, v in found.items() if not torch.equal(v, expected[k])] == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_runs_with_grouping_and_processes_repeat_uninterrupted_ones(tmp_path, num_workers):
    expected = weights(detection, tmp_path / "whole", num_workers=num_workers)
    found = weights(detection, tmp_path / "halves", num_workers=num_workers, stops=(3,))
    assert [k for k, v in found.items() if not torch.equal(v, expected[k])] == []
