"""Files that come into being whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[str]:
    """Yields the name of a new file; what the block writes there takes the place of ``path`` at the end.

    Whoever is killed meanwhile leaves ``path`` as it was, and the new file, which is called ``unfinished.part`` for all
    files of a folder: the next one that is written clears it away. Hence a folder may have one writer at a time.

    Args:
        path: the file to write, in a folder that exists.

    Raises:
        OSError: the file cannot be written, as on a full disk. What was written of it is removed.
    """
    part = os.path.join(os.path.dirname(path), 'unfinished.part')
    try:
        yield part
        with open(part, 'rb+') as file:
            os.fsync(file.fileno())  # some file systems tell only now that there is no room
        os.replace(part, path)
    except OSError as error:
        Path(part).unlink(missing_ok=True)
        told = f'{error.strerror or error}: the file could not be written, what stood there before is unchanged'
        raise OSError(error.errno, told, os.fspath(path)) from error
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
