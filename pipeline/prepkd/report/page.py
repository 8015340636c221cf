"""The HTML template of `dvc plots show`, which works offline."""

from vl_convert import javascript_bundle

from prepkd.runtime.machine_faults import need_descriptors

DESCRIPTORS = 16  # file descriptors of the bundler's runtime, for sockets and pipes


def offline_page() -> bytes:
    """A template that contains Vega itself, so that the page loads nothing from the network."""
    need_descriptors(DESCRIPTORS)
    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;")
    # A plain script, because DVC calls vegaEmbed while the page loads; in a function, because the bundle expects a
    # module's scope. A script element ends at the first "</script", even within a string.
    script = "(() => {'use strict';" + bundle.replace("</script", "<\\/script") + "})()"
    style = "body{font:14px sans-serif;margin:2em;display:flex;flex-wrap:wrap;gap:2em}"
    page = (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>prepkd</title>{{refresh_tag}}<style>{style}</style>'
    )
    return f"{page}<script>{script}</script></head><body>{{plot_divs}}</body></html>\n".encode()
