"""Stop with installation instructions where Detectron2 is missing.

Imported first by every module that cannot do without; losses, meta step, data statistics, metric
and report can.
"""

from __future__ import annotations

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "this part of lt_det needs Detectron2, which lt_det does not install by itself. Install it "
        "from source (pip install --no-build-isolation "
        "'git+https://github.com/facebookresearch/detectron2.git'), or the packaged build that "
        "lt_det is tested with (pip install sal-detectron2==0.7.2 fvcore iopath)"
    ) from error
