"""Downloads against a local server: resume, checksum, nothing half-unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from remi_lib._torchvision import datasets as tv
from remi_lib.images import load_images
from remi_lib.replication import download
from remi_lib.replication.download import DownloadError, fetch, unpack

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    ranges: list[str | None]
    content = CONTENT

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Server.ranges, Server.content = [], CONTENT
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/set.tar.gz"
    server.shutdown()


def test_fetches_and_verifies_once(url, tmp_path):
    path = fetch(url, tmp_path / "a" / "set.tar.gz", MD5)
    assert path.read_bytes() == CONTENT
    fetch(url, path, MD5)
    assert Server.ranges == [None]


def test_resumes_where_it_stopped(url, tmp_path):
    part = tmp_path / "set.tar.gz.part"
    part.write_bytes(CONTENT[:1000])
    assert fetch(url, tmp_path / "set.tar.gz", MD5).read_bytes() == CONTENT
    assert Server.ranges == ["bytes=1000-"]
    assert not part.exists()


def test_wrong_checksum_is_named_and_left(url, tmp_path):
    Server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DownloadError, match=r"set.tar.gz.part: its checksum is not"):
        fetch(url, tmp_path / "set.tar.gz", MD5)
    assert not (tmp_path / "set.tar.gz").exists()
    (tmp_path / "set.tar.gz").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="left as it is"):
        fetch(url, tmp_path / "set.tar.gz", MD5)
    assert (tmp_path / "set.tar.gz").read_bytes() == b"mine"


def test_unreachable_server_says_what_to_do(tmp_path):
    with pytest.raises(DownloadError, match=r"place set.tar.gz in"):
        fetch("http://127.0.0.1:9/set.tar.gz", tmp_path / "set.tar.gz", MD5)


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


def test_unpacks_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "set.tar.gz"
    path.write_bytes(archive(["set/a", "set/b"]))
    unpack(path, "set")
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["a", "b"]
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(path.read_bytes()[:60])
    with pytest.raises((tarfile.TarError, EOFError)):
        unpack(broken, "broken")
    assert {p.name for p in tmp_path.iterdir()} == {"set.tar.gz", "set", "broken.tar.gz"}


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    path = tmp_path / "in" / "set.tar.gz"
    path.parent.mkdir()
    path.write_bytes(archive(["../escaped"]))
    with pytest.raises(tarfile.TarError):
        unpack(path, "set")
    assert not (tmp_path / "escaped").exists()


def test_mnist_comes_from_the_mirror_that_has_it(url, tmp_path, monkeypatch, capsys):
    """The first mirror is dead; the second one's archive is unpacked beside it, once."""
    Server.content = gzip.compress(b"images")
    md5 = hashlib.md5(Server.content).hexdigest()
    mirrors = ["http://127.0.0.1:9/", url.removesuffix("set.tar.gz")]
    monkeypatch.setattr(tv.MNIST, "mirrors", mirrors)
    monkeypatch.setattr(tv.MNIST, "resources", [("t10k-images-idx3-ubyte.gz", md5)])
    for _ in range(2):
        download.get("mnist", tmp_path)
    plain = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    assert plain.read_bytes() == b"images"
    assert len(Server.ranges) == 1
    assert "trying the next mirror" in capsys.readouterr().err


def test_main_fetches_unpacks_and_counts(url, tmp_path, monkeypatch, capsys):
    Server.content = archive(["cifar-10-batches-py/data_batch_1"])
    monkeypatch.setenv("REMI_DATA", str(tmp_path))
    monkeypatch.setattr(tv.CIFAR10, "url", url)
    monkeypatch.setattr(tv.CIFAR10, "tgz_md5", hashlib.md5(Server.content).hexdigest())
    monkeypatch.setattr(download, "load_images", lambda name: load_images("digits"))
    assert download.main(["cifar10"]) == 0
    assert (tmp_path / "cifar-10-batches-py" / "data_batch_1").exists()
    assert "cifar10: 1437 + 360 images, verified" in capsys.readouterr().out


def test_main_reports_what_could_not_be_had(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REMI_DATA", str(tmp_path))
    monkeypatch.setattr(tv.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    assert download.main(["cifar10"]) == 1
    assert "error: http://127.0.0.1:9/cifar-10" in capsys.readouterr().err
