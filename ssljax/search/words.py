"""Queries by words, alone or together with photos: "like this, but blue"."""

from typing import Any

import numpy as np

from ssljax.data.titles import clean
from ssljax.evaluation.embed import Encoder
from ssljax.evaluation.vectors import normalise
from ssljax.types import UserError, short

NO_TITLES = "the network of this index reads photos, but no titles, so that it cannot be searched by words"


def checked_text(text: Any, encoder: Encoder) -> str:
    """A text to search by, cleaned as tokenizers read it.

    Raises UserError if it is not a text, or is blank, or the encoder reads no titles.
    """
    if encoder.embed_titles is None:
        raise UserError(f"text={short(text)}: {NO_TITLES}")
    if not isinstance(text, str) or not (read := clean(text)):
        raise UserError(f"text={short(text)} must be words, such as 'red floral dress'")
    return read


def check_weight(text_weight: Any) -> None:
    """Raises UserError unless the weight of a text is in [0, 1]."""
    if isinstance(text_weight, bool) or not isinstance(text_weight, int | float) or not 0 <= text_weight <= 1:
        raise UserError(f"text_weight={short(text_weight)} must be from 0, the photo alone, to 1, the text alone")


def queries(photos: np.ndarray | None, texts: np.ndarray | None, text_weight: float) -> np.ndarray:
    """Queries by photos, by texts, or by each photo with each text.

    Args:
      photos: f32[P, D], embeddings of photos without titles; None if there are none.
      texts: f32[T, D], embeddings of titles without photos; None if there are none.
      text_weight: w in [0, 1], for photos with texts.

    Returns:
      f32[P, D] or f32[T, D] as it was given; or f32[P * T, D], all texts with the first photo, then with the next:
      norm((1 - w) * norm(photo) + w * norm(text)), where norm scales to unit length.

    Raises UserError if a text has no token that the network knows, and so an embedding of zeros.
    """
    if texts is not None and not texts.any(axis=1).all():
        raise UserError("text has no word that the run's tokenizer knows: use those of the titles it was trained on")
    if photos is None or texts is None:
        given = texts if photos is None else photos
        assert given is not None
        return given
    both = (1 - text_weight) * normalise(photos)[:, None] + text_weight * normalise(texts)[None]
    return normalise(both.reshape(-1, both.shape[-1]))
