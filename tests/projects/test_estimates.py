"""Estimates of time and memory that check-data prints."""

from __future__ import annotations

import json
import re

from lt_det.data.inspection.outlook import outlook_of
from lt_det.projects.estimates import classification_estimates, detection_estimates
from lt_det.projects.machine import Machine
from tests.data.inspection.test_data_sets import good


def test_time_and_memory_grow_with_the_data():
    small, large = good(4), good(4)
    large["annotations"] = large["annotations"] * 20000
    stats = outlook_of([small], []).train
    cpu = Machine("cpu", 2)
    first, memory = detection_estimates([small], [small], stats, cpu, draws=1000)
    assert "with masks at" in first
    assert "an evaluation about" in first
    assert memory.startswith("The records take about 1 MiB")
    more = detection_estimates([large], [], stats, cpu, draws=1e6, masks=False)
    assert "hours" in more[0]
    assert "without masks" in more[0]
    assert int(re.search(r"about (\d+) MiB", more[1])[1]) > 5


def test_a_gpu_has_a_memory_of_a_batch():
    content = good(4)
    gpu = Machine("cuda", 16, gpu_gib=24.0, name="GPU")
    texts = detection_estimates([content], [], outlook_of([content], []).train, gpu, draws=1000)
    assert "of its 24" in texts[2]
    assert "a ResNet-50" in texts[0]
    assert "an evaluation" not in classification_estimates(500, 0, 64.0, gpu)[0]


def test_fields_that_no_record_keeps_play_no_role():
    """Nor do they stop it: pickle refuses values that json nests deeply."""
    content, deep = good(4), good(4)
    for annotation in deep["annotations"]:
        annotation["note"] = json.loads("[" * 800 + "]" * 800)
    cpu, stats = Machine("cpu", 2), outlook_of([content], []).train
    expected = detection_estimates([content], [], stats, cpu, draws=1000)
    assert detection_estimates([deep], [], stats, cpu, draws=1000) == expected
