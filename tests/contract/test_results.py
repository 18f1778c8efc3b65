"""The committed scores: results.json and results.md say what the reports say that they are made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pasr_perception.evaluation.methods import METHODS
from pasr_perception.evaluation.real_photos import real_results
from pasr_perception.evaluation.results_file import RESULTS, SECTIONS, merge_results, read_reports
from pasr_perception.evaluation.synthetic import results_entry
from pasr_perception.evaluation.tables import TABLES, write_tables

DOCS = Path(__file__).parents[2] / "docs"
ENTRIES = {"synthetic": lambda report: results_entry(report["levels"]), "hope_dev": lambda r: real_results(r["parts"])}


def test_the_numbers_are_those_of_the_reports(tmp_path):
    for report in read_reports(DOCS).values():
        if report["kind"] in SECTIONS:
            merge_results(tmp_path, report["kind"], report["method"], ENTRIES[report["kind"]](report))
    assert json.loads((DOCS / RESULTS).read_text()) == json.loads((tmp_path / RESULTS).read_text())


def test_the_tables_are_those_of_the_reports(tmp_path):
    shutil.copytree(DOCS / "results", tmp_path / "results")
    assert (DOCS / TABLES).read_text() == write_tables(tmp_path).read_text()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_method_was_asked(section):
    assert set(json.loads((DOCS / RESULTS).read_text())[section]) == set(METHODS)
