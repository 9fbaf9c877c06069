"""Tables as shops export them: whatever is read is right, and what may be wrong is said."""

import datetime
import decimal
import gzip
import json
import uuid

import numpy as np
import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from ssljax.data import Catalogue
from ssljax.data.tables import read_table
from ssljax.types import UserError

UUID = uuid.UUID("9fcc19bf-1380-4e25-8e72-8283b6af7dba")
TABLE = {"id": ["1", "2"], "name": ["Größe 5 €", "a, b; c\td"], "price": ["2,50", ""]}


def read(tmp_path, name, content, **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {column: list(values) for column, values in read_table(path, **options).items()}


def lines(delimiter, end="\n"):
    """TABLE as text."""
    rows = [list(TABLE), *zip(*TABLE.values(), strict=True)]
    return "".join(delimiter.join(f'"{value}"' for value in row) + end for row in rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_encoding_and_line_ends_are_found(tmp_path, delimiter, encoding, end):
    assert read(tmp_path, "t.csv", lines(delimiter, end).encode(encoding)) == TABLE


@pytest.mark.parametrize("name", ["t.tsv", "t.txt", "t.CSV", "t.2024.csv"])
def test_text_tables_by_other_names(tmp_path, name):
    assert read(tmp_path, name, lines("\t")) == TABLE
    assert read(tmp_path, f"{name}.gz", gzip.compress(lines("\t").encode())) == TABLE


def test_delimiter_and_encoding_may_be_given(tmp_path):
    assert read(tmp_path, "t.csv", lines("#").encode("cp932", "ignore"), delimiter="#", encoding="cp932")["id"] == [
        "1",
        "2",
    ]
    assert read(tmp_path, "t.csv", "a,b;c\n1,2;3\n", delimiter=";") == {"a,b": ["1,2"], "c": ["3"]}
    for tab in ("tab", "\\t", "\t"):
        assert read(tmp_path, "t.csv", lines("\t"), delimiter=tab) == TABLE
    for delimiter in ("", ";;", '"', "\n"):
        with pytest.raises(UserError, match=r"data\.delimiter=.* must be one character"):
            read(tmp_path, "t.csv", lines(","), delimiter=delimiter)
    with pytest.raises(UserError, match=r"data\.encoding='klingon' is not known"):
        read(tmp_path, "t.csv", lines(","), encoding="klingon")
    with pytest.raises(UserError, match="not utf-8 text"):
        read(tmp_path, "t.csv", lines(",").encode("cp1252"), encoding="utf-8")


def test_a_delimiter_is_not_seen_where_there_is_none(tmp_path):
    assert read(tmp_path, "t.csv", "title\nsee item\nwhite tea\n") == {"title": ["see item", "white tea"]}
    assert read(tmp_path, "t.csv", 'title\n"a;b"\n"c;d"\n') == {"title": ["a;b", "c;d"]}
    assert read(tmp_path, "t.csv", "id,sizes\n1,S;M;L\n2,S;M;L\n") == {"id": ["1", "2"], "sizes": ["S;M;L", "S;M;L"]}
    assert read(tmp_path, "t.csv", "id;price, EUR;t\n1;2,50;x\n")["price, EUR"] == ["2,50"]


def test_text_that_is_neither_utf_8_nor_western_is_refused_and_not_guessed(tmp_path):
    texts = {
        "cp1251": "Привет мир",
        "cp932": "マグカップ",
        "cp1250": "Żółta łódź",
        "gb18030": "马克杯",
        "cp1253": "Κούπα",
    }
    for encoding, text in texts.items():
        content = f"id,name\n1,{text}\n".encode(encoding)
        with pytest.raises(UserError, match=r"not UTF-8 text; say by data\.encoding"):
            read(tmp_path, "t.csv", content)
        assert read(tmp_path, "t.csv", content, encoding=encoding)["name"] == [text]
    for text in ("L\u2019Oréal “fin” \u2013 5 €", "„Größe“ für Mädchen…", "Niño São ações ½ m² 25°", "Women\u00b4s ®"):
        assert read(tmp_path, "t.csv", f"id;name\n1;{text}\n".encode("cp1252"))["name"] == [text]


def test_bytes_in_utf_8_that_are_none_are_carried_on_and_said(tmp_path, caplog):
    content = "id,name\n1,Größe\n".encode() + b"2,caf\xe9\n"
    assert read(tmp_path, "t.csv", content)["name"] == ["Größe", "caf\udce9"]
    assert "t.csv: 1 bytes are not UTF-8" in caplog.text
    items = Catalogue(str(tmp_path / "t.csv"), images="name").load_all()
    assert items.columns["name"][1] == "caf\ufffd"  # text that can be written
    assert str(items.photos[1]) == str(tmp_path / "caf\udce9")  # and the name of a file that can be opened


@pytest.mark.parametrize(
    ("content", "table"),
    [
        ("id,a,\n1,x,\n\n,,\n2,y,\n", {"id": ["1", "2"], "a": ["x", "y"]}),
        ("id,a\n1,x,,\n2,y\n", {"id": ["1", "2"], "a": ["x", "y"]}),
        ("\ufeffid , a\n1, \"x, y\"\n", {"id": ["1"], "a": ["x, y"]}),
        ("sep=;\r\nid;a\r\n1;x\r\n", {"id": ["1"], "a": ["x"]}),
        (",id,a\n0,1,x\n", {"id": ["1"], "a": ["x"]}),
        ('id,a\n1,"x ""y""\n\nz"\n2,it\'s 27" wide\n', {"id": ["1", "2"], "a": ['x "y"\n\nz', 'it\'s 27" wide']}),
        ("id,a\n1," + "x" * 500_000 + "\n", {"id": ["1"], "a": ["x" * 500_000]}),
        ("id,a\n" + "1,x\n" * 30_000, {"id": ["1"] * 30_000, "a": ["x"] * 30_000}),
    ],
)  # fmt: skip
def test_odd_text_tables(tmp_path, content, table):
    assert read(tmp_path, "t.csv", content) == table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "is empty"),
        (b" \n\n", "is empty"),
        (b"id, id \n1,2\n", "line 1: two columns are named 'id'"),
        (b"sep=;\nid;a\n1;2;3\n", "line 3: 3 values for 2 columns; a semicolon in a value needs quotes"),
        (b"id\n1,5\n", "line 2: 2 values for 1 columns"),
        (b'id,a\n1,"x\n', "line 2: .*is a quote left open"),
        (b"\x00\x01\xff" * 100, "not UTF-8 text"),
        ("id\n1\n".encode("utf-16")[:-1], "begins as utf-16 text, and is none further down"),
    ],
)
def test_what_is_no_text_table_is_one_sentence(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, "t.csv", content)


def test_a_column_that_is_not_there_says_how_the_file_was_read(tmp_path):
    (tmp_path / "t.csv").write_bytes("1001;Größe\n1002;M\n".encode("cp1252"))
    with pytest.raises(UserError) as caught:
        Catalogue(str(tmp_path / "t.csv")).load("train")
    for said in (
        "data.id='id' is not",
        "1001, Größe",
        "semicolon-separated cp1252 with the names in line 1",
        "data.delimi",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t.json", [{"id": 1, "a": "x"}, {"id": 2.0}]),
        ("t.json", {"products": [{"id": 1, "a": "x"}, {"id": 2}], "count": 2}),
        ("t.json", {"id": [1, 2], "a": ["x", None]}),
        ("t.json", {"id": {"0": 1, "1": 2}, "a": {"0": "x", "1": None}}),
        ("t.json", {"p1": {"id": 1, "a": "x"}, "p2": {"id": 2}}),
        ("t.jsonl", [{"id": 1, "a": "x"}, {"id": 2}]),
    ],
)
def test_json_in_the_shapes_that_people_write(tmp_path, name, value):
    assert read(tmp_path, name, json.dumps(value, indent=1)) == {"id": ["1", "2"], "a": ["x", ""]}


def test_json_lines_by_the_name_of_json_and_compressed(tmp_path):
    content = '{"id": 1, "a": true, "l": ["x"], "o": {"k": 1.0}}\n{"id": 2}\n'
    table = {"id": ["1", "2"], "a": ["true", ""], "l": ['["x"]', ""], "o": ['{"k": 1.0}', ""]}
    assert read(tmp_path, "t.json", content) == table
    assert read(tmp_path, "t.ndjson.gz", gzip.compress(content.encode("utf-16"))) == table


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", "[1]", "must be a list of objects"),
        ("t.json", '{"id": 1', "not JSON"),
        ("t.json", '{"id": [1], "a": [1, 2]}', "must be a list of objects"),
        ("t.json", "[" * 100_000, "not JSON"),
        ("t.jsonl", '{"id": 1}\n{"id": ' + "[" * 100_000, "line 2: not JSON"),
        ("t.jsonl", '{"id": 1}\n{"id": ' + "1" * 5000 + "}", "line 2: not JSON"),
        ("t.json", "[]", "has no row"),
        ("t.csv.gz", "id\n1\n", "not compressed by gzip"),
        ("t.xls", "", "it must be a .csv, .tsv, .*xlsx file"),
        ("t.gz", "", "it must be a .csv"),
        ("t.xlsx", "PK", "not an Excel file"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, content)


def test_half_of_a_compressed_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match="not whole"):
        read(tmp_path, "t.csv.gz", gzip.compress(b"id\n1\n")[:-6])
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UserError, match="is not a catalogue"):
        read_table(tmp_path / "d.csv")


PARQUET = {
    "decimal": (pyarrow.array([decimal.Decimal("1001"), None], pyarrow.decimal128(10)), "1001"),
    "cents": (pyarrow.array([decimal.Decimal("12.50"), None], pyarrow.decimal128(10, 2)), "12.50"),
    "uuid": (pyarrow.array([UUID.bytes, None], pyarrow.uuid()), str(UUID)),
    "date": (pyarrow.array([datetime.date(2024, 1, 2), None]), "2024-01-02"),
    "timestamp": (
        pyarrow.array([datetime.datetime(2024, 1, 2, 3), None], pyarrow.timestamp("ns")),
        "2024-01-02 03:00:00",
    ),
    "nanoseconds": (pyarrow.array([1, None], pyarrow.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
    "zone": (pyarrow.array([0, None], pyarrow.timestamp("us", "UTC")), "1970-01-01 00:00:00+00:00"),
    "far ahead": (pyarrow.array([5 * 10**11, None], pyarrow.timestamp("s")), "17814-05-16 00:53:20.000"),
    "time": (pyarrow.array([datetime.time(3, 4), None], pyarrow.time64("ns")), "03:04:00"),
    "duration": (pyarrow.array([datetime.timedelta(1, 2), None], pyarrow.duration("ns")), "1 day, 0:00:02"),
    "short duration": (pyarrow.array([1_500, None], pyarrow.duration("ns")), "0:00:00.000001"),
    "time of nanoseconds": (pyarrow.array([1, None], pyarrow.time64("ns")), "00:00:00.000000001"),
    "categorical": (pyarrow.array(["red", None]).dictionary_encode(), "red"),
    "categorical dates": (pyarrow.array([datetime.date(2024, 1, 2), None]).dictionary_encode(), "2024-01-02"),
    "bool": (pyarrow.array([True, None]), "True"),
    "large": (pyarrow.array([2**64 - 1, None], pyarrow.uint64()), "18446744073709551615"),
    "int64": (pyarrow.array([2**53 + 1, None]), "9007199254740993"),
    "id with nulls in pandas": (pyarrow.array([1001.0, None]), "1001"),
    "float": (pyarrow.array([0.1, float("nan")]), "0.1"),
    "float32": (pyarrow.array([0.1, None], pyarrow.float32()), "0.1"),
    "float16": (pyarrow.array([np.float16(1.5), None], pyarrow.float16()), "1.5"),
    "text as bytes": (pyarrow.array(["Größe".encode(), None]), "Größe"),
    "list": (pyarrow.array([["a", "é"], None]), '["a", "é"]'),
    "struct": (pyarrow.array([{"a": datetime.date(2024, 1, 2)}, None]), '{"a": "2024-01-02"}'),
    "null": (pyarrow.array([None, None]), ""),
}


@pytest.mark.parametrize("kind", PARQUET)
@pytest.mark.parametrize("store_schema", [True, False], ids=["arrow", "plain"])
def test_values_of_parquet_are_text_as_python_shows_them(tmp_path, kind, store_schema):
    values, shown = PARQUET[kind]
    if kind.endswith("duration") and not store_schema:
        pytest.skip("Parquet itself has no durations")
    pyarrow.parquet.write_table(pyarrow.table({"x": values}), tmp_path / "t.parquet", store_schema=store_schema)
    assert list(read_table(tmp_path / "t.parquet")["x"]) == [shown, ""]


def test_bytes_in_parquet_are_left_out_and_said(tmp_path):
    pixels = pyarrow.array([b"\xff\xd8", b"\x89PNG"])
    table = {"id": ["1", "2"], "image": pixels, "of": pyarrow.array([{"bytes": b"\xff"}] * 2)}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet")) == ["id"]
    with pytest.raises(
        UserError, match=r"data.label='image' is not a column .*bytes, which are left out, are image, of"
    ):
        Catalogue(str(tmp_path / "t.parquet"), label="image").load_all()
    twice = pyarrow.table([["1"], ["2"]], names=["id", "id "])
    pyarrow.parquet.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="two columns are named 'id'"):
        read_table(tmp_path / "t.parquet")


def test_text_in_parquet_that_is_none_is_carried_on(tmp_path):
    offsets, data = pyarrow.array([0, 4, 5], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"caf\xe9x")
    broken = pyarrow.StringArray.from_buffers(2, offsets, data)
    pyarrow.parquet.write_table(pyarrow.table({"x": broken, "y": broken.dictionary_encode()}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert list(table["x"]) == list(table["y"]) == ["caf\udce9", "x"]


def test_excel(tmp_path):
    book = openpyxl.Workbook()
    for row in (
        [],
        ["id", "name", None, "since", "ok"],
        [1001, "Größe", 7, datetime.datetime(2024, 1, 2), True],
        [],
        [1002.0],
    ):
        book.active.append(row)
    book.create_sheet("other")
    book.save(tmp_path / "t.xlsx")
    table = {column: list(values) for column, values in read_table(tmp_path / "t.xlsx").items()}
    assert table == {
        "id": ["1001", "1002"], "name": ["Größe", ""], "since": ["2024-01-02 00:00:00", ""], "ok": ["True", ""]
    }  # fmt: skip
    with pytest.raises(UserError, match="read as sheet 'Sheet' of 2"):
        Catalogue(str(tmp_path / "t.xlsx"), label="nam").load_all()


def test_excel_without_its_package(tmp_path, monkeypatch):
    openpyxl.Workbook().save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="xlsx is empty"):
        read_table(tmp_path / "t.xlsx")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"pip install 'ssljax\[xlsx\]'"):
        read_table(tmp_path / "t.xlsx")
