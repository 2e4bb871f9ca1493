"""Scores images with Apache Beam: RunInference with a ModelHandler, here on the DirectRunner.

python score.py "FOLDER/*" OUTPUT [--crops auto:4] [options of Beam, e.g. --runner DataflowRunner]
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions


class Scorer(ModelHandler[tuple[str, bytes], dict, Any]):
    """Gives Beam a jaxiqa.BatchScorer, which is made inside the worker and shared by its threads."""

    def __init__(self, crops: str | None = None):
        super().__init__()
        self._crops = crops

    def load_model(self) -> Any:
        """Called by a worker, once."""
        import jaxiqa

        return jaxiqa.BatchScorer(crops=self._crops)

    def run_inference(
        self, batch: Sequence[tuple[str, bytes]], model: Any, inference_args: dict | None = None
    ) -> Iterable[dict]:
        """The rows of (path, bytes of the file)."""
        paths, data = zip(*batch, strict=True)
        found = model({"bytes": list(data)})
        for i, path in enumerate(paths):
            row = {name: found[name][i] for name in ("score", "se", "percentile", "status", "reason", "model")}
            yield {"path": path, **{name: None if value != value else value for name, value in row.items()}}  # no NaN

    def batch_elements_kwargs(self) -> dict:
        """The sizes of batches."""
        return {"min_batch_size": 16, "max_batch_size": 64}


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern")
    parser.add_argument("output")
    parser.add_argument("--crops")
    options, of_beam = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(of_beam)) as pipeline:
        (
            pipeline
            | fileio.MatchFiles(options.pattern)
            | fileio.ReadMatches()
            | beam.Reshuffle()
            | beam.Map(lambda file: (file.metadata.path, file.read()))
            | RunInference(Scorer(options.crops))
            | beam.Map(json.dumps)
            | beam.io.WriteToText(options.output, file_name_suffix=".jsonl")
        )


if __name__ == "__main__":
    main()
