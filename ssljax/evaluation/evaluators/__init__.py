"""Evaluators, one a file: each takes the embeddings of splits and returns named figures.

The metrics themselves are in `ssljax.evaluation.metrics`.
"""
