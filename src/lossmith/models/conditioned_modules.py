"""The modules of a network after which knobs condition the features."""

from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

from torch import nn

__all__ = ["find_block_convolutions", "match_modules"]

MIN_CONVOLUTIONS = 3


def find_block_convolutions(network: nn.Module) -> dict[str, int]:
    """Return the first convolution larger than 1 x 1 of each block, with its number of output channels.

    A block is an element of a ``ModuleList`` or ``Sequential`` that contains a convolution larger than 1 x 1 and no
    smaller block; only blocks of the most common class count. In a network without blocks, each convolution except the
    first and the last counts.

    Raises:
        ValueError: The network has neither blocks nor three convolutions.
    """
    elements = {
        f"{name}.{child}" if name else child: module
        for name, container in network.named_modules()
        if isinstance(container, nn.ModuleList | nn.Sequential)
        for child, module in container.named_children()
        if not isinstance(module, nn.Conv2d)
    }
    wide = {
        name: found for name, module in elements.items() if (found := [*_named_convolutions(module, min_kernel_size=2)])
    }
    innermost = [name for name in wide if not any(other.startswith(f"{name}.") for other in wide)]
    if innermost:
        block_class = Counter(type(elements[name]) for name in innermost).most_common(1)[0][0]
        firsts = {name: wide[name][0] for name in innermost if type(elements[name]) is block_class}
        return {f"{name}.{first}": conv.out_channels for name, (first, conv) in firsts.items()}
    convolutions = {name: conv.out_channels for name, conv in _named_convolutions(network)}
    if len(convolutions) < MIN_CONVOLUTIONS:
        raise ValueError("The network has no block with a convolution to condition; name modules with where=.")
    return dict(list(convolutions.items())[1:-1])


def match_modules(network: nn.Module, patterns: Sequence[str]) -> dict[str, int]:
    """Return the modules whose names match patterns with ``*`` and ``?``, with their numbers of output channels.

    Raises:
        ValueError: A pattern matches no module, or a matching module contains no convolution.
    """
    found: dict[str, int] = {}
    for pattern in patterns:
        matches = [name for name, _ in network.named_modules() if name and fnmatchcase(name, pattern)]
        if not matches:
            some = ", ".join(name for name, _ in islice(_named_convolutions(network), 4))
            raise ValueError(f"The network has no module {pattern!r} to condition; its convolutions are {some}, ...")
        for name in matches:
            channels = [conv.out_channels for _, conv in _named_convolutions(network.get_submodule(name))]
            if not channels:
                raise ValueError(f"{name!r} contains no convolution to condition; name a module that contains one.")
            found[name] = channels[-1]
    return found


def _named_convolutions(module: nn.Module, min_kernel_size: int = 1) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield the names and convolutions of a module with kernels of at least a size, in order of registration."""
    found = ((name, each) for name, each in module.named_modules() if isinstance(each, nn.Conv2d))
    return ((name, conv) for name, conv in found if max(conv.kernel_size) >= min_kernel_size)
