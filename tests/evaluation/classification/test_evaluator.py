"""The evaluator: what it collects, what it writes, what it refuses."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from lt_det.data.stats.class_stats import ClassStats
from lt_det.evaluation.classification.evaluator import ClassificationEvaluator

NAMES = ("cat", "dog", "emu")
STATS = ClassStats(
    name="train",
    class_names=NAMES,
    image_counts=(300, 60, 9),
    instance_counts=(300, 60, 9),
    num_images=369,
    source="annotations",
    rare_max=19,
    common_max=100,
)
# label, probabilities
ROWS = [
    (0, (0.8, 0.1, 0.1)),
    (0, (0.6, 0.3, 0.1)),
    (0, (0.2, 0.7, 0.1)),
    (1, (0.1, 0.9, 0.0)),
    (1, (0.5, 0.4, 0.1)),
    (2, (0.7, 0.2, 0.1)),
]


def evaluate(rows=ROWS, batch=4, **options):
    evaluator = ClassificationEvaluator(class_names=NAMES, distributed=False, **options)
    evaluator.reset()
    for start in range(0, len(rows), batch):
        part = list(enumerate(rows))[start : start + batch]
        evaluator.process(
            [{"image_id": i, "category_id": label} for i, (label, _) in part],
            [{"scores": torch.tensor(scores)} for _, (_, scores) in part],
        )
    return evaluator.evaluate()["classification"]


def test_results():
    found = evaluate(class_stats=STATS)
    assert found["top1"] == pytest.approx(100 * 3 / 6)
    assert found["mean_class"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert found["many"] == pytest.approx(100 * 2 / 3)
    assert found["medium"] == pytest.approx(100 / 2)
    assert found["few"] == 0
    assert found["natural"] == pytest.approx(100 * (300 * 2 / 3 + 60 / 2) / 369)
    # The one image of the few is wrong with confidence 0.7.
    assert found["ece_few"] == pytest.approx(70)
    # Bins of width 1/15: 0.8 right; 0.6 right; 0.7 wrong, all alone.
    assert found["ece_many"] == pytest.approx(100 * (0.2 + 0.4 + 0.7) / 3)
    # 0.9 right, 0.5 wrong; many and few share the bin of 0.7.
    assert found["ece"] == pytest.approx(100 * (0.2 + 0.4 + 1.4 + 0.1 + 0.5) / 6)


def test_batches_and_repeated_images_change_nothing():
    whole = evaluate(class_stats=STATS, batch=6)
    assert evaluate(class_stats=STATS, batch=1) == whole
    evaluator = ClassificationEvaluator(class_names=NAMES, class_stats=STATS, distributed=False)
    for _ in range(2):
        evaluator.process(
            [{"image_id": 4, "category_id": 0}], [{"scores": torch.tensor([0.2, 0.8, 0.0])}]
        )
    evaluator.process(
        [{"image_id": 5, "category_id": 0}], [{"scores": torch.tensor([0.8, 0.2, 0.0])}]
    )
    assert evaluator.evaluate()["classification"]["top1"] == 50
    evaluator.reset()
    with pytest.raises(ValueError, match="no image to evaluate"):
        evaluator.evaluate()


def test_without_training_statistics(caplog):
    found = evaluate()
    assert found["top1"] == 50
    for key in ("many", "medium", "few", "natural", "ece_few"):
        assert found[key] != found[key]  # nan
    assert "no class_stats" in caplog.text


def test_other_classes_than_in_training():
    with pytest.raises(ValueError, match="must list the same classes"):
        ClassificationEvaluator(class_names=("cat", "emu", "dog"), class_stats=STATS)


def test_files(tmp_path):
    found = evaluate(class_stats=STATS, output_dir=str(tmp_path), confidence=0.9)
    content = json.loads((tmp_path / "per_category_classification.json").read_text())
    assert content["summary"] == pytest.approx(found)
    assert content["confidence"] == 0.9
    first = content["categories"][0]
    assert (first["name"], first["group"], first["num_train_images"]) == ("cat", "many", 300)
    assert first["accuracy_low"] <= first["accuracy"] <= first["accuracy_high"]
    assert first["num_test_images"] == 3
    low, high = content["intervals"]["all"]
    assert low <= found["mean_class"] <= high
    with open(tmp_path / "per_category_classification.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["many", "medium", "few"]
    likelihood = json.loads((tmp_path / "likelihood.json").read_text())
    assert likelihood["num_images"] == {"all": 6, "many": 3, "medium": 2, "few": 1}
    # The few's one image gives its class 0.1: at the edge of the second and third bin of 20.
    assert sum(likelihood["share_of_images"]["few"][1:3]) == 1
