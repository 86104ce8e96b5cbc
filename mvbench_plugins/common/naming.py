"""Errors of stock code over a damaged file, in words that tell which file and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def naming(path: str | os.PathLike, remedy: str) -> Iterator[None]:
    """Let no error of a reader leave that does not name the file.

    What code that trusts its files raises over a damaged one (KeyError, TypeError, ...) becomes a ValueError. Errors
    that name the file already, and those that are none of its (no memory, no permission), pass.

    Args:
        path: the file that is read.
        remedy: what it should be, or what to do.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f'{path}: cannot be read, it may be damaged or of another kind ({type(error).__name__}: {error}); {remedy}'
        ) from error
