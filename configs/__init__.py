"""The experiments that come with jaxiqa, one per file; `--config NAME[:ARGUMENT]` finds them by name."""
