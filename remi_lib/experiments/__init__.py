"""This paper: a module or folder per notebook, named as the notebook, and what they share.

Experiments import the library and the replication wing, and one another only through the shared
rooms: published, plots, runs, image_runs, sweep.
"""
