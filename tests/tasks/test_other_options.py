"""A warning if a model starts from weights that were trained with other options."""

from jaxiqa.tasks.quality import tell_other_options


def test_other_options_than_the_weights(capsys):
    trained_with = {"name": "glintiqa", "variant": "test", "dropout": 0.5, "cwsa_layout": "reference", "sides": [1]}
    tell_other_options({**trained_with, "dropout": 0.1, "new": 1, "sides": (1,)}, trained_with, "w")
    assert not capsys.readouterr().out
    tell_other_options({**trained_with, "cwsa_layout": "plain"}, trained_with, "w")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: config.model.cwsa_layout=plain") and "reference" in line
