"""What is fast, measured: one file per subject with run() -> exit code, for python -m jaxiqa.benchmark SUBJECT."""
