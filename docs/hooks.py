"""MkDocs hook: adds the READMEs of the packages and references of commands and configurations."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from nllb.cli import build_parser, read_verbs

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "nllb/README.md": "packages/nllb.md",
    "nllb/model/README.md": "packages/model.md",
    "nllb/translation/README.md": "packages/translation.md",
    "nllb/serving/README.md": "packages/serving.md",
    "nllb/training/README.md": "packages/training.md",
    "nllb/_models/mini/README.md": "packages/mini.md",
    "lid/README.md": "packages/lid.md",
    "data_pipeline/README.md": "packages/data_pipeline.md",
    "eval/README.md": "packages/eval.md",
    "slurm/README.md": "packages/slurm.md",
}
"""Markdown files outside `docs/` and the addresses of their pages."""

LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages before MkDocs reads the site."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=rewrite_links(text, source, page)))
    files.append(File.generated(config, "reference/commands.md", content=command_reference()))
    configurations = configuration_reference()
    files.append(File.generated(config, "reference/configurations.md", content=configurations))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite the links of pages in `docs/` that lead to files outside it."""
    if page.file.generated_by is not None:
        return markdown
    return rewrite_links(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def rewrite_links(text: str, source: str, page: str) -> str:
    """Replace links to repository files by links to their pages; other links become plain text."""

    def replace(link: re.Match[str]) -> str:
        label, target, anchor = link.groups()
        path = normpath(str(PurePosixPath(source).parent / target))
        pages = (PAGES.get(path), PAGES.get(f"{path}/README.md"), _below_docs(path))
        for found in filter(None, pages):
            address = relpath(found, str(PurePosixPath(page).parent))
            return f"[{label}]({address}{anchor or ''})"
        return label

    return LINK.sub(replace, text)


def _below_docs(path: str) -> str | None:
    """Return the address of a page or picture in `docs/`; None for other files."""
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def command_reference() -> str:
    """Return one Markdown section per verb, with the text of its `--help`."""
    sections = ["# Command line", "", "Every verb prints this text with `--help`."]
    group = ""
    for verb in read_verbs():
        if verb.group != group:
            group = verb.group
            sections += ["", f"## {group}"]
        parser = build_parser(verb)
        help_text = parser.format_help().rstrip()
        sections += ["", f"### nllb {' '.join(verb.words)}", "", "```text", help_text, "```"]
    return "\n".join(sections) + "\n"


def configuration_reference() -> str:
    """Return one Markdown section per shipped configuration, with its commented YAML."""
    sections = [
        "# Configurations",
        "",
        "One YAML file describes one run. These files ship with the package; a command accepts a",
        "path or the name of a section below. `nllb config show NAME` prints every key with its",
        "default and its description, and `key.sub=value` on the command line overrides a value.",
    ]
    paths = sorted((ROOT / "configs").glob("*/*.yaml"))
    for kind in sorted({path.parent.name for path in paths}):
        sections += ["", f"## {kind}"]
        for path in (path for path in paths if path.parent.name == kind):
            text = path.read_text(encoding="utf-8").rstrip()
            sections += ["", f"### {kind}/{path.stem}", "", "```yaml", text, "```"]
    return "\n".join(sections) + "\n"
