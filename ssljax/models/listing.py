"""A photo and its title, as networks that read both see them."""

import jax.numpy as jnp

from ssljax.types import Array, pytree


@pytree
class Listing:
    """A view of B items, photos with their titles: `PhotoAndTitle` makes it."""

    photo: Array
    """f32[B, h, w, 3], normalised"""
    title: Array
    """i32[B, L], token ids, -1 after the last one; all -1 where there is no title, or where it is hidden"""
    has_photo: Array
    """bool[B], False where there is no photo, or where it is hidden"""

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def has_title(self) -> Array:
        """bool[B], False where there is no title, or where it is hidden."""
        return jnp.any(self.title >= 0, axis=1)
