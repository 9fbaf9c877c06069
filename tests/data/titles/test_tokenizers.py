"""Every tokenizer on any text; and each against a plain reference."""

import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssljax.config import from_json, resolved
from ssljax.data import BPE, Bytes, NGrams, Titles, TokenizerFile
from ssljax.data.titles import Tokenizer, clean
from ssljax.types import UserError

CATALOGUE = ["Red floral dress", "Blue dress with stripes", "Röd klänning", "שמלה אדומה", "👗 dress 2x", "", "  "] * 4
HARD = [
    *(
        "",
        " \n\t",
        "\x00",
        "\u200b\u200f",
        "x" * 10_000,
        "dress " * 2_000,
        "👗👩‍👩‍👧",
        "\ud83d",
        "a\ud83d\udc57b\udc57",
    ),
    *("שמלה red אדומה", "Café", "Cafe\u0301", "<b>Dress</b> &amp; shoes", "[CLS] a [SEP]", "赤いドレス", "a\x00b"),
]
TEXT = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(HARD)


def vocabulary(**special: int) -> dict[str, int]:
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "red", "dress", "flo", "##ral", "[", "]", "sep", "&", "shoes"]
    return {word: k for k, word in enumerate(words)} | special


def word_piece(**changes) -> str:
    """A tokenizer.json as BERT's: special tokens around a text, truncation to 4 and padding to 6."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=6, pad_id=3, pad_token="[PAD]")
    return json.dumps(json.loads(tokenizer.to_str()) | changes)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(word_piece())
    return str(path)


@pytest.fixture(scope="module", params=["bytes", "bpe", "bpe with capitals", "n-grams", "long n-grams", "file", "bare"])
def tokenizer(request, file) -> Tokenizer:
    return {
        "bytes": Bytes(),
        "bpe": BPE(300),
        "bpe with capitals": BPE(257, lowercase=False),
        "n-grams": NGrams(),
        "long n-grams": NGrams(7, (5,)),
        "file": TokenizerFile(file),
        "bare": TokenizerFile(file, special_tokens=False),
    }[request.param]


@pytest.fixture(scope="module")
def reader(tokenizer):
    return tokenizer.reader(tokenizer.learn(CATALOGUE))


@settings(max_examples=60)
@given(titles=st.lists(TEXT, max_size=5), length=st.integers(3, 40))
def test_any_text_gives_ids_in_range_and_padding_only_at_the_end(reader, titles, length):
    ids = reader(titles, length)
    assert ids.shape == (len(titles), length) and ids.dtype == np.int32
    assert ids.min(initial=-1) >= -1 and ids.max(initial=-1) < reader.vocabulary
    assert ((ids[:, :-1] >= 0) | (ids[:, 1:] < 0)).all()
    for title, row in zip(titles, ids, strict=True):
        assert clean(title) or (row == -1).all()
        np.testing.assert_array_equal(reader([title], length)[0], row)  # alone as among others


@settings(max_examples=20)
@given(titles=st.lists(TEXT, max_size=5))
def test_the_reader_of_a_run_is_the_same(tokenizer, reader, titles):
    learnt = json.loads(json.dumps(tokenizer.learn(CATALOGUE)))
    again = from_json(json.loads(json.dumps(resolved(tokenizer)))).reader(learnt)
    assert again.vocabulary == reader.vocabulary
    np.testing.assert_array_equal(again(titles, 20), reader(titles, 20))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))(titles, 20), reader(titles, 20))


def test_hard_titles(reader):
    ids = dict(zip(HARD, reader(HARD, 32), strict=True))
    for blank in ("", " \n\t", "\x00", "\u200b\u200f"):
        assert (ids[blank] == -1).all()
    np.testing.assert_array_equal(ids["Café"], ids["Cafe\u0301"])
    np.testing.assert_array_equal(ids["<b>Dress</b> &amp; shoes"], reader(["Dress & shoes"], 32)[0])
    np.testing.assert_array_equal(ids["a\x00b"], reader(["a b"], 32)[0])
    assert reader([], 5).shape == (0, 5)


@pytest.mark.parametrize(
    "title, expected",
    [
        ("  Red\u00a0 <BR/>dress\n", "Red dress"),
        ("size <M> & <3", "size <M> & <3"),
        ("black&notebook &#39;a&#39; &unknown; &lt;b&gt;x", "black&notebook 'a' &unknown; x"),
        ("&#0;&#xD800;", "\ufffd\ufffd"),
        ("\ufeff👩\u200d👧\u200f", "👩\u200d👧"),
        ("&nbsp;<p></p>\u200b", ""),
    ],
)
def test_clean(title, expected):
    assert clean(title) == expected


def test_bytes_are_those_of_utf8():
    assert Bytes().reader("")(["é d"], 6).tolist() == [[0xC3, 0xA9, 0x20, 0x64, -1, -1]]


def test_bpe_reads_back_what_it_wrote():
    from tokenizers import Tokenizer

    learnt = BPE(400).learn(CATALOGUE)
    decoder = Tokenizer.from_str(learnt)
    for title in ("Red floral dress", "Zebra 👗 שמלה"):
        row = BPE(400).reader(learnt)([title], 64)[0]
        assert decoder.decode(row[row >= 0].tolist()).strip() == title.lower()
    assert (BPE(400).reader(learnt)(["dress", "dresses"], 8) >= 0).sum(axis=1).tolist()[0] == 1  # frequent: one id


def test_bpe_learns_the_same_in_another_process_and_no_more_than_there_is():
    script = (
        "from ssljax.data import BPE; import sys; sys.stdout.write(BPE(300).learn(['blue dress', 'red dress'] * 9))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    learnt = BPE(300).learn(["blue dress", "red dress"] * 9)
    assert learnt == other
    assert 256 < BPE(300).reader(learnt).vocabulary < 300
    assert BPE(257).reader(BPE(257).learn(CATALOGUE)).vocabulary == 257


def ngrams(title: str, sizes: tuple[int, ...]) -> list[str]:
    """Written out by loops."""
    found = []
    for word in title.casefold().split():
        word = f"<{word}>"
        here = [word[k : k + n] for k in range(len(word)) for n in sizes if k + n <= len(word)]
        found += here or [word]
    return found


@given(st.lists(st.text("abcdé ", min_size=1, max_size=30), min_size=1, max_size=6), st.sampled_from([(3, 4), (5,)]))
def test_ngrams_are_those_of_a_loop(titles, sizes):
    titles = list(filter(str.strip, titles))
    ids = NGrams(2**20, sizes).reader("")(titles, 200)
    for title, row in zip(titles, ids, strict=True):
        hashes = [
            int.from_bytes(hashlib.blake2b(n.encode(), digest_size=8).digest()) for n in ngrams(clean(title), sizes)
        ]
        assert row[row >= 0].tolist() == [value % 2**20 for value in hashes]


def test_ngrams_are_golden_and_spread():
    assert NGrams().reader("")(["Red"], 6).tolist() == [[54887, 3037, 18595, 59475, 27023, -1]]
    words = [f"{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghij"]
    counts = np.bincount(NGrams(16, (5,)).reader("")(words, 1)[:, 0], minlength=16)
    assert counts.min() > 30 and counts.max() < 100


def test_a_file_keeps_its_special_tokens_where_titles_are_cut(file):
    reader = TokenizerFile(file).reader(TokenizerFile(file).learn([]))
    titles = ["red floral dress", "", "red [SEP]"]
    assert reader(titles, 8).tolist() == [
        [1, 4, 6, 7, 5, 2, -1, -1],
        [-1] * 8,
        [1, 4, 8, 10, 9, 2, -1, -1],
    ]
    assert reader(titles, 4).tolist() == [[1, 4, 6, 2], [-1] * 4, [1, 4, 8, 2]]
    bare = TokenizerFile(file, special_tokens=False)
    assert bare.reader(bare.learn([]))(titles, 3).tolist() == [[4, 6, 7], [-1] * 3, [4, 8, 10]]
    with pytest.raises(UserError, match=r"titles.length=2 leaves no room beside 2 special tokens: try 32"):
        reader(titles, 2)


def test_a_vocabulary_with_gaps_reaches_to_its_last_id(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(
        json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "?": 9}, "unk_token": "?"}})
    )
    file = TokenizerFile(str(path))
    assert file.reader(file.learn([])).vocabulary == 10


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", "is not a tokenizer that can be read (EOF while parsing"),
        (b"red dress", "is not a tokenizer that can be read (expected value"),
        (b"\xff\xfe\x00", "is not text: give a tokenizer.json"),
        (b"[" * 100_000, "is not a tokenizer that can be read"),
        (b'{"model": {"type": "Other"}}', "is not a tokenizer that can be read"),
        (word_piece()[:-20].encode(), "is not a tokenizer that can be read"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "is a tokenizer without a token"),
    ],
    ids=["empty", "no JSON", "no text", "deep", "unknown", "cut", "no token"],
)
def test_a_damaged_file_is_a_sentence(tmp_path, content, why):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        TokenizerFile(str(path)).learn([])
    assert str(error.value).startswith(f"titles.tokenizer.path={str(path)!r} {why}") and "\n" not in str(error.value)


def test_what_is_no_file_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"titles.tokenizer.path='nowhere.json' is not there"):
        TokenizerFile("nowhere.json").learn([])
    with pytest.raises(UserError, match=r"cannot be read \(.*\): give a tokenizer.json"):
        TokenizerFile(str(tmp_path)).learn([])
    monkeypatch.setattr("ssljax.data.titles.tokenizers.LARGEST_FILE", 10)
    (tmp_path / "huge.json").write_text(word_piece())
    with pytest.raises(UserError, match=r"cannot be read \(larger than 10 bytes\): give a tokenizer.json"):
        TokenizerFile(str(tmp_path / "huge.json")).learn([])
    with pytest.raises(UserError, match=r"titles.tokenizer.path=package:no-such: no-such is not installed"):
        TokenizerFile("package:no-such").learn([])
    with pytest.raises(UserError, match=r"titles.tokenizer.path=package:numpy: numpy has 0 tokenizers, not one"):
        TokenizerFile("package:numpy").learn([])


def test_the_run_may_be_damaged_too():
    with pytest.raises(UserError, match=r"the run's tokenizer.json is not a tokenizer that can be read"):
        BPE().reader("{}").vocabulary  # noqa: B018
    unknown = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}})
    with pytest.raises(UserError, match=r"the run's tokenizer.json cannot read a title \(WordLevel error"):
        BPE().reader(unknown)(["b"], 4)


def test_titles_that_are_all_blank_teach_nothing():
    with pytest.raises(UserError, match=r"titles: all 3 of the train split are blank, so that BPE cannot learn"):
        BPE().learn(["", " ", "<br>"])


def test_fields_are_checked():
    for make, sentence in (
        (lambda: BPE(255), "titles.tokenizer.vocabulary=255 is too small: it must be at least 256"),
        (lambda: NGrams(2**30), f"titles.tokenizer.vocabulary={2**30} is too large: it must be at most {2**24}"),
        (lambda: NGrams(sizes=()), "titles.tokenizer.sizes=() makes no n-gram: try 3 4"),
        (lambda: NGrams(sizes=(0, 3)), "titles.tokenizer.sizes=(0, 3) is too small: it must be at least 1"),
        (lambda: Titles(length=0), "titles.length=0 is too small: it must be at least 1"),
        (lambda: Titles(length=10**6), "titles.length=1000000 is too large: it must be at most 4096"),
        (
            lambda: Titles("bpe"),
            "titles.tokenizer='bpe' must be a tokenizer, such as BPE(), but has no learn and no reader",
        ),
        (lambda: Titles(BPE), "titles.tokenizer=BPE is a class: write BPE()"),
    ):
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value) == sentence


def test_without_the_library_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'ssljax\[titles\]', or take NGrams\(\)"):
        BPE().learn(["red"])


def test_wordllama():
    pytest.importorskip("wordllama")
    file = TokenizerFile("package:wordllama", special_tokens=False)
    reader = file.reader(file.learn([]))
    assert reader.vocabulary == 32000
    assert reader(["red floral dress"], 5).tolist() == [[2654, 1652, 11251, 10714, -1]]
