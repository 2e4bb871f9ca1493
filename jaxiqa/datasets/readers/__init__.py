"""Readers, one file for each dataset. The docstring of jaxiqa.datasets says what a reader declares."""
