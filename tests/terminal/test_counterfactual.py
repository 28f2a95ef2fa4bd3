"""The counterfactual's text table."""

from ctrak_jax.run.retraining import NOTHING, RANDOM, RemovalRow
from ctrak_jax.terminal.counterfactual import counterfactual_table


def test_the_table_has_a_line_a_removal_and_means_over_seeds():
    def row(seed: int, by: str, present: float) -> RemovalRow:
        return RemovalRow(
            seed=seed,
            query="[/b]-red-global",
            scope="global",
            scenario="ood",
            attribute="color",
            value="[red]",
            removed_by=by,
            removed=0 if by == NOTHING else 7,
            carriers_removed=3,
            carriers_left=5,
            presence=present,
            loss_rise=0.5,
        )

    rows = [row(seed, by, 0.25 * seed) for seed in (1, 2) for by in (NOTHING, RANDOM, "trak")]
    lines = [x for x in counterfactual_table(rows).splitlines() if "color=" in x]
    assert len(lines) == 3
    for line, left_out in zip(lines, ("nothing", "7 at random", "7 by trak"), strict=True):
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells == ["[/b]-red", "color=[red]", left_out, "3", "5", "0.38", "+0.5000"]
