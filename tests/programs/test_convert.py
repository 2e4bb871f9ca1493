"""jaxiqa convert: import, export, round trips and refusals."""

import csv
import io
import json

import jax
import numpy as np
import pytest
import torch_writer as w
from foreign import foreign_state_dict
from tiny_run import check_refusals, run_program

from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import Saved
from jaxiqa.weights import load_torch
from jaxiqa.weights.files import file_sha256, read_tensors, write_tensors


@pytest.fixture(scope="module")
def tensors():
    tensors = foreign_state_dict("glintiqa", "test")
    tensors["clfe.backbone.bn1.num_batches_tracked"] = np.array(2**40 + 1)
    tensors["vgfe.backbone.head.weight"] = np.ones((10, 32), np.float16)
    return tensors


@pytest.fixture(scope="module")
def source(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "glintiqa.pth"
    write_tensors(path, tensors)
    return path


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    """A converted checkpoint, and the standard output of the program."""
    output = tmp_path_factory.mktemp("converted") / "glintiqa"
    done = run_program(
        "convert", "--model=glintiqa", "--variant=test", f"--source={source}", f"--output={output}",
        "--dataset=kadid10k", "--licence=MIT", f"--expect_sha256={file_sha256(source)}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_checkpoint_and_manifest(converted, tensors, source):
    output, printed = converted
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["source"] == {
        "file": "glintiqa.pth", "sha256": file_sha256(source), "bytes": source.stat().st_size
    }  # fmt: skip
    assert (manifest["licence"], manifest["model"], manifest["variant"]) == ("MIT", "glintiqa", "test")
    assert manifest["counts"] == {"mapped": len(tensors) - 2, "carried": 2, "ignored": 0}
    assert f"{len(tensors)} tensors of" in printed and "2 carried" in printed
    assert manifest["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert [row["name"] for row in manifest["tensors"]] == list(tensors)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = Saved(output).load(("params", "batch_stats"), device)
    for ours, expected in zip(*map(jax.tree.leaves, (state, load_torch("glintiqa", source, "test"))), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("name", ["back.pth", "back.safetensors"])
def test_back_is_bit_exact(converted, tensors, tmp_path, name):
    done = run_program("convert", f"--source={converted[0]}", f"--target={tmp_path / name}")
    assert done.returncode == 0 and "zeros" not in done.stdout, done.stderr
    back = read_tensors(tmp_path / name)
    assert list(back) == list(tensors)
    for key, array in tensors.items():
        assert back[key].dtype == array.dtype and back[key].tobytes() == array.tobytes(), key


@pytest.mark.slow
def test_scores_and_evaluates(converted, pictures):
    done = run_program("score", "--checkpoint", converted[0], pictures / "0.png")
    assert done.returncode == 0 and "kadid10k" in done.stderr and "1..5" in done.stderr, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["score"]) == pytest.approx(25 * (float(row["native"]) - 1), rel=1e-5)  # labels 1..5 to 0..100
    done = run_program("evaluate", "--checkpoint", converted[0], "--dataset", "folder", "--data_dir", pictures)
    assert done.returncode == 0 and "15 images of folder" in done.stdout, done.stderr
    done = run_program("evaluate", "--checkpoint", converted[0])
    assert done.returncode == 4 and str(converted[0]) in done.stderr and "--dataset" in done.stderr


@pytest.mark.slow
def test_a_trained_model_is_exported_with_zeros_for_missing_parameters(trained_glintiqa, tmp_path):
    done = run_program("convert", f"--source={trained_glintiqa}", f"--target={tmp_path / 'own.safetensors'}")
    assert done.returncode == 0, done.stderr
    assert "zeros" in done.stdout
    tensors = read_tensors(tmp_path / "own.safetensors")
    again = load_torch("glintiqa", tensors, "test")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    np.testing.assert_equal(
        again["params"], jax.device_get(Saved(trained_glintiqa).load(("params",), device)["params"])
    )


def test_inspect(source, tensors):
    done = run_program("convert", f"--inspect={source}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(tensors) + 1
    assert lines[0].split()[0] == next(iter(tensors)) and file_sha256(source) in lines[-1]


def test_inspect_shows_what_else_a_file_holds(tmp_path):
    weights = w.mapping({"module.net.a": w.tensor(), "module.net.b": w.tensor()})
    body = w.mapping({"args": w.name("lab", "Args") + b")\x81", "model": weights, "ema": weights}, ordered=False)
    (tmp_path / "a.pth").write_bytes(w.zip_file(body))
    done = run_program("convert", f"--inspect={tmp_path / 'a.pth'}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and [line.split()[0] for line in lines[:2]] == ["net.a", "net.b"], done.stderr
    assert all(text in lines[2] for text in ("model (2 tensors)", "ema (2 tensors)", "model is read"))
    assert "module.net." in lines[3] and "lab.Args" in lines[4] and len(lines) == 6


@pytest.mark.slow
def test_verify(source, tmp_path):
    """A golden of our own outputs passes. One that is off by a thousandth is refused, and nothing is written."""
    variables = load_torch("glintiqa", source, "test")
    x = np.random.Generator(np.random.PCG64([5, 77])).standard_normal((2, 64, 64, 3)).astype(np.float32)
    score, out = create_model("glintiqa", "test").apply(variables, x, train=False)

    def summary(array, factor=1.0):
        array = np.asarray(array, np.float64) * factor
        extremes = {"mean": array.mean(), "std": array.std(), "absmax": np.abs(array).max()}
        return {"shape": list(array.shape), "first": array.ravel()[:8].tolist(), **extremes}

    for factor, code in ((1.0, 0), (1.001, 4)):
        golden = {"seed": 5, "outputs": {"score": summary(score, factor), "vgfe1": summary(out["vgfe"][1])}}
        (tmp_path / "golden.json").write_text(json.dumps(golden))
        done = run_program(
            "convert", "--model=glintiqa", "--variant=test", f"--source={source}",
            f"--output={tmp_path / f'out{code}'}", f"--verify={tmp_path / 'golden.json'}",
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "vgfe1" in done.stdout and (tmp_path / f"out{code}").exists() == (code == 0)
    assert f"--verify {tmp_path / 'golden.json'}: score" in done.stderr


def test_everything_wrong_is_one_line(source, converted, tensors, tmp_path):
    bad = dict(tensors)
    del bad["local_projection.bias"]
    bad["surprise"] = np.zeros(2, np.float32)
    bad["cwsa2.norm.bias"] = bad["cwsa2.norm.bias"] * np.nan
    write_tensors(tmp_path / "bad.safetensors", bad)
    (tmp_path / "text.pth").write_text("not weights")
    model, new = ["--model=glintiqa", "--variant=test"], f"--output={tmp_path / 'new'}"
    cases = [
        ([], 2, "--source", "--inspect"),
        ([f"--source={source}"], 2, "--output", "--target"),
        ([f"--source={source}", "--push=a/b", "--target=w.npz"], 2, "--output"),
        ([f"--source={source}", new], 2, "--model"),
        ([*model, f"--source={source}", f"--output={converted[0]}"], 2, f"--output {converted[0]}"),
        (
            [*model, f"--source={tmp_path / 'bad.safetensors'}", new],
            4,
            *("local_projection.bias", "surprise", "cwsa2.norm.bias"),
        ),
        ([*model, f"--source={tmp_path / 'text.pth'}", new], 4, "text.pth"),
        ([*model, f"--source={tmp_path / 'none.pth'}", new], 4, "none.pth"),
        ([*model, f"--source={tmp_path / 'text.pth'}", new, "--expect_sha256=00"], 4, "text.pth", "SHA-256"),
        ([*model, f"--source={source}", new, "--ignore=head", "--ignore=("], 2, "--ignore ("),
        ([*model, f"--source={source}", new, "--expect_sha256=00"], 4, file_sha256(source), "00"),
        ([*model, f"--source={source}", f"--output={tmp_path / 'text.pth'}"], 2, "--output", "text.pth"),
        (["--model=resnet50", f"--source={source}", new], 4, "resnet50"),
        ([f"--source={converted[0]}", f"--target={tmp_path / 'x.onnx'}"], 4, "x.onnx", ".safetensors"),
        ([*model, f"--source={source}", new, "--dataset=kodak"], 2, "kodak"),
    ]
    check_refusals("convert", cases)
    assert not (tmp_path / "new").exists()


def test_a_backbone_cannot_score(tmp_path, pictures):
    write_tensors(tmp_path / "vit.safetensors", foreign_state_dict("vit", "test"))
    done = run_program(
        "convert",
        "--model=vit",
        "--variant=test",
        f"--source={tmp_path / 'vit.safetensors'}",
        f"--output={tmp_path / 'w'}",
    )
    assert done.returncode == 0, done.stderr
    done = run_program("score", f"--checkpoint={tmp_path / 'w'}", pictures / "0.png")
    assert done.returncode == 4 and str(tmp_path / "w") in done.stderr and "backbone vit" in done.stderr


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """Folder with ARNIQA.pth, of the test variant, and a TorchScript archive "regressor_csiq (1).pth"."""
    folder, tensors = tmp_path_factory.mktemp("arniqa"), foreign_state_dict("arniqa", "test")
    regressor = {name: tensors.pop(f"regressor.{name}") for name in ("weights", "biases")}
    tensors["projector.0.bias"] = np.ones(3, np.float32)
    write_tensors(folder / "ARNIQA.pth", tensors)
    body = w.module({"training": b"\x88", **{name: w.whole(name, array) for name, array in regressor.items()}})
    (folder / "regressor_csiq (1).pth").write_bytes(w.script_file(body, regressor))
    write_tensors(folder / "regressor_koniq10k.pth", regressor)
    return folder


def test_a_regressor_in_a_file_of_its_own(two_files, tmp_path, pictures):
    """The name of the file tells range and direction; the manifest names both files."""
    both = [f"--source={two_files / 'ARNIQA.pth'}", f"--regressor={two_files / 'regressor_csiq (1).pth'}"]
    done = run_program("convert", "--model=arniqa", "--variant=test", *both, f"--output={tmp_path / 'w'}")
    assert done.returncode == 0 and "1 carried" in done.stdout, done.stderr
    manifest = json.loads((tmp_path / "w" / "manifest.json").read_text())
    assert [manifest[part]["file"] for part in ("source", "regressor")] == ["ARNIQA.pth", "regressor_csiq (1).pth"]
    assert manifest["regressor"]["sha256"] == file_sha256(two_files / "regressor_csiq (1).pth")
    done = run_program("score", "--checkpoint", tmp_path / "w", pictures / "0.png")
    assert done.returncode == 0 and "csiq; native scale 0..1, lower is better" in done.stderr, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["crops"] == "five" and float(row["score"]) == pytest.approx(100 * (1 - float(row["native"])), abs=1e-3)


def test_a_regressor_that_does_not_fit(two_files, source, tmp_path):
    model = ["--model=arniqa", "--variant=test", f"--source={two_files / 'ARNIQA.pth'}", f"--output={tmp_path / 'w'}"]
    koniq = f"--regressor={two_files / 'regressor_koniq10k.pth'}"
    cases = [
        (model, 2, "--regressor", "ARNIQA.pth"),
        ([*model, koniq, "--dataset=kadid10k"], 2, "--dataset kadid10k", "regressor_koniq10k.pth"),
        (
            ["--model=glintiqa", "--variant=test", f"--source={source}", koniq, *model[-1:]],
            2,
            "--regressor",
            "glintiqa",
        ),
        ([*model, f"--regressor={two_files / 'ARNIQA.pth'}"], 4, "regressor.model.0.weight"),
    ]
    check_refusals("convert", cases)
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_resnet101(tmp_path):
    """No golden exists: shapes and a forward pass."""
    tensors = foreign_state_dict("resnet101", "resnet101")
    assert len(tensors) == 5 * 104 + 2 and sum(t.size for k, t in tensors.items() if "running" not in k) == 44_549_160
    scaled = {k: 0.02 * t if t.ndim > 1 else np.abs(t) for k, t in tensors.items()}
    write_tensors(tmp_path / "resnet101.safetensors", scaled)
    variables = load_torch("resnet101", tmp_path / "resnet101.safetensors")
    model = create_model("resnet101")
    logits, out = jax.jit(lambda v, x: model.apply(v, x))(variables, np.ones((1, 64, 64, 3), np.float32))
    assert logits.shape == (1, 1000) and np.isfinite(logits).all() and np.ptp(logits) > 0
    assert [out[f"stage{s}"].shape[-1] for s in (1, 2, 3, 4)] == [256, 512, 1024, 2048]


def test_a_real_trained_file(shared, tmp_path):
    """CNNIQA-LIVE.pth: every score that the public code gave, in the native column."""
    golden = json.loads((shared / "data" / "weights" / "golden_cnniqa_live_scores.json").read_text())
    source = shared / "data" / "weights" / "CNNIQA-LIVE.pth"
    done = run_program(
        "convert", "--model=cnniqa", f"--source={source}", f"--output={tmp_path / 'w'}", "--dataset=live"
    )
    assert done.returncode == 0, done.stderr
    paths = [shared / "data" / "official_samples" / name for name in golden]
    done = run_program("score", "--checkpoint", tmp_path / "w", *paths)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    np.testing.assert_allclose([float(r["native"]) for r in rows], list(golden.values()), atol=1e-3, rtol=0)
    np.testing.assert_allclose(
        [float(r["score"]) + float(r["native"]) for r in rows], 100, atol=1e-3
    )  # lower is better
