"""Compiled programs kept between runs."""

import os

import jax


def enable() -> None:
    """Keep compiled programs in $JAX_COMPILATION_CACHE_DIR, or in ~/.cache/jaxiqa/xla, readable by this user only.

    Whoever can write to that folder can run code in this process, so it is never a shared one by default, and one that
    others can write to is not used, with a warning. Buckets are the user's own affair.
    """
    folder = jax.config.jax_compilation_cache_dir
    if folder and "://" in folder:
        return
    if not folder:
        base = os.environ.get("JAXIQA_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "jaxiqa")
        folder = os.path.join(base, "xla")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        about = os.stat(folder)
        why = "can be written by others" if about.st_mode & 0o022 else "is another user's"
        trusted = about.st_uid == os.getuid() and not about.st_mode & 0o022
    except OSError as error:
        why, trusted = f"cannot be made ({error.strerror})", False
    if not trusted:
        print(
            f"warning: the compile cache {folder} {why} and is not used; chmod 700 it or name another in JAXIQA_CACHE"
        )
    jax.config.update("jax_compilation_cache_dir", folder if trusted else None)
