"""The cache of compiled programs, which is kept between runs."""

import os

import jax

from jaxiqa.errors import ConfigError
from jaxiqa.files import cache_dir


def enable() -> None:
    """Keep compiled programs in $JAX_COMPILATION_CACHE_DIR, or in ~/.cache/jaxiqa/xla, readable by this user only.

    Everybody who can write to that folder can run code in this process. So the default is not a shared folder, and a
    folder that others can write to is not used, with a warning. A bucket is not checked.
    """
    folder = jax.config.jax_compilation_cache_dir
    if folder and "://" in folder:
        return
    try:
        folder = folder or os.path.join(cache_dir(), "xla")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        about = os.stat(folder)
        why = "belongs to another user" if about.st_uid != os.getuid() else ""
        why = "can be written by others" if about.st_mode & 0o022 else why
    except ConfigError as error:
        print(f"warning: compiled programs are not kept: {error}")
        return
    except OSError as error:
        why = f"cannot be created ({error.strerror})"
    if why:
        print(f"warning: the compile cache {folder} {why} and is not used; run chmod 700 {folder} or set JAXIQA_CACHE")
    jax.config.update("jax_compilation_cache_dir", None if why else folder)
