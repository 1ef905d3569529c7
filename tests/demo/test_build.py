import contextlib
import hashlib
import io
import json
from collections import Counter

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from demo import build as build_module
from demo.build import EmojiScenes, build_emoji_scenes
from demo.contact_sheet import draw_contact_sheet
from demo.long_tail import deal_slots
from demo.render import SceneRenderer, SplitJob
from demo.scenes import SceneConfig
from tests.demo.conftest import TINY, TINY_IMAGE_COUNTS


def read(path):
    return json.loads(path.read_text())


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def images_per_class(content):
    pairs = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
    return Counter(category_id for _, category_id in pairs)


def test_image_counts_are_exactly_the_asked_ones(tiny_scenes):
    content = read(tiny_scenes.train_json)
    counted = images_per_class(content)
    instances = Counter(a["category_id"] for a in content["annotations"])
    assert sorted(counted.values()) == sorted(TINY_IMAGE_COUNTS)
    for category in content["categories"]:
        assert category["image_count"] == counted[category["id"]]
        assert category["instance_count"] == instances[category["id"]]
    assert sum(instances.values()) > sum(counted.values())  # some classes occur twice in an image


def test_validation_carries_the_frequencies_of_training_and_is_balanced(tiny_scenes):
    train, val = read(tiny_scenes.train_json), read(tiny_scenes.val_json)
    assert val["categories"] == train["categories"]
    groups = {c["image_count"]: c["frequency"] for c in val["categories"]}
    assert {n: groups[n] for n in (1, 10, 11, 101)} == {1: "r", 10: "r", 11: "c", 101: "f"}
    assert len(set(images_per_class(val).values())) == 1
    assert len(images_per_class(val)) == len(val["categories"])


def test_every_absent_class_is_a_verified_negative(tiny_scenes):
    content = read(tiny_scenes.val_json)
    ids = {c["id"] for c in content["categories"]}
    for image in content["images"]:
        present = {a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]}
        assert set(image["neg_category_ids"]) == ids - present
        assert image["not_exhaustive_category_ids"] == []


def test_pictures_are_there_and_of_the_stated_size(tiny_scenes):
    for path in (tiny_scenes.train_json, tiny_scenes.val_json):
        for record in read(path)["images"]:
            with Image.open(tiny_scenes.root / record["file_name"]) as file:
                assert file.size == (record["width"], record["height"]) == (64, 64)
                assert file.format == "JPEG"


def test_masks_of_an_image_do_not_overlap_and_fit_their_annotation(tiny_scenes):
    content = read(tiny_scenes.train_json)
    painted = {i["id"]: np.zeros((64, 64), dtype=int) for i in content["images"]}
    for annotation in content["annotations"]:
        polygons = mask_util.frPyObjects(annotation["segmentation"], 64, 64)
        mask = mask_util.decode(mask_util.merge(polygons))
        assert mask.sum() == annotation["area"] > 0
        assert (
            mask_util.toBbox(mask_util.encode(np.asfortranarray(mask))).tolist()
            == (annotation["bbox"])
        )
        painted[annotation["image_id"]] += mask
    assert max(count.max() for count in painted.values()) == 1


def test_written_files_equal_a_scene_rendered_on_its_own(tiny_scenes, tmp_path, monkeypatch):
    """Scene i depends on (seed, split, i) alone, not on the scenes before it."""
    jobs = []

    def spy(job, hands, **_):
        job.bank_file.rename(tmp_path / job.bank_file.name)
        jobs.append((job, hands))
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "render_split", spy)
    with pytest.raises(KeyboardInterrupt):
        build_emoji_scenes(tmp_path / "other", **TINY)
    job, hands = jobs[0]
    alone = SplitJob(**{**vars(job), "bank_file": tmp_path / job.bank_file.name})
    scene = SceneRenderer(alone).scene(7, hands[7])
    encoded = io.BytesIO()
    Image.fromarray(scene.image).save(encoded, format="JPEG", quality=90)
    assert encoded.getvalue() == (tiny_scenes.root / "train/000007.jpg").read_bytes()
    # An interrupted build leaves nothing behind that looks like a set.
    assert list((tmp_path / "other" / "emoji_scenes").iterdir()) == []


def test_equal_parameters_give_equal_files_whatever_the_number_of_processes(tiny_scenes, tmp_path):
    again = build_emoji_scenes(tmp_path, **{**TINY, "num_workers": 2})
    assert again.root.name == tiny_scenes.root.name
    assert digest(again.root) == digest(tiny_scenes.root)


def test_another_seed_gives_another_set(tiny_scenes, tmp_path):
    other = build_emoji_scenes(tmp_path, **{**TINY, "seed": 1})
    assert other.root.name != tiny_scenes.root.name
    names = [[c["name"] for c in read(s.train_json)["categories"]] for s in (other, tiny_scenes)]
    assert names[0] != names[1]


def test_a_second_call_builds_nothing(tiny_scenes, monkeypatch):
    monkeypatch.setattr(build_module, "_build", lambda *_, **__: pytest.fail("built again"))
    assert build_emoji_scenes(tiny_scenes.root.parents[1], **TINY) == tiny_scenes


def test_lvis_api_gives_full_marks_to_the_ground_truth(tiny_scenes, tmp_path, monkeypatch):
    # lvis 0.5.3 still says np.float, which NumPy 1.24 removed.
    monkeypatch.setattr(np, "float", float, raising=False)
    lvis = pytest.importorskip("lvis")
    content = read(tiny_scenes.val_json)
    detections = [
        {key: a[key] for key in ("image_id", "category_id", "bbox", "segmentation")}
        | {"score": 0.9}
        for a in content["annotations"]
    ]
    for detection in detections:
        polygons = mask_util.frPyObjects(detection["segmentation"], 64, 64)
        rle = mask_util.merge(polygons)
        detection["segmentation"] = {**rle, "counts": rle["counts"].decode()}
    truth = lvis.LVIS(str(tiny_scenes.val_json))
    for iou_type in ("bbox", "segm"):
        evaluation = lvis.LVISEval(truth, lvis.LVISResults(truth, detections), iou_type)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.run()
        results = evaluation.get_results()
        for key in ("AP", "APr", "APc", "APf"):
            assert results[key] == pytest.approx(1.0), (iou_type, key)


def test_detectron2_reads_the_set(tiny_scenes):
    pytest.importorskip("detectron2")
    from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
    from detectron2.data import transforms as T

    from demo import register_emoji_scenes

    names = register_emoji_scenes(tiny_scenes.root, prefix="demo_test")
    try:
        assert names == ("demo_test_train", "demo_test_val")
        assert register_emoji_scenes(tiny_scenes.root, prefix="demo_test") == names
        records = DatasetCatalog.get(names[1])
        mapper = DatasetMapper(
            is_train=True,
            augmentations=[T.NoOpTransform()],
            image_format="RGB",
            use_instance_mask=True,
            instance_mask_format="polygon",
        )
        instances = mapper(dict(records[0]))["instances"]
        assert len(instances) == len(records[0]["annotations"]) > 0
        areas = [a["bbox"][2] * a["bbox"][3] for a in records[0]["annotations"]]
        np.testing.assert_allclose(instances.gt_boxes.area().numpy(), areas)
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_registering_an_empty_folder_says_how_to_build(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m demo.build_data"):
        EmojiScenes.at(tmp_path)


def test_the_sheet_shows_pictures_beside_masks(tiny_scenes, tmp_path):
    path = draw_contact_sheet(
        tiny_scenes.val_json, tmp_path / "sheet.png", num_images=4, columns=2, scale=2
    )
    with Image.open(path) as sheet:
        assert sheet.size == (2 * 2 * 128, 2 * 128)
        left, right = np.asarray(sheet)[:128, :128], np.asarray(sheet)[:128, 128:256]
    assert not np.array_equal(left, right)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_counts": (1, 2)}, "image_counts must hold num_classes=12"),
        ({"image_counts": (0,) * 12}, "12 positive numbers"),
        ({"image_size": 8}, "image_size must be at least 32"),
        ({"num_classes": 2000, "image_counts": None}, "num_classes must be at most 36"),
    ],
)
def test_bad_parameters_are_named(demo_packages, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        build_emoji_scenes(tmp_path, **{**TINY, **change})


def test_a_lost_slot_is_an_error_of_the_generator(demo_packages, tmp_path, monkeypatch):
    def losing(counts, **arguments):
        hands = deal_slots(counts, **arguments)
        next(hand for hand in hands if len(hand) > 1).pop()
        return hands

    monkeypatch.setattr(build_module, "deal_slots", losing)
    with pytest.raises(RuntimeError, match="1 classes of the train split are not in the planned"):
        build_emoji_scenes(tmp_path, **TINY)


def test_a_cache_folder_that_others_may_write_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LT_DET_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    with pytest.raises(ValueError, match=f"in the cache folder {tmp_path}: others may write it"):
        build_emoji_scenes()


def test_default_scenes_leave_at_least_35_percent_visible():
    assert SceneConfig().min_visible == 0.35
