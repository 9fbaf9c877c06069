"""Views of photos with titles: each view has its photo's title, and at times one of the two is hidden."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import CROPS, photos

from ssljax.models import Preprocessing
from ssljax.types import UserError
from ssljax.views import Augmentation, MultiCrop, OneCropEach, PhotoAndTitle, TwoCrops

CROP = OneCropEach(size=8, jitter=0.0, grey=0.0, blur=0.0)


def batch(per_item=1, length=5):
    rng = np.random.default_rng(1)
    made = photos()
    made = {name: np.repeat(x, per_item, axis=1) if name in ("image", "aspect") else x for name, x in made.items()}
    title = rng.integers(0, 9, (len(made["image"]), per_item, length)).astype(np.int32)
    title[0] = -1  # an item without a title
    return made | {"title": title}


def test_each_view_has_the_title_of_its_photo():
    two = batch(per_item=2)
    views = PhotoAndTitle(CROP)(jax.random.PRNGKey(0), two)["views"]
    for k, view in enumerate(views):
        np.testing.assert_array_equal(view.title, two["title"][:, k])
        assert view.has_photo.all() and view.photo.shape == (len(two["image"]), 8, 8, 3)
    np.testing.assert_array_equal(views[0].has_title, two["title"][:, 0, 0] >= 0)
    one = batch()
    for view in PhotoAndTitle(TwoCrops(size=8, blur=0.0))(jax.random.PRNGKey(0), one)["views"]:
        np.testing.assert_array_equal(view.title, one["title"][:, 0])


def test_natural_views_have_the_title_of_the_photo_that_they_show():
    made = batch(per_item=2)
    made["image"] = np.broadcast_to(np.array([0, 255], np.uint8)[None, :, None, None, None], made["image"].shape)
    views = MultiCrop(size=8, jitter=0.0, grey=0.0, blur=0.0, natural=0.5, local_size=4, local_count=2)
    plain = dict(mean=(0.0,) * 3, std=(1.0,) * 3, second=None, local=Augmentation(jitter=0.0, grey=0.0, blur=0.0))
    seen = []
    for view in PhotoAndTitle(dataclasses.replace(views, **plain))(jax.random.PRNGKey(0), made)["views"]:
        shown = np.asarray(view.photo).mean(axis=(1, 2, 3)).round().astype(int)
        np.testing.assert_array_equal(view.title, made["title"][np.arange(len(shown)), shown])
        seen.append(shown.mean())
    assert seen[0] == 0 and 0 < seen[1] < 1 and 0 < seen[2] == seen[3] < 1
    for view in PhotoAndTitle(CROPS)(jax.random.PRNGKey(0), made)["views"]:  # of two photos, the first alone
        np.testing.assert_array_equal(view.title, made["title"][:, 0])


def test_photos_are_those_of_the_views_alone():
    rng, made = jax.random.PRNGKey(3), batch()
    alone = CROPS(rng, made)["views"]
    beside = PhotoAndTitle(CROPS, drop_title=0.5)(rng, made)["views"]
    for photo, view in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(photo, view.photo)


def test_one_of_the_two_is_hidden_as_often_as_it_says_and_never_both():
    made, views = batch(), PhotoAndTitle(CROP, drop_photo=0.3, drop_title=0.2)
    drawn = jax.jit(jax.vmap(lambda rng: views(rng, made)["views"][0]))(jax.random.split(jax.random.PRNGKey(0), 400))
    has_photo, has_title = np.asarray(drawn.has_photo), (np.asarray(drawn.title) >= 0).any(axis=2)
    assert has_photo[:, 0].all()  # it has no title to stand in
    assert (has_photo | has_title).all()
    assert abs((~has_photo[:, 1:]).mean() - 0.3) < 0.03 and abs((~has_title[:, 1:]).mean() - 0.2) < 0.03
    assert len(np.unique(has_photo[:, 1:], axis=1).T) > 1  # each item by its own


def test_evaluation_hides_nothing_but_what_it_is_told():
    made, views = batch(), PhotoAndTitle(CROP, drop_photo=0.5, drop_title=0.5)
    view = views.evaluation(made)["views"][0]
    np.testing.assert_array_equal(view.title, made["title"][:, 0])
    assert view.has_photo.all()
    hidden = np.arange(len(made["image"]))[:, None] % 2 == 0
    np.testing.assert_array_equal(views.evaluation(made | {"has_photo": hidden})["views"][0].has_photo, hidden[:, 0])
    del made["title"]
    assert not views.evaluation(made)["views"][0].has_title.any()


def test_normalisation_is_that_of_the_photos():
    views = PhotoAndTitle(CROP).suited_to(Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)))
    assert views.preprocessing.mean == (0.1, 0.2, 0.3)
    view = views.evaluation(batch())["views"][0]
    np.testing.assert_allclose(views.pixels(view), np.asarray(view.photo) + np.array([0.1, 0.2, 0.3]), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"drop_photo": 0.6, "drop_title": 0.6}, "sum is at most 1"),
        ({"drop_photo": -0.1}, "drop_photo=-0.1 is too small"),
        ({"photo": 3}, "views.photo=3 must be views"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, said):
    with pytest.raises(UserError, match=said):
        PhotoAndTitle(**fields)
