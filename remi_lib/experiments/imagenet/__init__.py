"""Notebook 08: trees of JPEG files, long trainings on them, Table 3."""
