"""Detectron2 modules: box predictors, ROI heads, backbones. Importing it registers them."""

try:
    import detectron2  # noqa: F401
except ImportError as error:  # the layers below run without it, this one cannot
    raise ImportError(
        "lt_det.modeling needs Detectron2, which lt_det does not install by itself. Install it "
        "from source (pip install --no-build-isolation "
        "'git+https://github.com/facebookresearch/detectron2.git'), or the packaged build this "
        "project is tested with (pip install sal-detectron2==0.7.2 fvcore iopath)"
    ) from error

# Registers the ROI heads and backbones; timm itself is imported where one is built.
from lt_det.modeling import roi_heads, timm_backbone  # noqa: E402, F401
