"""Samplers, one a file: each decides which photos of a split make up a batch. `base` holds what they share.

They know rows and labels, not pixels.
"""
