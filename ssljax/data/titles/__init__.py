"""Titles: how the title of an item goes into batches, as the ids of a tokenizer."""

import dataclasses

from ssljax.data.titles.augment import TitleAugmentation
from ssljax.data.titles.tokenizers import BPE, Bytes, NGrams, TitleReader, Tokenizer, TokenizerFile, clean
from ssljax.types import UserError, check_fields, short

LONGEST = 4096

__all__ = [
    "BPE",
    "Bytes",
    "NGrams",
    "TitleAugmentation",
    "TitleReader",
    "Titles",
    "Tokenizer",
    "TokenizerFile",
    "clean",
]


@dataclasses.dataclass(frozen=True)
class Titles:
    """Puts the titles of items into batches, beside their photos: `title` i32[B, N, L], with -1 after a title's end.

    The titles are the column `title` of the data, as its field `title` names it; an item may have none.
    """

    tokenizer: Tokenizer = BPE()
    """How titles become ids: BPE, learnt from the train split; Bytes; NGrams; or a TokenizerFile."""
    length: int = 32
    """L: ids of a title, at most; the end of a longer title is cut off. A word is one or two ids of BPE, some ten of
    NGrams, or as many as it has letters of Bytes."""
    augmentation: TitleAugmentation = TitleAugmentation()
    """What is changed at random in the titles of the train split, another time in every epoch."""

    def __post_init__(self):
        check_fields(self, "titles", length=1)
        if self.length > LONGEST:
            raise UserError(f"titles.length={self.length} is too large: it must be at most {LONGEST}")
        if missing := [name for name in ("learn", "reader") if not hasattr(self.tokenizer, name)]:
            raise UserError(
                f"titles.tokenizer={short(self.tokenizer)} must be a tokenizer, such as BPE(), but has no "
                f"{' and no '.join(missing)}"
            )
