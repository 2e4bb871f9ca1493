"""Compiled programs kept between runs."""

import os

import jax


def enable() -> None:
    """Keep compiled programs in $JAX_COMPILATION_CACHE_DIR, or in ~/.cache/jaxiqa/xla, readable by this user only.

    Whoever can write to that folder can run code in this process, so it is never a shared one by default.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    base = os.environ.get("JAXIQA_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "jaxiqa")
    folder = os.path.join(base, "xla")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.stat(folder).st_uid == os.getuid() and not os.stat(folder).st_mode & 0o022:
        jax.config.update("jax_compilation_cache_dir", folder)
