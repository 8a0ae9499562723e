"""``estimate_mi`` beside other people's estimators, on distributions whose MI is known."""
