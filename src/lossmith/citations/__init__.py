"""The papers behind losses, lenses and networks, as BibTeX."""

from collections.abc import Iterable

from lossmith.citations import comparison, generative, networks

__all__ = ["format_bibtex"]

# By citation key: BibTeX entry type, author, title, year, venue
PAPERS: dict[str, tuple[str, str, str, int, str]] = {**comparison.PAPERS, **generative.PAPERS, **networks.PAPERS}


def format_bibtex(keys: Iterable[str]) -> str:
    """Return the BibTeX entries of citation keys, in their order.

    Args:
        keys: Keys of this package, or whole BibTeX entries of losses of other packages, which begin with "@".
    """
    return "\n\n".join(key if key.startswith("@") else _format_entry(key, *PAPERS[key]) for key in keys)


def _format_entry(key: str, kind: str, author: str, title: str, year: int, venue: str) -> str:
    venue_field = "booktitle" if kind == "inproceedings" else "journal"
    fields = {"author": author, "title": title, venue_field: venue, "year": str(year)}
    return f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}"
