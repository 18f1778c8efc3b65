"""Numbers of one method beside those of others, and the tables made of them."""

from __future__ import annotations

import json

import pytest

from pasr_perception.evaluation.results_file import merge_results, read_reports, repeatable, write_report
from pasr_perception.evaluation.tables import markdown, number, write_tables

SCORES = {
    "objects": 4,
    "top1": 0.5,
    "top5": 0.75,
    "top10": 1.0,
    "category_top1": 0.5,
    "acc_pi_6": 0.25,
    "acc_pi_18": None,
    "median_rotation_deg": 12.34,
}
LEVEL = {
    "all": SCORES,
    "before refinement": SCORES,
    "without symmetry": SCORES,
    "look-alikes": SCORES,
    "looks": {"own": SCORES},
    "categories": {"chair": SCORES},
}


def test_methods_do_not_overwrite_each_other(tmp_path):
    merge_results(tmp_path, "synthetic", "lifted", {"L0": {"top1": 0.123456}})
    merge_results(tmp_path, "synthetic", "chance", {"L0": {"top1": 0.01}})
    merge_results(tmp_path, "hope_dev", "lifted", {"id_top1": None})
    merge_results(tmp_path, "synthetic", "chance", {"L0": {"top1": 0.02}})
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "synthetic": {"lifted": {"L0": {"top1": 0.1235}}, "chance": {"L0": {"top1": 0.02}}},
        "hope_dev": {"lifted": {"id_top1": None}},
    }


def test_what_cannot_be_merged_is_named(tmp_path):
    with pytest.raises(ValueError, match="section: expected one of synthetic, hope_dev, got 'ycbv'"):
        merge_results(tmp_path, "ycbv", "lifted", {})
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results.json: is no JSON"):
        merge_results(tmp_path, "synthetic", "lifted", {})


def test_tables_of_reports_in_the_order_of_the_methods_with_their_commands(tmp_path):
    entry = {"kind": "synthetic", "about": "4 meshes.", "levels": {"L0": LEVEL}}
    for method in ("lifted", "chance"):
        write_report(tmp_path, f"synthetic_{method}", {**entry, "method": method, "command": f"pasr {method}"})
    recalls = dict.fromkeys(
        (
            "adds_rotation_05d",
            "adds_rotation_10d",
            "adds_10d",
            "mssd_recall",
            "mspd_recall",
            "mssd_recall_plain",
            "mspd_recall_plain",
            "vsd_recall",
        ),
        0.625,
    )
    part = {"objects": 9, "id_top1": 0.1, "id_top5": 0.2, "shape_top1": 0.3, "given": recalls, "end_to_end": recalls}
    real = {"kind": "hope_dev", "method": "pooled", "about": "x", "command": "pasr real", "parts": {"all": part}}
    write_report(tmp_path, "hope_dev_pooled", real)
    assert set(read_reports(tmp_path)) == {"synthetic_lifted", "synthetic_chance", "hope_dev_pooled"}
    text = write_tables(tmp_path).read_text()
    assert text.index("| chance | 4 | 0.500") < text.index("| lifted, before refinement |") < text.index("| lifted | 4")
    assert "12.3°" in text
    assert "pasr chance\npasr lifted" in text
    assert "| pooled, all | 9 | 0.100 | 0.200 | 0.300 |" in text
    assert "0.625" in text
    assert "A share of 4 objects has a standard error of up to 0.25." in text
    assert "A share of 9 objects has a standard error of up to 0.17." in text


def test_transfer_stands_beside_what_the_method_reaches_at_home(tmp_path):
    there = {
        **LEVEL,
        "all": {**SCORES, "top1": 0.375, "median_rotation_deg": 20.0},
        "look-alikes": {**SCORES, "objects": 0},
    }
    home = {"kind": "synthetic", "about": "4 meshes.", "command": "pasr home"}
    away = {"kind": "transfer", "about": "toys 4 meshes.", "command": "pasr away"}
    write_report(tmp_path, "synthetic_lifted", {**home, "method": "lifted", "levels": {"L0": LEVEL, "L3": LEVEL}})
    write_report(tmp_path, "transfer_toys_lifted", {**away, "method": "lifted", "levels": {"L0": there}})
    write_report(tmp_path, "transfer_toys_pooled", {**away, "method": "pooled", "levels": {"L0": there}})
    text = write_tables(tmp_path).read_text()
    costs = text[text.index("### What transfer costs") :]
    row = "| lifted, L0 | 0.500 → 0.375 (-0.125) | 0.750 → 0.750 (+0.000) |"
    assert costs.count(" → ") == 12
    assert "From: 4 meshes.\nTo: toys 4 meshes." in costs
    assert row in costs
    assert "| – | 12.3° → 20.0° (+7.7°) |" in costs
    assert "| lifted, L0: look-alikes | 0 |" not in text


def test_pictures_stand_with_the_counts_of_causes(tmp_path):
    causes = [{"cause": "turned", "means": "by 30°", "photos": 2}, {"cause": "bare mesh", "means": "grey", "photos": 1}]
    entry = {"kind": "pictures", "about": "9 photos.", "command": "pasr pictures", "photos": 9, "causes": causes}
    write_report(tmp_path, "pictures", entry)
    text = write_tables(tmp_path).read_text()
    assert all(f"](images/{name}.jpg)" in text for name in ("features", "strips", "failures"))
    assert "3 of 9 photos failed" in text
    assert "| turned: by 30° | 2 |\n| bare mesh: grey | 1 |" in text


def test_cells():
    assert (number(None), number(0.5), number(12.345, "°")) == ("–", "0.500", "12.3°")
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n|---|---:|\n| x | 1 |\n"


def test_a_command_is_told_without_the_places_of_ones_own():
    given = ["evaluate", "bop", "a b", "--docs", "/tmp/x", "--jitter", "0.1", "--memory=/tmp/y", "--seed", "0"]
    assert repeatable(given) == "pasr evaluate bop 'a b' --jitter 0.1 --seed 0"
    assert repeatable(["evaluate", "--docs"]) == "pasr evaluate"
