"""What the pages on RetinaNet name exists, its examples run; links of all pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detectron2.config import get_cfg, instantiate

from lt_det.config import add_lt_det_config
from lt_det.modeling.build import build_criterion
from lt_det.modeling.dense.retinanet import LongTailRetinaNet

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RETINANET = (ROOT / "docs" / "how-to" / "retinanet.md").read_text(encoding="utf-8")
EUREKA = (ROOT / "docs" / "background" / "eureka.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", RETINANET, flags=re.DOTALL).group(1)


def test_retinanet_from_yaml(tmp_path):
    text = block("yaml").replace('_BASE_: "', f'_BASE_: "{ROOT}/configs/')
    (tmp_path / "mine.yaml").write_text(text)
    cfg = get_cfg()
    add_lt_det_config(cfg)
    cfg.merge_from_file(str(tmp_path / "mine.yaml"))
    criterion = build_criterion(cfg)
    assert (criterion.before.name, criterion.after.name) == ("focal", "halted_focal")
    assert criterion.start_iteration == 60000
    assert criterion.after.hyperparameters["gamma"] == 1.0


def test_retinanet_from_lazyconfig():
    names: dict = {}
    exec(block("python"), names)
    model = instantiate(names["model"])
    assert isinstance(model, LongTailRetinaNet)
    assert model.criterion.hyperparameters["alpha"] == 0.5


def test_configs_of_the_papers_table_exist():
    section = EUREKA.partition("| Table 1 |")[2].partition("\n\n")[0]
    table = section.splitlines()[2:]
    assert len(table) == 5
    named = set()
    for line in table:
        cells = line.split("|")
        named |= {f"retinanet_r50_{name}" for name in re.findall(r"`(\w+)`", cells[3])}
        for file in re.findall(r"`(\w+\.py)`", cells[4]):
            assert (ROOT / "lt_det" / "losses" / file).is_file()
    assert named == {path.stem for path in (ROOT / "configs/coco").glob("retinanet_*.yaml")}
