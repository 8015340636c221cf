"""Charts of the page: pure functions from records to Vega-Lite specs."""
