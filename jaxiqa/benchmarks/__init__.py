"""Benchmarks for jaxiqa benchmark SUBJECT: one file per subject, whose run() returns the exit code."""
