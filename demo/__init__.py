"""The demo data set "emoji scenes": a long-tailed instance-segmentation set made on the spot."""

from demo.build import EmojiScenes, build_emoji_scenes
from demo.registration import register_emoji_scenes

__all__ = ["EmojiScenes", "build_emoji_scenes", "register_emoji_scenes"]
