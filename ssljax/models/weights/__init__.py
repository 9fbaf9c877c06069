"""Weights of others in, and ours out: files, names, and the preprocessing that belongs to them.

`files` reads tensors without running code; `checkpoints` finds the encoder among them; a file a family (`resnet`, ...)
says which tensor is which of our variables, by timm's names; `names` converts by that, in both directions.
"""
