"""python -m jaxiqa.benchmark: its subjects are the files that can be run."""

from tiny_run import run_many

REFUSED = {
    (): "choose one of: distortions, lka",
    ("distortion",): 'did you mean "distortions"?',
    ("reference_distortions",): 'did you mean "distortions"?',  # what a subject is measured against
    ("distortions", "lka"): "name one subject",
}


def test_refusals():
    for (arguments, words), (code, _, error) in zip(REFUSED.items(), run_many("benchmark", REFUSED), strict=True):
        assert code == 2 and words in error, (arguments, error)
        assert len(error.strip().splitlines()) == 1, (arguments, error)
