"""The acceptance table of the drill paper: a test per row, by name, and the baseline beside every result that ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance import missing

PAGE = Path(__file__).parents[3] / "docs" / "drill-paper.md"
VAE, MEL = "models/drill/test_vae.py", "models/drill/test_spectrogram.py"
PROTOCOL, GRID = "models/drill/test_protocol.py", "models/drill/test_grid.py"
ROWS = {
    "shapes, 570,181 parameters": (f"{VAE}::test_shapes_and_parameters",),
    "bound rises over 20 epochs": (f"{VAE}::test_bound_rises_over_twenty_epochs_and_levels_are_kept",),
    "mel frames and bands": (f"{MEL}::test_frames", f"{MEL}::test_centres_and_division"),
    "groups whole, leaks abort": (
        f"{PROTOCOL}::test_folds_keep_events_whole_and_classes_even",
        f"{GRID}::test_a_synthetic_sound_of_a_held_out_event_aborts",
    ),
    "permutation p is uniform": (
        "models/drill/test_similarity.py::test_permutation_p_is_uniform_on_independent_noise",
    ),
    "baseline beside every network": (
        "models/drill/test_acceptance.py::test_each_network_of_the_page_has_the_21_bands_beside_it",
        f"{GRID}::test_report_has_tables_figures_and_provenance",
    ),
    "claim rule": (f"{PROTOCOL}::test_claim_needs_an_interval_without_zero",),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_its_tests(row: str) -> None:
    """By name, none of them among the slow ones."""
    assert missing(ROWS[row]) == []


def rows(part: str) -> list[dict[str, str]]:
    """Rows of a table of the page, by column."""
    text = PAGE.read_text().partition(f"<!-- {part} -->\n")[2].partition(f"<!-- /{part} -->")[0]
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.mark.parametrize(
    ("part", "of", "figure"), [("drill leak-free", "training", "AUC"), ("drill paper-protocol", "set", "mean ± std")]
)
def test_each_network_of_the_page_has_the_21_bands_beside_it(part: str, of: str, figure: str) -> None:
    """For the same training or set, with a figure."""
    told = rows(part)
    beside = {row[of] for row in told if row["classifier"] == "21 bands" and row[figure]}
    networks = {row["classifier"] for row in told} - {"21 bands"}
    assert len(networks) >= 2
    assert {row[of] for row in told} <= beside
