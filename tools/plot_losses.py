#!/usr/bin/env python
"""Draw every loss and its gradient against the probability of the correct label.

python tools/plot_losses.py                  docs/reference/losses.md, docs/images/losses/
python tools/plot_losses.py --docs folder    the same in another folder
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lt_det.losses import LOSSES
from lt_det.report.loss_curves import loss_curves, overview, save_loss_plot
from lt_det.report.loss_page import loss_page
from lt_det.storage.atomic_write import atomic_file

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARK = "<!-- From here on written by: python tools/plot_losses.py -->\n"
PROBABILITY = np.linspace(0.005, 0.995, 199)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: docs/ of the repository")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Write the page and its pictures."""
    docs = parse_arguments(arguments).docs
    images = docs / "images" / "losses"
    images.mkdir(parents=True, exist_ok=True)
    save_loss_plot(overview(PROBABILITY), images / "overview.png", reference=False, dpi=72)
    for name in tqdm(LOSSES, desc="losses", unit="loss", disable=None):
        save_loss_plot({name: loss_curves(name, PROBABILITY)}, images / f"{name}.png")
    page = docs / "reference" / "losses.md"
    page.parent.mkdir(exist_ok=True)
    head = page.read_text(encoding="utf-8").partition(MARK)[0] if page.is_file() else ""
    with atomic_file(page) as file:
        file.write(f"{head}{MARK}\n{loss_page('../images/losses')}")
    print(f"{page}: {len(LOSSES)} losses")


if __name__ == "__main__":
    main()
