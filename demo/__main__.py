"""Show what the package does, on a data set that it builds itself.

python -m demo                    one seed, some 10 minutes on 2 cores
python -m demo --seeds 0 1 2      the table of docs/background/demo.md
python -m demo --compare retinanet --seeds 0 1 2      the table of docs/background/eureka.md
python -m demo --compare methods --seeds 0 1 2        the table of docs/background/methods.md

Runs that are finished are kept: the same command continues an interrupted one.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from demo import build_emoji_scenes
from demo.compare_methods import compare_methods, methods_text
from demo.comparison import COMPARISONS, run_methods
from lt_det.data.stats.stats_cache import class_stats_of_json
from lt_det.report.ap_plot import save_ap_plot
from lt_det.report.class_stats_plot import plot_long_tail
from lt_det.report.prediction_sheet import save_prediction_sheet
from lt_det.report.runs import comparison_table, difference_table
from lt_det.storage.atomic_write import atomic_file

REPOSITORY = Path(__file__).resolve().parents[1]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", choices=[*sorted(COMPARISONS), "methods"], default="balms")
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--parallel", type=int, default=None, help="seeds at a time (default: 2)")
    parser.add_argument("--data", help="cache folder of the data set (default: ~/.cache/lt_det)")
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help="override keys of every config"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Build the data, train, evaluate, print the table and draw the pictures."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    scenes = build_emoji_scenes(args.data)
    output: Path = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    parallel = args.parallel or min(len(args.seeds), 2)
    if args.compare == "methods":
        found = compare_methods(
            REPOSITORY,
            scenes,
            output,
            seeds=args.seeds,
            parallel=parallel,
            options=args.options,
        )
        print(f"\n{methods_text(found)}\nWritten to {output / 'methods.json'}")
        return
    comparison = COMPARISONS[args.compare]
    runs = run_methods(
        REPOSITORY,
        scenes,
        output,
        comparison,
        seeds=args.seeds,
        parallel=parallel,
        options=args.options,
    )

    stats = class_stats_of_json(str(scenes.train_json), name="emoji_scenes_train")
    plot_long_tail(stats, output / "long_tail.png")
    task = comparison.tasks[-1]
    base = comparison.methods[comparison.baseline]
    save_ap_plot(stats, runs, output / "ap_against_frequency.png", task=task, baseline=base)
    first = output / f"seed{args.seeds[0]}"
    # The first method and the last: what the others lie between.
    names = dict([*comparison.methods.items()][:: len(comparison.methods) - 1])
    save_prediction_sheet(
        scenes.val_json,
        scenes.root,
        {
            name: first / method / "inference" / "coco_instances_results.json"
            for method, name in names.items()
        },
        output / "predictions.png",
        score_threshold=comparison.drawn_from,
    )

    groups = stats.group_members()
    sizes = ", ".join(
        f"{len(groups[g])} {word}"
        for g, word in (("r", "rare"), ("c", "common"), ("f", "frequent"))
    )
    text = "\n\n".join(
        [
            f"{stats.num_classes} classes ({sizes}), seeds {args.seeds}",
            comparison_table(runs),
            *(
                difference_table(runs, baseline=comparison.methods[comparison.baseline], task=task)
                for task in comparison.tasks
            ),
        ]
    )
    with atomic_file(output / "summary.md") as file:
        file.write(text + "\n")
    print(f"\n{text}\n\nPictures, in {output}:")
    pictures = {
        "long_tail.png": "training images of each class",
        "ap_against_frequency.png": "AP of the methods against class frequency",
        "predictions.png": f"validation images: ground truth, {', '.join(names.values())}",
        f"{first.name}/balms/class_weights.png": "class weights that BALMS learned",
    }
    for name, what in pictures.items():
        if (output / name).is_file():
            print(f"  {name:40s} {what}")


if __name__ == "__main__":
    main()
