"""The counts that the fault suite must reach. A bar is a function that returns what was seen and whether it is enough.

A new bar is one more function and one more row in BARS.
"""

import json
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from unittest import mock

import numpy as np
import pytest
from etils import epath
from small_state import META, copied, damage, files_of, make_state, same, save_steps, shapes_of, small_run
from tiny_run import ROOT, make_config, options, run_many, start_training, write_pictures

from jaxiqa.errors import DiskFull, NonFiniteError, WorkdirInUse
from jaxiqa.runs import workdir_lease
from jaxiqa.runs.checkpoint import Checkpoints, Saved
from jaxiqa.runs.log import read_metrics
from jaxiqa.runs.workdir_lease import WorkdirLease
from jaxiqa.training import sharding
from tests.faults.test_damaged_checkpoints import damaged_file, flips_in_small_files
from tests.faults.test_golden_runs import VERSIONS, loss_difference, score_difference
from tests.faults.test_hosts import (
    killed_process,
    losses,
    missing_process,
    resumed_on_other_devices,
    stopped_and_resumed,
)
from tests.faults.test_mutated_images import SECONDS as IMAGE_SECONDS
from tests.faults.test_mutated_images import mutate as mutate_images
from tests.faults.test_mutated_weights import SECONDS as WEIGHT_SECONDS
from tests.faults.test_mutated_weights import mutate as mutate_weights
from tests.inputs.test_restarts import PIPELINES, restarts
from tests.training.test_sharded_step import compare_meshes

SAVES = [f"{where}:{n}" for where in ("before_commit", "after_commit", "in_gc") for n in (1, 2, 3)]


def scratch() -> pathlib.Path:
    return pathlib.Path(tempfile.mkdtemp(prefix="jaxiqa-faults-"))


def resume(workdir, size: int = 300):
    with Checkpoints(workdir, META) as checkpoints:
        return checkpoints.resume(shapes_of(make_state(0, size)))


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kills() -> tuple[str, bool]:
    """A run that is killed 15 times at random and 9 times inside a save, and goes on each time."""
    rng, total, pause = random.Random(0), 150, 0.02
    args = (f"--total={total}", f"--pause={pause}")
    unbroken, workdir = scratch(), scratch()
    assert small_run(unbroken, *args).communicate() and len(losses(unbroken)) == total
    expected, killed, inside, left = losses(unbroken), 0, 0, 0
    for where in sorted(["random"] * 15 + SAVES, key=lambda _: rng.random()):
        before = len(read_metrics(workdir))
        run = small_run(workdir, *args, *([] if where == "random" else [f"--kill={where}"]))
        if where == "random":
            wait_for(lambda: run.poll() is not None or len(read_metrics(workdir)) != before)  # noqa: B023
            time.sleep(rng.uniform(0, 0.3))
            run.kill()
        run.communicate()
        killed += run.returncode == -signal.SIGKILL
        inside += run.returncode == -signal.SIGKILL and where != "random"
        assert set(losses(workdir).items()) <= set(expected.items())
    small_run(workdir, *args).communicate()
    left = [p.name for p in (workdir / "checkpoints").iterdir() if "tmp" in p.name]
    wrong = sum(losses(workdir).get(step) != loss for step, loss in expected.items())
    state = same(resume(workdir)[1], resume(unbroken)[1])
    seen = f"{killed} kills, {inside} inside a save: {wrong} of {total} losses differ, same state: {state}"
    return f"{seen}, {len(left)} left-overs", killed >= 20 and inside >= 5 and not wrong and state and not left


def kills_of_train() -> tuple[str, bool]:
    """The training program itself, killed six times at random, each time further on than before."""
    rng, pictures, steps = random.Random(1), write_pictures(scratch()), 30
    unbroken, workdir, killed = scratch(), scratch(), 0
    changes = {"total": f"{steps} steps", "eval_every": f"{steps} steps"}
    start_training(unbroken, pictures, **changes).communicate()
    expected = losses(unbroken)
    while killed < 6 and len(losses(workdir)) < steps:
        before = len(losses(workdir))
        run = start_training(workdir, pictures, **changes)
        wait_for(lambda: run.poll() is not None or len(losses(workdir)) > before, 300)  # noqa: B023
        time.sleep(rng.uniform(0, 0.2))
        run.kill()
        run.communicate()
        killed += run.returncode == -signal.SIGKILL
    start_training(workdir, pictures, **changes).communicate()
    wrong = sum(losses(workdir).get(step) != loss for step, loss in expected.items())
    digests = [
        json.loads((w / "checkpoints" / str(steps) / "digests" / "process_0.json").read_text())["arrays"]
        for w in (workdir, unbroken)
    ]
    state = digests[0] == digests[1]
    seen = f"{killed} kills: {wrong} of {len(expected)} losses differ, same digests: {state}"
    return seen, killed == 6 and len(expected) == steps and not wrong and state


def stops() -> tuple[str, bool]:
    """SIGTERM, five times."""
    lost, codes, slowest, saved = [], [], 0.0, 0.0
    for _ in range(5):
        workdir = scratch()
        run = small_run(workdir, "--pause=0.2", "--total=100000")
        wait_for(lambda: len(read_metrics(workdir)) > 3)  # noqa: B023
        began = time.time()
        run.terminate()
        output = run.communicate()[0]
        slowest = max(slowest, time.time() - began)
        stopped_at = int(output.split()[-1])
        saved = max(saved, (workdir / "checkpoints" / str(stopped_at)).stat().st_mtime - began)
        codes.append(run.returncode)
        lost.append(stopped_at - resume(workdir)[0])
    seen = (
        f"{sum(lost)} steps lost, exit codes {set(codes)}, saved after {saved:.1f} s, gone after {slowest:.1f} s "
        "(a step is 0.2 s)"
    )
    return seen, not any(lost) and set(codes) == {143} and slowest < 0.2 + 1 + 2


def corruption() -> tuple[str, bool]:
    """50 flipped bits in the data of the newest step; every kind of file removed, emptied, halved and overwritten."""
    rng, saved = np.random.default_rng(0), scratch()
    size = 20_000  # the data are 1.8 MB, so that flips hit arrays and not their descriptions
    save_steps(saved, (2, 4), size)
    name = files_of(saved, 4)[0]
    length = (saved / "checkpoints" / "4" / name).stat().st_size
    found = kept = right = 0
    for _ in range(50):
        workdir = copied(saved, scratch() / "w")
        damage(workdir / "checkpoints" / "4" / name, f"flip {rng.integers(length)}")
        step, state = resume(workdir, size)
        found += step == 2
        kept += (workdir / "quarantine" / "step_4").is_dir()
        right += same(state, make_state(step, size))
        shutil.rmtree(workdir)
    kinds, fallen, exact = 0, 0, 0
    for file in files_of(saved, 4):
        for how in ("removed", "emptied", "halved", "junk"):
            workdir = copied(saved, scratch() / "w")
            damage(workdir / "checkpoints" / "4" / file, how)
            step, state = resume(workdir, size)
            kinds, fallen, exact = kinds + 1, fallen + (step == 2), exact + same(state, make_state(step, size))
            assert (workdir / "quarantine").exists() == (step == 2)
            shutil.rmtree(workdir)
    seen = (
        f"{found}/50 flips found, {kept} in quarantine, {right} right states; {kinds} damaged files: {fallen} set "
        f"aside, {kinds - fallen} that no restore needs, {exact} right states"
    )
    return seen, found == kept == right == 50 and exact == kinds


def small_files() -> tuple[str, bool]:
    """Every file of a step removed, emptied, halved and overwritten, and flipped bits in all but the largest."""
    saved, folder = scratch(), scratch()
    save_steps(saved, (2, 4, 6), srcc=lambda step: 1 / step)
    names, ways = files_of(saved, 6), ("removed", "emptied", "halved", "junk")
    steps = [damaged_file(saved, folder, name, how) for how in ways for name in names]
    flipped = flips_in_small_files(saved, folder, 4)
    return f"{len(steps)} damaged files, {steps.count(4)} set aside; 4 flips in each of {flipped} files", True


def full_disk() -> tuple[str, bool]:
    """A file system of 12 MB that fills up, ten times."""
    good = warned = failed = 0
    for trial in range(10):
        disk, saved = scratch(), [1]
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", disk], check=True)
        try:
            with Checkpoints(disk, META) as checkpoints, mock.patch("builtins.print") as said:
                checkpoints.save(1, make_state(1, 40_000))
                checkpoints.wait()
                (disk / "ballast").write_bytes(b"x" * (6_500_000 + 200_000 * trial))
                for step in (2, 3, 4):
                    before = said.call_count
                    checkpoints.save(step, make_state(step, 40_000))
                    try:
                        wait_for(lambda: checkpoints.poll() or checkpoints._saving is None)
                        told = said.call_count > before
                    except DiskFull:
                        told = True
                    there = (disk / "checkpoints" / str(step)).exists()
                    saved += [step] if there else []
                    failed, warned = failed + (not there), warned + (told and not there)
            step, state = resume(disk, 40_000)
            left = [p for p in (disk / "checkpoints").iterdir() if "tmp" in p.name]
            good += step == saved[-1] and same(state, make_state(step, 40_000)) and not left
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
    seen = f"{good}/10 restored with no left-overs, {warned} of {failed} failed saves told when they ended"
    return seen, good == 10 and warned == failed > 0


def locked() -> tuple[str, bool]:
    """A second run of a whole program ten times, and ten locks of dead processes."""
    workdir, refused, written, taken = scratch(), 0, 0, 0
    first = small_run(workdir, "--pause=600", "--total=100000")
    wait_for((workdir / "checkpoints").exists)
    time.sleep(1.0)
    there = lambda: {str(p): p.stat().st_size for p in workdir.rglob("*") if p.name != "lease"}  # noqa: E731
    before = there()
    for _ in range(10):
        second = small_run(workdir)
        output = second.communicate()[0]
        refused += second.returncode == 6 and f"process {first.pid} on" in output
        written += len(there().items() ^ before.items())
    first.kill()
    first.communicate()
    for _ in range(10):
        dead, folder = subprocess.Popen(["sleep", "60"]), scratch()
        about = {
            **workdir_lease._about_us(),
            "pid": dead.pid,
            "started": workdir_lease._started(dead.pid),
            "token": "another",
        }
        (folder / "lock").write_text(json.dumps(about))
        try:
            with WorkdirLease(folder):
                raise AssertionError("a living run's workdir was taken")
        except WorkdirInUse:
            dead.kill()
            dead.wait()
        with WorkdirLease(folder):
            taken += 1
    return (
        f"{refused}/10 refused, {written} files written; {taken}/10 taken over",
        refused == taken == 10 and not written,
    )


def typos() -> tuple[str, bool]:
    """Misspelt keys of the config."""
    from tests.faults.test_surroundings import TYPOS

    start = [f"--config={ROOT / 'configs' / 'glintiqa_folder.py'}", f"--workdir={scratch() / 'w'}"]
    start += [f"--config.{key}={value}" for key, value in options("nowhere").items()]
    began = time.monotonic()
    results = run_many("train", [[*start, f"--config.{typo}"] for typo in TYPOS])
    each = (time.monotonic() - began) / len(TYPOS)
    caught = sum(code == 2 and "Traceback" not in error for code, _, error in results)
    right = sum(f'did you mean "{key}"' in r[2] for key, r in zip(TYPOS.values(), results, strict=True))
    return (
        f"{caught}/20 caught, {right} with the right key, {each:.1f} s each",
        caught == 20 and right >= 18 and each < 5,
    )


def nonfinite() -> tuple[str, bool]:
    """A label that is no number in step k, for k = 3, 4, 5; lines are due each second step, checkpoints too."""
    from jaxiqa.inputs import pipeline
    from jaxiqa.train import train

    pictures, batches, named, intact = write_pictures(scratch()), pipeline.train_batches, 0, 0
    for k in (3, 4, 5):

        def poisoned(*arguments, start=0, **how):
            for number, batch in enumerate(batches(*arguments, start=start, **how), start):
                batch["label"][1] = np.nan if number == k - 1 else batch["label"][1]  # noqa: B023
                yield batch

        workdir = epath.Path(scratch())
        changes = {"log_every": "2 steps", "save_every": "2 steps", "eval_every": "1000 steps"}
        with mock.patch("jaxiqa.tasks.data.train_batches", poisoned):
            try:
                train(make_config(pictures, **changes), workdir)
            except NonFiniteError as error:
                rows = json.loads((workdir / f"nonfinite_{k}.json").read_text())["batch"]
                named += error.step == k and sum(row["label"] == "nan" for row in rows) == 1
        intact += Saved(workdir).step == (k - 1) // 2 * 2
    return f"{named}/3 steps and batches named, {intact}/3 last good steps intact", named == intact == 3


def _met(*counts: tuple) -> tuple[str, bool]:
    """A row of counts that test_hosts.py gives as (required, seen)."""
    wrong = [f"{seen} in place of {required}" for required, seen in counts if seen != required]
    return "; ".join(wrong) or f"{len(counts)}/{len(counts)}", not wrong


def pairs(config: str, **changes) -> tuple[str, bool]:
    """Two processes of two devices, one of which gets SIGTERM, and what they go on as."""
    folder, config = scratch(), ROOT / "configs" / config
    return _met(stopped_and_resumed(folder, write_pictures(scratch()), 16, config=config, **changes))


def mfen_pair() -> tuple[str, bool]:
    """With a large eps: otherwise Adam makes whole steps of the rounding of gradients that are zero, as MFEN has some.

    Even unbroken runs on 2 x 2 and on 1 x 4 devices are 1e-7 apart for five steps and 1e-4 after ten of them.
    """
    return pairs("mfen_folder.py", **{"optimizer.eps": 1e-2})


def moved() -> tuple[str, bool]:
    """From 1 to 2 to 4 devices and back to 1."""
    with pytest.MonkeyPatch.context() as patch:
        return _met(resumed_on_other_devices(scratch(), write_pictures(scratch()), patch))


def meshes() -> tuple[str, bool]:
    """Both systems on four devices: data 4, 2 x fsdp 2, fsdp 4."""
    config = make_config(write_pictures(scratch()))
    with mock.patch.object(sharding, "MIN_SHARDED_SIZE", 256):
        for name in ("glintiqa", "mfen"):
            compare_meshes(name, config)
    return "2/2 systems", True


def golden_runs() -> tuple[str, bool]:
    """What released versions wrote, and this version's losses."""
    pictures = write_pictures(scratch())
    largest = max(score_difference(version, pictures) for version in VERSIONS)
    loss, here = loss_difference(scratch(), pictures)
    seen = (
        f"{len(VERSIONS)} versions: scores differ by {largest:.1e}, losses by {loss:.1e} {'' if here else 'elsewhere'}"
    )
    return seen, largest <= 1e-6 and loss <= (0 if here else 1e-5)


def every_position() -> tuple[str, bool]:
    """Restarts before each of 20 batches of every training pipeline."""
    for name in PIPELINES:
        restarts(scratch(), name, 20)
    return f"{len(PIPELINES)} pipelines, 20 positions each", True


def absent() -> tuple[str, bool]:
    """A process that does not come, and one that dies."""
    late, pictures = zip(*missing_process(scratch(), 10), strict=True), write_pictures(scratch())
    return _met(*late, *zip(*killed_process(scratch(), pictures), strict=True))


def mutated_images() -> tuple[str, bool]:
    """2,000 mutations of small JPEG, PNG and WebP files."""
    counts, wrong, slowest = mutate_images(2000)
    seen = (
        f"{counts['read']} read, {counts['refused']} refused; of {counts['whole']} that Pillow and libjpeg read whole "
        f"{len(wrong)} refused; at most {slowest:.2f} s"
    )
    return seen, not wrong and slowest < IMAGE_SECONDS


def mutated_weights() -> tuple[str, bool]:
    """2,000 mutations of small PyTorch, safetensors and NumPy files."""
    counts, slowest = mutate_weights(2000)
    seen = ", ".join(
        f"{kind}: {counts[kind, 'read']} read, {counts[kind, 'refused']} refused"
        for kind in sorted({k for k, _ in counts})
    )
    return f"{seen}; at most {slowest:.2f} s", slowest < WEIGHT_SECONDS and sum(counts.values()) == 2000


# bar, what is required, function
BARS = [
    ("R1", ">= 20 kills, >= 5 inside a save: 0 losses differ, same state, 0 left-overs", kills),
    ("R1", "the same of jaxiqa.train, 6 kills", kills_of_train),
    ("R2", "0 steps lost, 143, a step + a save + 2 s", stops),
    (
        "R2",
        "GlintIQA in 2 x 2: one step, 143 twice, bit-equal on 2 x 2, 1e-5 on 1 x 4",
        lambda: pairs("glintiqa_folder.py"),
    ),
    ("R2", "the same of MFEN", mfen_pair),
    ("R3", "50/50 flips found; every damaged file found or not needed; quarantine", corruption),
    ("R3", "the same of a step with a best one before it; flips in every small file change no state", small_files),
    ("R4", "newest valid step restored, warned at once, 0 left-overs", full_disk),
    ("R5", "10/10 refused, 0 files written, 10/10 stale locks taken over", locked),
    ("R6", "1 -> 2 -> 4 -> 1 devices: the same images, losses to 1e-5", moved),
    ("meshes", "data and fsdp: losses to 1e-5, moments sharded, 0.98 of the state donated", meshes),
    ("R10", "20/20 typos caught, >= 18 with the right key, < 5 s", typos),
    ("R11", "stops within the log interval, batch named, last good step intact", nonfinite),
    ("R12", "missing or dead process: the other ends with a code that is restarted, in time", absent),
    ("R13", "released checkpoints score to 1e-6 as they did; losses as golden (1e-5 on other processors)", golden_runs),
    ("images", "2,000 mutations: no crash, < 5 s, 0 refused that Pillow and libjpeg read whole", mutated_images),
    ("weights", "2,000 mutations of weight files: no crash, < 5 s each", mutated_weights),
    ("R14", "Grain's assert_equal_output_after_checkpoint, every pipeline and position", every_position),
]
