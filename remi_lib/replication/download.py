"""`make data`: image archives, fetched with resume, verified, unpacked as a whole."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import requests
from tqdm.auto import tqdm

from remi_lib.images import load_images
from remi_lib.paths import data_dir

BLOCK = 1 << 20


class DownloadError(RuntimeError):
    """An archive that could not be had; the message names it and says what to do."""


def fetch(url: str, path: Path, md5: str) -> Path:
    """``url`` at ``path``, going on where an interrupted download stopped.

    The file grows as ``<name>.part`` and is renamed once its checksum is right.  A file that is
    there already is verified and never overwritten.

    Raises DownloadError if the server cannot be reached or a checksum is wrong.
    """
    if path.exists():
        if _md5(path) != md5:
            raise DownloadError(
                f"{path}: its checksum is not {md5}; it was left as it is. Delete it"
            )
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(
            url, headers={"Range": f"bytes={have}-"} if have else {}, stream=True, timeout=30
        ) as answer:
            if answer.status_code != 416:  # 416: there was nothing left to send
                answer.raise_for_status()
                resumed = answer.status_code == 206
                _receive(answer, part, have if resumed else 0)
    except requests.RequestException as error:
        raise DownloadError(
            f"{url}: {error}. Run `make data` again to go on, or place {path.name} in {path.parent}"
        ) from error
    if _md5(part) != md5:
        raise DownloadError(
            f"{part}: its checksum is not {md5}. Delete it and run `make data` again"
        )
    part.rename(path)
    return path


def _receive(answer: requests.Response, part: Path, have: int) -> None:
    total = have + int(answer.headers.get("Content-Length", 0))
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem)
    with part.open("ab" if have else "wb") as file, bar:
        for block in answer.iter_content(BLOCK):
            file.write(block)
            bar.update(len(block))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def unpack(archive: Path, folder: str) -> None:
    """``folder`` of a tar archive beside it, appearing as a whole; nothing if it is there."""
    target = archive.parent / folder
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as temporary:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        (Path(temporary) / folder).rename(target)


def get(name: str, root: Path) -> None:
    """Fetch, verify and unpack one of torchvision's sets: cifar10, cifar100 or mnist."""
    from remi_lib._torchvision import datasets

    if name == "mnist":
        raw = root / "MNIST" / "raw"
        for file, md5 in datasets.MNIST.resources:
            archive = _first_mirror(datasets.MNIST.mirrors, raw / file, md5)
            plain = archive.with_suffix("")
            if not plain.exists():
                _gunzip(archive, plain)
        return
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    unpack(fetch(kind.url, root / kind.filename, kind.tgz_md5), kind.base_folder)


def _first_mirror(mirrors: Sequence[str], path: Path, md5: str) -> Path:
    for mirror in mirrors[:-1]:
        try:
            return fetch(mirror + path.name, path, md5)
        except DownloadError as error:
            print(f"{error}; trying the next mirror", file=sys.stderr)
    return fetch(mirrors[-1] + path.name, path, md5)


def _gunzip(archive: Path, plain: Path) -> None:
    import gzip

    from remi_lib.replication.store import atomic

    with atomic(plain) as temporary, gzip.open(archive) as packed, temporary.open("wb") as file:
        shutil.copyfileobj(packed, file)


def main(names: Sequence[str] = ("cifar10", "cifar100", "mnist")) -> int:
    """Get every set into the data folder; 1 if one could not be had."""
    failed = 0
    for name in names:
        try:
            get(name, data_dir())
            data = load_images(name)
            print(f"{name}: {len(data.train_y)} + {len(data.test_y)} images, verified")
        except (DownloadError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
