"""Checkpoints that were damaged on disk: found, set aside, and the one before is used (R3; F08, F09, F10)."""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
from refused import refused
from small_state import META, copied, damage, files_of, make_state, same, save_steps, shapes_of

from jaxiqa.errors import CheckpointError
from jaxiqa.runs import digests
from jaxiqa.runs.bucket import Bucket, Disk
from jaxiqa.runs.checkpoint import Checkpoints, Saved
from jaxiqa.training import sharding


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """A workdir with the steps 2 (rated best), 4 and 6."""
    workdir = tmp_path_factory.mktemp("saved")
    save_steps(workdir, (2, 4, 6), srcc=lambda step: 1 / step)
    return workdir


def resume(workdir, **options):
    """(step, state) that a run would go on with."""
    with Checkpoints(workdir, META) as checkpoints:
        return checkpoints.resume(shapes_of(make_state(0)), **options)


def test_an_undamaged_step_is_the_same_bit_for_bit(saved):
    step, state = resume(saved)
    assert step == 6 and same(state, make_state(6))
    assert not (saved / "quarantine").exists()


def test_the_digests_are_those_of_the_arrays(saved):
    stored = json.loads((saved / "checkpoints" / "6" / "digests" / "process_0.json").read_text())
    assert stored["processes"] == 1
    entry = stored["arrays"]["params/conv/kernel"]
    assert entry["dtype"] == "float32" and entry["shape"] == [300, 8] and len(entry["sha256"][""]) == 64
    assert stored["arrays"]["opt_state/0/count"]["shape"] == []
    assert stored["arrays"]["ema/conv/kernel"]["dtype"] == "bfloat16"


def test_a_flipped_bit_is_found(saved, tmp_path, capsys):
    workdir = copied(saved, tmp_path / "w")
    path = workdir / "checkpoints" / "6" / files_of(saved, 6)[0]
    damage(path, f"flip {path.stat().st_size // 2}")
    step, state = resume(workdir)
    assert step == 4 and same(state, make_state(4))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning") and re.findall(r"step (\d+)|(\d+) steps", line) == [
        ("6", ""),
        ("4", ""),
        ("", "2"),
    ]
    assert (workdir / "quarantine" / "step_6" / files_of(saved, 6)[0]).exists()
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["2", "4"]


def test_the_array_is_named(tmp_path, capsys):
    save_steps(tmp_path, (1, 2))
    path = tmp_path / "checkpoints" / "2" / "digests" / "process_0.json"
    stored = json.loads(path.read_text())
    stored["arrays"]["batch_stats/norm/mean"]["sha256"][""] = "0" * 64
    stored["sha256"] = digests.of_json({k: v for k, v in stored.items() if k != "sha256"})
    path.write_text(json.dumps(stored))
    assert resume(tmp_path)[0] == 1
    assert "batch_stats/norm/mean" in capsys.readouterr().out


def damaged_file(saved, folder, name: str, how: str) -> int:
    """The step that is gone on with if a file of step 6 is damaged.

    Its state is as it was saved: the damaged step is not used, or its arrays are not damaged.
    """
    workdir = copied(saved, folder / how / name.replace("/", "-"))
    damage(workdir / "checkpoints" / "6" / name, how)
    step, state = resume(workdir)
    assert same(state, make_state(step)), name
    # Orbax needs none of these to restore with given shapes and shardings.
    unharmed = ("commit_success.txt", "ocdbt.process_0/manifest.ocdbt", "array_metadatas/process_0", "_sharding")
    assert step == 4 or name.endswith(unharmed), name
    assert (workdir / "quarantine").exists() == (step == 4)
    return step


@pytest.mark.parametrize("how", ["removed", pytest.param("halved", marks=pytest.mark.slow)])
def test_every_kind_of_file(saved, tmp_path, how, capsys):
    for name in files_of(saved, 6):
        step = damaged_file(saved, tmp_path, name, how)
        assert capsys.readouterr().out.count("warning") == (step == 4)


@pytest.mark.parametrize("how", ["emptied", "junk"])
def test_the_largest_and_the_smallest_file(saved, tmp_path, how):
    """Of the other files tests.faults tells."""
    names = [name for name in files_of(saved, 6) if "commit" not in name]
    assert damaged_file(saved, tmp_path, names[0], how) == 4
    damaged_file(saved, tmp_path, names[-1], how)


def flips_in_small_files(saved, folder, flips: int) -> int:
    """How many files had `flips` bits flipped, one by one, without another state, another card or an end of the run."""
    rng = np.random.default_rng(0)
    names = [name for name in files_of(saved, 6)[1:] if "commit" not in name]
    for number, name in enumerate(names):
        for flip in range(flips):
            workdir = copied(saved, folder / f"{number}-{flip}")
            path = workdir / "checkpoints" / "6" / name
            damage(path, f"flip {rng.integers(path.stat().st_size)}")
            step, state = resume(workdir)
            assert step in (4, 6) and same(state, make_state(step)), name
            with contextlib.suppress(CheckpointError):
                assert Saved(workdir, step).meta == META
    return len(names)


def test_a_flip_in_each_of_the_small_files(saved, tmp_path):
    assert flips_in_small_files(saved, tmp_path, 1) > 5


def test_all_damaged_is_exit_4_and_restarts_on_request_only(saved, tmp_path, capsys):
    workdir = copied(saved, tmp_path / "w")
    for step in (2, 4, 6):
        damage(workdir / "checkpoints" / str(step) / files_of(saved, step)[0], "halved")
    with refused(CheckpointError, "damaged", workdir, "step 2: ", "step 4: ", "step 6: ", "--allow_restart"):
        resume(workdir)
    with refused(CheckpointError, "damaged", workdir, "step_2, step_4, step_6", "--allow_restart"):
        resume(workdir)
    assert resume(workdir, allow_restart=True) == (0, None)


def test_another_models_state_is_no_damage(saved, tmp_path):
    workdir = copied(saved, tmp_path / "w")
    with (
        Checkpoints(workdir, META) as checkpoints,
        refused(CheckpointError, "mismatch", workdir / "checkpoints" / "6", "[300, 8]", "[400, 8]"),
    ):
        checkpoints.resume(shapes_of(make_state(0, 400)))
    assert not (workdir / "quarantine").exists()


@pytest.mark.parametrize("cause", ["RESOURCE_EXHAUSTED: out of memory", "UNAVAILABLE: no route to the bucket"])
def test_want_of_memory_or_network_is_no_damage(saved, tmp_path, cause, monkeypatch):
    workdir = copied(saved, tmp_path / "w")

    def load(*_):
        raise RuntimeError("reading failed") from ValueError(cause)

    with (
        Checkpoints(workdir, META) as checkpoints,
        monkeypatch.context() as patch,
        refused(CheckpointError, "unreadable", workdir / "checkpoints" / "6", cause),
    ):
        patch.setattr("jaxiqa.runs.checkpoint.ocp.load", load)
        checkpoints.resume(shapes_of(make_state(0)))
    assert not (workdir / "quarantine").exists() and resume(workdir)[0] == 6


def test_small_files_that_a_disk_does_not_give_are_no_damage(saved, tmp_path, monkeypatch):
    workdir = copied(saved, tmp_path / "w")
    read = Disk.read

    def give(self, path):
        if path.parent.name == "6":
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "read", give)
        with refused(CheckpointError, "unreadable", workdir / "checkpoints" / "6", "Stale file handle"):
            resume(workdir)
    assert not (workdir / "quarantine").exists() and resume(workdir)[0] == 6


@pytest.mark.parametrize("folder", ["checkpoints", "6"])
def test_folders_that_a_disk_does_not_list_are_no_damage(saved, tmp_path, monkeypatch, folder):
    """Nor is the workdir empty then."""
    workdir = copied(saved, tmp_path / "w")
    listdir, stat = os.listdir, os.stat

    def refuse(path):
        if os.path.basename(path) == folder:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: refuse(path) or listdir(path))
        patch.setattr(os, "stat", lambda path, **options: refuse(path) or stat(path, **options))
        with refused(CheckpointError, "unreadable", None, "Input/output error"):
            resume(workdir)
    assert not (workdir / "quarantine").exists() and resume(workdir)[0] == 6


def test_readers_refuse_and_move_nothing(saved, tmp_path):
    workdir = copied(saved, tmp_path / "w")
    path = workdir / "checkpoints" / "2" / files_of(saved, 2)[0]
    damage(path, f"flip {path.stat().st_size // 2}")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with refused(CheckpointError, "damaged", workdir / "checkpoints" / "2", "--step", "4, 6"):
        Saved(workdir).load(("params", "opt_state"), device)  # the best step
    good = Saved(workdir, 4).load(("params", "ema"), device)
    assert same(good["params"], make_state(4).params) and same(good["ema"], make_state(4).ema)
    (workdir / "checkpoints" / "6" / "_CHECKPOINT_METADATA").write_text("")
    with refused(CheckpointError, "damaged", workdir / "checkpoints" / "6", "_CHECKPOINT_METADATA"):
        Saved(workdir)  # it might have been the best
    assert not (workdir / "quarantine").exists()


@pytest.mark.parametrize(
    ("axes", "again"), [((2, 2), (4, 1)), ((1, 4), (2, 2)), ((4, 1), (1, 4))], ids=lambda axes: f"{axes[0]}x{axes[1]}"
)
def test_sharded_arrays_and_other_meshes(tmp_path, monkeypatch, axes, again):
    monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 256)
    place = lambda mesh: sharding.state_sharding(make_state(0), sharding.make_mesh(*mesh))  # noqa: E731
    before = make_state(3, sharding=place(axes))
    with Checkpoints(tmp_path, META) as checkpoints:
        checkpoints.save(3, before)
        checkpoints.wait()
        step, state = checkpoints.resume(shapes_of(make_state(0, sharding=place(again))))
    kernel = state.params["conv"]["kernel"]
    assert step == 3 and same(state, make_state(3)) and kernel.sharding.mesh.shape["fsdp"] == again[1]
    if again[1] > 1:
        assert not kernel.is_fully_replicated


def test_a_step_without_digests_is_one_of_an_older_version(saved, tmp_path):
    workdir = copied(saved, tmp_path / "w")
    about = workdir / "checkpoints" / "6" / "_CHECKPOINT_METADATA"
    content = json.loads(about.read_text())
    del content["item_handlers"]["digests"]
    about.write_text(json.dumps(content))
    shutil.rmtree(workdir / "checkpoints" / "6" / "digests")
    step, state = resume(workdir)
    assert step == 6 and same(state, make_state(6))


def test_where_folders_cannot_be_renamed_a_marker_says_so(saved, tmp_path, monkeypatch):
    """As in a bucket: the damaged step stays, is never picked again, and is written over when its turn comes."""
    workdir = copied(saved, tmp_path / "w")
    for name in ("in_place", "set_aside", "release", "_is_finished"):
        monkeypatch.setattr(Disk, name, vars(Bucket)[name])
    path = workdir / "checkpoints" / "6" / files_of(saved, 6)[0]
    damage(path, f"flip {path.stat().st_size // 2}")
    assert [resume(workdir)[0] for _ in range(2)] == [4, 4]
    assert path.exists() and "conv/kernel" in (workdir / "quarantine" / "step_6").read_text()
    assert Saved(workdir, 4).step == 4
    with refused(CheckpointError, "not_found", workdir, "step 6"):
        Saved(workdir, 6)
    with Checkpoints(workdir, META) as checkpoints:
        checkpoints.resume(shapes_of(make_state(0)))
        checkpoints.save(6, make_state(6))
        checkpoints.wait()
    step, state = resume(workdir)
    assert step == 6 and same(state, make_state(6))


def test_what_a_killed_save_left_is_removed(saved, tmp_path):
    workdir = copied(saved, tmp_path / "w")
    left = workdir / "checkpoints" / "8.orbax-checkpoint-tmp"
    left.mkdir()
    (left / "half").write_bytes(b"x" * 100)
    assert resume(workdir)[0] == 6
    assert not left.exists()


def test_two_steps_and_the_best_stay(tmp_path):
    save_steps(tmp_path, range(1, 7), srcc=lambda step: {2: 0.9}.get(step, 0.1))
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [2, 5, 6]


def test_arrays_that_are_overwritten_during_the_save(tmp_path):
    """The state is donated to the next step while its save is in flight."""
    step_on = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = make_state(0, 20_000)
    with Checkpoints(tmp_path, META) as checkpoints:
        for step in range(1, 4):
            state = step_on(state)
            checkpoints.save(step, state)
        checkpoints.wait()
        found, restored = checkpoints.resume(shapes_of(state))
    assert found == 3 and same(restored, state) and int(np.asarray(restored.step)) == 3


def test_a_description_that_orbax_alone_refuses(saved, tmp_path):
    """It is JSON, has all its parts and an unknown key; Orbax would not open the folder of all steps."""
    workdir = copied(saved, tmp_path / "w")
    about = workdir / "checkpoints" / "6" / "_CHECKPOINT_METADATA"
    about.write_text(about.read_text().replace("commit_timestamp", "cnmmit_timestamp"))
    assert resume(workdir)[0] == 4 and (workdir / "quarantine" / "step_6").is_dir()
