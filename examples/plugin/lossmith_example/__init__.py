"""An example of a package that adds a loss, a lens, a network and a task to lossmith."""
