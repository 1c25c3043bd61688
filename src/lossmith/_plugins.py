"""Losses, lenses, networks and tasks of other packages, by name.

A package adds a name with an entry point in its pyproject.toml::

    [project.entry-points."lossmith.losses"]
    Welsch = "my_package:Welsch"

The groups are ``lossmith.losses`` (losses and recipes for formulas), ``lossmith.lenses``, ``lossmith.models``,
``lossmith.tasks`` and ``lossmith.optimizers``; in the first two, the name is that of the class or function. An object
is imported at its first use. A program adds names by :func:`lossmith.register`, for as long as it runs.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, final, get_args

__all__ = ["REGISTERED", "Group", "Plugins", "origin_of"]

Group = Literal[
    "lossmith.losses",
    "lossmith.lenses",
    "lossmith.models",
    "lossmith.tasks",
    "lossmith.task_options",
    "lossmith.optimizers",
]

REGISTERED: dict[str, dict[str, Any]] = {group: {} for group in get_args(Group)}
"""The objects that this process has registered, by group and name."""


@final
class Plugins(Mapping[str, Any]):
    """The objects of entry-point groups by name: those of lossmith, of installed packages, and registered ones.

    Args:
        groups: The groups, whose names are in one namespace.
        check: Raises ValueError if an object does not fit its name and group; called as ``check(group, name, object)``.
        reserved: Names of lossmith that are no entry points.
    """

    def __init__(
        self,
        *groups: Group,
        check: Callable[[str, str, Any], None] | None = None,
        reserved: Collection[str] = (),
    ) -> None:
        self.groups, self.check, self.reserved = groups, check, reserved

    @property
    def foreign(self) -> list[EntryPoint]:
        """The entry points of other packages, those of a clash included."""
        points = (point for group in self.groups for point in entry_points(group=group))
        return list({(p.group, p.name, p.value): p for p in points if not _is_own(p)}.values())

    @cached_property
    def _found(self) -> tuple[dict[str, EntryPoint], dict[str, str]]:
        """The entry points by name, and the reasons why others are refused."""
        by_name: dict[str, dict[str, EntryPoint]] = {}
        for group in self.groups:
            for point in entry_points(group=group):
                by_name.setdefault(point.name, {}).setdefault(point.value, point)
        declared: dict[str, EntryPoint] = {}
        refused: dict[str, str] = {}
        for name, points in sorted(by_name.items(), key=lambda item: not _is_own(next(iter(item[1].values())))):
            own = [point for point in points.values() if _is_own(point)]
            others = [point for point in points.values() if not _is_own(point)]
            if own or (len(others) == 1 and name not in self.reserved):
                declared[name] = [*own, *others][0]
            if others and (own or name in self.reserved):
                refused[name] = f"{origin_of(others[0])} declares {name!r}, which is a name of lossmith itself."
            elif len(others) > 1:
                both = " and ".join(origin_of(point) for point in others[:2])
                refused[name] = f"Two installed packages declare {name!r}: {both}. Uninstall one of them."
        return declared, refused

    @property
    def declared(self) -> dict[str, EntryPoint]:
        """The entry points by name, without those of a clash."""
        return self._found[0]

    @property
    def refused(self) -> dict[str, str]:
        """The names for which an entry point is refused, with the reasons."""
        return self._found[1]

    @property
    def registered(self) -> dict[str, Any]:
        """The registered objects by name."""
        return {name: found for group in self.groups for name, found in REGISTERED[group].items()}

    def load_all(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Import all objects.

        Returns:
            The objects by name, and the reasons why others cannot be used.
        """
        loaded, broken = {}, dict(self.refused)
        for name in self:
            try:
                loaded[name] = self[name]
            except ValueError as error:
                broken.setdefault(name, str(error))
        return loaded, broken

    def refresh(self) -> None:
        """Read the entry points again at their next use, after a package was installed."""
        self.__dict__.pop("_found", None)

    def __getitem__(self, name: str) -> Any:
        for group in self.groups:
            if name in REGISTERED[group]:
                return REGISTERED[group][name]
        if name not in self.declared:
            if name in self.refused:
                raise ValueError(self.refused[name])
            raise KeyError(name)
        point = self.declared[name]
        try:
            found = point.load()
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".rstrip(": ")
            raise ValueError(f"{name!r} of {origin_of(point)} cannot be imported: {reason}.") from error
        if self.check is not None:
            try:
                self.check(point.group, name, found)
            except ValueError as error:
                raise ValueError(f"{name!r} of {origin_of(point)} cannot be used: {error}") from None
        return found

    def __contains__(self, name: object) -> bool:  # without an import, unlike Mapping's
        return name in self.registered or name in self.declared

    def __iter__(self) -> Iterator[str]:
        return iter({**self.declared, **self.registered})

    def __len__(self) -> int:
        return len({**self.declared, **self.registered})


def origin_of(point: EntryPoint) -> str:
    """Return the package, the object and the group of an entry point, for messages."""
    package = f"{point.dist.name} {point.dist.version} " if point.dist else ""
    return f"{package}({point.value} in {point.group})"


def _is_own(point: EntryPoint) -> bool:
    return point.value.startswith("lossmith.")
