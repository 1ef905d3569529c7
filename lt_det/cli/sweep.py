r"""``lt-det sweep``: train one config with many values of some keys and seeds; tabulate.

lt-det sweep --config-file lvis_balms_r50.yaml --output output/sweep \
        --grid LT_DET.META.LR 0.001 0.01 --grid LT_DET.META.INNER_STEP sgd optimizer \
        -- MODEL.WEIGHTS output/stage1/model_final.pth \
        LT_DET.REGION_CACHE.ENABLED True LT_DET.REGION_CACHE.DTYPE float16

With the region cache all runs, of all seeds, share the features that the first one computes: on
LVIS 98 GiB in float16 (LT_DET.REGION_CACHE.MAX_GIB allows 100), twice that in float32.
Called again, it keeps the runs that are done and resumes the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lt_det.cli.user_errors import UserError
from lt_det.engine.startup.setup import load_config
from lt_det.experiments.kept_runs import is_finished
from lt_det.experiments.sweep import run_sweep, sweep_points
from lt_det.report.sweep_table import sweep_table
from lt_det.storage.atomic_write import atomic_file

#: What trains one run, in a process of its own.
TRAIN = (sys.executable, "-m", "lt_det", "train")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="lt-det sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--grid",
        nargs="+",
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a config key and its values; several --grid make all combinations",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("output/sweep"))
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument(
        "--metrics", nargs="+", metavar="TASK/METRIC", help="columns, e.g. bbox/APr segm/AP50"
    )
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help='of all runs; after "--", which ends --grid'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the sweep and print its table; it is also written to OUTPUT/summary.md."""
    args = parse_arguments(arguments)
    load_config(args.config_file, args.options)
    grid = {key: values for key, *values in args.grid}
    for key, values in grid.items():
        if not values:
            raise ValueError(f"--grid {key} needs values")
        for value in values:  # a misspelt key or wrong type is found before hours of training
            load_config(args.config_file, [*args.options, key, value])
    points = sweep_points(grid, seeds=args.seeds)
    output = args.output.resolve()
    try:
        run_sweep(
            TRAIN,
            args.config_file,
            points,
            output,
            options=args.options,
            parallel=args.parallel,
        )
    except RuntimeError as error:
        raise UserError(str(error)) from error
    finally:  # where a run fails, of those that are done
        rows: dict[tuple[str, ...], list[Path]] = {}
        for point in points:
            if is_finished(output / point.name):
                rows.setdefault(tuple(point.values.values()), []).append(output / point.name)
        if rows:
            table = sweep_table(rows, keys=list(grid), metrics=args.metrics)
            with atomic_file(output / "summary.md") as file:
                file.write(table + "\n")
            print(table)
