"""Build the demo data set, print where it is, and optionally draw a sheet of it.

python -m demo.build_data
python -m demo.build_data --num-classes 120 --sheet scenes.png
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from demo import build_emoji_scenes
from demo.contact_sheet import draw_contact_sheet


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line.

    Args:
        arguments: words to parse; None takes those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="cache folder (default: $LT_DET_CACHE or ~/.cache/lt_det)")
    parser.add_argument("--num-classes", type=int, default=80)
    parser.add_argument("--image-size", type=int, default=192, help="side in pixels")
    parser.add_argument("--num-val-images", type=int, default=300)
    parser.add_argument("--max-image-count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, help="processes (default: usable cores)")
    parser.add_argument("--sheet", type=Path, help="PNG to draw some validation scenes to")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Build the set; return the exit status.

    Args:
        arguments: words of the command line; None takes those of the process.
    """
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        scenes = build_emoji_scenes(
            options.root,
            num_classes=options.num_classes,
            image_size=options.image_size,
            num_val_images=options.num_val_images,
            max_image_count=options.max_image_count,
            seed=options.seed,
            num_workers=options.num_workers,
        )
    except (ValueError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.sheet is not None:
        draw_contact_sheet(scenes.val_json, options.sheet)
    print(scenes.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
