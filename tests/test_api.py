"""What `import lt_det` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lt_det
from tests.engine.tiny import write_tiny_lvis
from tests.test_layers import BLOCK_DETECTRON2

#: A name that is added or removed is a change for users: it goes into CHANGELOG.md too.
PUBLIC = {
    "ClassStats",
    "Trainer",
    "__version__",
    "add_config",
    "balance",
    "class_stats",
    "create_loss",
    "evaluate_lvis",
    "list_losses",
    "load_config",
    "patch",
    "predict",
    "register",
    "run_stages",
    "unpatch",
}


def test_inventory_of_public_names():
    assert set(lt_det.__all__) == PUBLIC
    assert set(dir(lt_det)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(lt_det, name) is getattr(lt_det, name)
    with pytest.raises(AttributeError, match="'regster'; it has .*'register'"):
        _ = lt_det.regster


def test_functions_of_the_api_are_all_public():
    api = importlib.import_module("lt_det.api")
    functions = {
        name
        for name, value in vars(api).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert functions == PUBLIC - {"ClassStats", "Trainer", "__version__"}


def test_importing_imports_neither_torch_nor_detectron2():
    code = (
        "import sys, lt_det; lt_det.register; dir(lt_det); "
        "print([m for m in ('torch', 'detectron2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_losses_are_found_by_pattern_and_kind():
    assert lt_det.list_losses("balanced*") == ["balanced_sigmoid", "balanced_softmax"]
    assert "focal" in lt_det.list_losses(kind="sigmoid")
    assert "focal" not in lt_det.list_losses(kind="softmax")
    assert lt_det.list_losses("no_such") == []


def test_statistics_of_a_file_and_of_a_name_are_the_same(tmp_path):
    json_file, images = write_tiny_lvis(tmp_path)
    name = f"api_{tmp_path.name}"
    lt_det.register(name, json_file, images)
    stats = lt_det.class_stats(name, rare_max=2, common_max=4)
    assert isinstance(stats, lt_det.ClassStats)
    assert "".join(stats.frequency_groups) == "fcrrrr"
    of_file = lt_det.class_stats(json_file, rare_max=2, common_max=4)
    assert (of_file.image_counts, of_file.name) == (stats.image_counts, "tiny")


EVALUATE = (
    BLOCK_DETECTRON2
    + """
import lt_det
stats = lt_det.class_stats(sys.argv[1])
results = lt_det.evaluate_lvis(sys.argv[1], sys.argv[2], stats=stats)
print({name: result.summary["AP"] for name, result in results.items()})
print(results["bbox"].group_sizes())
"""
)


@pytest.fixture
def perfect(tmp_path):
    """A json and detections of all that is in it."""
    json_file, _ = write_tiny_lvis(tmp_path)
    with open(json_file) as file:
        annotations = json.load(file)["annotations"]
    path = tmp_path / "detections.json"
    keys = ("image_id", "category_id", "bbox")
    path.write_text(json.dumps([{k: a[k] for k in keys} | {"score": 0.9} for a in annotations]))
    return json_file, str(path)


def test_json_files_are_evaluated_without_detectron2(perfect):
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, *perfect],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores, sizes = done.stdout.splitlines()
    assert scores == "{'bbox': 100.0}"
    # Six rare classes, of which two have no object.
    assert sizes == "{'r': (4, 6), 'c': (0, 0), 'f': (0, 0)}"


def test_statistics_of_other_classes_are_refused(perfect, tmp_path):
    other = tmp_path / "other.json"
    with open(perfect[0]) as file:
        content = json.load(file)
    content["categories"][2]["name"] = "elephant"
    other.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"\('elephant', 'class_2'\)"):
        lt_det.evaluate_lvis(*perfect, stats=lt_det.class_stats(str(other)))
    with pytest.raises(ValueError, match=r"tiny.json is no json of detections: .*got dict"):
        lt_det.evaluate_lvis(perfect[0], perfect[0])


def test_config_by_name_and_keys():
    cfg = lt_det.load_config("lvis_balms_r50", ["SOLVER.MAX_ITER", 7])
    assert (cfg.LT_DET.LOSS, cfg.SOLVER.MAX_ITER) == ("balanced_sigmoid", 7)
    from detectron2.config import get_cfg

    plain = get_cfg()
    lt_det.add_config(plain)
    assert plain.LT_DET.LOSS == "softmax_ce"


def test_trainer_is_the_one_of_the_command_line():
    from lt_det.engine.run import LongTailTrainer

    assert lt_det.Trainer is LongTailTrainer


patching = pytest.mark.skipif(
    importlib.util.find_spec("lt_det.modeling.patching") is None,
    reason="this lt_det has no lt_det.modeling.patching yet",
)


@patching
@pytest.mark.parametrize("name", ["balanced_softmax", "balanced_sigmoid"])
def test_a_model_is_patched_and_put_back(tmp_path, name):
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from tests.engine.tiny import tiny_config

    cfg = tiny_config(tmp_path, MODEL__ROI_HEADS__NAME="StandardROIHeads")
    cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = name.endswith("sigmoid")
    stats = lt_det.class_stats(cfg.DATASETS.TRAIN[0])
    loss = lt_det.create_loss(name, stats)
    assert loss.class_counts.numel() == stats.num_classes
    assert loss.num_images == stats.num_images
    model = build_model(cfg)
    keys, before = list(model.state_dict()), type(model.roi_heads.box_predictor)
    assert lt_det.patch(model, loss) is model
    assert list(model.state_dict()) == keys
    batch = next(iter(lt_det.Trainer.build_train_loader(cfg)))
    with EventStorage():
        losses = model.train()(batch)
    sum(losses.values()).backward()
    lt_det.unpatch(model)
    assert type(model.roi_heads.box_predictor) is before
    lt_det.patch(model, name, dataset=cfg.DATASETS.TRAIN[0])


def test_no_public_function_has_the_name_of_a_module():
    """Importing the module would put it in the function's place."""
    folder = Path(lt_det.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(lt_det.__all__)
