"""The whole report: every section whose results exist, and for the others the reason and the command to run."""

from collections.abc import Callable

from prepkd.errors import InputError
from prepkd.html_report.page import render
from prepkd.html_report.parts import LeftOut, PageSection
from prepkd.html_report.results import Results
from prepkd.html_report.sections.calibration import calibration
from prepkd.html_report.sections.classes import classes
from prepkd.html_report.sections.confusions import confusions
from prepkd.html_report.sections.costs import costs
from prepkd.html_report.sections.methods import methods
from prepkd.html_report.sections.origin import origin
from prepkd.html_report.sections.repaired import repaired
from prepkd.html_report.sections.temperatures import temperatures
from prepkd.html_report.sections.training import training
from prepkd.html_report.summary import subtitle, tiles, title

SECTIONS: dict[str, Callable[[Results], PageSection]] = {
    "Methods compared": methods,
    "Learning curves": training,
    "Teacher errors that KA repairs": repaired,
    "Temperatures": temperatures,
    "Accuracy by class": classes,
    "Confusions and genetic errors": confusions,
    "Calibration": calibration,
    "Accuracy and cost": costs,
}


def build(results: Results) -> tuple[bytes, list[LeftOut]]:
    """Build the page; return it and its missing sections with the reasons. Raises InputError if no section has results."""
    sections: list[PageSection] = []
    left_out: list[LeftOut] = []
    for name, section in SECTIONS.items():
        try:
            sections.append(section(results))
        except InputError as error:
            left_out.append(LeftOut(name, str(error)))
    if not sections:
        raise InputError(f"no results to report: {left_out[0].why}".partition("\n")[0])
    page = render(title(results), subtitle(results), tiles(results), [*sections, origin(results)], left_out)
    return page, left_out
