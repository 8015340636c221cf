"""The page as HTML: one file that makes no requests, under a content security policy that forbids them."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from prepkd.errors import without_secrets
from prepkd.html_report.parts import LeftOut, PageSection, Spec, Tile
from prepkd.report.page import bundled

GENERATOR = "prepkd report"
# The page may load nothing from outside; inline styles are allowed, since Vega sets some on its elements.
POLICY = "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render(
    title: str, subtitle: str, tiles: Sequence[Tile], sections: Sequence[PageSection], left_out: Sequence[LeftOut]
) -> bytes:
    """Render the whole page as UTF-8; every text is escaped, and secrets of URLs are removed."""
    environment = Environment(
        loader=PackageLoader("prepkd.html_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["spec"] = spec_json
    environment.filters["plain"] = without_secrets
    environment.filters["code"] = with_code
    scripts = [bundled("window.vegaEmbed = vegaEmbed;"), _asset("report.js")]
    policy = POLICY.format(hashes=" ".join(f"'sha256-{_hash(script)}'" for script in scripts))
    page = environment.get_template("page.html").render(
        title=without_secrets(title),
        subtitle=without_secrets(subtitle),
        generator=f"{GENERATOR} {version('prepkd')}",
        policy=Markup(policy),
        style=Markup(_asset("report.css")),
        scripts=[Markup(script) for script in scripts],
        tiles=tiles,
        sections=sections,
        left_out=left_out,
    )
    return page.encode()


def spec_json(spec: Spec) -> Markup:
    """A spec as JSON for a script element: ASCII, without HTML's special characters.

    >>> spec_json({"name": "</script>\u2028&"})
    Markup('{"name":"\\\\u003c/script\\\\u003e\\\\u2028\\\\u0026"}')
    """
    text = json.dumps(spec, separators=(",", ":"), allow_nan=False)
    escapes: dict[str, str | int | None] = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
    return Markup(text.translate(str.maketrans(escapes)))


def with_code(text: str) -> Markup:
    """Remove secrets from a text, and turn `code` between backticks into code elements.

    >>> with_code("run `prepkd <x>`")
    Markup('run <code>prepkd &lt;x&gt;</code>')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(without_secrets(text)))))


def _asset(name: str) -> str:
    return files("prepkd.html_report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
