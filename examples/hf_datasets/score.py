"""Scores the images of a folder with Hugging Face datasets: map, with a scorer in each worker.

python score.py FOLDER OUTPUT.parquet [--workers 2] [--crops auto:4]
"""

import argparse
import os

import datasets
import multiprocess

_loaded = {}  # the scorer of this worker


def add_scores(batch: dict, rank: int | None, crops: str | None, devices: int) -> dict:
    """Adds the columns of jaxiqa.BatchScorer. The worker of rank r uses GPU r modulo `devices`, if there are any."""
    if not _loaded:
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = str((rank or 0) % devices)  # before JAX is imported
        import jaxiqa

        _loaded["scorer"] = jaxiqa.BatchScorer(crops=crops)
    found = _loaded["scorer"](batch)
    return {name: column.tolist() for name, column in found.items() if name not in batch}


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crops")
    parser.add_argument("--devices", type=int, default=0, help="number of GPUs of this machine")
    options = parser.parse_args()
    multiprocess.set_start_method("spawn")  # JAX does not work in a process that was forked from one that uses it
    images = datasets.load_dataset("imagefolder", data_dir=options.folder, split="train", drop_labels=True)
    images = images.cast_column("image", datasets.Image(decode=False))  # bytes: a broken image has a reason
    scored = images.map(
        add_scores,
        batched=True,
        batch_size=64,
        with_rank=True,
        num_proc=options.workers,
        fn_kwargs={"crops": options.crops, "devices": options.devices},
    )
    names = scored.map(lambda row: {"path": row["image"]["path"]}, remove_columns=["image"])
    names.to_parquet(options.output)
    print(f"scored {len(names)} images, refused {list(names['status']).count('refused')}; {options.output}")


if __name__ == "__main__":
    main()
