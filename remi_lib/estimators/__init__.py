"""``estimate_mi`` beside other people's estimators, on distributions whose MI is known.

Nothing in the library, the replication or the experiments imports this wing.
"""
