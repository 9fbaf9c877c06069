"""metrics.jsonl and the progress bar: what a killed run leaves is mended, and nothing appears twice."""

import json
import math

from ssljax.logging import MetricsWriter, ProgressBar


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_after_the_checkpoint_are_written_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path, tmp_path / "events") as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": float(step)})
    path.write_text(path.read_text() + '{"step": 4, "lo')  # killed in the middle of a line
    with MetricsWriter(path, tmp_path / "events", resumed_at=2) as writer:
        writer.write(3, {"loss": 0.5})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(1, 1.0), (2, 2.0), (3, 0.5)]


def test_what_is_not_finite_is_null(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "events") as writer:
        writer.write(1, {"loss": math.nan, "std": 1.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None, "std": 1.0}]


def test_speed_leaves_the_step_that_compiles_out(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("ssljax.logging.time.monotonic", lambda: clock["now"])
    bar = ProgressBar(total=10, start=5, batch_size=8)
    clock["now"] = 100.0
    bar.update(6, {})
    assert bar.images_per_second == 0
    clock["now"] = 104.0
    bar.update(8, {})
    assert bar.images_per_second == 4.0
