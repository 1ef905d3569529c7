"""Check this package on a GPU: python benchmarks/gpu_check [--device cpu for a rehearsal].

Any CUDA machine with torch and torchvision; what else it lacks is looked for in build/gpu/site,
which `make gpu-bundle` fills. Parts run one after another, each in a process with a time limit, and
write a json as they go: what ended, or a part had found when it was cut off, is kept. The exit
status is 1 if something is wrong, 3 if nothing is but a part was cut off, left out or found
nothing, and 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
REPOSITORY = BENCHMARKS.parent
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

from gpu_check.results import (  # noqa: E402
    BROKEN,
    LEFT_OUT,
    LIMIT,
    RUNNING,
    is_complete,
    is_wrong,
    write_json,
)

#: part -> its time limit in seconds, in the order of what matters
PARTS = {
    "losses": 60,
    "modules": 60,
    "detections": 60,
    "training": 120,
    "ranks": 45,
    "speed_detections": 60,
    "speed_heads": 40,
    "speed_steps": 60,
    "speed_stage2": 75,
    "waits": 60,
    "cifar": 480,
}
#: A part that has less left does not begin: imports alone take some of it.
SHORTEST = 15
#: A CPU needs longer, also for small inputs.
SLOWER = 6
#: Seconds in total.
TOTAL = {"cuda": 480.0, "cpu": 3600.0}
FOUND = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


def environment(device: str, carry: str) -> dict[str, str]:
    """Return the environment of the parts."""
    paths = [str(BENCHMARKS), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    changed = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "LT_DET_CARRY": carry if os.path.isdir(carry) else "",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # matrix products that repeat
        "PYTHONUNBUFFERED": "1",
    }
    if device == "cpu":
        changed["CUDA_VISIBLE_DEVICES"] = ""
    return {**os.environ, **changed}


def run_part(module: str, path: Path, seconds: float, env: dict[str, str]) -> dict[str, Any]:
    """Run a part for ``seconds`` at most; return what it wrote.

    Args:
        module: that has the part.
        path: its json; one of before is removed.
        seconds: then all its processes are ended.
        env: its environment.
    """
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gpu_check.part", module, str(path), str(seconds)]
    process = subprocess.Popen(command, env=env, cwd=REPOSITORY, start_new_session=True)
    state = RUNNING
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        state = LIMIT
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not path.is_file():
        name = module.rsplit(".", maxsplit=1)[-1]
        content = {"part": name, "state": state, "seconds": seconds, "checks": [], "rows": []}
        content["notes"] = ["it wrote nothing"]
    else:
        content = json.loads(path.read_text())
    if content["state"] == RUNNING:
        content["state"] = state if state == LIMIT else BROKEN
        content["notes"].append(f"ended with exit status {process.returncode}")
    write_json(path, content)
    return content


def table(contents: list[dict[str, Any]]) -> str:
    """Return what all parts found, a line each, then all that is wrong, and what is missing."""
    lines = [
        f"{'part':18} {'state':11} {'seconds':>7} {'ok':>4} {'wrong':>6} {'not here':>9}  rows"
    ]
    for content in contents:
        oks = [check["ok"] for check in content["checks"]]
        lines.append(
            f"{content['part']:18} {content['state']:11} {content['seconds']:7.0f} "
            f"{oks.count(True):4} {oks.count(False):6} {oks.count(None):9}  {len(content['rows'])}"
        )
    for content in contents:
        for row in content["rows"]:
            lines.append(
                f"{row['ratio']:8.3g} times: {row['name']} ({row['baseline_name']} "
                f"{row['baseline']:.4g}, lt_det {row['ours']:.4g} {row['unit']})"
            )
    for content in contents:
        lines += [f"{content['part']}: {note}" for note in content["notes"]]
        lines += [
            f"WRONG: {content['part']}: {check['name']}: {check['detail']}"
            for check in content["checks"]
            if check["ok"] is False
        ]
    missing = [f"{one['part']} ({one['state']})" for one in contents if not is_complete(one)]
    if missing:
        lines.append(f"not complete: {', '.join(missing)}")
    return "\n".join(lines)


def exit_status(contents: list[dict[str, Any]]) -> int:
    """Return 1 if something is wrong, else 3 if a part is not complete, else 0."""
    if any(is_wrong(content) for content in contents):
        return 1
    return 0 if all(is_complete(content) for content in contents) else 3


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument(
        "--seconds",
        type=float,
        help="in total; default 480, on a CPU an hour; with more, each part has more",
    )
    parser.add_argument("--carry", default=str(REPOSITORY / "build" / "gpu" / "site"))
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the jsons; default benchmarks/results/gpu_check, on a CPU build/gpu_check",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse_arguments(arguments)
    env = environment(args.device, args.carry)
    if args.device == "cuda":
        found = subprocess.run(
            [sys.executable, "-c", FOUND], env=env, capture_output=True, text=True, check=False
        )
        if not found.stdout.strip():
            print("gpu_check: torch sees no GPU here; --device cpu rehearses with small inputs")
            return 2
        print(f"on {found.stdout.strip()}", flush=True)
    slower = SLOWER if args.device == "cpu" else 1
    total = args.seconds or TOTAL[args.device]
    end, more = time.monotonic() + total, max(1.0, total / TOTAL[args.device])
    folder = args.output or (
        REPOSITORY / "build" / "gpu_check" if slower > 1 else BENCHMARKS / "results" / "gpu_check"
    )
    contents = []
    for name in args.parts:
        left = end - time.monotonic()
        path = folder / f"{name}.json"
        if left < SHORTEST:
            content = {"part": name, "state": LEFT_OUT, "seconds": 0.0, "checks": [], "rows": []}
            contents.append({**content, "notes": ["no time was left"]})
            write_json(path, contents[-1])
            continue
        print(f"{name}:", flush=True)
        limit = min(left, PARTS[name] * slower * more)
        contents.append(run_part(f"gpu_check.{name}", path, limit, env))
    print(table(contents))
    if slower > 1:
        print("a rehearsal: times and peaks of small inputs on a CPU say nothing")
    return exit_status(contents)


if __name__ == "__main__":
    sys.exit(main())
