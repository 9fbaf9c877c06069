"""Tokenizers: titles to ids. A tokenizer says how, learns from the titles of the train split, and then reads any.

    tokenizer = BPE(vocabulary=1000)
    learnt = tokenizer.learn(titles)                  # a text, which a run keeps as tokenizer.json
    reader = tokenizer.reader(learnt)
    reader(["red floral dress", ""], 8)               # i32[2, 8], -1 after the end of a title

All of them read a title as `clean` writes it, so that its form makes no difference: accents composed (NFC), without
control characters and the tags of HTML, "&amp;" as "&", half an emoji as U+FFFD, and single blanks.
"""

import dataclasses
import functools
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ssljax.data.atomic_files import read_bytes
from ssljax.data.paths import find
from ssljax.data.text import INVISIBLE, readable
from ssljax.packages import PACKAGE, file_of_package
from ssljax.types import UserError, check_fields

LARGEST_FILE = 2**27  # bytes; multilingual ones, of 250,000 tokens, have some 2**24
LARGEST_VOCABULARY = 2**24
WORD = re.compile(r"\S{1,64}")  # what is longer, such as an address or a text without blanks, is read in pieces
AT_ONCE = 2**16  # titles that the library encodes, to bound the memory of what it returns
ENTITY = re.compile(r"&#?\w{1,32};")  # not without the semicolon, as "black&notebook" has no entity "&not"
# Only names of tags that shops use in titles, so that "size <M>" stays.
TAG = re.compile(r"</?(?:a|b|big|br|div|em|font|h[1-6]|i|li|p|small|span|strong|sub|sup|u|ul)\b[^<>]*>", re.IGNORECASE)


def clean(title: str) -> str:
    """`title` as tokenizers and TF-IDF read it: see above. Letters keep their case; a blank title becomes ""."""
    title = readable(title)
    if "&" in title:
        title = readable(ENTITY.sub(lambda found: html.unescape(found[0]), title))
    if "<" in title:
        title = TAG.sub(" ", title)
    if not title.isprintable():  # NUL, line feeds and the like become blanks; joiners of emoji stay
        title = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in title)
    title = " ".join(title.split())
    return title if title.isascii() else title.strip(INVISIBLE + " ")


class TitleReader(Protocol):
    """Reads titles as ids."""

    @property
    def vocabulary(self) -> int:
        """How many ids there are: they are 0, 1, ..., vocabulary - 1."""
        ...

    def __call__(self, titles: Sequence[str], length: int) -> np.ndarray:
        """i32[n, length]: the ids of each title, at most the first `length`, and -1 after them.

        A blank title has none. A title has the same ids alone and among others.
        """
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """How titles become ids. Tokenizers are frozen dataclasses: their fields become options."""

    def learn(self, titles: Sequence[str], /) -> str:
        """What is kept with the run as tokenizer.json, learnt from the train split's titles; "" if there is nothing."""
        ...

    def reader(self, learnt: str, /) -> TitleReader:
        """The reader that goes by what `learn` returned; raises UserError if that is damaged."""
        ...


@dataclasses.dataclass(frozen=True)
class Bytes:
    """The bytes of a title's UTF-8: 256 ids, nothing to learn, any language; a word takes several of them."""

    def learn(self, titles: Sequence[str]) -> str:
        """Nothing."""
        return ""

    def reader(self, learnt: str = "") -> TitleReader:
        """See `Tokenizer`."""
        return _RowReader(256, _bytes)


@dataclasses.dataclass(frozen=True)
class NGrams:
    """The runs of some characters of each word, such as "<re", "red" and "ed>", each hashed to one of the ids.

    Nothing to learn, and misspelt words share most of their n-grams with the right ones. For a bag of tokens, which
    does not mind the order. A title of 10 words has some 100 n-grams, in the order of the text; give `Titles` a
    `length` that holds them. The hash is the same on every machine. Words are compared without their case.
    """

    vocabulary: int = 65536
    """ids: n-grams that share one are taken for the same"""
    sizes: tuple[int, ...] = (3, 4)
    """characters of an n-gram, where < and > stand before and after a word; a shorter word is one n-gram"""

    def __post_init__(self):
        check_fields(self, "titles.tokenizer", vocabulary=1, sizes=1)
        _check_most(self.vocabulary)
        if not self.sizes:
            raise UserError("titles.tokenizer.sizes=() makes no n-gram: try 3 4")

    def learn(self, titles: Sequence[str]) -> str:
        """Nothing."""
        return ""

    def reader(self, learnt: str = "") -> TitleReader:
        """See `Tokenizer`."""
        return _RowReader(self.vocabulary, functools.partial(_ngrams, vocabulary=self.vocabulary, sizes=self.sizes))


@dataclasses.dataclass(frozen=True)
class BPE:
    """Byte pair encoding, learnt from the train split's titles: frequent words are one id, rare ones several.

    It begins with the 256 bytes, so that it reads any text, and joins the most frequent pair of neighbours within a
    word until there are `vocabulary` ids; fewer, if the titles have no pair left that comes twice.
    Sennrich et al. 2016, arXiv:1508.07909; on bytes, as GPT-2. Needs the extra `titles`.
    """

    vocabulary: int = 8192
    """ids, at most; at least 256"""
    lowercase: bool = True
    """Read capitals as small letters."""

    def __post_init__(self):
        check_fields(self, "titles.tokenizer", vocabulary=256)
        _check_most(self.vocabulary)

    def learn(self, titles: Sequence[str]) -> str:
        """The JSON of a Hugging Face tokenizer; raises UserError if all titles are blank."""
        library = _library()
        texts = list(filter(None, map(clean, titles)))
        if not texts:
            raise UserError(
                f"titles: all {len(titles):,} of the train split are blank, so that BPE cannot learn from them: name "
                "the column in the `title` of the data, or take Bytes() or NGrams(), which learn nothing"
            )
        tokenizer = library.Tokenizer(library.models.BPE())
        if self.lowercase:
            tokenizer.normalizer = library.normalizers.Lowercase()
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(texts, trainer, length=len(texts))
        return tokenizer.to_str()

    def reader(self, learnt: str) -> TitleReader:
        """See `Tokenizer`."""
        return _FileReader(learnt)


@dataclasses.dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer.json of Hugging Face's, such as came with the weights of a text encoder. Needs the extra `titles`.

    Names of special tokens in a title, such as "[SEP]", are plain text. Where the file truncates, pads or drops merges
    at random, that is left out.
    """

    path: str
    """the file, looked up from here, then under SSLJAX_DATA; or package:NAME, the one tokenizer of an installed
    package, such as package:wordllama"""
    special_tokens: bool = True
    """Add what the file puts around a text, such as [CLS] and [SEP]. Transformers want it; a bag of tokens, such as
    wordllama, does not."""

    def __post_init__(self):
        check_fields(self, "titles.tokenizer")

    def learn(self, titles: Sequence[str]) -> str:
        """The file's text: nothing is learnt; raises UserError if there is no such file, or it is not a tokenizer."""
        name = f"titles.tokenizer.path={self.path!r}"
        if self.path.startswith(PACKAGE):
            path = Path(file_of_package(self.path, "titles.tokenizer.path", "tokenizers", _is_tokenizer))
        else:
            path = find(self.path, "titles.tokenizer.path")
        try:
            learnt = read_bytes(path, LARGEST_FILE).decode()
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror}): give a tokenizer.json") from None
        except UnicodeDecodeError:
            raise UserError(f"{name} is not text: give a tokenizer.json") from None
        _parsed(learnt, name)
        return learnt

    def reader(self, learnt: str) -> TitleReader:
        """See `Tokenizer`."""
        return _FileReader(learnt, self.special_tokens)


def character_ngrams(word: str, sizes: Sequence[int]) -> Iterator[str]:
    """The runs of so many characters of <word>, in the order of the text; a shorter <word> is the only one."""
    word = f"<{word}>"
    if len(word) <= min(sizes):
        yield word
        return
    for start in range(len(word)):
        yield from (word[start : start + size] for size in sizes if start + size <= len(word))


def _check_most(vocabulary: int) -> None:
    if vocabulary > LARGEST_VOCABULARY:
        raise UserError(
            f"titles.tokenizer.vocabulary={vocabulary} is too large: it must be at most {LARGEST_VOCABULARY}"
        )


def _is_tokenizer(name: str) -> bool:
    return name.endswith(".json") and "tokenizer" in name and name != "tokenizer_config.json"


def _library() -> Any:
    try:
        import tokenizers as library
    except ImportError:
        raise UserError(
            "BPE and TokenizerFile need tokenizers: install it by pip install 'ssljax[titles]', or take NGrams()"
        ) from None
    return library


def _parsed(learnt: str, name: str) -> Any:
    """The library's tokenizer; raises UserError, which begins with `name`, if the text is not one."""
    library = _library()
    try:
        tokenizer = library.Tokenizer.from_str(learnt)
    except Exception as error:  # the library raises nothing more precise
        raise UserError(f"{name} is not a tokenizer that can be read ({error}): give a tokenizer.json") from None
    if not tokenizer.get_vocab_size():
        raise UserError(f"{name} is a tokenizer without a token: give a tokenizer.json with a vocabulary")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    return tokenizer


@functools.lru_cache(8)
def _vocabulary(learnt: str) -> int:
    return max(_parsed(learnt, "the run's tokenizer.json").get_vocab().values()) + 1


@functools.lru_cache(8)
def _truncating(learnt: str, length: int, special_tokens: bool) -> Any:
    """The library's tokenizer that gives at most `length` ids, those around a text included."""
    tokenizer = _parsed(learnt, "the run's tokenizer.json")
    added = tokenizer.num_special_tokens_to_add(False) if special_tokens else 0
    if length <= added:
        raise UserError(f"titles.length={length} leaves no room beside {added} special tokens: try 32")
    tokenizer.enable_truncation(length)
    return tokenizer


@dataclasses.dataclass(frozen=True)
class _FileReader:
    """Reads by the JSON of a Hugging Face tokenizer. Holds only text, so that it can be pickled and compared."""

    learnt: str
    special_tokens: bool = False

    @property
    def vocabulary(self) -> int:
        return _vocabulary(self.learnt)

    def __call__(self, titles: Sequence[str], length: int) -> np.ndarray:
        tokenizer = _truncating(self.learnt, length, self.special_tokens)
        added = tokenizer.num_special_tokens_to_add(False) if self.special_tokens else 0
        ids = np.full((len(titles), length), -1, np.int32)
        for start in range(0, len(titles), AT_ONCE):
            texts = list(map(clean, titles[start : start + AT_ONCE]))
            try:
                encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=self.special_tokens)
            except Exception as error:  # a word that is not in a vocabulary without a token for the unknown
                raise UserError(f"the run's tokenizer.json cannot read a title ({error}): take another one") from None
            for row, encoding in enumerate(encodings, start):
                found = encoding.ids
                if len(found) > added and texts[row - start]:
                    ids[row, : len(found)] = found
        return ids


@dataclasses.dataclass(frozen=True)
class _RowReader:
    """Reads title by title."""

    vocabulary: int
    ids: Any
    """a clean title → its ids, an iterator or u8[m]"""

    def __call__(self, titles: Sequence[str], length: int) -> np.ndarray:
        rows = np.full((len(titles), length), -1, np.int32)
        for row, title in enumerate(titles):
            found = self.ids(clean(title), length)
            rows[row, : len(found)] = found
        return rows


def _bytes(title: str, length: int) -> np.ndarray:
    return np.frombuffer(title[:length].encode()[:length], np.uint8)


def _ngrams(title: str, length: int, *, vocabulary: int, sizes: tuple[int, ...]) -> list[int]:
    found: list[int] = []
    for word in WORD.finditer(title.casefold()):
        found += _word_ngrams(word[0], vocabulary, sizes)
        if len(found) >= length:
            break
    return found[:length]


@functools.lru_cache(2**16)
def _word_ngrams(word: str, vocabulary: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The ids of a word's n-grams, in the order of the text; catalogues repeat words."""
    return tuple(_hashed(ngram) % vocabulary for ngram in character_ngrams(word, sizes))


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
