"""The page about the paper prints the same scores as the tables in data_samples/paper."""

import csv


def rows_of(page: str) -> list[list[str]]:
    """The rows of a page's tables whose last four cells are numbers."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines()]
    return [row for row in rows if len(row) > 4 and row[-1].replace(".", "").isdigit()]


def test_every_score_of_the_page_is_in_the_data(root):
    known = []
    for name in ("results", "ablations"):
        path = root / "data_samples" / "paper" / f"{name}.csv"
        with path.open(encoding="utf-8") as file:
            for record in csv.DictReader(file):
                names = [record[key] for key in ("benchmark", "method", "variant") if key in record]
                scores = [record[key] for key in ("m_tIoU", "m_vIoU", "vIoU@0.3", "vIoU@0.5")]
                known.append(names + scores)
    rows = rows_of((root / "docs" / "paper.md").read_text(encoding="utf-8"))
    assert len(rows) > 20 and [row for row in rows if row not in known] == []
