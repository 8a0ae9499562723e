"""The API reference: complete, offline, the same bytes twice."""

from __future__ import annotations

import re

import pytest

import remi_lib
from remi_lib.paths import project_root
from remi_lib.replication import reference


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    target = tmp_path_factory.mktemp("reference") / "pages"
    return target, reference.render(target)


def test_every_public_module_and_name_is_there(pages):
    target, written = pages
    assert [p for p in written if not p.is_file()] == []
    names = {str(p.relative_to(target)) for p in written}
    assert names == {"index.html"} | {f"{m.replace('.', '/')}.html" for m in reference.modules()}
    package = (target / "remi_lib.html").read_text()
    for name in remi_lib.__all__:
        assert f'id="{name}"' in package
    index = (target / "index.html").read_text()
    assert ":func:" not in index
    for link in re.findall(r'href="([^"]+)"', index):
        assert (target / link).is_file()


def test_the_committed_reference_is_complete():
    """If this fails: `make reference`."""
    folder = project_root() / "figures" / "reference"
    committed = {p.relative_to(folder).as_posix() for p in folder.rglob("*.html")}
    assert committed == {"index.html"} | {
        f"{m.replace('.', '/')}.html" for m in reference.modules()
    }


def test_links_between_pages_lead_somewhere(pages):
    _target, written = pages
    for page in written:
        for link in re.findall(r'href="([^"#]+\.html)', page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).resolve().is_file(), (page.name, link)


def test_nothing_is_loaded_from_elsewhere(pages):
    _target, written = pages
    for page in written:
        text = page.read_text()
        assert not re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(?:https?:)?//', text)
        assert "@import" not in text
        assert str(project_root()) not in text


def test_formulas_and_sections_are_rendered(pages):
    target, _ = pages
    page = (target / "remi_lib" / "losses.html").read_text()
    assert "Donsker-Varadhan" in page
    assert ">Raises" in page
    assert ":class:" not in page


def test_twice_the_same_bytes_and_what_was_there_is_replaced(pages, tmp_path):
    target, written = pages
    first = {p.relative_to(target): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    (target / "remi_lib" / "gone.html").write_text("a module that is no more")
    assert reference.render(target) == written
    second = {p.relative_to(target): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert first == second


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="nothing was changed"):
        reference.render(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"
