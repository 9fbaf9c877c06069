"""A checkpoint that is damaged: the older one is used, and nothing is deleted."""

import builtins
import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from two_processes import outputs_of_two

from ssljax.sharding import make_mesh, replicated
from ssljax.training import checkpoint
from ssljax.training.checkpoint import Checkpoints
from ssljax.types import UserError


def state(step):
    return {"w": jnp.full((4, 3), step, jnp.float32), "step": jnp.array(step)}


def restore(checkpoints):
    shapes = jax.eval_shape(lambda: state(0))
    sharding = replicated(make_mesh())
    return checkpoints.restore(shapes, jax.tree.map(lambda _: sharding, shapes))


def save(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), {"data": step})
            checkpoints.wait()


def truncate(folder):
    """Cuts every file of a checkpoint in half."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder):
    """Deletes every file of a checkpoint."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.unlink()


def forget_position(folder):
    """Deletes what was saved beside the state."""
    empty(folder / "position")


@pytest.mark.parametrize("damage", [truncate, empty, forget_position])
def test_the_older_one_is_used_and_the_run_goes_on(damage, tmp_path, capsys):
    save(tmp_path, 1, 5)
    damage(tmp_path / "5")
    with Checkpoints(tmp_path) as checkpoints:
        np.testing.assert_array_equal(restore(checkpoints)["w"], state(1)["w"])
        assert checkpoints.position == {"data": 1}
        assert f"{tmp_path / '5'} cannot be read" in capsys.readouterr().err
        assert (tmp_path / "5").is_dir()  # reading alone changes nothing
        checkpoints.save(3, state(3), {"data": 3})
        checkpoints.wait()
        checkpoints.save(5, state(5), {"data": 5})
    assert len(list(tmp_path.glob("damaged-5-*"))) == 1
    with Checkpoints(tmp_path) as checkpoints:
        assert int(restore(checkpoints)["step"]) == checkpoints.latest == 5
        assert checkpoints.position == {"data": 5}
    assert not capsys.readouterr().err


def test_none_that_can_be_read_is_said_and_none_is_touched(tmp_path):
    save(tmp_path, 1, 5)
    truncate(tmp_path / "1")
    truncate(tmp_path / "5")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=r"no checkpoint in .* \(5: .*; 1: .*\)"):
        restore(checkpoints)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "5"}


def files(folder):
    """Every file of a checkpoint."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def restored(folder, capsys):
    """What is restored, beside what was said; the position must be of the same step."""
    capsys.readouterr()
    with Checkpoints(folder) as checkpoints:
        tree = restore(checkpoints)
        assert checkpoints.position == {"data": int(tree["step"])}
    np.testing.assert_array_equal(tree["w"], state(int(tree["step"]))["w"])
    return int(tree["step"]), capsys.readouterr().err


def flipped(content, bit):
    """The same with one bit changed."""
    return content[: bit // 8] + bytes([content[bit // 8] ^ (1 << bit % 8)]) + content[bit // 8 + 1 :]


def test_one_wrong_bit_in_any_file_is_noticed(tmp_path, capsys):
    save(tmp_path, 1, 5)
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for path in files(tmp_path / "5"):
        whole = path.read_bytes()
        for bit in rng.integers(8 * len(whole), size=3):
            path.write_bytes(flipped(whole, bit))
            step, said = restored(tmp_path, capsys)
            if path.parent == tmp_path / "5" and path.name != "checksums.json":
                assert step == 5  # Orbax's notes: nothing is restored from them
            else:
                assert step == 1 and f"{tmp_path / '5'} cannot be read" in said, (path, bit)
        path.write_bytes(whole)
    assert restored(tmp_path, capsys) == (5, "")


@pytest.mark.parametrize("damage", ["deleted", "cut", "emptied", "the older one's", "a folder"])
def test_a_file_that_is_not_as_it_was_saved_is_noticed(damage, tmp_path, capsys):
    save(tmp_path, 1, 5)
    for path in [*(tmp_path / "5" / "state").rglob("*"), tmp_path / "5" / "position" / "metadata"]:
        if not path.is_file():
            continue
        whole = path.read_bytes()
        older = tmp_path / "1" / path.relative_to(tmp_path / "5")
        if damage == "the older one's" and (not older.is_file() or older.read_bytes() == whole):
            continue
        path.unlink()
        if damage == "cut":
            path.write_bytes(whole[:-1])
        elif damage == "emptied":
            path.touch()
        elif damage == "a folder":
            path.mkdir()
        elif damage == "the older one's":
            shutil.copyfile(older, path)
        step, said = restored(tmp_path, capsys)
        assert step == 1 and "is missing or damaged" in said, path
        path.rmdir() if damage == "a folder" else path.unlink(missing_ok=True)
        path.write_bytes(whole)
    assert restored(tmp_path, capsys) == (5, "")


def test_the_checkpoint_of_another_step_is_noticed(tmp_path, capsys):
    save(tmp_path, 1, 5)
    shutil.rmtree(tmp_path / "5")
    shutil.copytree(tmp_path / "1", tmp_path / "5")
    step, said = restored(tmp_path, capsys)
    assert step == 1 and "it is that of step 1" in said


def test_a_file_more_does_no_harm(tmp_path, capsys):
    save(tmp_path, 1, 5)
    (tmp_path / "5" / "state" / ".DS_Store").write_text("x")
    assert restored(tmp_path, capsys) == (5, "")


def test_lost_checksums_are_damage_and_those_of_an_earlier_version_are_missed_aloud(tmp_path, capsys):
    save(tmp_path, 1, 5)
    (tmp_path / "5" / "checksums.json").unlink()
    step, said = restored(tmp_path, capsys)
    assert step == 1 and "checksums.json is missing" in said
    position = tmp_path / "5" / "position" / "metadata"
    position.write_text(json.dumps({"data": 5}))  # as an earlier version saved it
    step, said = restored(tmp_path, capsys)
    assert step == 5 and "has no checksums, as an earlier version of ssljax saved it" in said


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("checked", [True, False])
def test_what_cannot_be_read_just_now_is_not_damaged(number, checked, tmp_path, capsys, monkeypatch):
    save(tmp_path, 1, 5)
    if not checked:
        (tmp_path / "5" / "checksums.json").unlink()

    def failing(path, *arguments, opened=builtins.open, **options):
        if "5/state" in str(path):
            raise OSError(number, "passing", str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", failing)
        patch.setattr(checkpoint, "WAITS", (0.01, 0.01))
        with pytest.raises(UserError, match=r"5/state/.* cannot be read \(passing\), which need not be damage"):
            restored(tmp_path, capsys)
    assert restored(tmp_path, capsys)[0] == (5 if checked else 1)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "5"}


def test_what_can_be_read_again_is_used(tmp_path, capsys, monkeypatch):
    save(tmp_path, 1, 5)
    failures = [errno.EIO, errno.ESTALE]

    def failing(path, *arguments, opened=builtins.open, **options):
        if "5/state" in str(path) and failures:
            raise OSError(failures.pop(), "passing", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", failing)
    monkeypatch.setattr(checkpoint, "WAITS", (0.01, 0.01))
    step, said = restored(tmp_path, capsys)
    assert step == 5 and said.count("(passing): trying again in") == 2


@pytest.mark.parametrize(
    "error, passing",
    [
        (OSError("Forbidden: ours/x"), True),
        (TimeoutError(), True),
        (FileNotFoundError("gs://ours/x"), False),
        (ValueError("DATA_LOSS: checksum"), False),
        (ValueError("UNAVAILABLE: try again"), True),
        (RuntimeError("INTERNAL: We encountered an internal error. Please try again."), True),
        (RuntimeError("ABORTED: All 32 retry attempts failed: HTTP response code: 503"), True),
        (RuntimeError("UNKNOWN: CURL error[6]: Could not resolve host: storage.googleapis.com"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes"), True),
        (MemoryError(), True),
        (ValueError("NOT_FOUND: Error opening zarr array at gs://ours/x: INTERNAL"), False),
        (ValueError("FAILED_PRECONDITION: Expected a chunk of 4096 bytes"), False),
        (ValueError("INVALID_ARGUMENT: Error decoding zstd"), False),
        (json.JSONDecodeError("Expecting value", "", 0), False),
        (KeyError("w"), False),
        (ValueError("x [os_error_code='5']"), True),
        (ValueError("x [os_error_code='2']"), False),
    ],
)
def test_errors_of_storage_that_may_pass(error, passing, tmp_path, monkeypatch):
    save(tmp_path, 1, 5)
    for step in ("1", "5"):  # as in a bucket, or from an earlier version
        (tmp_path / step / "checksums.json").unlink()
        (tmp_path / step / "position" / "metadata").write_text(json.dumps({"data": int(step)}))
    whole = ocp.CompositeCheckpointHandler.restore

    def failing(handler, folder, *arguments, **options):
        if folder.name == "5":
            raise error
        return whole(handler, folder, *arguments, **options)

    monkeypatch.setattr(ocp.CompositeCheckpointHandler, "restore", failing)
    monkeypatch.setattr(checkpoint, "WAITS", (0.01,))
    with Checkpoints(tmp_path) as checkpoints:
        if passing:
            with pytest.raises(UserError, match="which need not be damage: try again"):
                restore(checkpoints)
        else:
            assert int(restore(checkpoints)["step"]) == 1


TWO = """
import builtins, errno, sys
from pathlib import Path
from ssljax.sharding import join_processes
join_processes("lost")
import jax
from test_checkpoint import restore
from ssljax.training import checkpoint
from ssljax.types import UserError
from two_processes import outputs_of_two
folder, me = Path(sys.argv[1]), jax.process_index()
checkpoint.WAITS = (0.01, 0.01)

def steps(case):
    with checkpoint.Checkpoints(folder / case / str(me)) as checkpoints:
        tree = restore(checkpoints)
        return int(tree["step"]), checkpoints.position

print(steps("whole"), steps("damaged"))
tries = []

def failing(path, *arguments, opened=builtins.open, **options):
    if me == 1 and "5/state" in str(path):
        tries.append(path)
        raise OSError(errno.EIO, "passing", str(path))
    return opened(path, *arguments, **options)

builtins.open = failing
try:
    steps("whole")
except UserError as error:
    print(len(tries), error)
jax.distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_restore_one_step_or_both_stop(tmp_path):
    for case in ("whole", "damaged"):
        for process in ("0", "1"):
            save(tmp_path / case / process, 1, 5)
    path = max((tmp_path / "damaged" / "1" / "5" / "state").rglob("d/*"))
    path.write_bytes(flipped(path.read_bytes(), 8))
    before = [[str(path) for path in sorted((tmp_path / "whole" / process).rglob("*"))] for process in ("0", "1")]
    for process, out in enumerate(outputs_of_two(TWO, tmp_path)):
        steps, error = out.splitlines()[-2:]
        assert steps == "(5, {'data': 5}) (1, {'data': 1})"
        tries = 3 * process
        assert error.startswith(f"{tries} {tmp_path}/whole/1/5/state/")
        assert error.endswith("cannot be read (passing), which need not be damage: try again")
    after = [[str(path) for path in sorted((tmp_path / "whole" / process).rglob("*"))] for process in ("0", "1")]
    assert before == after


def test_a_whole_one_that_does_not_fit_is_not_called_damaged(tmp_path):
    save(tmp_path, 1)
    with Checkpoints(tmp_path) as checkpoints:
        shapes = {"other": jax.ShapeDtypeStruct((2,), jnp.float32)}
        with pytest.raises(UserError, match=r"1 cannot be restored .* checksums are right: if another version"):
            checkpoints.restore(shapes, {"other": replicated(make_mesh())})
