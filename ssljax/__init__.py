"""Embeddings that find the same item again: contrastive, distillation and metric learning in JAX."""
