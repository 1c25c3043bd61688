"""Recipes of BasicSR, Real-ESRGAN, traiNNer-redux, neosr and KAIR, as a formula and a command."""

from lossmith.importer.read import read_recipe
from lossmith.importer.recipe import ImportedRecipe, ImportedTerm

__all__ = ["ImportedRecipe", "ImportedTerm", "read_recipe"]
