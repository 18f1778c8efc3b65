"""Settings: defaults, nested YAML overrides, and every mistake named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pasr_perception.config import (
    BankConfig,
    BoxConfig,
    CoarseConfig,
    ConfigError,
    EncoderConfig,
    LibraryConfig,
    PasrConfig,
    RankConfig,
    RefineConfig,
    ReframeConfig,
    TrackConfig,
    from_mapping,
    load_config,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}", "refine: {}\n"])
def test_an_empty_file_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_config(written(tmp_path, text)) == PasrConfig()


def test_nested_overrides_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    text = "refine:\n  steps: 20\n  learning_rate: 0.02\nencoder: {name: dinov2, device: cpu}\nlibrary: {fill: 0.75}\n"
    config = load_config(str(written(tmp_path, text)))
    assert config == PasrConfig(
        refine=RefineConfig(steps=20, learning_rate=0.02),
        encoder=EncoderConfig(name="dinov2", device="cpu"),
        library=LibraryConfig(fill=0.75),
    )


def test_whole_numbers_pass_as_floats_but_not_the_other_way(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "refine: {learning_rate: 1}\n"))
    assert config.refine.learning_rate == 1.0
    assert type(config.refine.learning_rate) is float
    with pytest.raises(ConfigError, match=r"refine\.steps: expected int, got 20\.0"):
        load_config(written(tmp_path, "refine: {steps: 20.0}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "refin: {steps: 1}",
            r"^refin: unknown key; known keys here: boxes, coarse, .*, refine, reframe, support, track$",
        ),
        ("refine: {step: 1}", r"^refine\.step: unknown key; known keys here: .*steps"),
        ("refine: 5", r"^refine: expected a mapping of settings, got 5"),
        ("refine: {steps: yes}", r"^refine\.steps: expected int, got True"),
        ("refine: {learning_rate: yes}", r"^refine\.learning_rate: expected float, got True"),
        ("refine: {steps: '7'}", r"^refine\.steps: expected int, got '7'"),
        ("refine: {steps: null}", r"^refine\.steps: expected int, got None"),
        ("encoder: {name: 3}", r"^encoder\.name: expected str, got 3"),
        (
            "encoder: {name: resnet}",
            r"^encoder\.name: expected one of efficientnet-lite0, dinov2, dinov3, got 'resnet'",
        ),
        (
            "encoder: {image_size: 450}",
            r"^encoder\.image_size: expected 0, or a multiple of 16 from 64 to 1024, got 450",
        ),
        (
            "encoder: {name: dinov2, image_size: 560}",
            r"^encoder\.image_size: expected 0 with dinov2, whose size is fixed, got 560",
        ),
        ("- refine", r"settings\.yaml: expected a mapping of settings, got \['refine'\]"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (EncoderConfig, {"batch_size": -1}, r"encoder\.batch_size: expected 0 or more, got -1"),
        (CoarseConfig, {"second_meshes": 600}, r"coarse\.second_meshes: expected 32 .*, got 600"),
        (CoarseConfig, {"top_k": 0}, r"coarse\.top_k"),
        (CoarseConfig, {"top_k": 3, "per_mesh": 4}, r"coarse\.per_mesh: expected 1\.\.top_k=3, got 4"),
        (CoarseConfig, {"per_mesh": 0}, r"coarse\.per_mesh"),
        (CoarseConfig, {"outline_weight": -0.1}, r"coarse\.outline_weight"),
        (CoarseConfig, {"method": "guess"}, r"coarse\.method: expected one of shortlist, exhaustive, got 'guess'"),
        (CoarseConfig, {"shortlist_meshes": 0}, r"coarse\.shortlist_meshes"),
        (CoarseConfig, {"poses_each": 0}, r"coarse\.poses_each: expected at least 1, got 0"),
        (CoarseConfig, {"poses_more": -1}, r"coarse\.poses_more: expected 0 or more, got -1"),
        (CoarseConfig, {"resident_mb": 0}, r"coarse\.resident_mb"),
        (BankConfig, {"rank": 0}, r"library\.bank\.rank"),
        (RefineConfig, {"top_k": 0}, r"refine\.top_k"),
        (RefineConfig, {"steps": -1}, r"refine\.steps: expected 0 or more, got -1"),
        (RefineConfig, {"method": "lbfgs"}, r"refine\.method: expected one of newton, adamw, got 'lbfgs'"),
        (RefineConfig, {"unknowns": 4}, r"refine\.unknowns: expected 3, 5 or 6, got 4"),
        (RefineConfig, {"iterations": -1}, r"refine\.iterations: expected 0 or more, got -1"),
        (RefineConfig, {"robust_scale": -1.0}, r"refine\.robust_scale"),
        (RefineConfig, {"again": -1}, r"refine\.again: expected 0 or more, got -1"),
        (
            RefineConfig,
            {"unknowns": 6, "coverage_weight": 0.0},
            r"refine\.coverage_weight: expected more than 0 with 5 or 6",
        ),
        (RefineConfig, {"learning_rate": 0.0}, r"refine\.learning_rate"),
        (RefineConfig, {"learning_rate": float("nan")}, r"refine\.learning_rate"),
        (RefineConfig, {"weight_decay": -1.0}, r"refine\.weight_decay"),
        (BoxConfig, {"gain": 0.0}, r"boxes\.gain: expected more than 0, at most 1, got 0\.0"),
        (BoxConfig, {"gain": 1.1}, r"boxes\.gain"),
        (TrackConfig, {"refined": 0}, r"track\.refined: expected at least 1, got 0"),
        (ReframeConfig, {"rounds": -1}, r"reframe\.rounds: expected 0 or more, got -1"),
        (ReframeConfig, {"gain": 0.0}, r"reframe\.gain: expected more than 0, at most 1, got 0\.0"),
        (ReframeConfig, {"least_change": 1.0}, r"reframe\.least_change"),
        (ReframeConfig, {"iterations": 0}, r"reframe\.iterations"),
        (ReframeConfig, {"coverage_weight": 0.0}, r"reframe\.coverage_weight"),
        (RankConfig, {"hypotheses": 0}, r"rank\.hypotheses"),
        (RankConfig, {"known_margin": 1.1}, r"rank\.known_margin: expected 0\.\.1, got 1\.1"),
        (RankConfig, {"own_spread": -0.1}, r"rank\.own_spread: expected 0\.\.1, got -0\.1"),
        (LibraryConfig, {"points": 0}, r"library\.points"),
        (LibraryConfig, {"views": 0}, r"library\.views"),
        (LibraryConfig, {"strangers": 1}, r"library\.strangers: expected at least 2"),
        (LibraryConfig, {"workers": -1}, r"library\.workers"),
        (LibraryConfig, {"splat_radius_px": 0.0}, r"library\.splat_radius_px"),
        (LibraryConfig, {"depth_band": 0.0}, r"library\.depth_band"),
    ],
)
def test_bad_values_are_named(cls: type, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        cls(**values)


def test_a_mapping_is_checked_where_it_stands() -> None:
    assert from_mapping(RankConfig, {"hypotheses": 2}) == RankConfig(hypotheses=2)
    with pytest.raises(ConfigError, match=r"^here\.hypothesis: unknown key; known keys here: hypotheses, known_margin"):
        from_mapping(RankConfig, {"hypothesis": 2}, "here")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PasrConfig().refine.steps = 3  # type: ignore[misc]


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        load_config(tmp_path / "none.yaml")
