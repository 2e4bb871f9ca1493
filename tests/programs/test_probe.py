"""jaxiqa probe: what it refuses. tests/scoring/test_explain.py fits probes."""

from tiny_run import check_refusals, filled

REFUSED = [
    (["--checkpoint={workdir}"], 2, "PATH..."),
    (["photo.jpg"], 2, "--checkpoint"),
    (["photo.jpg", "--checkpoint=ready"], 2, "--checkpoint"),
    (["photo.jpg", "--checkpoint=none"], 4, "none"),
    (["no_photo.jpg", "--checkpoint={workdir}"], 3, "no_photo.jpg"),
]


def test_refusals(trained):
    check_refusals("probe", filled(REFUSED, workdir=trained[0]))
