"""Which Sweet Home 3D models make the demo library, and what kind of thing a model is.

The selection was made by eye from rendered views: things that stand upright, at most 60 000 triangles, colours that
load, all of them CC0, with look-alikes in most categories (two tulip chairs, an armchair and a sofa of one make, ...).
"""

from __future__ import annotations

import re

SELECTION = {  # id -> category
    "armchair": "chair",
    "plasticChair": "chair",
    "sillaBlanca": "chair",
    "designChair": "chair",
    "chair": "chair",
    "chair2": "chair",
    "chairWithCushion": "chair",
    "osakaChair": "chair",
    "oakChair": "chair",
    "armchair2": "armchair",
    "modernArmchair": "armchair",
    "winchesterArmchair": "armchair",
    "sofa2": "sofa",
    "couch": "sofa",
    "winchesterSofa": "sofa",
    "stool": "stool",
    "stool2": "stool",
    "silla2": "stool",
    "oakTable": "table",
    "table": "table",
    "tableWithTablecloth": "table",
    "desk": "desk",
    "lbDesk": "desk",
    "bookcase": "cabinet",
    "drawersCabinet": "cabinet",
    "lowerCabinet": "cabinet",
    "bedsideTable2": "cabinet",
    "shelves": "shelf",
    "verticalShelves": "shelf",
    "desklamp": "lamp",
    "outdoorLamp": "lamp",
    "JapaneseLantern": "lamp",
    "lantern": "lamp",
    "littlePlant": "plant",
    "cactus": "plant",
    "plant": "plant",
    "mamadeira": "bottle",
    "yogurtBottle": "bottle",
    "flacon": "bottle",
    "plasticCup": "cup",
    "caffe-final": "cup",
    "coffeeBrewer": "appliance",
    "kitchenaid": "appliance",
    "tableFan": "appliance",
    "crate": "container",
    "barrel": "container",
    "teddyBear": "toy",
    "caballito": "toy",
}

KEYWORDS = (  # category, words of the model's name that say so; the first match counts
    ("armchair", "armchair"),
    ("chair", "chair|rocking chair"),
    ("stool", "stool"),
    ("sofa", "sofa|couch"),
    ("bench", "bench"),
    ("lamp", "lamp|lamppost|lantern|light|spotlight|chandelier|candle|luminaire"),
    ("desk", "desk"),
    ("table", "table|nightstand"),
    ("bed", "bed|cradle|crib"),
    ("shelf", "shelf|shelves|bookcase|bookshelf"),
    ("cabinet", "cabinet|cupboard|wardrobe|chest|dresser|drawers|locker|sideboard"),
    ("appliance", "fridge|refrigerator|freezer|oven|stove|cooker|cooktop|washer|dryer|mixer|toaster|fan|hood"),
    ("electronics", "tv|computer|laptop|pc|printer|phone|telephone|camera|speaker|radio|screen|keyboard|mouse"),
    ("bottle", "bottle|flacon"),
    ("cup", "cup|mug|glass|glasses"),
    ("dish", "bowl|plate|pot|pan|teapot|kettle|jar|pottery"),
    ("vase", "vase"),
    ("plant", "plant|tree|flower|flowers|cactus|orchids|palm|fern|yucca|bush|hedge"),
    ("sanitary", "toilet|toilets|bath|bathtub|bidet|sink|washbasin|shower|urinal|lavatory|jacuzzi"),
    ("container", "box|crate|barrel|bin|dustbin|basket|container|bag|handbag|briefcase|suitcase"),
    ("door", "door|gate"),
    ("window", "window|blind|shutter|curtain|curtains"),
    ("vehicle", "car|truck|bike|bicycle|motorbike|scooter|van|bus|boat|lift"),
    ("stairs", "staircase|stairs|ladder|step"),
    ("instrument", "piano|guitar|violin|xylophone|drum"),
    ("toy", "toy|teddy|horse|ball|basketball|puzzle|bear"),
)


def category_of(name: str) -> str:
    """What kind of thing an English model name speaks of; "object" where no known word occurs in it."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return next((category for category, known in KEYWORDS if words & set(known.split("|"))), "object")
