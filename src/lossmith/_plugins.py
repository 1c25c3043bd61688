"""Losses, networks and tasks of installed packages, found by entry points.

A package adds a name with an entry point in its pyproject.toml::

    [project.entry-points."lossmith.losses"]
    Welsch = "my_package:Welsch"

The groups are ``lossmith.losses`` (losses, lenses and recipes for formulas; the name is that of the class or function),
``lossmith.models`` and ``lossmith.tasks``. An object is imported at its first use.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, final

__all__ = ["Plugins"]

Group = Literal["lossmith.losses", "lossmith.models", "lossmith.tasks"]


@final
class Plugins(Mapping[str, Any]):
    """The objects of an entry-point group by name; those of lossmith come first.

    Args:
        group: The name of the group.
    """

    def __init__(self, group: Group) -> None:
        self.group = group

    @cached_property
    def declared(self) -> dict[str, EntryPoint]:
        """The entry points by name.

        Raises:
            ValueError: Two distributions declare one name.
        """
        found: dict[str, EntryPoint] = {}
        points = entry_points(group=self.group)
        for point in sorted(points, key=lambda point: not point.value.startswith("lossmith.")):
            if point.name in found and found[point.name].value != point.value:
                raise ValueError(
                    f"Two installed packages declare {point.name!r} in {self.group}: {found[point.name].value} and "
                    f"{point.value}. Uninstall one of them."
                )
            found[point.name] = point
        return found

    def __getitem__(self, name: str) -> Any:
        return self.declared[name].load()

    def __contains__(self, name: object) -> bool:  # without an import, unlike Mapping's
        return name in self.declared

    def __iter__(self) -> Iterator[str]:
        return iter(self.declared)

    def __len__(self) -> int:
        return len(self.declared)
