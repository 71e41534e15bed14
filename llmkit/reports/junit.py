"""A result as JUnit XML: a test case a gate, and one that holds the scores, or one of each part.

Valid for the schemas of Ant (JUnit.xsd) and of Jenkins (junit-10.xsd): all attributes that the first asks for, in its order.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as Xml

from llmkit.errors import counted
from llmkit.metrics.base import Result
from llmkit.reports.figures import named_scores, number_text

# XML 1.0 has no way to write these at all, escaped or not.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def to_junit(result: Result) -> str:
    """The run's time is that of the case `scores`, or of the sets of a suite; a gate takes none."""
    failures = sum(not gate.passed for gate in result.gates)
    started = result.started or datetime.now(UTC).isoformat(timespec="seconds")
    timed = {name: part.seconds for name, part in result.parts.items() if part.seconds}
    parts = timed or {"scores": result.seconds}
    # the schema knows seconds and no time zone; a report says nothing about the machine it was made on
    suite = Xml.Element(
        "testsuite", name="llmkit evaluate", timestamp=started[:19], hostname="localhost", tests=str(len(result.gates) + len(parts)),
        failures=str(failures), errors="0", time=f"{result.seconds:.3f}",
    )  # fmt: skip
    properties = Xml.SubElement(suite, "properties")
    for name in ("model", "input", "device", "dtype"):
        if result.about.get(name):
            Xml.SubElement(properties, "property", name=name, value=_clean(str(result.about[name])))
    for name, seconds in parts.items():
        Xml.SubElement(suite, "testcase", classname="llmkit.evaluate", name=_clean(name), time=f"{seconds:.3f}")
    for gate in result.gates:
        case = Xml.SubElement(suite, "testcase", classname="llmkit.evaluate.gates", name=_clean(gate.condition), time="0.000")
        if not gate.passed:
            Xml.SubElement(case, "failure", message=_clean(gate.message), type="gate").text = _clean(gate.message)
    lines = [f"{name} = {number_text(s)}  ({s.signature})" for name, s in named_scores(result)]
    lines += [counted(result.rows, "row"), *(gate.message for gate in result.gates if gate.passed)]
    Xml.SubElement(suite, "system-out").text = _clean("\n".join(lines))
    Xml.SubElement(suite, "system-err")
    Xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suite, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
