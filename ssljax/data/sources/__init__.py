"""Sources of photos, one a file: each reads the splits of a data set as `Items`."""
