"""Hooks of MkDocs: generated pages, links that leave docs/, and a check of the built site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import cli
import http_api
import outside
import settings

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = {"cli": cli.page, "http-api": http_api.page, "settings": settings.page}
"""What a line ``<!-- generated: NAME -->`` is replaced with."""
ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Pages of the site that lie in the repository's root, where readers of the code look for them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    from mkdocs.structure.files import File

    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated, and give links that leave docs/ an address."""
    markdown = re.sub(r"^<!-- generated: ([\w-]+) -->$", lambda found: GENERATED[found[1]](), markdown, flags=re.M)
    source = Path(page.file.abs_src_path or "")
    repository = config.extra["repository"]
    return re.sub(
        r"(?<=\]\()[^)\s]+(?=\))",
        lambda found: address(found[0], source, page.file.src_uri, repository),
        markdown,
    )


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name things by roles of Sphinx, such as ``:class:`~autokv.errors.AutoKVError```: keep the name."""
    return re.sub(r":(?:attr|class|data|func|meth|mod):<code>(?:~[\w.]*?)?(\w+)</code>", r"<code>\1</code>", html)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that loads anything from another host.

    Raises:
        PluginError: a page does.
    """
    from mkdocs.exceptions import PluginError

    loaded = {
        f"{path.relative_to(config.site_dir)}: {address}"
        for path in Path(config.site_dir).rglob("*")
        if path.suffix in outside.PARSERS
        for address in outside.loads(path.read_text(encoding="utf-8"), path.suffix)
    }
    if loaded:
        raise PluginError("the site loads from other hosts:\n" + "\n".join(sorted(loaded)))


def address(link: str, source: Path, page: str, repository: str) -> str:
    """Where ``link`` of the file ``source``, which is the page ``page``, leads on the site.

    Args:
        link: as it is written, relative to ``source``.
        source: the Markdown file.
        page: path of its page, relative to docs/.
        repository: address of the project's repository, for files that are no pages.
    """
    path, mark, anchor = link.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link
    target = (source.parent / path).resolve()
    inner = target.relative_to(ROOT).as_posix()
    if target.is_relative_to(DOCS):
        target = target / "README.md" if target.is_dir() else target
    elif inner in ROOT_PAGES:
        target = DOCS / ROOT_PAGES[inner]
    else:
        return f"{repository}/{'tree' if target.is_dir() else 'blob'}/main/{inner}{mark}{anchor}"
    return Path(os.path.relpath(target, (DOCS / page).parent)).as_posix() + mark + anchor
