"""ONNX Runtime for browsers: the files of the package onnxruntime-web that a page needs, of one version."""

import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from jaxiqa.errors import ConfigError
from jaxiqa.files import cache_dir, write_bytes

VERSION = "1.30.0"
# What loads the runtime, what it imports, and its WebAssembly: without and with WebGPU.
BUILDS = {
    False: {
        "script": "ort.wasm.min.js",
        "glue": "ort-wasm-simd-threaded.mjs",
        "wasm": "ort-wasm-simd-threaded.wasm",
    },
    True: {
        "script": "ort.webgpu.min.js",
        "glue": "ort-wasm-simd-threaded.asyncify.mjs",
        "wasm": "ort-wasm-simd-threaded.asyncify.wasm",
    },
}
_SHA256 = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.min.js": "7d65dad7eb4564ad98db9924a259af2e2c68ebfbdbf254fa5d728f1c5736e07a",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
_PACKAGE = f"onnxruntime-web@{VERSION}"
_PATIENCE = 600  # seconds for npm, which fetches 33 MB


def read(build: dict[str, str], folder: str | None) -> dict[str, bytes]:
    """{name: content} of the files of a build, with the right SHA-256.

    Args:
      build: of BUILDS.
      folder: the unpacked package; None: a copy in the cache, which npm fetches once.

    Raises:
      ConfigError: a file is missing or another, npm is not installed, or it cannot fetch the package.
    """
    source = pathlib.Path(folder) if folder else pathlib.Path(cache_dir()) / f"onnxruntime-web-{VERSION}"
    if folder and (source / "dist").is_dir():
        source = source / "dist"
    if not folder and not all(_is_right(source / name) for name in build.values()):
        _fetch(source)
    found = {}
    for name in build.values():
        try:
            found[name] = (source / name).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{source / name} cannot be read ({error.strerror}); name the unpacked package {_PACKAGE} by --ort",
                code="not_found",
                key="--ort",
            ) from error
        if hashlib.sha256(found[name]).hexdigest() != _SHA256[name]:
            raise ConfigError(
                f"{source / name} is not the file of {_PACKAGE} (SHA-256 {_SHA256[name]}); name the unpacked package "
                "of this version by --ort",
                code="changed",
                key="--ort",
            )
    return found


def _is_right(path: pathlib.Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256[path.name]


def _fetch(folder: pathlib.Path) -> None:
    """Lets npm fetch the package, and keeps the files of all builds."""
    npm = shutil.which("npm")
    if not npm:
        raise ConfigError(
            f"--ort is missing: name the unpacked package {_PACKAGE}, or install npm, which then fetches it",
            code="package",
            key="--ort",
        )
    with tempfile.TemporaryDirectory() as place:
        why, archives = _pack(npm, place), list(pathlib.Path(place).glob("*.tgz"))
        if why or not archives:
            raise ConfigError(
                f"npm pack {_PACKAGE} has failed ({why or 'no archive'}); name the unpacked package by --ort",
                code="run_failed",
                key="--ort",
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archives[0]) as archive:
            for name in _SHA256:
                write_bytes(folder / name, archive.extractfile(f"package/dist/{name}").read())


def _pack(npm: str, folder: str) -> str:
    """Lets npm fetch the archive of the package. Returns why it has failed; "" if it has not."""
    try:
        command = [npm, "pack", "--silent", _PACKAGE]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it took more than {_PATIENCE} s"
    return " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}" if done.returncode else ""
