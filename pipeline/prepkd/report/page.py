"""The HTML template of `dvc plots show`, which works offline, and the script that draws the charts of pages."""

from vl_convert import javascript_bundle

from prepkd.runtime.machine_faults import need_descriptors

DESCRIPTORS = 16  # file descriptors of the bundler's runtime, for sockets and pipes


def offline_page() -> bytes:
    """A template that contains Vega itself, so that the page loads nothing from the network."""
    # A plain script, not a module, because DVC calls vegaEmbed while the page loads.
    script = bundled("window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;")
    style = "body{font:14px sans-serif;margin:2em;display:flex;flex-wrap:wrap;gap:2em}"
    page = (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>prepkd</title>{{refresh_tag}}<style>{style}</style>'
    )
    return f"{page}<script>{script}</script></head><body>{{plot_divs}}</body></html>\n".encode()


def bundled(snippet: str) -> str:
    """Vega, Vega-Lite and vega-embed as one plain script that runs the snippet."""
    need_descriptors(DESCRIPTORS)
    bundle = javascript_bundle(snippet)
    # In a function: the bundle expects a module's scope. A script element ends at "</script", even within a string.
    return "(() => {'use strict';" + bundle.replace("</script", "<\\/script") + "})()"
