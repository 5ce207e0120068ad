"""The tables that people read."""

import pytest

from ssl_isic.evaluation.report import BOOTSTRAP, few_shot_table, headlines, markdown, metrics_table, over_seeds

SEEDS = [
    {
        "name": f"random net, seed {seed}",
        "kind": "random",
        "interval": BOOTSTRAP,
        "size": 8,
        "knn_auc": auc,
        "knn_pauc": 0.02,
        "probe_auc": auc + 0.1,
        "probe_auc_low": 0.1,
        "probe_auc_high": 0.9,
        "probe_pauc": 0.05,
        "rankme": None,
        "alpha_req": 1.25,
    }
    for seed, auc in enumerate((0.5, 0.6, 0.55))
]


def test_several_seeds_become_their_mean_and_range() -> None:
    row = over_seeds(SEEDS, "random net, 3 seeds")
    assert (row["name"], row["interval"], row["size"]) == ("random net, 3 seeds", "range of 3 seeds", 8)
    assert [row[f"knn_auc{end}"] for end in ("_low", "", "_high")] == pytest.approx([0.5, 0.55, 0.6])
    assert [row[f"probe_auc{end}"] for end in ("_low", "", "_high")] == pytest.approx([0.6, 0.65, 0.7])
    assert row["rankme"] is None
    assert row["probe_auc_minus_colour"] is None


def test_the_table_shows_summaries_and_intervals() -> None:
    rows = [*SEEDS, over_seeds(SEEDS, "random net, 3 seeds")]
    assert [row["name"] for row in headlines(rows)] == ["random net, 3 seeds"]
    cells = [cell.strip() for cell in metrics_table(headlines(rows)).splitlines()[2].split("|")][1:-1]
    assert cells == [
        "random net, 3 seeds",
        "8",
        "0.550 [0.500, 0.600]",
        "0.0200 [0.0200, 0.0200]",
        "0.650 [0.600, 0.700]",
        "0.0500 [0.0500, 0.0500]",
        *[""] * 5,
        "1.25 [1.25, 1.25]",
    ]


def test_the_few_shot_table_has_a_column_a_share() -> None:
    drawn = ((0.05, 0.5), (0.05, 0.7), (1.0, 0.9))
    rows = [{"name": "a", "share": share, "auc": a, "auc_low": a - 0.1, "auc_high": a + 0.05} for share, a in drawn]
    assert few_shot_table(rows, "auc") == (
        "| features | 5% of groups         | 100% of groups       |\n"
        "| -------- | -------------------- | -------------------- |\n"
        "| a        | 0.600 [0.400, 0.750] | 0.900 [0.800, 0.950] |"
    )


def test_markdown_is_aligned() -> None:
    assert markdown(["a", "long"], [["wide", "b"]]) == "| a    | long |\n| ---- | ---- |\n| wide | b    |"
