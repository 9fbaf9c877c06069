"""metrics.jsonl and the progress bar: what a killed run leaves is mended, and nothing appears twice."""

import errno
import io
import json
import logging
import math
import struct
from unittest.mock import Mock

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ssljax.training.logging import MetricsWriter, ProgressBar, print_warnings


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_after_the_checkpoint_are_written_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path, tmp_path / "events") as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": float(step)})
    junk = '{"step": "b"}\n{"step": null}\n[3]\n\n'
    path.write_text(junk + path.read_text() + '{"step": 4, "lo')  # killed in the middle of a line
    with MetricsWriter(path, tmp_path / "events", resumed_at=2) as writer:
        writer.write(3, {"loss": 0.5})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(1, 1.0), (2, 2.0), (3, 0.5)]


def test_figures_are_written_on_when_the_file_is_removed(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "events") as writer:
        writer.write(1, {"loss": 1.0})
        (tmp_path / "metrics.jsonl").unlink()
        writer.write(2, {"loss": 2.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 2, "loss": 2.0}]


@pytest.mark.parametrize("figures, place", [({"loss": 1.0}, "metrics.jsonl"), ({}, "events")])
def test_a_file_that_cannot_be_written_is_named(figures, place, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "events")
    if place == "events":
        (tmp_path / "metrics.jsonl").unlink()
        (tmp_path / "metrics.jsonl").symlink_to("/dev/null")  # as long as one likes
        figures = {"x" * 1000: 1.0}
    else:
        (tmp_path / "metrics.jsonl").write_bytes(bytes(200))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        with pytest.raises(OSError) as caught:
            writer.write(1, figures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.__exit__()
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / place)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), BrokenPipeError(), ValueError("closed")])
def test_a_log_that_cannot_be_written_fails_nobody(error, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "write", Mock(side_effect=error))
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr(logging.getLogger("ssljax"), "handlers", [])
    print_warnings()
    logging.getLogger("ssljax.search").error("the disk is full")
    stderr.write.assert_called()


def test_tensorboard_reads_what_is_written(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "events", resumed_at=4) as writer:
        writer.write(5, {"loss": 0.25})
    (path,) = (tmp_path / "events").iterdir()
    events = []
    for record in records(path.read_bytes()):
        events.append(Event())
        events[-1].ParseFromString(record)
    assert events[0].file_version == "brain.Event:2"
    assert (events[1].step, events[1].session_log.status) == (5, SessionLog.START)
    assert (events[2].step, events[2].summary.value[0].tag) == (5, "loss")
    assert events[2].summary.value[0].simple_value == 0.25


def records(content):
    """The parts of a file of TFRecords: a length u64, its checksum u32, the bytes, their checksum u32."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield content[12 : 12 + length]
        content = content[16 + length :]


def test_what_is_not_finite_is_null(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "events") as writer:
        writer.write(1, {"loss": math.nan, "std": 1.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None, "std": 1.0}]


def test_speed_leaves_the_step_that_compiles_out(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("ssljax.training.logging.time.monotonic", lambda: clock["now"])
    bar = ProgressBar(total=10, start=5, batch_size=8)
    clock["now"] = 100.0
    bar.update(6, {})
    assert bar.images_per_second == 0
    clock["now"] = 104.0
    bar.update(8, {})
    assert bar.images_per_second == 4.0
