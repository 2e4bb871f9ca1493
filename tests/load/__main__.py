"""20,000 images, killed twice and resumed: python -m tests.load --long [IMAGES]

1,000 requests to a server: python -m tests.load --serve [REQUESTS]

Otherwise the short forms run, as in CI: pytest tests/load. --long takes about 15 minutes on two cores, --serve 2.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHARD = 1000
TOLERANCE = 0.10  # of the memory


def main() -> int:
    """Exit code 1 if a bar is missed."""
    if not {"--long", "--serve"} & {*sys.argv}:
        return subprocess.run([sys.executable, "-m", "pytest", "tests/load"], cwd=ROOT).returncode
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
    os.environ["JAX_PLATFORMS"] = "cpu"
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain reads flags
    from tests.load import serve
    from tests.load.job import rows, score, write_checkpoint, write_images

    count = int(next((word for word in sys.argv[1:] if word.isdigit()), 0))
    if "--serve" in sys.argv:
        return serve.main(count or 1000)
    count = count or 20_000
    size = f"--shard_size={SHARD}"
    with tempfile.TemporaryDirectory(prefix="jaxiqa-load-") as name:
        folder = pathlib.Path(name)
        write_images(folder, count)
        checkpoint = write_checkpoint(folder / "checkpoint")
        whole = score(folder / "images", checkpoint, folder / "whole", size)
        print(whole.text.splitlines()[-1], flush=True)
        early = whole.memory[min(n for n in whole.memory if n >= 2)]
        growth = whole.last / early - 1
        late = max(whole.memory)
        print(
            f"memory after {2 * SHARD:,} images {early / 2**20:.0f} MiB, after {late * SHARD:,} images "
            f"{whole.memory[late] / 2**20:.0f} MiB, at the end {whole.last / 2**20:.0f} MiB: {100 * growth:+.1f} % "
            f"(bar {100 * TOLERANCE:.0f} %)",
            flush=True,
        )
        shards = -(-count // SHARD)
        for after in (shards // 4, shards * 5 // 8):
            killed = score(folder / "images", checkpoint, folder / "broken", size, kill_after=after).killed
            print(f"killed after {len(list((folder / 'broken').glob('part-*.parquet')))} shards: {killed}", flush=True)
        rest = score(folder / "images", checkpoint, folder / "broken", size)
        print(rest.text.splitlines()[-1])
        found, expected = rows(folder / "broken"), rows(folder / "whole")
        same = found.equals(expected)
        refused = found["status"].to_pylist().count("refused")
        print(f"{found.num_rows:,} rows, {refused:,} refused; equal to the unbroken run: {same}")
    return int(not same or abs(growth) > TOLERANCE or found.num_rows != count)


if __name__ == "__main__":
    sys.exit(main())
