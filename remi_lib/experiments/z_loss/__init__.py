"""Notebook 12: the paper's penalty under its other name, the z-loss."""
