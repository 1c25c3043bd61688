"""The sources of what this package implements, as BibTeX."""

from collections.abc import Iterable

from lossmith.citations import comparing, generating, networks

__all__ = ["bibtex"]

# Each by its key: what it is for BibTeX, author, title, year, venue
PAPERS: dict[str, tuple[str, str, str, int, str]] = {**comparing.PAPERS, **generating.PAPERS, **networks.PAPERS}


def bibtex(keys: Iterable[str]) -> str:
    """The BibTeX entries of some papers, in the order of the keys."""
    return "\n\n".join(_entry(key, *PAPERS[key]) for key in keys)


def _entry(key: str, kind: str, author: str, title: str, year: int, venue: str) -> str:
    place = "booktitle" if kind == "inproceedings" else "journal"
    fields = {"author": author, "title": title, place: venue, "year": str(year)}
    return f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}"
