"""A result as JUnit XML: a test case a gate, and one that holds the scores."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from llmkit.metrics.base import Result
from llmkit.reports.figures import number_text

# XML 1.0 has no way to write these at all, escaped or not.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def to_junit(result: Result) -> str:
    failures = sum(not gate.passed for gate in result.gates)
    suite = Xml.Element("testsuite", name="llmkit evaluate", tests=str(len(result.gates) + 1), failures=str(failures), errors="0")
    scores = Xml.SubElement(suite, "testcase", classname="llmkit.evaluate", name="scores")
    lines = [f"{s.name} = {number_text(s)}  ({s.signature})" for s in result.scores]
    Xml.SubElement(scores, "system-out").text = _clean("\n".join([*lines, f"{result.rows:,} rows"]))
    for gate in result.gates:
        case = Xml.SubElement(suite, "testcase", classname="llmkit.evaluate.gates", name=_clean(gate.condition))
        if gate.passed:
            Xml.SubElement(case, "system-out").text = _clean(gate.message)
        else:
            Xml.SubElement(case, "failure", message=_clean(gate.message)).text = _clean(gate.message)
    Xml.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suite, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
