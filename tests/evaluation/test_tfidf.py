"""TF-IDF and its nearest neighbours against loops."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ssljax.data.titles.tokenizers import character_ngrams
from ssljax.evaluation import Embeddings, Retrieval
from ssljax.evaluation import tfidf as module
from ssljax.evaluation.nearest import top_k as dense_top_k
from ssljax.evaluation.tfidf import TFIDF, embed_by_tfidf, top_k
from ssljax.types import UserError

TITLES = ["Red dress, red!", "blue DRESS", "Café chair", "cafe\u0301 table", "", "red dress 500 ml", "שמלה אדומה", "👗"]
WORDS = st.lists(st.sampled_from(["red", "blue", "dress", "T-shirt", "a", "&amp;", "XL"]), max_size=5).map(" ".join)


def terms(title: str, part: str) -> Counter:
    words = [w for w in title.casefold().replace("&amp;", "&").replace("-", " ").replace("&", " ").split()]
    return Counter(words if part == "words" else [n for word in words for n in character_ngrams(word, (3, 4))])


def cosine(a: str, b: str, learnt: list[str], part: str) -> float:
    """Written out, term by term."""
    documents = [terms(title, part) for title in learnt]

    def weights(title: str) -> dict[str, float]:
        found = {}
        for term, count in terms(title, part).items():
            frequency = sum(term in document for document in documents)
            if frequency:
                found[term] = (1 + math.log(count)) * (1 + math.log((1 + len(learnt)) / (1 + frequency)))
        length = math.sqrt(sum(w * w for w in found.values())) or 1.0
        return {term: w / length for term, w in found.items()}

    wa, wb = weights(a), weights(b)
    return sum(w * wb.get(term, 0.0) for term, w in wa.items())


@given(st.lists(WORDS, min_size=1, max_size=6).filter(lambda titles: any(terms(t, "words") for t in titles)), WORDS)
def test_products_are_the_mean_of_two_cosines_of_loops(titles, new):
    fitted = TFIDF().fit(titles)
    products = (fitted([new]) @ fitted(titles).T).toarray()[0]
    expected = [(cosine(new, t, titles, "words") + cosine(new, t, titles, "n-grams")) / 2 for t in titles]
    np.testing.assert_allclose(products, expected, atol=1e-5)


def test_words_alone_and_ngrams_alone():
    titles = ["red dress red", "blue dress", "chair"]
    words = TFIDF(ngrams=()).fit(titles)(titles)
    expected = cosine(titles[0], titles[1], titles, "words")
    np.testing.assert_allclose((words @ words.T).toarray()[0], [1, expected, 0], atol=1e-5)
    alike = TFIDF(words=False).fit(["dress"])
    assert (alike(["dress"]) @ alike(["dresss"]).T).toarray()[0, 0] > 0.8
    assert (TFIDF(ngrams=()).fit(["dress"])(["dresss"])).nnz == 0
    assert TFIDF(ngrams=(), least_titles=2).fit(TITLES)(TITLES).shape[1] == 3  # red, dress, café


def test_rows_are_of_unit_length_and_forms_of_a_title_are_equal():
    rows = TFIDF().fit(TITLES)(TITLES)
    lengths = np.sqrt(rows.multiply(rows).sum(axis=1))
    np.testing.assert_allclose(lengths, [1, 1, 1, 1, 0, 1, 1, 0], atol=1e-6)
    fitted = TFIDF().fit(TITLES)
    np.testing.assert_array_equal(fitted(["CAFÉ"]).toarray(), fitted([" cafe\u0301!"]).toarray())
    hard = fitted(["\ud83d", "\x00", "x" * 10_000, "<b>red</b>"])
    assert hard[:3].nnz == 0 and hard[3:].nnz


@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_top_k_is_the_dense_one(seed, k, among_themselves):
    rng = np.random.default_rng(seed)
    gallery = rng.integers(0, 4, (9, 5)) * (rng.random((9, 5)) < 0.6)  # whole numbers, so that there are ties
    queries = gallery if among_themselves else rng.integers(0, 4, (4, 5))
    exclude = np.arange(9) if among_themselves else None
    queries, gallery = queries.astype(np.float32), gallery.astype(np.float32)
    rows, scores = top_k(sparse.csr_array(queries), sparse.csr_array(gallery), k, exclude=exclude)
    expected, products = dense_top_k(queries, gallery, k, exclude=exclude)
    shared = products > 0  # what shares no term is not found
    np.testing.assert_array_equal(rows, np.where(shared, expected, -1))
    np.testing.assert_array_equal(scores, np.where(shared, products, -np.inf))
    assert rows.dtype == np.int32 and scores.dtype == np.float32


def test_chunks_give_the_same(monkeypatch):
    rows = TFIDF().fit(TITLES)(TITLES * 5)
    whole = top_k(rows, rows, 7, exclude=np.arange(40))
    products = []
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 120)  # 3 queries at a time
    monkeypatch.setattr(module, "_largest", lambda *a, f=module._largest: products.append(len(a[0])) or f(*a))
    for a, b in zip(whole, top_k(rows, rows, 7, exclude=np.arange(40)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(products) == 40 and max(products) <= 40


def test_a_title_finds_its_like_and_a_blank_one_nothing():
    rows = TFIDF().fit(TITLES)(TITLES)
    found, scores = top_k(rows, rows, 2, exclude=np.arange(8))
    assert found[:, 0].tolist() == [5, 0, 3, 2, -1, 0, -1, -1]
    assert (scores[4] == -np.inf).all()
    same, score = top_k(rows, rows, 1)
    assert same[0, 0] == 0 and score[0, 0] == pytest.approx(1)


def test_projected_products_are_near():
    rng = np.random.default_rng(0)
    vocabulary = ["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(200)]
    titles = [" ".join(rng.choice(vocabulary, 5)) for _ in range(100)]
    fitted = TFIDF().fit(titles)
    exact, vectors = (fitted(titles) @ fitted(titles).T).toarray(), fitted.projected(titles)
    assert vectors.shape == (100, 2048) and vectors.dtype == np.float32
    assert np.abs(vectors @ vectors.T - exact).std() < 2048**-0.5
    np.testing.assert_array_equal(vectors, fitted.projected(titles))


def test_titles_are_embedded_beside_networks():
    titles = np.array(["red dress", "red dresss", "blue shoe", "shoe, blue"], object)
    items = Embeddings(
        np.array(list("abcd"), object), np.zeros((4, 3), np.float32), {"title": titles}, listing=np.array([0, 0, 1, 1])
    )
    embed = embed_by_tfidf(lambda split: items, titles)
    assert embed("test") is embed("test") and embed("test").ids is items.ids
    assert Retrieval()(embed)["test/cmc@1"] == 1.0
    with pytest.raises(UserError, match=r"TF-IDF needs titles, and split 'test' has none: name the column"):
        embed_by_tfidf(lambda split: Embeddings(items.ids, items.vectors), titles)("test")


def test_what_cannot_be_is_said():
    with pytest.raises(UserError, match=r"titles: 2 titles have not one word, so that TF-IDF cannot compare them"):
        TFIDF().fit(["", " ! "])
    with pytest.raises(UserError, match=r"titles: 1 titles have not one word that at least 2 have"):
        TFIDF(least_titles=2).fit(["red"])
    with pytest.raises(UserError, match=r"TFIDF.words=False and TFIDF.ngrams=\(\) compare nothing: try TFIDF\(\)"):
        TFIDF(words=False, ngrams=())
    with pytest.raises(UserError, match=r"TFIDF.least_titles=0 is too small: it must be at least 1"):
        TFIDF(least_titles=0)
    rows = TFIDF().fit(["red"])(["red"])
    with pytest.raises(UserError, match=r"the queries have 6 terms and the gallery 16: make both by one fit"):
        top_k(rows, TFIDF().fit(["red dress"])(["red"]), 1)
