"""Text from strangers: made valid when read, harmless when shown."""

import pytest
from rich.table import Table

from ssljax.cli.main import run as ssljax
from ssljax.data.text import csv_cell, note, readable, shown, stripped, valid
from ssljax.training.logging import console, print_result, print_table, print_warnings


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ""), ("plain", "plain"), ("Größe 😀", "Größe 😀"), ("\ud83d\ude00", "😀"), ("a\ud83d", "a\ufffd"),
     ("\udce9\ud83d", "\ufffd\ufffd"), ("\ufeffa", "\ufeffa")],
)  # fmt: skip
def test_what_cannot_be_written_is_replaced(value, expected):
    assert valid(value) == expected
    valid(value).encode()


def test_accents_have_one_form_and_blanks_go():
    assert readable("Cafe\u0301") == readable("Caf\u00e9") == "Caf\u00e9"
    for blank in (" ", "\t\r\n", "\xa0", "\u200b", "\ufeff", "\u3000", "\u202a", " \ufeff \u200b", " \ufeff" * 5000):
        assert stripped(f"{blank}a b{blank}") == "a b" and stripped(blank) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [("\x1b[31m", "\\x1b[31m"), ("\x9b\x7f\0\r", "\\x9b\\x7f\\x00\\x0d"), ("\u202e\u200f", "\\u202e\\u200f"),
     ("caf\udce9", "caf\\udce9"), ("line\nfeed\ttab é 😀 👩\u200d🔧", "line\nfeed\ttab é 😀 👩\u200d🔧")],
)  # fmt: skip
def test_what_steers_a_terminal_is_written_out(value, expected):
    assert shown(value) == expected and shown(expected) == expected


def test_a_csv_cell_is_no_formula_and_keeps_what_it_says():
    for value in ("=1", "+a", "-a", "@a", "'a", "\ta"):
        assert csv_cell(value) == f"'{value}"
    for value in ("", "a=b", "-5", "+3,5", "1-2", "x'"):
        assert csv_cell(value) == value


def test_neither_markup_nor_escapes_have_an_effect_in_what_is_printed(capsys):
    hostile = "[red]x[/] [/] :heart: \x1b[31m"
    table = Table("", hostile)
    table.add_row(hostile, hostile)
    print_table(table)
    print_result(hostile)
    console.print(hostile)
    print_warnings()
    note(hostile)
    note(hostile)
    captured = capsys.readouterr()
    assert captured.out.count("[red]x[/] [/] :heart: \\x1b[31m") == 4
    assert captured.err.count("[red]x[/] [/] :heart: \\x1b[31m") == 2


def test_errors_do_not_steer_either(capsys):
    assert ssljax(["train", "\x1b[31m\udce9.py"]) == 2
    assert "\\x1b[31m\\udce9.py" in capsys.readouterr().err
