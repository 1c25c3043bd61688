"""The plots of the package: SVG for the report pages, PNG for figures.

Matplotlib has no tooltips and no dark mode in its SVG, does not keep labels apart, and would become a dependency of
``lossmith report``.
"""
