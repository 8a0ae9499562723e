"""This paper: a module or folder per notebook, named as the notebook, and what they share."""
