"""The demo data set "emoji scenes": a long-tailed instance-segmentation set made on the spot."""

from lt_det.demo.build import EmojiScenes, build_emoji_scenes
from lt_det.demo.registration import register_emoji_scenes

__all__ = ["EmojiScenes", "build_emoji_scenes", "register_emoji_scenes"]
