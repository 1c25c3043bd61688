"""What a picture of shapes may show, and how that is put into words."""

from itertools import product
from typing import Literal, NamedTuple, get_args

__all__ = ["LAYOUTS", "Level", "Scene", "Thing", "phrasing", "scenes"]

Level = Literal["1", "1b", "2"]

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
SIZES = {"small": 0.3, "large": 0.48, "": 0.36}
"""Radii, in half sides of the picture; a thing without a size is one of several."""

GROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5)}

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
"""Where the centres of things are, from left to right and from top to bottom, in half sides; y is downwards."""

PLACES = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
RELATIONS = {
    "beside": ("to the left of", "to the right of", "on the left", "on the right"),
    "stacked": ("above", "below", "at the top", "at the bottom"),
}


class Thing(NamedTuple):
    """One shape: its colour, what it is, and how large; in scenes of several all are of one size, which is ""."""

    colour: str
    shape: str
    size: str = ""

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape) if word)


class Scene(NamedTuple):
    """What a picture shows.

    Args:
        things: The different things: one, or two in the order of the layout's places.
        layout: A key of :data:`LAYOUTS`; "one", "two" and "three" repeat one thing.
        ground: The colour behind them.
    """

    things: tuple[Thing, ...]
    layout: str
    ground: str = "white"

    @property
    def attributes(self) -> dict[str, object]:
        """What can be right or wrong in a picture of it, by name.

        Two things beside each other have the right binding if the pairs of colour and shape are right, wherever they
        are: a picture with the right colours and shapes may still have mixed them up. Which is the first, left or
        above, is no attribute: a picture in which all else is right and the two are exchanged is not the scene.
        """
        first = self.things[0]
        if first.size:
            own: dict[str, object] = {"colour": first.colour, "shape": first.shape, "size": first.size}
            return {**own, "position": self.layout, "background": self.ground}
        count = ("one", "two", "three").index(self.layout) + 1 if len(self.things) == 1 else 2
        found: dict[str, object] = {
            "colours": tuple(sorted(thing.colour for thing in self.things)),
            "shapes": tuple(sorted(thing.shape for thing in self.things)),
            "binding": tuple(sorted(self.things)),
            "count": count,
        }
        return found if len(self.things) == 1 else {**found, "arrangement": self.layout}

    @property
    def values(self) -> list[tuple[str, str]]:
        """Every single value in it, as pairs of the attribute's name and the value."""
        found = [("layout", self.layout), ("ground", self.ground)]
        for thing in self.things:
            found += [("colour", thing.colour), ("shape", thing.shape), ("size", thing.size)]
        return list(dict.fromkeys(found))

    @property
    def neighbours(self) -> list["Scene"]:
        """The scenes that differ in one thing: a colour, a shape, a size, the layout, the ground, or what is where.

        Two things may also have exchanged their places, or their colours. Of a level with one ground, some are in
        another level.
        """
        layouts = next(kind for kind in KINDS if self.layout in kind)
        found = [self._replace(layout=layout) for layout in layouts]
        found += [self._replace(ground=ground) for ground in GROUNDS if self.things[0].size]
        for i, thing in enumerate(self.things):
            others = [thing._replace(colour=colour) for colour in COLOURS]
            others += [thing._replace(shape=shape) for shape in SHAPES]
            others += [thing._replace(size=size) for size in ("small", "large") if thing.size]
            found += [self._replace(things=(*self.things[:i], other, *self.things[i + 1 :])) for other in others]
        if len(self.things) == 2:
            first, second = self.things
            found.append(self._replace(things=(second, first)))
            exchanged = first._replace(colour=second.colour), second._replace(colour=first.colour)
            found.append(self._replace(things=exchanged))
        return [each for each in dict.fromkeys(found) if each != self and len(set(each.things)) == len(each.things)]


def scenes(level: Level) -> list[Scene]:
    """All the scenes of a level, in a fixed order.

    Level "1" is one thing on white: 8 colours, 6 shapes, 2 sizes and 5 places make 480. Level "1b" has three grounds.
    Level "2" has two different things beside or above each other, 4512 scenes, and one, two or three equal things, 144.

    Raises:
        ValueError: An unknown level.
    """
    if level not in get_args(Level):
        raise ValueError(f"There are the levels {', '.join(get_args(Level))} of shapes; got {level!r}.")
    if level == "2":
        things = [Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES)]
        pairs = [Scene(two, layout) for layout in RELATIONS for two in product(things, things) if two[0] != two[1]]
        return pairs + [Scene((thing,), count) for count in ("one", "two", "three") for thing in things]
    grounds = ("white",) if level == "1" else tuple(GROUNDS)
    parts = product(COLOURS, SHAPES, ("small", "large"), PLACES, grounds)
    return [Scene((Thing(colour, shape, size),), place, ground) for colour, shape, size, place, ground in parts]


KINDS = (tuple(PLACES), tuple(RELATIONS), ("one", "two", "three"))
"""Layouts of as many different things."""

PHRASINGS = 4
"""How many ways there are to say each scene."""


def phrasing(scene: Scene, way: int, *, grounds: bool = False) -> tuple[str, list[tuple[int, int]]]:
    """A scene in words, and which stretch [start, end) of them speaks of each of its things.

    Args:
        scene: The scene.
        way: Which of the four ways to say it, 0 to 3.
        grounds: Whether to name the ground.

    Example:
        >>> caption, [(start, end)] = phrasing(Scene((Thing("red", "ring", "small"),), "left"), 0)
        >>> caption, caption[start:end]
        ('a small red ring on the left', 'small red ring')
    """
    texts = [str(thing) for thing in scene.things]
    if scene.layout in PLACES:
        caption, texts = _placed(scene, way)
    elif scene.layout in RELATIONS:
        caption = _related(scene, way)
    else:
        caption, texts = _counted(scene, way)
    if grounds:
        caption += f" on a {scene.ground} background"
    starts = [caption.index(text) for text in texts]
    return caption, [(start, start + len(text)) for start, text in zip(starts, texts, strict=True)]


def _placed(scene: Scene, way: int) -> tuple[str, list[str]]:
    (thing,) = scene.things
    place, colour, shape, size = PLACES[scene.layout], thing.colour, thing.shape, thing.size
    if way == 2:
        return f"{_a(colour)} {shape}, {size}, {place}", [f"{colour} {shape}, {size}"]
    if way == 3:
        return f"there is a {size} {shape} in {colour} {place}", [f"{size} {shape} in {colour}"]
    return (f"a {thing} {place}", f"{place}, a {thing}")[way], [str(thing)]


def _related(scene: Scene, way: int) -> str:
    first, second = (_a(str(thing)) for thing in scene.things)
    forth, back, here, there = RELATIONS[scene.layout]
    return (
        f"{first} {forth} {second}",
        f"{second} {back} {first}",
        f"{first} {here} and {second} {there}",
        f"{forth} {second}, {first}",
    )[way]


def _counted(scene: Scene, way: int) -> tuple[str, list[str]]:
    (thing,), count = scene.things, scene.layout
    many = str(thing) if count == "one" else f"{thing.colour} {SHAPES[thing.shape]}"
    if way == 1:
        return (f"a single {many}" if count == "one" else f"{many}, {count} of them"), [many]
    be = "is" if count == "one" else "are"
    return (f"{count} {many}", "", f"a picture of {count} {many}", f"there {be} {count} {many}")[way], [many]


def _a(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"
