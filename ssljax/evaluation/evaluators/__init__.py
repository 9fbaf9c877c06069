"""Evaluators, one protocol a file: each turns the embeddings of a split into named figures."""
