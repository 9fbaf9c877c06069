import json
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ssljax.data.sources.catalogue import Catalogue
from ssljax.data.tables import read_table
from ssljax.types import UserError

ROWS = [
    {"id": "0012", "kind": "mug", "name": "Red Mug", "colour": "red", "split": "train"},
    {"id": "7", "kind": "mug", "name": " red mug", "colour": None, "split": "train"},
    {"id": "8", "kind": "cap", "name": 'Cap, "blue"\nsmall', "colour": "blue", "split": "test"},
    {"id": "9", "kind": "cap", "name": "Cap", "colour": "red", "split": "train"},
    {"id": "10", "kind": None, "name": None, "colour": "blue", "split": "train"},
    {"id": "11", "kind": "mug", "name": None, "colour": "blue", "split": None},
]


def write(path, rows):
    """`rows` as CSV, JSONL or Parquet, by the suffix of `path`."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        quoted = [['"' + (v or "").replace('"', '""') + '"' for v in row.values()] for row in rows]
        path.write_text("\n".join(",".join(line) for line in [list(rows[0]), *quoted]), encoding="utf-8-sig")
    return str(path)


def csv(tmp_path, content):
    path = tmp_path / "c.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("name", ["c.csv", "c.jsonl", "c.parquet"])
def test_every_format_reads_alike(tmp_path, name):
    source = Catalogue(
        write(tmp_path / name, ROWS), label="kind", listing="name", attributes=("colour",), title="name"
    )  # fmt: skip
    items = source.load("train")
    assert list(items.ids) == ["0012", "7", "9", "10"]
    assert items.photos[0] == tmp_path / "images" / "0012.jpg"
    assert items.label_names == ("cap", "mug")
    np.testing.assert_array_equal(items.label, [1, 1, 0, -1])
    assert items.listing[0] == items.listing[1]
    assert len(set(items.listing)) == 3
    np.testing.assert_array_equal(items.attributes, [[1], [-1], [1], [0]])
    assert items.attribute_values == (("blue", "red"),)
    assert items.columns["title"][1] == " red mug"
    test = source.load("test")
    assert test.columns["name"][0] == 'Cap, "blue"\nsmall' and test.label_names == items.label_names
    np.testing.assert_array_equal(test.label, [0])


def test_the_images_may_be_a_column(tmp_path):
    items = Catalogue(csv(tmp_path, "id,file,split\n1,a/b.png,test\n2,/x/c.png,test\n"), images="file").load("test")
    assert list(items.photos) == [tmp_path / "a/b.png", type(tmp_path)("/x/c.png")]


def test_several_images_are_rows_of_one_listing(tmp_path):
    path = csv(tmp_path, "id,a,b,split,kind\n1,1a.jpg,1b.jpg,test,x\n2,,2b.jpg,test,y\n3,,,test,z\n")
    items = Catalogue(path, images=("a", "pics/{b}"), label="kind").load("test")
    assert list(items.ids) == ["1#0", "1#1", "2#1"]
    assert [p.relative_to(tmp_path).as_posix() for p in items.photos] == ["1a.jpg", "pics/1b.jpg", "pics/2b.jpg"]
    np.testing.assert_array_equal(items.listing == items.listing[0], [True, True, False])
    np.testing.assert_array_equal(items.label, [0, 0, 1])
    assert list(items.columns["id"]) == ["1", "1", "2"]


def test_without_splits_listings_never_straddle_and_the_order_of_rows_is_no_matter(tmp_path):
    rows = [{"id": str(k), "name": f"L{k // 3}"} for k in range(90)]
    where = []
    for some in (rows, rows[::-1]):
        source = Catalogue(write(tmp_path / "c.csv", some), listing="name", shares=(0.4, 0.3, 0.3))
        where.append({i: s for s in ("train", "val", "test") for i in source.load(s).ids})
    assert where[0] == where[1] and len(where[0]) == 90
    assert all(where[0][str(k)] == where[0][str(k // 3 * 3)] for k in range(90))


def test_a_relative_path_is_found_under_the_data_root(tmp_path, monkeypatch):
    (tmp_path / "shop").mkdir()
    csv(tmp_path / "shop", "id,split\n1,test\n")
    monkeypatch.setenv("SSLJAX_DATA", str(tmp_path))
    assert Catalogue("shop/c.csv").load("test").photos[0] == tmp_path / "shop/images/1.jpg"


def test_values_of_other_types_become_text(tmp_path):
    rows = [{"id": 1, "year": 2011.0, "ok": True, "price": 2.5, "none": None}, {"id": 2, "year": None, "new": "x"}]
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    table = {name: list(values) for name, values in read_table(path).items()}
    assert table == {
        "id": ["1", "2"], "year": ["2011", ""], "ok": ["true", ""], "price": ["2.5", ""], "none": ["", ""],
        "new": ["", "x"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "label",
            "Kind",
            r"data.label='Kind' is not a column of c.csv: did you mean 'kind'\? There are id, kind, name",
        ),
        ("listing", "zzz", "data.listing='zzz' is not a column of c.csv: there are id, kind"),
        ("attributes", ("colour", "sise"), "data.attributes='sise' is not a column"),
        ("images", "photos/{idd}.jpg", r"data.images='idd' is not a column of c.csv: did you mean 'id'\?"),
        ("images", "file", "data.images='file' is not a column"),
        ("images", (), "data.images"),
        ("split", "fold", "data.split='fold' is not a column"),
        ("id", "kind", r"1 of 6 ids are blank"),
        ("id", "split", r"ids are blank"),
        ("label", "id", "data.label='id' never repeats"),
    ],
)
def test_a_wrong_field_is_one_sentence(tmp_path, field, value, message):
    with pytest.raises(UserError, match=message):
        Catalogue(write(tmp_path / "c.csv", ROWS), **{field: value}).load("train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"id,a\n1,x\n2,y,z\n", "line 3: 3 values for 2 columns; a comma in a value needs quotes"),
        ("c.csv", b'id,a\n1,"x\ny"\n2\n', "line 4: 1 values for 2 columns; is the line cut short"),
        ("c.csv", b'id,a\n1,x\n2,"y\n3,z\n', "line 3: .*is a quote left open"),
        ("c.csv", b"", "is empty"),
        ("c.csv", b"id,a,a\n1,2,3\n", "two columns are named 'a'"),
        ("c.csv", b"id,a\n", "columns but not one row"),
        ("c.csv", "id,a\n1,Привет\n".encode("cp1251"), "not UTF-8"),
        ("c.jsonl", b'{"id": 1}\n\n{"id": 2\n', "line 3: not JSON"),
        ("c.jsonl", b"[1]\n", "line 1: must be an object"),
        ("c.jsonl", b"\n", "has no row"),
        ("c.parquet", b"PAR1 no", "not a Parquet file"),
        ("c.xls", b"", "must be a .csv, .tsv, .txt, .json, .jsonl, .ndjson, .parquet or .xlsx file"),
    ],
)
def test_a_messy_file_is_one_sentence_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        Catalogue(str(tmp_path / name)).load("train")


def test_an_empty_split_and_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"split 'val' is empty; there are train \(4\), test \(1\)"):
        Catalogue(write(tmp_path / "c.csv", ROWS)).load("val")
    with pytest.raises(UserError, match="is not there"):
        Catalogue(str(tmp_path / "d.csv")).load("val")


@pytest.mark.real_data("fashion")
def test_the_fashion_catalogue_has_the_protocol_s_queries():
    source = Catalogue("fashion/styles.csv", listing="productDisplayName", label="articleType")
    items = source.load("test")
    sizes = np.unique(items.listing, return_counts=True)[1]
    assert sizes[sizes > 1].sum() == 2113
    assert items.photos[0].exists()
    assert not set(items.listing) & set(source.load("train").listing)


def test_all_photos_are_those_of_every_split_and_of_none(tmp_path):
    items = Catalogue(write(tmp_path / "c.csv", ROWS)).load_all()
    assert items.ids.tolist() == [row["id"] for row in ROWS]


CELLS = {
    "a.jpg|b.PNG": ["a.jpg", "b.PNG"],
    " a.jpg ; b.jpg;": ["a.jpg", "b.jpg"],
    "a.jpg, b.jpg": ["a.jpg", "b.jpg"],
    "a.jpg\nb.jpg": ["a.jpg", "b.jpg"],
    '["a.jpg", "b c.jpg", null, ""]': ["a.jpg", "b c.jpg"],
    "['a.jpg', 'b,c.jpg']": ["a.jpg", "b,c.jpg"],  # as pandas writes lists into CSV
    '["a.jpg"]': ["a.jpg"],
    "['a.jpg' 'b.jpg']": ["a.jpg", "b.jpg"],  # as NumPy writes arrays
    "('a.jpg', 'b.jpg')": ["a.jpg", "b.jpg"],
    "[a.jpg, b.jpg]": ["a.jpg", "b.jpg"],
    "a.jpg|b.heic": ["a.jpg", "b.heic"],
    "mug, red.jpg": ["mug, red.jpg"],
    "|": ["|"],
    "[1].jpg": ["[1].jpg"],
    "size[1]|2": ["size[1]|2"],
    r"a\b c.jpg": ["a/b c.jpg"],
    "\ufeff\u200b a.jpg\xa0": ["a.jpg"],
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_may_name_several_photos(tmp_path, cell):
    rows = [{"id": "7", "file": cell, "kind": "x"}, {"id": "8", "file": "c.jpg", "kind": "x"}]
    items = Catalogue(write(tmp_path / "c.csv", rows), images="file", label="kind").load_all()
    paths = CELLS[cell]
    assert [p.relative_to(tmp_path).as_posix() for p in items.photos] == [*paths, "c.jpg"]
    if len(paths) == 1:
        assert list(items.ids) == ["7", "8"] and items.listing is None
    else:
        assert list(items.ids) == ["7#0", "7#1", "8"] and list(items.columns["id"]) == ["7", "7", "8"]
        assert items.listing[0] == items.listing[1] != items.listing[2]
    np.testing.assert_array_equal(items.label, [0] * len(items))


def test_lists_of_photos_in_parquet_and_json_and_in_templates_and_several_columns(tmp_path):
    rows = [{"id": "1", "pics": ["a.jpg", "b.jpg"], "more": "c.jpg"}, {"id": "2", "pics": [], "more": "d.jpg|e.jpg"}]
    for name in ("c.parquet", "c.jsonl"):
        path = write(tmp_path / name, rows)
        items = Catalogue(path, images=("pics/{pics}", "more")).load_all()
        assert [p.relative_to(tmp_path).as_posix() for p in items.photos] == [
            "pics/a.jpg", "pics/b.jpg", "c.jpg", "d.jpg", "e.jpg",
        ]  # fmt: skip
        assert list(items.ids) == ["1#0", "1#1", "1#2", "2#1", "2#2"]
        one = Catalogue(path, images="pics").load_all()  # what has no photo has one that is missing
        assert list(one.ids) == ["1#0", "1#1", "2"]


def test_photos_of_one_cell_fall_into_one_split(tmp_path):
    rows = [{"id": str(k), "file": f"{k}a.jpg|{k}b.jpg"} for k in range(60)]
    source = Catalogue(write(tmp_path / "c.csv", rows), images="file", shares=(0.4, 0.3, 0.3))
    where = {i: split for split in ("train", "val", "test") for i in source.load(split).ids}
    assert len(where) == 120 and all(where[f"{k}#0"] == where[f"{k}#1"] for k in range(60))


@pytest.mark.parametrize(
    "address",
    [
        "//cdn.shop.example/1.jpg",
        "C:\\photos\\1.jpg",
        "https://shop.example/1.jpg",
        "S3://bucket/1.jpg",
        "gs://b/1.jpg",
        "data:image/png;base64,iVBO",
        "file:///1.jpg",
    ],
)
def test_addresses_are_refused_at_once_with_what_to_do(tmp_path, address):
    rows = [{"id": "1", "file": "a.jpg"}, {"id": "2", "file": address}]
    with pytest.raises(UserError) as caught:
        Catalogue(write(tmp_path / "c.csv", rows), images="file").load("train")
    assert "data.images: 1 of 2 photos are not on this machine" in str(caught.value)
    assert address.replace("\\", "/") in str(caught.value) and "download or copy them" in str(caught.value)


def test_an_address_of_a_catalogue_and_a_template_of_addresses(tmp_path):
    for path in ("https://shop.example/items.csv", "s3://bucket/items.csv"):
        with pytest.raises(UserError, match=f"data.path='{path}' is an address: download it first"):
            Catalogue(path).load("train")
    with pytest.raises(UserError, match="6 of 6 photos are not on this machine, such as 'https://x"):
        Catalogue(write(tmp_path / "c.csv", ROWS), images="https://x.example/{id}.jpg").load("train")


def test_blanks_and_forms_of_accents_make_no_difference(tmp_path):
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    rows = [
        {" id ": "1001 ", "kind": composed, "name": "Mug", "file": f" {composed}/1.jpg", "split": "train "},
        {
            " id ": "\u200b1002\xa0",
            "kind": f"{decomposed} ",
            "name": " mug\ufeff",
            "file": f"{decomposed}/2.jpg",
            "split": "train",
        },
        {" id ": "1003", "kind": "", "name": decomposed, "file": "3.jpg", "split": "\xa0train"},
    ]
    path = write(tmp_path / "c.jsonl", rows)
    (tmp_path / decomposed).mkdir()
    (tmp_path / composed).mkdir()
    (tmp_path / decomposed / "1.jpg").touch()  # as a Mac names folders; and the other way round
    (tmp_path / composed / "2.jpg").touch()
    items = Catalogue(path, images="file", label="kind", listing="name", title="name").load("train")
    assert list(items.ids) == ["1001", "1002", "1003"]
    assert items.label_names == (composed,) and list(items.label) == [0, 0, -1]
    assert items.listing[0] == items.listing[1] != items.listing[2]
    assert items.columns["title"][2] == composed
    (tmp_path / composed / "2.jpg").rename(tmp_path / decomposed / "2.jpg")
    (tmp_path / composed).rmdir()
    assert items.photos[0].exists() and items.photos[1].exists() and not items.photos[2].exists()
    template = Catalogue(path, images="images/{id}.jpg").load("train")
    assert template.photos[0] == tmp_path / "images/1001.jpg"


def test_a_catalogue_is_found_in_either_form_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "Cafe\u0301").mkdir()
    csv(tmp_path / "Cafe\u0301", "id\n1\n")
    monkeypatch.setenv("SSLJAX_DATA", str(tmp_path))
    for folder in (str(tmp_path / "Caf\u00e9"), "Caf\u00e9"):
        assert Catalogue(f"{folder}/c.csv").load_all().photos[0] == tmp_path / "Cafe\u0301/images/1.jpg"


def test_names_of_files_may_be_in_the_encoding_of_the_catalogue(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
        pass
    items = Catalogue(
        csv(tmp_path, "id,file\n1,caf\u00e9.jpg\n2,no\u00e9.jpg\n".encode("cp1252")), images="file"
    ).load_all()
    assert items.photos[0].exists() and items.columns["file"][0] == "caf\u00e9.jpg"
    assert items.photos[1] == tmp_path / "no\u00e9.jpg"


def test_two_forms_of_one_id_are_one_id_twice(tmp_path):
    with pytest.raises(UserError, match="1 ids come more than once"):
        Catalogue(write(tmp_path / "c.jsonl", [{"id": "Caf\u00e9"}, {"id": "Cafe\u0301"}])).load_all()


def test_halves_of_characters_are_replaced_in_text_and_kept_in_paths(tmp_path):
    half = "\ud83d mug"
    rows = [{"id": f"{k}{half}", "kind": half, "title": half, half: half, "file": "caf\udce9.jpg"} for k in range(2)]
    items = Catalogue(write(tmp_path / "c.jsonl", rows), images="file", label="kind", listing="title").load_all()
    seen = [*items.ids, *items.label_names, *items.columns, *(v for values in items.columns.values() for v in values)]
    assert "".join(seen).encode() and "0\ufffd mug" in seen
    assert items.photos[0] == tmp_path / "caf\udce9.jpg"
