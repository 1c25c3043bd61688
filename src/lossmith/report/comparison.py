"""The section of pictures: what the script needs for wipe, loupe and slider, and a plain gallery where none may run."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from lossmith.report.figures import Group, thousands
from lossmith.report.images import Picture, Shot

__all__ = ["comparison"]


def comparison(group: Group, pictures: Sequence[Picture], remarks: Sequence[str]) -> str:
    """Input, bicubic, what the runs made, and truth, under a wipe and a loupe."""
    head = "<section><h2>Look for yourself</h2>"
    if not pictures:
        reason = " ".join(["No picture has been written yet.", *remarks])
        return f'{head}<p class="empty">{escape(reason)}</p></section>'
    galleries = "".join(_gallery(group, picture) for picture in pictures)
    template = (files("lossmith.report") / "compare.html").read_text(encoding="utf-8")
    lead = f'<p class="lead">Pictures that the training did not see. {escape(" ".join(remarks))}</p>'
    return f"{head}{lead}{Template(template).substitute(galleries=galleries)}</section>"


def _gallery(group: Group, picture: Picture) -> str:
    shown: dict[int | None, int | None] = {shot.run: shot.step for shot in picture.shots}  # the last step of each run
    figures = []
    for shot in picture.shots:
        name = group.runs[shot.run].name if shot.run is not None else shot.role
        hidden = "" if shown[shot.run] == shot.step else " hidden"
        figures.append(_shot(shot, name, f"{picture.name}, {name}", hidden))
    name, (x, y) = escape(picture.name), picture.place
    place = f'data-x="{x:.3f}" data-y="{y:.3f}"'
    return f'<div class="gallery" data-name="{name}" {place}><h3>{name}</h3>{"".join(figures)}</div>'


def _shot(shot: Shot, name: str, described: str, hidden: str) -> str:
    colour = f' data-colour="{shot.run % 8}"' if shot.run is not None else ""
    side = shot.role if shot.run is None else f"run{shot.run}"
    step = "" if shot.step is None else f" <small>step {thousands(shot.step)}</small>"
    kind = "" if shot.run is None else f' class="c{shot.run % 8}"'
    return (
        f'<figure data-side="{side}" data-name="{escape(name)}" data-step="{shot.step or 0}"{colour}{hidden}>'
        f'<img src="{shot.uri}" width="{shot.size[0]}" height="{shot.size[1]}" alt="{escape(described)}">'
        f"<figcaption><b{kind}>{escape(name)}</b>{step}</figcaption></figure>"
    )
