"""Scenes of coloured shapes and their captions."""

from itertools import product
from typing import Literal, NamedTuple

from lossmith._checks import check_choice

__all__ = ["LAYOUTS", "Scene", "ShapeObject", "ShapesLevel", "describe_scene", "list_scenes"]

ShapesLevel = Literal["1", "1b", "2"]

COLOURS = {
    "red": (0.86, 0.13, 0.13),
    "orange": (1.0, 0.55, 0.0),
    "yellow": (0.95, 0.86, 0.1),
    "green": (0.1, 0.62, 0.22),
    "blue": (0.12, 0.3, 0.88),
    "purple": (0.5, 0.16, 0.68),
    "pink": (0.97, 0.5, 0.74),
    "brown": (0.45, 0.27, 0.1),
}
SHAPES = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
    "ring": "rings",
}
"""The shapes and their plurals."""
SIZES = {"small": 0.3, "large": 0.48, "": 0.36}
"""Radii in units of half the image side; objects of scenes with several objects have the size ""."""

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5)}

LAYOUTS: dict[str, tuple[tuple[float, float], ...]] = {
    "centre": ((0.0, 0.0),),
    "left": ((-0.4, 0.0),),
    "right": ((0.4, 0.0),),
    "top": ((0.0, -0.4),),
    "bottom": ((0.0, 0.4),),
    "beside": ((-0.48, 0.0), (0.48, 0.0)),
    "stacked": ((0.0, -0.48), (0.0, 0.48)),
    "one": ((0.0, 0.0),),
    "two": ((-0.48, 0.0), (0.48, 0.0)),
    "three": ((0.0, -0.45), (-0.48, 0.42), (0.48, 0.42)),
}
"""Centres (x, y) of the objects in half image sides, from left to right and top to bottom; y points down."""

POSITION_PHRASES = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
RELATION_PHRASES = {
    "beside": ("to the left of", "to the right of", "on the left", "on the right"),
    "stacked": ("above", "below", "at the top", "at the bottom"),
}
LAYOUT_FAMILIES = (tuple(POSITION_PHRASES), tuple(RELATION_PHRASES), ("one", "two", "three"))
"""Layouts of the same number of different objects."""

NUM_PHRASINGS = 4
"""Number of captions of each scene."""


class ShapeObject(NamedTuple):
    """A coloured shape; the size is "" in scenes with several objects."""

    colour: str
    shape: str
    size: str = ""

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape) if word)


class Scene(NamedTuple):
    """The content of an image.

    Args:
        objects: The different objects: one, or two in the order of the layout's positions.
        layout: A key of :data:`LAYOUTS`; "one", "two" and "three" repeat one object.
        background: The background colour.
    """

    objects: tuple[ShapeObject, ...]
    layout: str
    background: str = "white"

    @property
    def attributes(self) -> dict[str, object]:
        """The attributes that accuracy is measured for, by name.

        "binding" of two objects is right if the pairs of colour and shape are right, wherever the objects are: an
        image with the right colours and the right shapes may still have mixed them up. The order of the objects is no
        attribute; an image with exchanged objects has all attributes right and is still another scene.
        """
        first = self.objects[0]
        if first.size:
            own: dict[str, object] = {"colour": first.colour, "shape": first.shape, "size": first.size}
            return {**own, "position": self.layout, "background": self.background}
        count = ("one", "two", "three").index(self.layout) + 1 if len(self.objects) == 1 else 2
        found: dict[str, object] = {
            "colours": tuple(sorted(each.colour for each in self.objects)),
            "shapes": tuple(sorted(each.shape for each in self.objects)),
            "binding": tuple(sorted(self.objects)),
            "count": count,
        }
        return found if len(self.objects) == 1 else {**found, "arrangement": self.layout}

    @property
    def values(self) -> list[tuple[str, str]]:
        """The distinct pairs of attribute and value in the scene."""
        found = [("layout", self.layout), ("background", self.background)]
        for each in self.objects:
            found += [("colour", each.colour), ("shape", each.shape), ("size", each.size)]
        return list(dict.fromkeys(found))

    @property
    def neighbours(self) -> list["Scene"]:
        """The scenes that differ in one value, or by an exchange of the two objects or of their colours.

        At a level with one background, some of the neighbours belong to another level.
        """
        layouts = next(family for family in LAYOUT_FAMILIES if self.layout in family)
        found = [self._replace(layout=layout) for layout in layouts]
        found += [self._replace(background=background) for background in BACKGROUNDS if self.objects[0].size]
        for i, each in enumerate(self.objects):
            others = [each._replace(colour=colour) for colour in COLOURS]
            others += [each._replace(shape=shape) for shape in SHAPES]
            others += [each._replace(size=size) for size in ("small", "large") if each.size]
            found += [self._replace(objects=(*self.objects[:i], other, *self.objects[i + 1 :])) for other in others]
        if len(self.objects) == 2:
            first, second = self.objects
            found.append(self._replace(objects=(second, first)))
            exchanged = first._replace(colour=second.colour), second._replace(colour=first.colour)
            found.append(self._replace(objects=exchanged))
        return [s for s in dict.fromkeys(found) if s != self and len(set(s.objects)) == len(s.objects)]


def list_scenes(level: ShapesLevel) -> list[Scene]:
    """Return all scenes of a level in a fixed order.

    Level "1" has one object on white: 8 colours, 6 shapes, 2 sizes and 5 positions, 480 scenes. Level "1b" has three
    backgrounds, 1440 scenes. Level "2" has two different objects beside or above each other, 4512 scenes, and one, two
    or three equal objects, 144 scenes.

    Raises:
        ValueError: The level is unknown.
    """
    check_choice("The level of shapes", level, ShapesLevel)
    if level == "2":
        objects = [ShapeObject(colour, shape) for colour, shape in product(COLOURS, SHAPES)]
        pairs = [pair for pair in product(objects, objects) if pair[0] != pair[1]]
        related = [Scene(pair, layout) for layout in RELATION_PHRASES for pair in pairs]
        return related + [Scene((each,), count) for count in ("one", "two", "three") for each in objects]
    backgrounds = ("white",) if level == "1" else tuple(BACKGROUNDS)
    values = product(COLOURS, SHAPES, ("small", "large"), POSITION_PHRASES, backgrounds)
    return [
        Scene((ShapeObject(colour, shape, size),), layout, background)
        for colour, shape, size, layout, background in values
    ]


def describe_scene(scene: Scene, phrasing: int, *, with_background: bool = False) -> tuple[str, list[tuple[int, int]]]:
    """Return a caption of a scene, and the characters [start, end) that describe each of its objects.

    Args:
        scene: The scene.
        phrasing: Which of the four phrasings, 0 to 3.
        with_background: Whether the caption names the background.

    Example:
        >>> caption, [(start, end)] = describe_scene(Scene((ShapeObject("red", "ring", "small"),), "left"), 0)
        >>> caption, caption[start:end]
        ('a small red ring on the left', 'small red ring')
    """
    phrases = [str(each) for each in scene.objects]
    if scene.layout in POSITION_PHRASES:
        caption, phrases = _describe_positioned(scene, phrasing)
    elif scene.layout in RELATION_PHRASES:
        caption = _describe_related(scene, phrasing)
    else:
        caption, phrases = _describe_counted(scene, phrasing)
    if with_background:
        caption += f" on a {scene.background} background"
    starts = [caption.index(phrase) for phrase in phrases]
    return caption, [(start, start + len(phrase)) for start, phrase in zip(starts, phrases, strict=True)]


def _describe_positioned(scene: Scene, phrasing: int) -> tuple[str, list[str]]:
    (single,) = scene.objects
    position, (colour, shape, size) = POSITION_PHRASES[scene.layout], single
    if phrasing == 2:
        return f"{_with_article(colour)} {shape}, {size}, {position}", [f"{colour} {shape}, {size}"]
    if phrasing == 3:
        return f"there is a {size} {shape} in {colour} {position}", [f"{size} {shape} in {colour}"]
    return (f"a {single} {position}", f"{position}, a {single}")[phrasing], [str(single)]


def _describe_related(scene: Scene, phrasing: int) -> str:
    first, second = (_with_article(str(each)) for each in scene.objects)
    relation, inverse, first_position, second_position = RELATION_PHRASES[scene.layout]
    return (
        f"{first} {relation} {second}",
        f"{second} {inverse} {first}",
        f"{first} {first_position} and {second} {second_position}",
        f"{relation} {second}, {first}",
    )[phrasing]


def _describe_counted(scene: Scene, phrasing: int) -> tuple[str, list[str]]:
    (single,), count = scene.objects, scene.layout
    noun = str(single) if count == "one" else f"{single.colour} {SHAPES[single.shape]}"
    if phrasing == 1:
        return (f"a single {noun}" if count == "one" else f"{noun}, {count} of them"), [noun]
    verb = "is" if count == "one" else "are"
    return (f"{count} {noun}", "", f"a picture of {count} {noun}", f"there {verb} {count} {noun}")[phrasing], [noun]


def _with_article(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"
