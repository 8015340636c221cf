"""Official archives: download, check, unpack."""

import http.client
from dataclasses import dataclass
from pathlib import Path

from prepkd.errors import InputError


@dataclass(frozen=True)
class Archive:
    """An official archive: its address, file name and md5."""

    url: str
    file: str
    md5: str

    def unpack(self, into: Path, folder: Path) -> None:
        """Download the archive beside `folder`, check it, unpack it into `into`, and delete it; raises InputError.

        It is deleted so that a `raw` under `dvc add` doesn't hold the data twice. `folder` is the data's final place.
        """
        # torchvision's downloader, not its CIFAR100 class: that one would also unpickle the files, with code execution.
        # Imported here: it costs more than a second, and only `--download` needs it.
        from torchvision.datasets.utils import download_and_extract_archive

        try:
            download_and_extract_archive(self.url, folder.parent, into, self.file, self.md5, remove_finished=True)
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.url}: download failed: {reason}; "
                f"try again, or unpack that archive (md5 {self.md5}) so that {folder} exists"
            ) from None
