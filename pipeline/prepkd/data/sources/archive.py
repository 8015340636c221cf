"""Official archives: download, check, unpack."""

import http.client
import shutil
from dataclasses import dataclass
from pathlib import Path

from prepkd.errors import InputError, one_line


@dataclass(frozen=True)
class Archive:
    """An official archive: its address, file name and md5."""

    url: str
    file: str
    md5: str

    def unpack(self, into: Path, folder: Path) -> None:
        """Download the archive, check it, and unpack it to the folder `into`, which is replaced; raises InputError.

        The archive is then deleted, so that a `raw` under `dvc add` doesn't hold the data twice. A user's own copy beside the
        final `folder` is used instead of a download, and stays.
        """
        # torchvision's downloader, not its CIFAR100 class, which would also unpickle the files and so could execute code.
        # Imported here: it costs more than a second, and only `--download` needs it.
        from torchvision.datasets.utils import check_integrity, download_and_extract_archive, extract_archive

        shutil.rmtree(into, ignore_errors=True)
        theirs = folder.parent / self.file
        try:
            if check_integrity(theirs, self.md5):
                extract_archive(theirs, into)
            else:
                download_and_extract_archive(self.url, into, into, self.file, self.md5, remove_finished=True)
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            raise InputError(
                f"{self.url}: download failed: {one_line(error)}; "
                f"try again, or unpack that archive (md5 {self.md5}) so that {folder} exists"
            ) from None
