"""JUnit reports are valid for the schema that Ant's format has, and that Jenkins and GitLab read."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, write_rows
from lxml import etree

#: The structure of Ant's format: which elements and attributes there are, in which order, and of which types.
SCHEMA = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:simpleType name="seconds"><xs:restriction base="xs:decimal"><xs:minInclusive value="0"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="moment">
    <xs:restriction base="xs:dateTime"><xs:pattern value="[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"/></xs:restriction>
  </xs:simpleType>
  <xs:complexType name="fault">
    <xs:simpleContent><xs:extension base="xs:string">
      <xs:attribute name="message" type="xs:string"/><xs:attribute name="type" type="xs:string" use="required"/>
    </xs:extension></xs:simpleContent>
  </xs:complexType>
  <xs:complexType name="property">
    <xs:attribute name="name" type="xs:token" use="required"/><xs:attribute name="value" type="xs:string" use="required"/>
  </xs:complexType>
  <xs:complexType name="case">
    <xs:choice minOccurs="0">
      <xs:element name="skipped"/><xs:element name="error" type="fault"/><xs:element name="failure" type="fault"/>
    </xs:choice>
    <xs:attribute name="name" type="xs:token" use="required"/><xs:attribute name="classname" type="xs:token" use="required"/>
    <xs:attribute name="time" type="seconds" use="required"/>
  </xs:complexType>
  <xs:element name="testsuite"><xs:complexType>
    <xs:sequence>
      <xs:element name="properties"><xs:complexType><xs:sequence>
        <xs:element name="property" type="property" minOccurs="0" maxOccurs="unbounded"/>
      </xs:sequence></xs:complexType></xs:element>
      <xs:element name="testcase" type="case" minOccurs="0" maxOccurs="unbounded"/>
      <xs:element name="system-out" type="xs:string"/>
      <xs:element name="system-err" type="xs:string"/>
    </xs:sequence>
    <xs:attribute name="name" type="xs:token" use="required"/><xs:attribute name="timestamp" type="moment" use="required"/>
    <xs:attribute name="hostname" type="xs:token" use="required"/><xs:attribute name="tests" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="failures" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="errors" type="xs:nonNegativeInteger" use="required"/><xs:attribute name="time" type="seconds" use="required"/>
  </xs:complexType></xs:element>
</xs:schema>"""


def checked(report: Path) -> etree._Element:
    """The root of a report that is valid, with counts that are those of its cases."""
    root = etree.parse(str(report)).getroot()
    etree.XMLSchema(etree.fromstring(SCHEMA)).assertValid(root)
    assert int(root.get("tests", "")) == len(root.findall("testcase"))
    assert int(root.get("failures", "")) == len(root.findall("testcase/failure"))
    return root


@pytest.mark.parametrize("conditions", [[], ["bleu < 1"], ["bleu > 1"], ["bleu > 1", "bleu < 1", "bleu >= 100"]])
def test_gates_that_hold_and_that_fail_are_valid_cases(run: Run, tmp_path: Path, conditions: list[str]) -> None:
    text, report = tmp_path / "a.txt", tmp_path / "r.xml"
    text.write_text("the cat sat on the mat\n")
    gates = [word for condition in conditions for word in ("--fail-if", condition)]
    run("evaluate", "bleu", "-p", text, "-r", text, "--report", report, *gates)
    assert len(checked(report).findall("testcase")) == 1 + len(conditions)


def test_hostile_names_and_a_model_are_valid(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "<b>&\"'.jsonl", [{"text": "The king\x07 lived ]]> here."}] * 2)
    report = tmp_path / "r.xml"
    assert run("evaluate", "perplexity", "-i", rows, "--report", report, "--fail-if", "bits_per_byte > 0.001").code == 4
    root = checked(report)
    assert [p.get("name") for p in root.iter("property")] == ["model", "input", "device", "dtype"]
    assert float(root.get("time", "0")) > 0
