"""Names of images in the results of a study, in which version 0.1 has named them without folder and suffix."""

from collections.abc import Sequence

from lossmith.tune.trial import ImageMetrics

__all__ = ["unify_image_names"]


def unify_image_names(results: Sequence[ImageMetrics]) -> list[ImageMetrics]:
    """Return results with the names of today: the path of each image relative to the folder, with its suffix.

    A name of version 0.1 that fits several images stays, since the results of the others are lost.

    Args:
        results: The metrics by image of the baselines and trials of one study.

    Example:
        >>> old, new = {"1": {"psnr_y": 30.0}}, {"x/1.png": {"psnr_y": 31.0}}
        >>> unify_image_names([old, new])
        [{'x/1.png': {'psnr_y': 30.0}}, {'x/1.png': {'psnr_y': 31.0}}]
    """
    by_stem: dict[str, set[str]] = {}
    for name in {name for result in results for name in result}:
        path = name.rpartition(".")[0]
        for stem in {path, path.rpartition("/")[2]} if path else ():
            by_stem.setdefault(stem, set()).add(name)
    current = {stem: names.pop() for stem, names in by_stem.items() if len(names) == 1}
    return [{current.get(name, name): metrics for name, metrics in result.items()} for result in results]
