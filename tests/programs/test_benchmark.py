"""jaxiqa benchmark: its subjects are the files with run()."""

from tiny_run import ROOT, check_refusals

from jaxiqa.benchmark import SUBJECTS
from jaxiqa.benchmarks import startup

REFUSED = [
    ([], 2, "crops, distortions, export, lka, score, startup"),
    (["distortion"], 2, '"distortions"'),
    (["reference_distortions"], 2, '"distortions"'),  # a file of the room without run()
    (["distortions", "lka"], 2, "SUBJECT"),
    (["lka", "--images=folder"], 2, "--images", "lka"),
    (["crops"], 2, "--data_dir"),
]


def test_refusals():
    check_refusals("benchmark", REFUSED)


def test_subjects_are_the_files_that_can_be_run():
    files = (ROOT / "jaxiqa" / "benchmarks").glob("*.py")
    assert sorted(SUBJECTS) == sorted(file.stem for file in files if "\ndef run(" in file.read_text())


def test_start_times_are_of_real_commands(monkeypatch, capsys):
    lines = startup.commands()
    chosen = {name: lines[name] for name in ("python -c pass", "import jaxiqa", "jaxiqa --help")}
    monkeypatch.setattr(startup, "commands", lambda: chosen)
    monkeypatch.setattr(startup, "REPEATS", 1)
    assert startup.run() in (0, 1)  # the machine may be busy
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row[:28].strip() for row in rows] == list(chosen)
    for row in rows:
        assert 0.005 < float(row[28:35]) < 60 and float(row[35:43]) > 0
