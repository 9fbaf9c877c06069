"""Sources of photos, one a file: each reads the splits of a data set as `Items`.

Photos are decoded elsewhere, when they are needed (`ssljax.data.decode`).
"""
