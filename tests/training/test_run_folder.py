"""The run folder: where it cannot be, and when it is not what it should be."""

import json
from pathlib import Path

import pytest

from ssljax.config import Experiment
from ssljax.data.atomic_files import read_json
from ssljax.training.run_folder import Run
from ssljax.types import UserError

OPTIONS = {"arguments": [], "position": None}


def prepare(path: Path, *, restart: bool = False, checkpoints: Path | None = None, seed: int = 0) -> Run:
    run = Run(path, None if checkpoints is None else str(checkpoints))
    run.prepare(Experiment(name="x", seed=seed), Path(__file__), OPTIONS, {}, restart=restart)
    return Run(path)


def test_checkpoints_elsewhere_are_found_again_and_so_is_their_run(tmp_path):
    run = prepare(tmp_path / "a" / "x", checkpoints=tmp_path / "c")
    assert run.checkpoints == tmp_path / "c" / "x" and not (run.path / "checkpoints").exists()
    (run.checkpoints / "5").mkdir()
    with pytest.raises(UserError, match=f"has its checkpoints in {run.checkpoints}, not in {tmp_path}/d/x: leave"):
        prepare(run.path, checkpoints=tmp_path / "d")
    assert prepare(run.path).checkpoints == run.checkpoints
    with pytest.raises(UserError, match=r"holds a run of another configuration \(seed is 0 there and 1 here\)"):
        prepare(tmp_path / "b" / "x", checkpoints=tmp_path / "c", seed=1)  # the folder was lost, its checkpoints not
    assert prepare(tmp_path / "e" / "x", checkpoints=tmp_path / "c").config.read_bytes() == run.config.read_bytes()
    prepare(run.path, restart=True, seed=1)
    assert [path.name for path in run.checkpoints.iterdir()] == ["config.json"]
    assert read_json(run.checkpoints / "config.json", "")["seed"] == 1


def test_where_checkpoints_cannot_be_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"checkpoints=s3://c is no place for them: choose a folder, or a bucket as gs"):
        prepare(tmp_path / "x", checkpoints="s3://c")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"checkpoints=gs://c is on Cloud Storage: install its clients by pip install"):
        prepare(tmp_path / "x", checkpoints="gs://c")


@pytest.mark.parametrize("restart", [False, True])
def test_paths_that_cannot_be_are_one_sentence(restart, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"the run folder .* cannot be written \(.+\): choose another --runs or"):
            prepare(path, restart=restart)


def test_no_permission(tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\): choose another --runs or --name"):
        prepare(tmp_path / "x")


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(tmp_path / "x")
    with pytest.raises(UserError, match="is not a run folder, so --restart leaves it alone"):
        prepare(tmp_path / "x", restart=True)
    assert (tmp_path / "x").read_text() == "mine"


def test_a_restart_deletes_all_but_the_lock_that_it_holds(tmp_path, monkeypatch):
    run = prepare(tmp_path / "x")
    run.checkpoints.mkdir()
    (run.checkpoints / "5").touch()
    run.results.touch()
    deleted, unlink = [], Path.unlink

    def noted(path):
        with pytest.raises(UserError, match="is being changed by another process"), run.claim():
            pass  # nobody can begin to train in it now
        deleted.append(path.name)
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", noted)
        prepare(run.path, restart=True)
    assert not run.checkpoints.exists() and not run.results.exists() and run.config.exists()
    assert deleted[0] == "results.json" and deleted[-1] == "config.json" and "lock" not in deleted
    with run.claim():
        pass


def test_a_restart_by_the_run_s_own_copy_of_the_experiment_keeps_it(tmp_path):
    run = prepare(tmp_path / "x")
    run.source.write_text("mine")
    run.prepare(Experiment(name="x"), run.source, OPTIONS, {}, restart=True)
    assert run.source.read_text() == "mine"


def test_a_run_may_go_on_from_its_own_copy_of_the_experiment(tmp_path):
    run = prepare(tmp_path / "x")
    run.source.write_text("mine")
    run.prepare(Experiment(name="x"), run.source, OPTIONS, {}, restart=False)
    assert run.source.read_text() == "mine"


@pytest.mark.parametrize("content", [None, "", "{", "[]", b"\xff\xfe"])
def test_without_the_configuration_nothing_is_overwritten(content, tmp_path):
    run = prepare(tmp_path / "x")
    run.checkpoints.mkdir()
    config = run.path / "config.json"
    config.unlink()
    if content is not None:
        config.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"config\.json is (missing|damaged).* put it back"):
        prepare(tmp_path / "x")
    assert run.checkpoints.is_dir()


def test_a_file_of_json_that_is_not_as_it_should_be(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"a\.json is missing: mend it"):
        read_json(file, "mend it")
    for text in ("", '{"a": 1', "[1]", "3", "null"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"a\.json is damaged \(.+\): mend it"):
            read_json(file, "mend it")
    file.write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"a\.json is damaged \(it has no b\): mend it"):
        read_json(file, "mend it", "a", "b")
    assert read_json(file, "mend it", "a") == {"a": 1}
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path, "mend it")


def test_a_run_of_before_there_was_a_precision_goes_on(tmp_path):
    run = prepare(tmp_path / "x")
    config = json.loads(run.config.read_text())
    del config["precision"], config["evaluation_precision"]
    run.config.write_text(json.dumps(config))
    prepare(tmp_path / "x")
    assert json.loads(run.config.read_text())["precision"] == "float32"
    with pytest.raises(UserError, match="precision is 'float32' there and 'bfloat16' here"):
        run.prepare(Experiment(name="x", precision="bfloat16"), Path(__file__), OPTIONS, {}, restart=False)
    run.prepare(Experiment(name="x", evaluation_precision="bfloat16"), Path(__file__), OPTIONS, {}, restart=False)
