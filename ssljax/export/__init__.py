"""A run's network in formats that other programs load, each with what turns a photo into its input, and a model card.

`network` has the functions that are exported; a file a format writes them; `preprocess.py` is copied beside them.
"""
