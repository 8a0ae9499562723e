"""The API reference: a page per module, rendered from the docstrings, readable offline.

python -m remi_lib.replication.reference [FOLDER]   (figures/reference by default)

The pages need no network and no server: styles and highlighting are in them.  Rendered twice
from the same code they are the same bytes.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from html import escape
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import remi_lib
from remi_lib.paths import project_root
from remi_lib.replication.store import replace_folder


def render(target: Path) -> list[Path]:
    """Write the reference of every public module into ``target``; returns its pages, sorted.

    ``target/index.html`` lists them.  A reference that was there before is replaced as a whole;
    nothing else may be kept in the folder.

    Raises:
        FileExistsError: ``target`` holds something that is not such a reference.
    """
    import pdoc

    target = Path(target)
    if target.exists() and any(target.iterdir()) and not (target / "remi_lib.html").is_file():
        raise FileExistsError(f"{target}: is not empty and holds no reference; nothing was changed")
    target.parent.mkdir(parents=True, exist_ok=True)
    pdoc.render.configure(
        docformat="google", show_source=False, search=False, footer_text="remi_lib"
    )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".reference-") as folder:
        fresh = Path(folder) / "pages"
        with warnings.catch_warnings():
            # Annotations that only a type checker can resolve are printed as they are written.
            warnings.filterwarnings("ignore", "Error parsing type annotation")
            pdoc.pdoc(*modules(), output_directory=fresh)
        (fresh / "index.html").write_text(_index(), encoding="utf-8")
        for page in fresh.rglob("*.*"):  # a module's paths are those of whoever reads it
            text = page.read_text(encoding="utf-8").replace(str(project_root()), "…")
            page.write_text(text, encoding="utf-8")
        replace_folder(fresh, target)
    return sorted(target.rglob("*.html"))


def modules() -> list[str]:
    """The package and its public modules; what the package exports lazily is loaded."""
    for name in remi_lib.__all__:
        getattr(remi_lib, name)
    names = sorted(found.name for found in iter_modules(remi_lib.__path__))
    return ["remi_lib", *(f"remi_lib.{name}" for name in names if not name.startswith("_"))]


def _index() -> str:
    return PAGE.format("\n".join(_entries()))


def _entries() -> Iterator[str]:
    for name in modules():
        summary = (import_module(name).__doc__ or "").partition("\n")[0]
        summary = re.sub(r":\w+:`~?([^`]+)`", r"\1", escape(summary))  # a role of reStructuredText
        summary = re.sub(r"`+([^`]+)`+", r"<code>\1</code>", summary)
        link = f"{name.replace('.', '/')}.html"
        yield f'<dt><a href="{link}">{name}</a></dt><dd>{summary}</dd>'


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>remi_lib: API reference</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font-family: system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
dt {{ font-family: ui-monospace, monospace; margin-top: .8rem; }}
dd {{ margin-left: 1.2rem; color: #444; }}
a {{ color: #0b5394; text-decoration: none; }}
</style></head><body>
<h1>remi_lib: API reference</h1>
<p>What to import; the notebooks tell what it is for.</p>
<dl>
{}
</dl>
</body></html>
"""


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else project_root() / "figures" / "reference"
    pages = render(Path(given))
    print(f"{len(pages)} pages; open {Path(given) / 'index.html'}")
