"""Writing the files that stand for hardware, to be laid over the real /sys."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path


class Tree:
    """A folder that becomes the upper layer of an overlay over a kernel file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def text(self, path: str, content: str | int) -> None:
        """A file of one value, ended by a newline as the kernel does."""
        self.data(path, f"{content}\n".encode())

    def texts(self, folder: str, values: Mapping[str, str | int]) -> None:
        """Several such files of one folder."""
        for name, content in values.items():
            self.text(f"{folder}/{name}", content)

    def data(self, path: str, content: bytes) -> None:
        """A file of bytes."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def link(self, path: str, to: str) -> None:
        """A relative symbolic link to `to`, which is a path inside the tree."""
        source = self.root / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.unlink(missing_ok=True)
        source.symlink_to(os.path.relpath(self.root / to, source.parent))

    def hide(self, path: str) -> None:
        """What the lower layer has in this folder is not seen: the devices of the machine that the lab runs on.

        Only root can write the mark, and only root can mount the overlay: for others there is nothing to hide.
        """
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.setxattr(folder, "trusted.overlay.opaque", b"y")

    def remove(self, path: str) -> None:
        """What the lower layer has under this name is not there. Only for root, as `hide`."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0 and not target.exists():
            os.mknod(target, stat.S_IFCHR, os.makedev(0, 0))
