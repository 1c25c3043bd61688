"""Recipes of BasicSR, Real-ESRGAN, traiNNer-redux, neosr and KAIR as formulas; losses as options of BasicSR."""

from lossmith.importer.read import read_recipe
from lossmith.importer.recipe import ImportedRecipe, ImportedTerm
from lossmith.importer.to_basicsr import BasicSRConfig, to_basicsr

__all__ = ["BasicSRConfig", "ImportedRecipe", "ImportedTerm", "read_recipe", "to_basicsr"]
